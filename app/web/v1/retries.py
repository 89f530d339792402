"""A create that arrives twice makes one thing.

OpenAI's client repeats a create when no answer came, and says so in `x-stainless-retry-count`;
it sends no key of its own. So a repeated request is matched with what the same account asked for
in the last minutes, word for word. A caller who wants more than that sends `Idempotency-Key`,
which counts for a day, first request or not.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session
from starlette.requests import Request

from app.core.models import Job, User
from app.web.v1.errors import BadRequest

# An attempt of OpenAI's client lasts 10 minutes at most; the second repeat may come after 20.
WINDOW = timedelta(minutes=25)
KEY_WINDOW = timedelta(hours=24)
MAX_KEY_LENGTH = 255


def is_retry(request: Request) -> bool:
    """Say whether the client calls this request a repeat of one that it got no answer to."""
    count = request.headers.get("x-stainless-retry-count", "0")
    return count.isdecimal() and int(count) > 0


def idempotency_key(request: Request) -> str | None:
    """Return the caller's key for this request.

    Raises:
        BadRequest: it is too long to be one.
    """
    key = request.headers.get("idempotency-key")
    if key and len(key) > MAX_KEY_LENGTH:
        raise BadRequest(
            f"Idempotency-Key: use at most {MAX_KEY_LENGTH} characters.", field="Idempotency-Key"
        )
    return key or None


def fingerprint(body: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a request's meaning: the order of its keys does not count."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def serialize(db: Session, user: User, *what: str) -> None:
    """Let equal requests of one account pass one at a time, until the transaction ends.

    The repeat of a request that is still being worked on waits here, and then finds its row.
    """
    digest = hashlib.sha256("\n".join((str(user.id), *what)).encode()).digest()
    key = int.from_bytes(digest[:8], "big", signed=True)
    db.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})


def earlier_job(db: Session, user: User, request: Request, print_: str) -> Job | None:
    """Find the job that an earlier arrival of this request made; call `serialize` first.

    Raises:
        BadRequest: the Idempotency-Key was used for another request.
    """
    key = idempotency_key(request)
    newest = (
        select(Job)
        # A person's retry of a failed job carries the old one's request, but is not its answer.
        .where(Job.owner_id == user.id, Job.retry_of_id.is_(None))
        .order_by(Job.id.desc())
        .limit(1)
    )
    if key is not None:
        job = db.scalars(
            newest.where(
                Job.api_request["idempotency_key"].astext == key,
                Job.created_at > datetime.now(UTC) - KEY_WINDOW,
            )
        ).one_or_none()
        if job is not None and (job.api_request or {}).get("fingerprint") != print_:
            raise BadRequest(
                "Idempotency-Key: this key was used for another request; take a new one.",
                field="Idempotency-Key",
                code="idempotency_key_reused",
            )
        return job
    if not is_retry(request):
        return None
    return db.scalars(
        newest.where(
            Job.api_request["fingerprint"].astext == print_,
            Job.created_at > datetime.now(UTC) - WINDOW,
        )
    ).one_or_none()
