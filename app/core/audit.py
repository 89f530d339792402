"""The audit log: append-only and hash-chained, written in the transaction of the operation."""

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.core.models import AuditEvent, User

GENESIS = b"\0" * 32
_LOCK = 0x457475646541  # "EtudeA": the chain has one writer at a time


def record(db: Session, actor: User | None, action: str, subject: str, **detail: Any) -> None:
    """Add one event to the chain; never pass what is in people's rows, only what was done.

    The chain is locked until the caller's transaction ends, so record last.
    """
    db.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    last = db.scalars(select(AuditEvent).order_by(AuditEvent.id.desc()).limit(1)).first()
    event = AuditEvent(
        at=datetime.now(UTC),
        actor=actor.email if actor else "system",
        department_id=actor.department_id if actor else None,
        action=action,
        subject=subject,
        detail=detail,
        previous_hash=last.hash if last else GENESIS,
    )
    event.hash = _digest(event)
    db.add(event)
    db.flush()


def first_break(events: Iterable[AuditEvent]) -> int | None:
    """Return the id of the first event that does not follow from the one before it."""
    previous = GENESIS
    for event in events:
        if event.previous_hash != previous or event.hash != _digest(event):
            return event.id
        previous = event.hash
    return None


def _digest(event: AuditEvent) -> bytes:
    body = [
        event.at.astimezone(UTC).isoformat(),
        event.actor,
        event.department_id,
        event.action,
        event.subject,
        event.detail,
    ]
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(event.previous_hash + canonical.encode()).digest()
