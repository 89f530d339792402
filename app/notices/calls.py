"""One signed call to a webhook, in the manner of Standard Webhooks (standardwebhooks.com)."""

import base64
import hashlib
import hmac
import json
import time

from app.core import settings
from app.core.models import Json
from app.notices import receivers, webhooks
from app.notices.connections import Refused, connected
from app.notices.outbox import Message


def send(message: Message) -> str:
    """Make the call; returns what to note.

    Raises:
        Refused: the address may not be called, or the answer was no success.
        OSError, http.client.HTTPException: it could not be reached.
    """
    assert message.webhook_id is not None
    body = json.dumps({"id": message.public_id, **message.content}, ensure_ascii=False).encode()
    key = webhooks.key(message.webhook_id, message.generation)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Etude",
        **signature(message.public_id, int(time.time()), body, key),
    }

    def look_at(host: str, address: str) -> None:
        if not receivers.may_call(host, address, may_be_inside=message.may_be_inside):
            raise Refused(
                f"{host} leads to {address}, inside this network: an administrator can allow it in "
                "ETUDE_WEBHOOK_HOSTS"
            )

    with connected(message.to, "webhooks", settings.get().webhook_seconds, look_at) as receiver:
        answer = receiver.ask("POST", headers, body)
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
