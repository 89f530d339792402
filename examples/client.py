"""What the demo needs of HTTP and of the `etude` command; the standard library alone."""

import ctypes
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any

_START_SECONDS = 180
_STOP_SECONDS = 150
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class Failure(Exception):
    """What went wrong and what to do, in a sentence."""


class Api:
    """/v1 of one Etude, with one token."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self._token = token

    def accepts_token(self) -> bool:
        try:
            self.get("/models")
        except _Unauthorized:
            return False
        return True

    def get(self, path: str) -> dict[str, Any]:
        return self._json(self._request("GET", path))

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        request = self._request("POST", path, json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        return self._json(request)

    def stream(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield what an event stream says, one object an event, until it says that it is done."""
        request = self._request("POST", path, json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        with self._open(request) as response:
            for line in response:
                said = line.decode().removeprefix("data:").strip()
                if said == "[DONE]":
                    return
                if line.startswith(b"data:"):
                    event = json.loads(said)
                    if "error" in event:
                        raise Failure(event["error"]["message"])
                    yield event

    def upload(self, path: Path) -> dict[str, Any]:
        """Send a training file; small enough here to build the form in memory."""
        boundary = token_hex(16)
        form = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{path.name}"'
            "\r\nContent-Type: text/csv\r\n\r\n"
        ).encode()
        request = self._request(
            "POST", "/files", form + path.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        )
        request.add_header("Content-Type", f"multipart/form-data; boundary={boundary}")
        return self._json(request)

    def download(self, file_id: str, target: Path) -> None:
        request = self._request("GET", f"/files/{file_id}/content")
        with self._open(request) as response, target.open("wb") as file:
            shutil.copyfileobj(response, file)

    def _request(self, method: str, path: str, body: bytes | None = None) -> urllib.request.Request:
        return urllib.request.Request(  # noqa: S310 - the address is the user's own
            f"{self.url}/v1{path}",
            data=body,
            method=method,
            headers={"Authorization": f"Bearer {self._token}"},
        )

    def _json(self, request: urllib.request.Request) -> dict[str, Any]:
        with self._open(request) as response:
            answer: dict[str, Any] = json.load(response)
        return answer

    def _open(self, request: urllib.request.Request) -> Any:
        try:
            return urllib.request.urlopen(request, timeout=60)  # noqa: S310
        except urllib.error.HTTPError as error:
            with error:
                said = error.read().decode(errors="replace")
            try:
                message = json.loads(said)["error"]["message"]
            except (ValueError, KeyError, TypeError):
                message = f"{request.full_url} answered {error.code}."
            raise (_Unauthorized if error.code == 401 else Failure)(message) from None
        except OSError as error:
            reason = getattr(error, "reason", error)
            raise Failure(
                f"Etude at {self.url} does not answer any more ({reason}). Its logs are in the "
                "data directory, below logs/."
            ) from None


class _Unauthorized(Failure):
    """The token is not this Etude's."""


def etude(*arguments: str, may_fail: bool = False) -> str:
    """Run the `etude` command and return what it said; with `may_fail` its complaints too."""
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and not may_fail:
        said = done.stderr.strip().splitlines() or ["no reason given"]
        raise Failure(f"`etude {' '.join(arguments)}` failed: {said[-1]}")
    return done.stdout + (done.stderr if may_fail else "")


@contextmanager
def running(url: str | None, data_dir: Path, folder: Path) -> Iterator[str]:
    """Have an Etude: the one that is named, that of the data directory, or one of our own."""
    if url is not None:
        if not _answers(url):
            raise Failure(f"no Etude answers at {url}.")
        yield url.rstrip("/")
        return
    noted = data_dir / "run" / "address"  # `etude up` writes it; the last one may be gone
    if noted.exists() and _answers(address := noted.read_text().strip()):
        print(f"Etude is running at {address}.")
        yield address
        return
    with _started(folder) as own:
        yield own


@contextmanager
def _started(folder: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    print(f"Starting Etude at {url} for this demo.")
    log = folder / "etude.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "up", "--host", "127.0.0.1", "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is ours; we stop it in order
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - this process has one thread
        )
    try:
        _wait_until_up(process, url, log)
        yield url
    finally:
        if process.poll() is None:
            print("Stopping Etude.")
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_until_up(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _answers(url):
        if process.poll() is not None or time.monotonic() > deadline:
            said = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
            raise Failure(
                f"Etude could not be started: {said[-1]} If it runs elsewhere, name it with --url."
            )
        time.sleep(0.2)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/healthz", timeout=5) as response:  # noqa: S310
            return bool(response.status == 200 and response.read().strip() == b"ok")
    except (OSError, ValueError):
        return False


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
