"""One connection to a receiver: looked up once, looked at, and broken off when its time is over.

The receiver's host is resolved once, looked at, and that very address is called: a name cannot be
made to point elsewhere in between. Redirects are not followed, and no proxy is asked. Everything
that is said over it, from the name to the last byte of the last answer, has so many seconds.
"""

import http.client
import queue
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from app.core import outbound


class Refused(Exception):
    """The receiver did not take it, or may not be called; the text says why."""


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes


class Connection:
    """Speaks HTTP to one receiver."""

    def __init__(self, connection: "_Connection", purpose: outbound.Purpose, path: str) -> None:
        self._connection, self._purpose, self._path = connection, purpose, path

    def ask(
        self,
        method: Literal["GET", "POST"],
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        target: str | None = None,
        max_bytes: int = 4096,
    ) -> Answer:
        """Send a request and return its answer, whatever it is.

        Args:
            target: A path with a query behind the URL's own path; None takes the URL as it stands.
            max_bytes: Of the answer; what is beyond that is not read.

        Raises:
            Refused: the time is over, or the address may not be called.
            OSError, http.client.HTTPException: it could not be reached.
        """
        parts = urlsplit(self._path)
        whole = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if target is not None:
            whole = parts.path.rstrip("/") + target
        connection = self._connection
        try:
            with outbound.towards(self._purpose, connection.host):
                connection.request(method, whole, body=body, headers=dict(headers))
            answer = connection.getresponse()
            said = answer.read(max_bytes)
            if not answer.isclosed():
                connection.close()  # what was not read is in the way of the next request
        except (OSError, http.client.HTTPException, ValueError):
            if connection.is_late:
                raise Refused(_late(connection.seconds)) from None
            raise
        if connection.is_late:
            raise Refused(_late(connection.seconds))
        return Answer(answer.status, said)


@contextmanager
def connected(
    url: str,
    purpose: outbound.Purpose,
    seconds: float,
    look_at: Callable[[str, str], None] = lambda _host, _address: None,
) -> Iterator[Connection]:
    """Lend a connection for so many seconds in all; it is made when it is first used.

    Args:
        look_at: Called with the host and each address that it leads to; raises Refused for what
            must not be called.
    """
    parts = urlsplit(url)
    is_tls = parts.scheme == "https"
    port = parts.port or (443 if is_tls else 80)
    connection = _Connection(parts.hostname or "", port, is_tls, seconds, look_at)
    over = threading.Timer(seconds, connection.break_off)
    over.daemon = True
    over.start()
    try:
        yield Connection(connection, purpose, url)
    finally:
        over.cancel()
        connection.close()


class _Connection(http.client.HTTPConnection):
    """Calls one address of a host, which was looked at before, until it is broken off."""

    def __init__(
        self,
        host: str,
        port: int,
        is_tls: bool,
        seconds: float,
        look_at: Callable[[str, str], None],
    ) -> None:
        super().__init__(host, port, timeout=seconds)
        self.seconds = seconds
        self._is_tls = is_tls
        self._look_at = look_at
        self._lock = threading.Lock()
        self.is_late = False

    def connect(self) -> None:
        addresses = _resolved(self.host, self.port, self.seconds)
        for address in addresses:
            self._look_at(self.host, address)
        self._keep(socket.create_connection((addresses[0], self.port), self.timeout))
        if self._is_tls:
            context = ssl.create_default_context()
            secured = context.wrap_socket(
                self.sock, server_hostname=self.host, do_handshake_on_connect=False
            )
            self._keep(secured)
            secured.do_handshake()

    def break_off(self) -> None:
        """End whatever it waits for, from another thread."""
        with self._lock:
            self.is_late = True
            if self.sock is not None:
                with suppress(OSError):
                    # Not the method of a TLS socket, which changes it beneath its reader.
                    socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    def _keep(self, sock: socket.socket) -> None:
        with self._lock:
            self.sock = sock
            if self.is_late:
                raise TimeoutError


def _late(seconds: float) -> str:
    return f"it did not answer within {seconds:.10g} seconds"


def _resolved(host: str, port: int, seconds: float) -> list[str]:
    """Return the addresses of a host, waiting so long and no longer, which the resolver cannot."""
    found: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

    def resolve() -> None:
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.put([str(each[4][0]) for each in infos])
        except (OSError, UnicodeError) as error:
            found.put(error if isinstance(error, OSError) else OSError("nobody knows this name"))

    threading.Thread(target=resolve, name="resolving", daemon=True).start()
    try:
        answer = found.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"{host} could not be looked up in time") from None
    if isinstance(answer, OSError):
        raise answer
    return answer
