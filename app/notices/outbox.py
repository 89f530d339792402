"""What is to leave: taken for a while, sent, and tried again until it is given up.

A message is taken by moving its time on, so a sender that dies has it sent again: at least once,
and always with the same id.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import (
    ColumnElement,
    and_,
    case,
    cast,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from app import notices
from app.core import clock, settings
from app.core.models import Channel, Json, Outgoing, User, Webhook

# Longer than the longest try; nobody else takes the message meanwhile.
_HOLD = timedelta(seconds=120)
_KEEP_SENT = timedelta(days=30)
MAIL_SERVER, MLFLOW = "mail server", "MLflow"
# Nobody waits for MLflow, and it is never given up: once it is back it hears soon.
_MLFLOW_WAIT_SECONDS = 600.0


@dataclass(frozen=True)
class Message:
    """One mail or call, with all that sending it needs."""

    id: int
    public_id: str
    channel: Channel
    content: Json
    tries: int  # this one included
    to: str  # an e-mail address, or a URL
    webhook_id: int | None = None
    generation: int = 0
    may_be_inside: bool = False
    job_id: int | None = None

    @property
    def receiver(self) -> str:
        """Whom one message at a time goes to: a webhook, the mail server or MLflow."""
        if self.channel is Channel.WEBHOOK:
            return f"webhook {self.webhook_id}"
        return MAIL_SERVER if self.channel is Channel.MAIL else MLFLOW


@dataclass(frozen=True)
class Progress:
    """How far a message got that is told bit by bit."""

    told: Json  # what is to be remembered of it
    is_over: bool
    seconds: float = 0.0  # until it goes on


def is_due(db: Session) -> bool:
    """Say whether a message is to be sent now."""
    return bool(db.scalar(select(exists().where(*_due()))))


def _due() -> list[ColumnElement[bool]]:
    due = [
        Outgoing.sent_at.is_(None),
        Outgoing.gave_up_at.is_(None),
        Outgoing.send_after <= clock.NOW,
    ]
    if not settings.get().mlflow_url:
        due.append(Outgoing.channel != Channel.MLFLOW)  # it waits until there is one again
    return due


def take(db: Session, busy: Collection[str] = ()) -> Message | None:
    """Take the message that has waited longest; the caller commits before it sends.

    Args:
        busy: Receivers that are being told something; what waits for them goes on waiting.
    """
    hooks = [int(each.split()[1]) for each in busy if each not in (MAIL_SERVER, MLFLOW)]
    free = or_(
        Outgoing.webhook_id.not_in(hooks),
        and_(Outgoing.channel == Channel.MAIL, literal(MAIL_SERVER not in busy)),
        and_(Outgoing.channel == Channel.MLFLOW, literal(MLFLOW not in busy)),
    )
    due = (
        select(Outgoing.id)
        .where(*_due(), free)
        .order_by(Outgoing.send_after)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    row = db.execute(
        update(Outgoing)
        .where(Outgoing.id == due)
        .values(send_after=clock.NOW + _HOLD, tries=Outgoing.tries + 1)
        .returning(Outgoing)
        .execution_options(synchronize_session=False)
    ).scalar_one_or_none()
    if row is None:
        return None
    generation, may_be_inside = 0, False
    if row.channel is Channel.WEBHOOK:
        hook = db.get_one(Webhook, row.webhook_id)
        to, generation, may_be_inside = hook.url, hook.generation, hook.may_be_inside
    elif row.channel is Channel.MAIL:
        to = db.get_one(User, row.user_id).email
    else:
        to = settings.get().mlflow_url
    return Message(
        row.id,
        row.public_id,
        row.channel,
        row.content,
        row.tries,
        to,
        row.webhook_id,
        generation,
        may_be_inside,
        row.job_id,
    )


def sent(db: Session, message: Message, answer: str) -> None:
    """Write down that it has arrived."""
    db.execute(
        update(Outgoing).where(Outgoing.id == message.id).values(sent_at=clock.NOW, last_error=None)
    )
    _note(db, message, answer)


def went_on(db: Session, message: Message, progress: Progress) -> None:
    """Write down how far it got; what was added to it meanwhile has it go on at once."""
    wait = timedelta(seconds=progress.seconds)
    unchanged = Outgoing.content == message.content
    over = case((unchanged, clock.NOW), else_=None) if progress.is_over else None
    db.execute(
        update(Outgoing)
        .where(Outgoing.id == message.id)
        .values(
            content=Outgoing.content.concat(cast(progress.told, JSONB)),
            sent_at=over,
            send_after=case((unchanged, clock.NOW + wait), else_=clock.NOW),
            tries=0,
            last_error=None,
            gave_up_at=None,
        )
    )


def failed(db: Session, message: Message, error: str) -> None:
    """Have it tried again later; after the last try it stays, and administrators are told."""
    waits = settings.get().outbox_retry_seconds
    row = db.get(Outgoing, message.id, with_for_update=True)
    if row is None:
        return  # its webhook or its person was removed
    row.last_error = error[:300]
    is_last = message.tries > len(waits)
    if is_last:
        notices.not_delivered(db, row)  # once
    if message.channel is Channel.MLFLOW:
        wait = _MLFLOW_WAIT_SECONDS if is_last else waits[message.tries - 1]
        row.send_after = clock.NOW + timedelta(seconds=min(wait, _MLFLOW_WAIT_SECONDS))
    elif is_last:
        row.gave_up_at = clock.NOW
    else:
        row.send_after = clock.NOW + timedelta(seconds=waits[message.tries - 1])
    db.flush()
    _note(db, message, error)


def forget_old(db: Session) -> None:
    """Remove what was sent long ago."""
    db.execute(delete(Outgoing).where(Outgoing.sent_at < func.now() - _KEEP_SENT))


def _note(db: Session, message: Message, answer: str) -> None:
    if message.webhook_id is not None:
        db.execute(
            update(Webhook)
            .where(Webhook.id == message.webhook_id)
            .values(last_answer=answer[:300], last_at=clock.NOW)
        )
