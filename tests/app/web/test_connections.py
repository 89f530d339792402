"""The web server as strangers meet it: slow ones, many of them, and requests of two lengths."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache

import pytest

from app.ops.embedded.postgres import Postgres
from app.ops.embedded.valkey import Valkey
from tests import patience
from tests.app.web.serving import is_well, serving
from tests.conftest import own_database

pytestmark = pytest.mark.timeout(200)
# A quarter of them for one client.
MAX_CONNECTIONS, OF_ONE = 40, 10
_HEAD = b"POST /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\n"
_FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"


@cache  # the web keeps to what it was started with
def limit_seconds() -> float:
    """Return how long the web waits in these tests: short, but not for a slow machine."""
    return patience.seconds(2)


@pytest.fixture(scope="module")
def port(
    postgres: Postgres, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """The port of one `etude web` for the file, as it runs at a site, with short limits."""
    folder = tmp_path_factory.mktemp("web")
    waits = ("REQUEST_HEADER", "REQUEST_BODY", "RESPONSE_READER")
    limits = {f"ETUDE_{name}_SECONDS": str(limit_seconds()) for name in waits}
    # This machine is a stranger like any other.
    limits |= {"ETUDE_MAX_CONNECTIONS": str(MAX_CONNECTIONS), "ETUDE_TRUSTED_PROXIES": "[]"}
    with pytest.MonkeyPatch.context() as patch, own_database(postgres, patch):
        patch.setenv("ETUDE_DATA_DIR", str(folder / "var"))
        patch.setenv("REDIS_URL", valkey.url)
        with serving(folder, **limits) as (number, _):
            yield number


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=patience.seconds(30)) as there:
        yield there


def rest(there: socket.socket) -> bytes:
    """Return what comes until the other side closes; fails where it never does."""
    said = b""
    try:
        while piece := there.recv(65536):
            said += piece
    except ConnectionResetError:
        pass
    return said


def drip(there: socket.socket, piece: bytes) -> bytes:
    """Send a little again and again until the other side has had enough; return what it said."""
    there.settimeout(0.2)
    deadline = time.monotonic() + patience.seconds(30)
    said = b""
    while time.monotonic() < deadline:
        try:
            there.sendall(piece)
            came = there.recv(65536)
        except TimeoutError:
            continue
        except (BrokenPipeError, ConnectionResetError):
            return said
        if not came:
            return said
        said += came
        if said.startswith(b"HTTP/1.1 4"):
            # What is sent to somebody who has closed may cost what is still on its way to us.
            return said + rest(there)
    raise AssertionError("it went on listening")


def test_a_connection_that_says_nothing_is_closed(port: int) -> None:
    with connected(port) as there:
        assert rest(there) == b""


def test_a_head_that_drips_is_closed(port: int) -> None:
    with connected(port) as there:
        there.sendall(b"GET / HTTP/1.1\r\n")
        assert drip(there, b"X-More: x\r\n") == b""


def test_the_next_head_on_a_connection_may_not_drip_either(port: int) -> None:
    with connected(port) as there:
        there.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert there.recv(65536).startswith(b"HTTP/1.1 200")
        there.sendall(b"GET / HTTP/1.1\r\n")
        assert b"HTTP" not in drip(there, b"X-More: x\r\n").replace(b"ok", b"")


def test_a_form_that_drips_is_given_up_with_a_word(port: int) -> None:
    with connected(port) as there:
        there.sendall(_HEAD + _FORM + b"Content-Length: 1000000\r\n\r\nemail=")
        said = drip(there, b"a")
    assert said.startswith(b"HTTP/1.1 408")
    assert b"came too slowly" in said
    assert b"default-src 'none'" in said, "it passes all that pages pass"


def test_a_form_that_comes_is_read_however_long_it_takes(port: int) -> None:
    """Slower than the limit in all, but never standing still for so long."""
    body = b"email=" + b"a" * (120 * 1024) + b"&password=b"
    with connected(port) as there:
        there.sendall(_HEAD + _FORM + b"Content-Length: %d\r\n\r\n" % len(body))
        for begin in range(0, len(body), 20 * 1024):
            there.sendall(body[begin : begin + 20 * 1024])
            time.sleep(limit_seconds() / 4)
        assert there.recv(65536).startswith(b"HTTP/1.1 422")


def test_what_is_sent_after_the_answer_is_not_listened_to_for_long(port: int) -> None:
    """A stranger's upload is refused at its head; the rest of it may not hold the connection."""
    with connected(port) as there:
        there.sendall(
            b"PATCH /uploads/0 HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\n"
            b"Tus-Resumable: 1.0.0\r\nContent-Length: 100000000\r\n\r\n"
        )
        assert there.recv(65536).startswith((b"HTTP/1.1 4", b"HTTP/1.1 3"))
        drip(there, b"x" * 100)


@pytest.mark.parametrize("line", [b"GET /%s HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nX-More: %s\r\n"])
def test_a_head_without_an_end_is_not_kept(port: int, line: bytes) -> None:
    """A long address is looked up as any other; one that fills the memory is not read on."""
    with connected(port) as there:
        there.sendall(line % (b"x" * 30_000) + b"Host: 127.0.0.1\r\nConnection: close\r\n\r\n")
        assert rest(there).startswith((b"HTTP/1.1 404", b"HTTP/1.1 303"))
    with connected(port) as there:
        with suppress(ConnectionError):
            there.sendall(line % (b"x" * 20_000_000) + b"Host: 127.0.0.1\r\n\r\n")
        assert not rest(there).startswith((b"HTTP/1.1 5", b"HTTP/1.1 2", b"HTTP/1.1 3"))
    assert is_well(port)


@pytest.mark.parametrize("first", [b"Content-Length: 4\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_a_request_of_two_lengths_is_refused(port: int, first: bytes) -> None:
    other = {b"C": b"Transfer-Encoding: chunked\r\n", b"T": b"Content-Length: 4\r\n"}[first[:1]]
    with connected(port) as there:
        there.sendall(_HEAD + _FORM + first + other + b"\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n")
        said = rest(there)
    assert said.startswith(b"HTTP/1.1 400")
    assert said.count(b"HTTP/1.1") == 1, "what was smuggled behind it is not answered"


def test_one_client_gets_its_part_of_the_connections(port: int) -> None:
    """Whoever has a connection goes on being served, and a place that is left is given again."""
    with ExitStack() as stack:
        open_ones = []
        while True:
            there = stack.enter_context(connected(port))
            there.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n")
            there.settimeout(0.1)
            with suppress(TimeoutError):
                said = there.recv(65536)
                assert said.startswith(b"HTTP/1.1 503")
                assert b"\r\nX-Request-Id: " in said, "scripts would take it for a proxy's"
                break
            open_ones.append(there)
            assert len(open_ones) <= OF_ONE
        newest = open_ones[-1]
        newest.settimeout(patience.seconds(30))
        newest.sendall(b"\r\n")
        assert newest.recv(65536).startswith(b"HTTP/1.1 200")
    deadline = time.monotonic() + patience.seconds(20)
    while not is_well(port):
        assert time.monotonic() < deadline, "a place that is left is never given again"


def test_who_reads_nothing_is_closed(port: int) -> None:
    """Requests in a row whose answers nobody takes: the web stops writing, and then waiting."""
    with connected(port) as there:
        there.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        page = b"GET /static/vendor/swagger-ui/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost"
        there.settimeout(0.2)
        deadline = time.monotonic() + patience.seconds(60)
        while True:
            assert time.monotonic() < deadline, "it went on waiting"
            try:
                there.sendall(page + b"\r\n\r\n")
            except TimeoutError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                break
            time.sleep(0.1)
