"""A mail server and a webhook receiver for tests: small, real, on a port of their own."""

import email
import email.policy
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Mailbox:
    """Keeps what arrives; refuses for a while where told to."""

    mails: list[EmailMessage] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    num_refusals: int = 0
    port: int = 0


@contextmanager
def mail_server() -> Iterator[Mailbox]:
    box = Mailbox()

    class Session(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.say("220 here")
            for raw in self.rfile:
                line = raw.decode().strip()
                verb = line[:4].upper()
                if verb == "DATA":
                    self.say("354 go on")
                    self.keep()
                elif verb == "QUIT":
                    self.say("221 bye")
                    return
                elif verb == "RCPT" and box.num_refusals:
                    box.num_refusals -= 1
                    self.say("451 come back later")
                else:
                    if verb == "RCPT":
                        box.recipients.append(line.partition("<")[2].rstrip(">"))
                    self.say("250 fine")

        def keep(self) -> None:
            lines = []
            for raw in self.rfile:
                if raw == b".\r\n":
                    break
                lines.append(raw.removeprefix(b".") if raw.startswith(b"..") else raw)
            found = email.message_from_bytes(b"".join(lines), policy=email.policy.default)
            box.mails.append(found)
            self.say("250 kept")

        def say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Session)) as port:
        box.port = port
        yield box


@dataclass
class Calls:
    """Keeps the calls that came, and answers with the next of its answers, then with 204."""

    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    url: str = ""


@contextmanager
def receiver() -> Iterator[Calls]:
    calls = Calls()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            calls.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            calls.headers.append({name.lower(): value for name, value in self.headers.items()})
            calls.paths.append(self.path)
            self.send_response(calls.answers.pop(0) if calls.answers else 204)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        calls.url = f"http://127.0.0.1:{port}/etude?from=ward"
        yield calls


@contextmanager
def dripping_receiver() -> Iterator[str]:
    """An address whose answer never ends: a letter now and then, so that no single read is late."""
    ended = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                self.request.sendall(b"HTTP/1.1 204 No Content\r\nX-More: ")
                while not ended.wait(0.05):
                    self.request.sendall(b"x")

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    with serving(server) as port:
        try:
            yield f"http://127.0.0.1:{port}/"
        finally:
            ended.set()


@contextmanager
def serving(server: socketserver.TCPServer) -> Iterator[int]:
    server.socket.listen()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
