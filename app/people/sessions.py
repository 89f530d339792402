"""The browsers in which a person is signed in: how long that lasts, which they are, ending them."""

import hashlib
from datetime import UTC, datetime, timedelta

from sqlalchemy import (
    ColumnElement,
    Interval,
    Select,
    and_,
    bindparam,
    case,
    delete,
    func,
    select,
    update,
)
from sqlalchemy.orm import Session

from app.core import audit, clock, settings
from app.core.errors import NotFound
from app.core.models import Notice, User, WebSession

# Often enough for limits of minutes, and no write for every page.
_NOTED_EVERY = timedelta(minutes=1)
_UNREAD = "num_unread"
_NUM_UNREAD = (
    select(func.count())
    .select_from(Notice)
    .where(Notice.user_id == WebSession.user_id, Notice.read_at.is_(None))
    .correlate(WebSession)
    .scalar_subquery()
)


def _build_get() -> Select[WebSession, int]:
    idle = case(
        (WebSession.is_shared, bindparam("shared_idle", type_=Interval)),
        else_=bindparam("idle", type_=Interval),
    )
    return select(WebSession, _NUM_UNREAD).where(
        WebSession.token_hash == bindparam("token_hash"), _has_not_ended(idle)
    )


def _has_not_ended(idle: ColumnElement[timedelta]) -> ColumnElement[bool]:
    return and_(WebSession.expires_at > clock.NOW, WebSession.last_used_at > clock.NOW - idle)


# Built once: every page asks it.
_GET = _build_get()


def digest(secret: str) -> bytes:
    """Return what is kept of a secret of 256 random bits."""
    return hashlib.sha256(secret.encode(errors="replace")).digest()


def counts_still() -> ColumnElement[bool]:
    """Build the condition that a session has not ended: it is neither too old nor forgotten."""
    chosen = settings.get()
    idle = case(
        (WebSession.is_shared, timedelta(minutes=chosen.shared_idle_minutes)),
        else_=timedelta(minutes=chosen.session_idle_minutes),
    )
    return _has_not_ended(idle)


def get(db: Session, secret: str) -> WebSession | None:
    """Return the session of a cookie, if it still counts.

    How many notices its person has not read comes along: each page shows it (`num_unread`).
    """
    if not secret:
        return None
    chosen = settings.get()
    row = db.execute(
        _GET,
        {
            "token_hash": digest(secret),
            "shared_idle": timedelta(minutes=chosen.shared_idle_minutes),
            "idle": timedelta(minutes=chosen.session_idle_minutes),
        },
    ).first()
    if row is None:
        return None
    signed_in: WebSession
    signed_in, number = row
    db.info[_UNREAD, signed_in.user_id] = number
    return signed_in


def num_unread(db: Session, user: User) -> int | None:
    """Return how many notices a person had not read when the request began; None: not looked."""
    number: int | None = db.info.get((_UNREAD, user.id))
    return number


def note_use(db: Session, signed_in: WebSession) -> None:
    """Note, and commit, that a person did something; at most once a minute."""
    if datetime.now(UTC) - signed_in.last_used_at < _NOTED_EVERY:
        return
    db.execute(
        update(WebSession)
        .where(WebSession.token_hash == signed_in.token_hash)
        .values(last_used_at=clock.NOW)
        .execution_options(synchronize_session=False)
    )
    db.commit()


def list_all(db: Session, user: User) -> list[WebSession]:
    """List where a person is signed in, the last used first."""
    query = select(WebSession).where(WebSession.user_id == user.id, counts_still())
    return list(db.scalars(query.order_by(WebSession.last_used_at.desc(), WebSession.id.desc())))


def end(db: Session, user: User, session_id: int) -> None:
    """Sign a person out of one of their browsers.

    Raises:
        NotFound: there is none, or it is somebody else's.
    """
    mine = [WebSession.id == session_id, WebSession.user_id == user.id]
    if db.execute(delete(WebSession).where(*mine).returning(WebSession.id)).first() is None:
        raise NotFound("This sign-in has ended already.")
    audit.record(db, user, "account.end_session", f"user {user.id}")


def end_others(db: Session, user: User, secret: str) -> None:
    """Sign a person out everywhere but in the browser that asks."""
    others = [WebSession.user_id == user.id, WebSession.token_hash != digest(secret)]
    db.execute(delete(WebSession).where(*others))
    audit.record(db, user, "account.end_other_sessions", f"user {user.id}")
