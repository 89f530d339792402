"""What every request passes, outermost first: log line, headers, crashes, host, origin, body.

Plain ASGI and no BaseHTTPMiddleware: event streams and downloads must pass through unbuffered.
"""

import asyncio
import ipaddress
import re
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import lru_cache
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core import settings
from app.machines import prometheus

log = structlog.get_logger()

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "object-src 'none'; frame-ancestors 'none'"
)
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_MAX_FORM_BYTES = 2 * 1024**2
# What has to come in ETUDE_REQUEST_BODY_SECONDS, unless it is the end.
_PROGRESS_BYTES = 16 * 1024
# These read their body piece by piece and count it themselves.
_STREAMED_PATHS = ("/uploads", "/datasets/upload", "/models/upload", "/v1/files")
_STREAMED = re.compile(
    r"/v1/uploads/[^/]+/parts|/adapters/[0-9]+/lists|/models/uploads/[0-9a-f]+/[0-9]+"
)


class RequestLog:
    """Give each request an id, and write one line about it when it has been answered."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        started, status = time.monotonic(), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        finally:
            # The route's pattern, not the address: a one-time link must not land in a log.
            route = getattr(scope.get("route"), "path", None)
            seconds = time.monotonic() - started
            prometheus.answered(scope["method"], route or "other", status, seconds)
            log.info(
                "request",
                method=scope["method"],
                route=route or scope["path"].split("/")[1],
                status=status,
                milliseconds=round(seconds * 1000),
            )


class SecurityHeaders:
    """Tell the browser to run nothing but our own files, and to keep pages to itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("content-security-policy", CSP)
                headers.setdefault("x-content-type-options", "nosniff")
                # Not "no-referrer": browsers would then send "Origin: null" with our own forms.
                headers.setdefault("referrer-policy", "same-origin")
                headers.setdefault("cross-origin-opener-policy", "same-origin")
                headers.setdefault("cross-origin-resource-policy", "same-origin")
                headers.setdefault("cache-control", "no-store")
                if settings.get().secure_cookies:
                    headers.setdefault("strict-transport-security", "max-age=31536000")
            await send(message)

        await self.app(scope, receive, send_with_headers)


class Crashes:
    """Answer what nobody has caught, within the log and the headers that every answer gets.

    Starlette answers an `Exception` outside all middleware. It is raised again: servers close what
    was left half said, and tests see it.
    """

    def __init__(
        self, app: ASGIApp, answer: Callable[[Request, Exception], Awaitable[Response]]
    ) -> None:
        self.app = app
        self.answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def send_noted(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self.app(scope, receive, send_noted)
        except Exception as error:
            if scope["type"] == "http" and not has_begun:
                response = await self.answer(Request(scope), error)
                await response(scope, receive, send)
            raise


# Measurements are for who shows a token, which no page can make a browser send; and between
# containers the web has another name than on its machine.
_ANY_NAME = ("/metrics",)


class HostGuard:
    """Answer only to our own names, so that a foreign name cannot be rebound to our address."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] == "http"
            and scope["path"] not in _ANY_NAME
            and not is_our_host(Headers(scope=scope).get("host", ""))
        ):
            response = PlainTextResponse(
                "Etude does not know this name. Use the address that it printed when it started; "
                "or, on the server, set ETUDE_SERVER_NAME to this name, or add it to "
                "ETUDE_ALLOWED_HOSTS.\n",
                status_code=421,
            )
            await response(scope, receive, send)
            return
        await self.app(scope, receive, send)


def is_our_host(host: str) -> bool:
    """Say whether a Host header is an address, this machine's name, or one that was allowed."""
    name = _without_port(host).lower()
    try:
        # Rebinding needs a name that an attacker controls; an address cannot be rebound.
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name in _our_names() or name in _chosen_names()
    return True


def _chosen_names() -> set[str]:
    chosen = settings.get()
    of_links = urlsplit(chosen.public_url).hostname or ""
    return {each.lower() for each in (*chosen.allowed_hosts, chosen.server_name, of_links) if each}


@lru_cache
def _our_names() -> frozenset[str]:
    return frozenset({"localhost", socket.gethostname().lower(), socket.getfqdn().lower()})


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


class CrossOriginGuard:
    """Refuse what another site makes a browser send (CSRF).

    `Sec-Fetch-Site` decides where the browser sends it; on plain http to another machine none
    does, and an exactly equal `Origin` is needed. With neither, the request is refused. /v1 takes
    bearer tokens and no cookie, so nothing can be sent there in somebody's name.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] == "http"
            and scope["method"] not in _SAFE_METHODS
            and not _is_below(scope["path"], ["/v1"])
            and not is_same_origin(Headers(scope=scope), scope["scheme"])
        ):
            response = PlainTextResponse(
                "This request came from another site and was refused. "
                "Open Etude itself and try again there.\n",
                status_code=403,
            )
            await response(scope, receive, send)
            return
        await self.app(scope, receive, send)


def is_same_origin(headers: Headers, scheme: str) -> bool:
    """Say whether a request that changes something was made by a page of ours."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    # Behind a proxy that ends TLS we see http while the browser says https.
    scheme = "https" if settings.get().secure_cookies else scheme
    return headers.get("origin") == f"{scheme}://{headers.get('host', '')}"


class BodyLimit:
    """Stop reading a request that is longer than any form of ours."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _is_streamed(scope["path"]):
            await self.app(scope, receive, send)
            return
        num_read = 0

        async def receive_counted() -> Message:
            nonlocal num_read
            message = await receive()
            num_read += len(message.get("body", b""))
            if num_read > _MAX_FORM_BYTES:
                # Not an AppError: FastAPI turns whatever else reading a body raises into a 400.
                raise HTTPException(413, "This form holds more than 2 MB; upload data as a file.")
            return message

        await self.app(scope, receive_counted, send)


class BodyGuard:
    """Refuse a body of two lengths, and one that comes so slowly that it only holds a connection.

    The seconds count while we wait for the sender, not while a disk of ours is slow, and begin
    anew with every piece of some size.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if "content-length" in headers and "transfer-encoding" in headers:
            # A proxy in front may have believed the other one (request smuggling).
            response = PlainTextResponse(
                "A request gives either Content-Length or Transfer-Encoding, not both.\n",
                status_code=400,
                headers={"Connection": "close"},
            )
            await response(scope, receive, send)
            return
        await self.app(scope, _Patient(receive), send)


class _Patient:
    """Receives a request's body, as long as it comes."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._has_ended = False
        self._renew()

    async def __call__(self) -> Message:
        if self._has_ended:
            return await self._receive()  # whoever waits now waits for the other side to leave
        began = time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), self._seconds_left)
        except TimeoutError:
            # Not an AppError: FastAPI turns whatever else reading a body raises into a 400.
            raise HTTPException(
                408,
                "The request came too slowly and was given up. Check the connection and try again.",
                headers={"Connection": "close"},
            ) from None
        self._seconds_left -= time.monotonic() - began
        self._num_bytes += len(message.get("body", b""))
        if self._num_bytes >= _PROGRESS_BYTES:
            self._renew()
        self._has_ended = not message.get("more_body", False)
        return message

    def _renew(self) -> None:
        self._seconds_left = settings.get().request_body_seconds
        self._num_bytes = 0


def _is_streamed(path: str) -> bool:
    return _is_below(path, _STREAMED_PATHS) or _STREAMED.fullmatch(path) is not None


def _is_below(path: str, prefixes: Iterable[str]) -> bool:
    return any(path == prefix or path.startswith(prefix + "/") for prefix in prefixes)
