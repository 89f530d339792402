"""Adapters that people deleted and may have back: into the bin, out of it, and gone for good.

What people said to an adapter never goes there: conversations with it, kept questions and reports
are erased at once, as rows of people always are.
"""

from sqlalchemy import Select, delete, func, select, update
from sqlalchemy.orm import Session, selectinload

from app import notices
from app.adapters import exports, registry
from app.core import audit, bins, clock
from app.core.errors import NotFound
from app.core.models import (
    Adapter,
    AnswerReport,
    Conversation,
    Evaluation,
    EvaluationStatus,
    Feedback,
    KeptQuestion,
    StoredFile,
    User,
)
from app.people.auth import can_edit

# How many are erased at a time while the disk is short.
_AT_A_TIME = 10
_OF_PEOPLE = (Conversation, Feedback, KeptQuestion, AnswerReport)
_IN_THE_BIN = "Its model was put into the bin."


def put(db: Session, user: User, adapter: Adapter) -> None:
    """Put an adapter into the bin, with its files; what people said to it is erased at once.

    From then on nobody can ask, compare or export it, nor start a job from it.

    Raises:
        Forbidden: the person may only look.
        Conflict: a job that is not over starts from it.
    """
    registry.require_deletable(db, user, adapter)
    if adapter.binned_at is not None:
        return  # asked for twice
    of_this = Evaluation.adapter_id == adapter.id
    notices.evaluations_go(db, of_this)
    db.execute(
        update(Evaluation)
        .where(
            of_this,
            Evaluation.status.in_((EvaluationStatus.WAITING, EvaluationStatus.EVALUATING)),
        )
        .values(
            status=EvaluationStatus.CANCELLED,
            reason=_IN_THE_BIN,
            finished_at=clock.NOW,
            worker_id=None,
            lease_until=None,
            progress=None,
        )
        .execution_options(synchronize_session=False)
    )
    exports.end_all(db, adapter, _IN_THE_BIN)
    for table in _OF_PEOPLE:
        db.execute(delete(table).where(table.adapter_id == adapter.id))
    adapter.binned_at, adapter.binned_by_id = clock.NOW, user.id
    db.flush()
    audit.record(db, user, "adapter.bin", f"adapter {adapter.id}")


def restore(db: Session, user: User, adapter: Adapter) -> None:
    """Take an adapter out of the bin: under the same name, for the same people.

    Raises:
        Forbidden: the person may only look.
    """
    registry.require_editor(user, "You can look at trained models, but not restore them.")
    db.refresh(adapter, with_for_update={"of": Adapter})
    if adapter.binned_at is None:
        return  # asked for twice
    adapter.binned_at = adapter.binned_by_id = None
    db.flush()
    audit.record(db, user, "adapter.restore", f"adapter {adapter.id}")


def erase(db: Session, user: User, adapter: Adapter) -> None:
    """Erase an adapter that is in the bin, for good.

    Raises:
        Forbidden: the person may only look.
        NotFound: it was restored meanwhile.
    """
    registry.require_editor(user, "You can look at trained models, but not delete them.")
    db.refresh(adapter, with_for_update={"of": Adapter})
    if adapter.binned_at is None:
        raise _not_there()
    registry.erase(db, user, adapter)


def visible(user: User) -> Select[Adapter]:
    """Select the adapters in the bin that a person may see: those of the department."""
    return select(Adapter).where(
        Adapter.department_id == user.department_id, Adapter.binned_at.is_not(None)
    )


def get(db: Session, user: User, adapter_id: int) -> Adapter:
    """Return one adapter that is in the bin.

    Raises:
        NotFound: it is not there, or belongs to another department.
    """
    adapter = db.scalars(visible(user).where(Adapter.id == adapter_id)).one_or_none()
    if adapter is None:
        raise _not_there()
    return adapter


def list_of(db: Session, user: User, limit: int) -> list[Adapter]:
    """Return the adapters in the bin, those that were deleted last first."""
    query = visible(user).options(selectinload(Adapter.archive_file))
    order = (Adapter.binned_at.desc(), Adapter.id.desc())
    return list(db.scalars(query.order_by(*order).limit(limit)))


def size_bytes(db: Session, user: User | None = None) -> int:
    """Count what the files in the bin take on the disk: of a department, or of all of them."""
    zipped = func.coalesce(StoredFile.size_bytes, 0)
    total = (
        select(func.coalesce(func.sum(Adapter.size_bytes + zipped), 0))
        .outerjoin(StoredFile, StoredFile.id == Adapter.archive_file_id)
        .where(Adapter.binned_at.is_not(None))
    )
    if user is not None:
        total = total.where(Adapter.department_id == user.department_id)
    return int(db.scalars(total).one())


def erase_old(db: Session) -> int:
    """Erase the adapters that have been in the bin for their time; the caller commits.

    While the disk is short, the oldest go before that. The bytes of what has no row any more are
    removed afterwards (`registry.purge`, `deletion.purge`), also if this process dies between.
    """
    held = select(Adapter).order_by(Adapter.binned_at).with_for_update(skip_locked=True, of=Adapter)
    due = list(db.scalars(held.where(bins.is_over(Adapter))))
    why = "bin"
    if not due and bins.is_disk_short():
        due = list(db.scalars(held.where(Adapter.binned_at.is_not(None)).limit(_AT_A_TIME)))
        why = "disk is short"
    for adapter in due:
        registry.erase(db, None, adapter, why=why)
    return len(due)


def may_restore(user: User) -> bool:
    """Say whether a person may take adapters out of the bin, or erase them."""
    return can_edit(user)


def _not_there() -> NotFound:
    return NotFound("This model is no longer in the bin; it was restored, or erased for good.")
