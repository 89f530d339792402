"""What is to leave: taken for a while, sent, and tried again until it is given up.

A message is taken by moving its time on, so a sender that dies has it sent again: at least once,
and always with the same id.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, and_, delete, exists, func, literal, or_, select, update
from sqlalchemy.orm import Session

from app import notices
from app.core import clock, settings
from app.core.models import Channel, Json, Outgoing, User, Webhook

# Longer than the longest try; nobody else takes the message meanwhile.
_HOLD = timedelta(seconds=120)
_KEEP_SENT = timedelta(days=30)
MAIL_SERVER = "mail server"


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

    @property
    def receiver(self) -> str:
        """Whom one message at a time goes to: a webhook, or the mail server."""
        return f"webhook {self.webhook_id}" if self.webhook_id is not None else MAIL_SERVER


def is_due(db: Session) -> bool:
    """Say whether a message is to be sent now."""
    return bool(db.scalar(select(exists().where(*_due()))))


def _due() -> list[ColumnElement[bool]]:
    return [
        Outgoing.sent_at.is_(None),
        Outgoing.gave_up_at.is_(None),
        Outgoing.send_after <= clock.NOW,
    ]


def take(db: Session, busy: Collection[str] = ()) -> Message | None:
    """Take the message that has waited longest; the caller commits before it sends.

    Args:
        busy: Receivers that are being told something; what waits for them goes on waiting.
    """
    hooks = [int(each.split()[1]) for each in busy if each != MAIL_SERVER]
    mails = Outgoing.webhook_id.is_(None)
    free = or_(Outgoing.webhook_id.not_in(hooks), and_(mails, literal(MAIL_SERVER not in busy)))
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
    if row.webhook_id is not None:
        hook = db.get_one(Webhook, row.webhook_id)
        to, generation, may_be_inside = hook.url, hook.generation, hook.may_be_inside
    else:
        to, generation, may_be_inside = db.get_one(User, row.user_id).email, 0, False
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
    )


def sent(db: Session, message: Message, answer: str) -> None:
    """Write down that it has arrived."""
    db.execute(
        update(Outgoing).where(Outgoing.id == message.id).values(sent_at=clock.NOW, last_error=None)
    )
    _note(db, message, answer)


def failed(db: Session, message: Message, error: str) -> None:
    """Have it tried again later; after the last try it stays, and administrators are told."""
    waits = settings.get().outbox_retry_seconds
    row = db.get(Outgoing, message.id, with_for_update=True)
    if row is None:
        return  # its webhook or its person was removed
    row.last_error = error[:300]
    if message.tries > len(waits):
        row.gave_up_at = clock.NOW
        notices.not_delivered(db, row)
    else:
        wait = timedelta(seconds=waits[message.tries - 1])
        row.send_after = clock.NOW + wait
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
