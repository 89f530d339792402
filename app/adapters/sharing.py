"""An adapter for colleagues: released by its owner, asked within limits, withdrawn everywhere.

What is asked is counted by day and person, and not kept; unless the owner says so, and then its
page says so to everybody. What is kept so goes when a conversation of that age would.
"""

import datetime as dt
import math
from dataclasses import dataclass

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app import notices
from app.adapters import exports, registry, states
from app.core import audit, clock, settings, site_time
from app.core.errors import Conflict, Forbidden, Invalid, NotFound, Problems, TooMany
from app.core.models import (
    Adapter,
    AdapterUse,
    AnswerReport,
    KeptQuestion,
    Release,
    Role,
    User,
)
from app.people.auth import can_edit

MAX_TEXT = 2000
MAX_ASKS_PER_DAY = 10_000
_MAX_REPORTED = 20_000  # letters of a question or an answer
_MAX_OPEN_REPORTS = 200  # of one adapter


@dataclass(frozen=True)
class Day:
    """How much an adapter was used on one day."""

    day: dt.date
    num_people: int
    num_asked: int


def may_share(user: User, adapter: Adapter) -> bool:
    """Say whether a person decides who may ask an adapter: its owner, a lead, an administrator."""
    if user.role is Role.ADMIN:
        return True
    if user.department_id != adapter.department_id or not can_edit(user):
        return False
    return user.role is Role.LEAD or user.id == adapter.owner_id


def released(db: Session, user: User) -> list[Adapter]:
    """Return the adapters that were released to a person's department, by name."""
    query = select(Adapter).where(
        Adapter.department_id == user.department_id,
        Adapter.release == Release.RELEASED,
        Adapter.binned_at.is_(None),
    )
    return list(db.scalars(query.order_by(Adapter.name, Adapter.id)))


def require_sharing(user: User, adapter: Adapter) -> None:
    """Refuse those who do not decide.

    Raises:
        Forbidden: they are neither its owner, nor the department's lead, nor administrators.
    """
    if not may_share(user, adapter):
        raise Forbidden(
            "Only the person who trained this model, your department's lead and administrators "
            "decide who may ask it."
        )


def require_asking(user: User, adapter: Adapter) -> None:
    """Refuse whoever may not ask an adapter.

    Raises:
        NotFound: it belongs to another department, was withdrawn, or its starting model is gone.
        Forbidden: it was not released to viewers.
    """
    if adapter.department_id != user.department_id:
        raise NotFound("There is no such model; it may have been deleted.", field="model")
    states.require_askable(adapter, may_wait=True)
    if adapter.release is not Release.RELEASED and not can_edit(user):
        raise Forbidden(
            f"“{adapter.name}” has not been released to you yet; ask the person who trained it.",
            field="model",
        )


def release(
    db: Session,
    user: User,
    adapter: Adapter,
    *,
    purpose: str,
    limits: str,
    reason: str = "",
    asks_per_day: int,
    keeps_questions: bool,
) -> None:
    """Let colleagues who may only look ask an adapter, too; or change what was said of it.

    Whether it asks for a reason is decided in app/evaluation/releasing.py.

    Raises:
        Forbidden: the person does not decide.
        Invalid: a text is missing or too long, or the limit is out of range.
    """
    require_sharing(user, adapter)
    purpose, limits, reason = _clean(purpose), _clean(limits), _clean(reason)
    problems = Problems()
    if not purpose:
        problems.add("Say what this model is for, in a sentence or two.", "purpose")
    if not limits:
        problems.add("Say what it must not be used for, or where it goes wrong.", "limits")
    for field, text in (("purpose", purpose), ("limits", limits), ("reason", reason)):
        if len(text) > MAX_TEXT:
            problems.add(f"Use at most {MAX_TEXT:,} characters.", field)
    if not 1 <= asks_per_day <= MAX_ASKS_PER_DAY:
        problems.add(f"Enter a number from 1 to {MAX_ASKS_PER_DAY:,}.", "asks_per_day")
    if keeps_questions and not may_keep():
        problems.add(
            "This site keeps nothing of what is asked; ask your administrator about it.",
            "keeps_questions",
        )
    problems.check()
    if not keeps_questions:
        db.execute(delete(KeptQuestion).where(KeptQuestion.adapter_id == adapter.id))
    adapter.release, adapter.purpose, adapter.limits = Release.RELEASED, purpose, limits
    adapter.asks_per_day, adapter.keeps_questions = asks_per_day, keeps_questions
    adapter.release_reason = reason
    db.flush()
    audit.record(
        db,
        user,
        "adapter.release",
        f"adapter {adapter.id}",
        asks_per_day=asks_per_day,
        keeps_questions=keeps_questions,
    )


def make_private(db: Session, user: User, adapter: Adapter) -> None:
    """Let only those ask it who may train: as it was before, or before it was withdrawn."""
    _set(db, user, adapter, Release.PRIVATE, "adapter.make_private")


def withdraw(db: Session, user: User, adapter: Adapter) -> None:
    """Let nobody ask it any more, on pages, by programs, or on an inference server; nor take it."""
    require_sharing(user, adapter)
    exports.end_all(db, adapter, registry.WITHDRAWN.format(name=adapter.name))
    _set(db, user, adapter, Release.WITHDRAWN, "adapter.withdraw")


def _set(db: Session, user: User, adapter: Adapter, wanted: Release, operation: str) -> None:
    require_sharing(user, adapter)
    if adapter.release is wanted:
        return
    adapter.release = wanted
    db.flush()
    audit.record(db, user, operation, f"adapter {adapter.id}")


def count_use(db: Session, user: User, adapter: Adapter) -> None:
    """Count a question; colleagues of a released adapter have a number of them a day.

    Raises:
        TooMany: the person has asked as often as the owner allows.
    """
    today = _today()
    num_asked = db.execute(
        insert(AdapterUse)
        .values(adapter_id=adapter.id, user_id=user.id, day=today, num_asked=1)
        .on_conflict_do_update(
            index_elements=["adapter_id", "user_id", "day"],
            set_={"num_asked": AdapterUse.num_asked + 1},
        )
        .returning(AdapterUse.num_asked)
    ).scalar_one()
    is_limited = adapter.release is Release.RELEASED and not may_share(user, adapter)
    if is_limited and num_asked > adapter.asks_per_day:
        raise _too_often(adapter)


def asks_left(db: Session, user: User, adapter: Adapter) -> int | None:
    """Return how often a person may ask an adapter today; none: as often as they like."""
    if adapter.release is not Release.RELEASED or may_share(user, adapter):
        return None
    use = db.get(AdapterUse, (adapter.id, user.id, _today()), populate_existing=True)
    return max(0, adapter.asks_per_day - (use.num_asked if use else 0))


def require_left(db: Session, user: User, adapter: Adapter) -> None:
    """Refuse whoever has no question left today, before one is begun.

    Raises:
        TooMany: the person has asked as often as the owner allows.
    """
    if asks_left(db, user, adapter) == 0:
        raise _too_often(adapter)


def _too_often(adapter: Adapter) -> TooMany:
    error = TooMany(
        f"You have asked “{adapter.name}” {adapter.asks_per_day} times today, which is as often "
        "as its owner allows. Please go on tomorrow."
    )
    error.retry_seconds = seconds_left_today(dt.datetime.now(dt.UTC))
    return error


def uses(db: Session, adapter: Adapter, num_days: int = 30) -> list[Day]:
    """Return how much an adapter was used on each day of late, the newest first; not by whom."""
    since = _today() - dt.timedelta(days=num_days)
    rows = db.execute(
        select(AdapterUse.day, func.count(), func.sum(AdapterUse.num_asked))
        .where(AdapterUse.adapter_id == adapter.id, AdapterUse.day > since)
        .group_by(AdapterUse.day)
        .order_by(AdapterUse.day.desc())
    )
    return [Day(day, num_people, int(num_asked)) for day, num_people, num_asked in rows]


def keep(db: Session, adapter: Adapter, question: str, answer: str) -> None:
    """Keep what was asked where the owner turned that on; who asked is not kept."""
    if keeps(adapter):
        kept = KeptQuestion(adapter_id=adapter.id, question=_storable(question))
        kept.answer = _storable(answer)
        db.add(kept)


def keeps(adapter: Adapter) -> bool:
    """Say whether questions to an adapter are kept for its owner."""
    is_on = adapter.keeps_questions and adapter.binned_at is None
    return is_on and adapter.release is Release.RELEASED and may_keep()


def may_keep() -> bool:
    """Say whether this site keeps anything of what is asked."""
    return settings.get().conversation_days > 0


def forget_old(db: Session) -> int:
    """Delete kept questions that are older than the site keeps conversations."""
    oldest = clock.NOW - dt.timedelta(days=settings.get().conversation_days)
    gone = delete(KeptQuestion).where(KeptQuestion.created_at <= oldest).returning(KeptQuestion.id)
    return len(db.execute(gone).all())


def kept(db: Session, user: User, adapter: Adapter, limit: int = 100) -> list[KeptQuestion]:
    """Return what colleagues asked of late, to those who decide.

    Raises:
        Forbidden: the person does not decide.
    """
    require_sharing(user, adapter)
    oldest = clock.NOW - dt.timedelta(days=settings.get().conversation_days)
    rows = select(KeptQuestion).where(
        KeptQuestion.adapter_id == adapter.id, KeptQuestion.created_at > oldest
    )
    return list(db.scalars(rows.order_by(KeptQuestion.id.desc()).limit(limit)))


def report(
    db: Session, user: User, adapter: Adapter, *, question: str, answer: str, note: str
) -> None:
    """Show an answer to the adapter's owner.

    Raises:
        NotFound, Forbidden: the person may not ask this adapter.
        Invalid: a text is too long.
        Conflict: the owner has not looked at the last reports.
    """
    require_asking(user, adapter)
    note = _clean(note)
    if len(note) > MAX_TEXT:
        raise Invalid(f"Use at most {MAX_TEXT:,} characters.", field="note")
    if max(len(question), len(answer)) > _MAX_REPORTED:
        raise Invalid("This question or answer is too long to be reported.", field="question")
    if not _clean(question) or not _clean(answer):
        raise Invalid("There is no answer to report.", field="answer")
    num_open = db.scalar(
        select(func.count()).where(
            AnswerReport.adapter_id == adapter.id, AnswerReport.handled_at.is_(None)
        )
    )
    if (num_open or 0) >= _MAX_OPEN_REPORTS:
        raise Conflict("The owner of this model has many reports to look at; please speak to them.")
    row = AnswerReport(
        adapter_id=adapter.id,
        reporter_id=user.id,
        question=_clean(question),
        answer=_clean(answer),
        note=note,
    )
    db.add(row)
    db.flush()
    notices.answer_reported(db, adapter, row.id)


def reports(db: Session, user: User, adapter: Adapter, limit: int = 200) -> list[AnswerReport]:
    """Return what was reported, what nobody has looked at first.

    Raises:
        Forbidden: the person does not decide.
    """
    require_sharing(user, adapter)
    return list(
        db.scalars(
            select(AnswerReport)
            .where(AnswerReport.adapter_id == adapter.id)
            .order_by(AnswerReport.handled_at.is_not(None), AnswerReport.id.desc())
            .limit(limit)
        )
    )


def handle(db: Session, user: User, adapter: Adapter, report_id: int) -> None:
    """Note that somebody has looked at a report.

    Raises:
        Forbidden: the person does not decide.
        NotFound: there is no such report.
    """
    require_sharing(user, adapter)
    row = db.get(AnswerReport, report_id)
    if row is None or row.adapter_id != adapter.id:
        raise NotFound("There is no such report.")
    row.handled_at = row.handled_at or clock.read(db)
    db.flush()


def _clean(text: str) -> str:
    return _storable(text.replace("\r\n", "\n").replace("\0", "")).strip()


def _storable(text: str) -> str:
    """Return what PostgreSQL can hold: no NUL, and no half of a character."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def seconds_left_today(now: dt.datetime) -> int:
    """Return after how many seconds it is tomorrow on the site's clock."""
    tomorrow = site_time.day_after(now, settings.get().zone())
    return math.ceil((tomorrow - now).total_seconds())


def _today() -> dt.date:
    return site_time.now().date()
