"""`/v1` of one Etude, as the command line uses it.

The standard library alone: a command that asks something should not wait for imports first.
"""

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from secrets import token_hex
from typing import IO, Any

from app.core.errors import AppError, Invalid

JsonObject = dict[str, Any]

_SECONDS = 60.0
# A model that has to be loaded, or whose GPU trains, keeps its first word back for long.
ANSWER_SECONDS = 1800.0
_CHUNK_BYTES = 1024**2
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Unreachable(AppError):
    """Nobody is there, or nobody any more."""

    status = 503
    code = "unreachable"


class Answered(AppError):
    """What Etude refused, in its own words."""

    def __init__(self, message: str, status: int, code: str | None) -> None:
        super().__init__(message, code=code or f"status_{status}")
        self.status = status


class Api:
    """One Etude with one token.

    Args:
        url: Without `/v1`.
        renew: Gives a new token in place of one that is refused, once.
    """

    def __init__(self, url: str, token: str, renew: Callable[[str], str] | None = None) -> None:
        self.url = url
        self._token = token
        self._renew = renew
        # The token goes to nobody else: through no proxy to this machine, along no redirection.
        host = urllib.parse.urlsplit(url).hostname
        proxies = [urllib.request.ProxyHandler({})] if host in _LOOPBACK else []
        self._opener = urllib.request.build_opener(_Stay, *proxies)

    def get(self, path: str) -> JsonObject:
        return self._json("GET", path)

    def post(self, path: str, body: JsonObject | None = None) -> JsonObject:
        return self._json("POST", path, body or {})

    def delete(self, path: str) -> JsonObject:
        return self._json("DELETE", path)

    def pages(self, path: str) -> Iterator[JsonObject]:
        """Yield a list's rows, page after page."""
        after = ""
        while True:
            page = self.get(f"{path}?limit=100{after}")
            yield from page["data"]
            if not page.get("has_more"):
                return
            after = f"&after={urllib.parse.quote(page['data'][-1]['id'])}"

    def stream(self, path: str, body: JsonObject) -> Iterator[JsonObject]:
        """Yield what an event stream says, one object an event, until it says that it is done.

        Raises:
            Answered: it ends with an error.
            Unreachable: it ends without a word.
        """
        with self._send("POST", path, body, seconds=ANSWER_SECONDS) as response:
            try:
                for line in response:
                    if not line.startswith(b"data:"):
                        continue
                    said = line[5:].strip()
                    if said == b"[DONE]":
                        return
                    event = json.loads(said)
                    if "error" in event:
                        raise _refusal(event, 503) or Unreachable("The answer broke off.")
                    yield event
            except (OSError, HTTPException, ValueError) as error:
                raise Unreachable(f"The answer broke off ({_reason(error)}).") from None
        raise Unreachable("The answer broke off; please ask again.")

    def download(self, path: str) -> Iterator[bytes]:
        """Yield a file's bytes as they come; whether all have come, the caller has to see.

        Raises:
            Answered: it is refused.
            Unreachable: it breaks off.
        """
        with self._send("GET", path) as response:
            try:
                while piece := response.read(_CHUNK_BYTES):
                    yield piece
            except (OSError, HTTPException) as error:
                raise Unreachable(f"The download broke off ({_reason(error)}).") from None

    def upload(self, path: Path, purpose: str, **fields: str) -> JsonObject:
        """Send a file from the disk as it is read; it is never in memory as a whole."""
        with path.open("rb") as file:
            form = _Form(file, path.name, {"purpose": purpose, **fields})
            return self._json("POST", "/files", form=form)

    def _json(
        self, method: str, path: str, body: JsonObject | None = None, form: "_Form | None" = None
    ) -> JsonObject:
        with self._send(method, path, body, form) as response:
            try:
                answer = json.load(response)
            except (OSError, HTTPException) as error:
                raise Unreachable(
                    f"The answer of {self.url} broke off ({_reason(error)})."
                ) from None
            except ValueError:
                answer = None
        if not isinstance(answer, dict):
            raise self._stranger()
        return answer

    def _send(
        self,
        method: str,
        path: str,
        body: JsonObject | None = None,
        form: "_Form | None" = None,
        seconds: float = _SECONDS,
    ) -> HTTPResponse:
        """Send a request and return its answer.

        Raises:
            Answered: it was refused.
            Unreachable: nobody answers, or somebody who is no Etude.
        """
        try:
            return self._open(method, path, body, form, seconds)
        except Answered as refusal:
            if refusal.status != 401 or self._renew is None:
                raise
        renew, self._renew = self._renew, None
        self._token = renew(self._token)
        return self._open(method, path, body, form, seconds)

    def _open(
        self,
        method: str,
        path: str,
        body: JsonObject | None,
        form: "_Form | None",
        seconds: float,
    ) -> HTTPResponse:
        headers = {"Authorization": f"Bearer {self._token}"}
        data: Any = None
        if form is not None:
            data = form.chunks()
            headers |= form.headers()
        elif body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(  # noqa: S310 - http and https alone get as far as here
            f"{self.url}/v1{path}", data=data, method=method, headers=headers
        )
        try:
            response: HTTPResponse = self._opener.open(request, timeout=seconds)
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(_CHUNK_BYTES)
            try:
                answer = json.loads(said)
            except ValueError:
                answer = None
            raise _refusal(answer, error.code) or self._stranger() from None
        except (OSError, HTTPException) as error:
            what = _reason(error)
            if form is not None and isinstance(
                getattr(error, "reason", error), BrokenPipeError | ConnectionResetError
            ):
                raise Unreachable(f"{self.url} took only a part of the file ({what}).") from None
            raise Unreachable(f"No Etude answers at {self.url} ({what}).") from None
        return response

    def _stranger(self) -> Unreachable:
        return Unreachable(f"What answers at {self.url} is not Etude; is the address right?")


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


class _Form:
    """A file and a few words as `multipart/form-data`, of a length that is known before."""

    def __init__(self, file: IO[bytes], name: str, fields: dict[str, str]) -> None:
        self._boundary = token_hex(16)
        self._file = file
        self._size = file.seek(0, 2)
        # As browsers write them.
        for character, written in (('"', "%22"), ("\r", "%0D"), ("\n", "%0A")):
            name = name.replace(character, written)
        parts = [
            f'--{self._boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
            for key, value in fields.items()
        ]
        parts.append(
            f"--{self._boundary}\r\nContent-Disposition: form-data; "
            f'name="file"; filename="{name}"\r\nContent-Type: application/octet-stream\r\n\r\n'
        )
        self._head = "".join(parts).encode(errors="replace")
        self._tail = f"\r\n--{self._boundary}--\r\n".encode()

    def headers(self) -> dict[str, str]:
        return {
            "Content-Type": f"multipart/form-data; boundary={self._boundary}",
            "Content-Length": str(len(self._head) + self._size + len(self._tail)),
        }

    def chunks(self) -> Iterator[bytes]:
        self._file.seek(0)
        yield self._head
        left = self._size
        while left and (chunk := self._file.read(min(left, _CHUNK_BYTES))):
            left -= len(chunk)
            yield chunk
        if left:
            raise Invalid("The file became shorter while it was sent; please try again.")
        yield self._tail


def _refusal(answer: object, status: int) -> Answered | None:
    try:
        error = answer["error"]  # type: ignore[index]
        return Answered(str(error["message"]), status, error.get("code"))
    except (KeyError, TypeError, AttributeError):
        return None


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    return str(getattr(reason, "strerror", None) or reason or type(reason).__name__)


# --- what people call models ------------------------------------------------------------------


def find_model(api: Api, wanted: str) -> JsonObject:
    """Return the model that somebody means: by its name in `/v1`, its number, its job or its name.

    Raises:
        Invalid: none is called so, or several are.
    """
    models = api.get("/models")["data"]
    adapters = [model for model in models if model["x_kind"] != "base"]
    plain = wanted.strip().casefold()
    for found in (
        [model for model in models if model["id"] == wanted],
        [model for model in adapters if str(model["x_adapter_id"]) == wanted],
        [model for model in adapters if model["x_job"] == wanted],
        [model for model in models if model["x_label"].strip().casefold() == plain],
    ):
        if len(found) == 1:
            return dict(found[0])
        if found:
            raise Invalid(f"Several models are called “{wanted}”: {_named(found)}.")
    if not models:
        raise Invalid(f"There is no model “{wanted}” here, nor any other yet.")
    alike = [model for model in models if plain and plain in model["x_label"].casefold()]
    raise Invalid(f"There is no model “{wanted}” here; there are {_named(alike or models)}.")


def _named(models: list[JsonObject]) -> str:
    most = [f"“{one['x_label']}” ({one['id']})" for one in models[:5]]
    return ", ".join(most) + (f" and {len(models) - 5:,} more" if len(models) > 5 else "")


def find_job(api: Api, wanted: str) -> JsonObject:
    """Return a job by its id, or by the number that its page has.

    Raises:
        Invalid: there is none.
    """
    if not wanted.isdecimal():
        return api.get(f"/fine_tuning/jobs/{urllib.parse.quote(wanted, safe='')}")
    for job in api.pages("/fine_tuning/jobs"):
        if job["x_job_id"] == int(wanted):
            return job
    raise Invalid(f"There is no job {wanted} here; `etude job list` shows those there are.")


# --- patience ----------------------------------------------------------------------------------


def patiently(ask: Callable[[], JsonObject], seconds: float, say: Callable[[str], object]) -> Any:
    """Ask, and ask again while Etude does not answer, as long as it takes to start it again."""
    deadline = time.monotonic() + seconds
    is_told = False
    while True:
        try:
            return ask()
        except AppError as error:
            if error.status < 500 or time.monotonic() > deadline:
                raise
            if not is_told:
                say(f"{error} Trying again.")
                is_told = True
        time.sleep(1)
