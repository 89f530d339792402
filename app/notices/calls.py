"""One signed call to a webhook, in the manner of Standard Webhooks (standardwebhooks.com).

The receiver's host is resolved once, looked at, and that very address is called: a name cannot be
made to point elsewhere in between. Redirects are not followed, and no proxy is asked.
"""

import base64
import hashlib
import hmac
import http.client
import ipaddress
import json
import socket
import ssl
import time
from urllib.parse import urlsplit

from app.core.models import Json
from app.notices import webhooks
from app.notices.outbox import Message

_TIMEOUT_SECONDS = 15
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
    connection = _Connection(host, port, is_tls)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target, body=body, headers=headers)
        answer = connection.getresponse()
        answer.read(_MAX_ANSWER_BYTES)
    finally:
        connection.close()
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


def may_call(address: str) -> bool:
    """Say whether an address is a receiver's: of the site or outside, never the net's own.

    Link-local addresses answer for machines of a cloud with their credentials.
    """
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return not (
        parsed.is_link_local or parsed.is_multicast or parsed.is_unspecified or parsed.is_reserved
    )


class _Connection(http.client.HTTPConnection):
    """Calls one address of a host, which was looked at before."""

    def __init__(self, host: str, port: int, is_tls: bool) -> None:
        super().__init__(host, port, timeout=_TIMEOUT_SECONDS)
        self._is_tls = is_tls

    def connect(self) -> None:
        infos = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        addresses = [str(each[4][0]) for each in infos]
        if not all(may_call(address) for address in addresses):
            raise Refused(f"{self.host} leads to an address that is no receiver's")
        self.sock = socket.create_connection((addresses[0], self.port), _TIMEOUT_SECONDS)
        if self._is_tls:
            context = ssl.create_default_context()
            self.sock = context.wrap_socket(self.sock, server_hostname=self.host)


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
