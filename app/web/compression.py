"""Pages and static files go out compressed where the browser can read that.

A page with a secret does not: beside words that somebody else chose, its length would tell the
secret piece by piece (BREACH, CVE-2013-3587). It says `no-transform` (RFC 9111, 5.2.2.6), which
proxies in front heed, too. Streams and downloads pass through as they are.
"""

import gzip

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# What a page says that must not be compressed.
AS_IT_IS = {"Cache-Control": "no-store, no-transform"}
_KINDS = ("text/html", "text/css", "text/javascript", "application/javascript", "image/svg+xml")
# Less saves nothing worth the work, and more is no page.
_LEAST_BYTES, _MOST_BYTES = 1000, 4 * 1024**2
# A page is made for one reader: the quickest level takes it down to a fourth. A static file whose
# address names its content is compressed once, as far as it goes, and kept.
_PAGE_LEVEL, _FILE_LEVEL = 1, 9


class Compression:
    """Compresses whole answers of the kinds above."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._files: dict[str, bytes] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        if "gzip" not in Headers(scope=scope).get("accept-encoding", ""):
            await self._app(scope, receive, _varying(send))
            return
        start: Message | None = None
        parts: list[bytes] = []

        async def send_compressed(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and _may_be_compressed(message):
                start = message
                return
            if start is None or message["type"] != "http.response.body":
                await send(message)
                return
            parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                packed = self._packed(scope, start, b"".join(parts))
                await send(start)
                await send({**message, "body": packed})

        await self._app(scope, receive, send_compressed)

    def _packed(self, scope: Scope, start: Message, body: bytes) -> bytes:
        """Compress a body, and have the head of its answer say so."""
        query = scope["query_string"]
        if scope["path"].startswith("/static/") and query.startswith(b"v="):
            name = f"{scope['path']}?{query.decode('latin-1')}"
            if name not in self._files:
                self._files[name] = gzip.compress(body, _FILE_LEVEL, mtime=0)
            packed = self._files[name]
        else:
            packed = gzip.compress(body, _PAGE_LEVEL, mtime=0)
        headers = MutableHeaders(scope=start)
        headers["content-encoding"] = "gzip"
        headers["content-length"] = str(len(packed))
        headers.add_vary_header("Accept-Encoding")
        if "etag" in headers:  # of the file as it is: another text of the same meaning
            headers["etag"] = f"W/{headers['etag'].removeprefix('W/')}"
        return packed


def _may_be_compressed(start: Message) -> bool:
    headers = Headers(raw=start["headers"])
    size = headers.get("content-length", "")  # a stream has none
    return (
        start["status"] == 200
        and headers.get("content-type", "").partition(";")[0] in _KINDS
        and "content-encoding" not in headers
        and "no-transform" not in headers.get("cache-control", "")
        and size.isdecimal()
        and _LEAST_BYTES <= int(size) <= _MOST_BYTES
    )


def _varying(send: Send) -> Send:
    """Say to caches that another reader gets the same compressed."""

    async def send_varying(message: Message) -> None:
        if message["type"] == "http.response.start" and _may_be_compressed(message):
            MutableHeaders(scope=message).add_vary_header("Accept-Encoding")
        await send(message)

    return send_varying
