"""What people say of an adapter's answers, collected for those who improve it.

A thumb or a better answer gives one question and one answer to them, as the page says beside the
button; what else was said in the conversation stays its owner's. Whoever gave it can take it back
until it is data.
"""

from collections.abc import Sequence

from sqlalchemy import Select, exists, func, select
from sqlalchemy import delete as delete_rows
from sqlalchemy.orm import Session

from app.core import audit
from app.core.models import (
    Adapter,
    ConversationAnswer,
    ConversationTurn,
    Feedback,
    User,
)
from app.datasets import versions

MAX_SHOWN = 200


def collect(db: Session, user: User, answer: ConversationAnswer) -> None:
    """Take over what a person said of an answer, or take it back."""
    row = db.scalars(select(Feedback).where(Feedback.answer_id == answer.id)).one_or_none()
    if answer.thumb is None and answer.better is None:
        withdraw(db, [answer.id])
        return
    turn = answer.turn
    if row is None:
        row = Feedback(adapter_id=turn.conversation.adapter_id, answer_id=answer.id)
        db.add(row)
    elif row.used_at is not None and row.better != answer.better:
        row.used_at = row.used_version_id = None  # said anew
    row.author_id = user.id
    row.question, row.answer, row.label = turn.question, answer.text, answer.label
    row.thumb, row.better = answer.thumb, answer.better
    row.is_follow_up = turn.example_index is None and _has_earlier(db, turn)
    row.example_index = turn.example_index
    row.held_out_version_id = _held_out_id(turn) if turn.example_index is not None else None
    row.created_at = func.now()
    db.flush()


def withdraw(db: Session, answer_ids: Sequence[int]) -> None:
    """Take back what was said of some answers, unless it is data already."""
    db.execute(
        delete_rows(Feedback).where(Feedback.answer_id.in_(answer_ids), Feedback.used_at.is_(None))
    )


def withdraw_conversation(db: Session, conversation_id: int) -> None:
    """Take back all that was said in a conversation, unless it is data already."""
    answers = (
        select(ConversationAnswer.id)
        .join(ConversationTurn)
        .where(ConversationTurn.conversation_id == conversation_id)
    )
    db.execute(
        delete_rows(Feedback).where(Feedback.answer_id.in_(answers), Feedback.used_at.is_(None))
    )


def collected(db: Session, user: User, adapter: Adapter) -> list[Feedback]:
    """Return what is not data yet, the newest first; to those who may change the data.

    Raises:
        Forbidden: viewers look only.
    """
    versions.require_editor(user)
    return list(db.scalars(_open(adapter).order_by(Feedback.id.desc()).limit(MAX_SHOWN)))


def count(db: Session, adapter: Adapter) -> int:
    """Count what is not data yet."""
    return db.scalar(select(func.count()).select_from(_open(adapter).subquery())) or 0


def leave_out(db: Session, user: User, adapter: Adapter, ids: Sequence[int]) -> None:
    """Delete some of what was collected.

    Raises:
        Forbidden: viewers look only.
    """
    versions.require_editor(user)
    gone = db.execute(
        delete_rows(Feedback)
        .where(Feedback.adapter_id == adapter.id, Feedback.id.in_(ids), Feedback.used_at.is_(None))
        .returning(Feedback.id)
    )
    audit.record(db, user, "feedback.leave_out", f"adapter {adapter.id}", number=len(gone.all()))


def _open(adapter: Adapter) -> Select[Feedback]:
    return select(Feedback).where(Feedback.adapter_id == adapter.id, Feedback.used_at.is_(None))


def _has_earlier(db: Session, turn: ConversationTurn) -> bool:
    earlier = exists().where(
        ConversationTurn.conversation_id == turn.conversation_id, ConversationTurn.id < turn.id
    )
    return bool(db.scalar(select(earlier)))


def _held_out_id(turn: ConversationTurn) -> int | None:
    job = turn.conversation.adapter.job
    return None if job is None else job.validation_version_id or job.version_id
