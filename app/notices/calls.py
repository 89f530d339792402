"""One signed call to a webhook, in the manner of Standard Webhooks (standardwebhooks.com).

The receiver's host is resolved once, looked at, and that very address is called: a name cannot be
made to point elsewhere in between. Redirects are not followed, and no proxy is asked. The whole
call, from the name to the last byte of the answer, has so many seconds and no more.
"""

import base64
import hashlib
import hmac
import http.client
import json
import queue
import socket
import ssl
import threading
import time
from contextlib import suppress
from urllib.parse import urlsplit

from app.core import outbound, settings
from app.core.models import Json
from app.notices import receivers, webhooks
from app.notices.outbox import Message

_MAX_ANSWER_BYTES = 4096


class Refused(Exception):
    """The receiver did not take it, or may not be called; the text says why."""


def send(message: Message) -> str:
    """Make the call; returns what to note.

    Raises:
        Refused: the address may not be called, or the answer was no success.
        OSError, http.client.HTTPException: it could not be reached.
    """
    assert message.webhook_id is not None
    parts = urlsplit(message.to)
    host, is_tls = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if is_tls else 80)
    body = json.dumps({"id": message.public_id, **message.content}, ensure_ascii=False).encode()
    key = webhooks.key(message.webhook_id, message.generation)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Etude",
        **signature(message.public_id, int(time.time()), body, key),
    }
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    seconds = settings.get().webhook_seconds
    connection = _Connection(host, port, is_tls, seconds, may_be_inside=message.may_be_inside)
    over = threading.Timer(seconds, connection.break_off)
    over.daemon = True
    over.start()
    try:
        with outbound.towards("webhooks", host):
            connection.request("POST", target, body=body, headers=headers)
        answer = connection.getresponse()
        answer.read(_MAX_ANSWER_BYTES)
    except (OSError, http.client.HTTPException, ValueError):
        if connection.is_late:
            raise Refused(f"it did not answer within {seconds:.10g} seconds") from None
        raise
    finally:
        over.cancel()
        connection.close()
    if connection.is_late:
        raise Refused(f"it did not answer within {seconds:.10g} seconds")
    if not 200 <= answer.status < 300:
        raise Refused(f"it answered {answer.status}")
    return str(answer.status)


def signature(message_id: str, timestamp: int, body: bytes, key: bytes) -> dict[str, str]:
    """Return the three headers by which a receiver knows that a call is ours and fresh."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    mac = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{mac}",
    }


class _Connection(http.client.HTTPConnection):
    """Calls one address of a host, which was looked at before, until it is broken off."""

    def __init__(
        self, host: str, port: int, is_tls: bool, seconds: float, *, may_be_inside: bool
    ) -> None:
        super().__init__(host, port, timeout=seconds)
        self._is_tls = is_tls
        self._may_be_inside = may_be_inside
        self._lock = threading.Lock()
        self.is_late = False

    def connect(self) -> None:
        addresses = _resolved(self.host, self.port, float(self.timeout or 0))
        for address in addresses:
            if not receivers.may_call(self.host, address, may_be_inside=self._may_be_inside):
                raise Refused(
                    f"{self.host} leads to {address}, inside this network: an administrator can "
                    "allow it in ETUDE_WEBHOOK_HOSTS"
                )
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


def example() -> str:
    """Return what a call holds, for the page."""
    body: Json = {
        "id": "msg-…",
        "object": "event",
        "type": "fine_tuning.job.succeeded",
        "created_at": 1764030000,
        "data": {"id": "ftjob-…", "link": "/jobs/7"},
    }
    return json.dumps(body, indent=2, ensure_ascii=False)
