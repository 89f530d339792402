"""A list of questions from its sheet to the sheet with answers; the only writer of its status.

People upload, choose the column, stop and delete here; a cpu worker reads and asks
(worker/cpu/question_lists.py), and keeps each row's answers in the transaction that renews its
lease. A list is its owner's alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Select, func, or_, select, update
from sqlalchemy import delete as delete_rows
from sqlalchemy.orm import Session

from app import notices
from app.adapters import answering, conversations, sharing
from app.adapters.conversations import Column, Source
from app.core import audit, clock, leases, settings
from app.core.errors import Conflict, Forbidden, Invalid, NotFound, TooLarge
from app.core.leases import Lease, LeaseLost
from app.core.models import (
    Adapter,
    AdapterKind,
    DatasetVersion,
    Finish,
    Json,
    ListStatus,
    QuestionAnswer,
    QuestionList,
    User,
)
from app.datasets import examples, nearest
from app.datasets.readers.sheets import Sheet
from app.training.answers import AnswerRequest

MAX_SHEET_BYTES = 20 * 1024**2
MAX_OPEN = 5  # of one person, that are not over
MAX_KEPT = 50  # of one person
NO_QUESTION = "There is no question in this row."
CUT = "The answer was getting very long and was cut."
# Where a site keeps nothing: how long a list can still be downloaded in the other format, and how
# long one waits for its download.
_GRACE_MINUTES = 10.0
_UNKEPT_DAYS = 1.0
_BATCH_ROWS = 200
_MAX_SOURCE = 500  # letters of a row of the data in a cell
OVER = frozenset({ListStatus.DONE, ListStatus.FAILED, ListStatus.CANCELLED})
_GOING = (ListStatus.UPLOADED, ListStatus.READING, ListStatus.WAITING, ListStatus.ANSWERING)


def require_sheet_size(size_bytes: int) -> None:
    """Refuse a sheet that is larger than one may be.

    Raises:
        TooLarge: with the field `file`.
    """
    if size_bytes > MAX_SHEET_BYTES:
        raise TooLarge(
            f"A sheet with questions may have at most {MAX_SHEET_BYTES // 1024**2} MB; leave out "
            "columns that nobody needs, or split it.",
            field="file",
        )


def create(db: Session, user: User, adapter: Adapter, filename: str, data: bytes) -> QuestionList:
    """Keep a sheet, to be read by a worker; the caller rings the cpu queue after the commit.

    Raises:
        NotFound, Forbidden: the person may not ask this adapter.
        Invalid, TooLarge: the file is empty or too large; with the field `file`.
        Conflict: the person has too many lists under way, or kept.
    """
    sharing.require_asking(user, adapter)
    if not data:
        raise Invalid("This file is empty; save it again and choose it again.", field="file")
    require_sheet_size(len(data))
    # One after the other, so that the counts below hold.
    db.execute(select(User.id).where(User.id == user.id).with_for_update(key_share=True))
    statuses = list(
        db.scalars(
            select(QuestionList.status).where(
                QuestionList.owner_id == user.id, QuestionList.updated_at > _oldest()
            )
        )
    )
    if sum(status not in OVER for status in statuses) >= MAX_OPEN:
        raise Conflict(
            f"You have {MAX_OPEN} lists that are not done yet; wait for one, or delete one first.",
        )
    if len(statuses) >= MAX_KEPT:
        raise Conflict(f"You have {MAX_KEPT} lists here; delete one first.")
    row = QuestionList(
        department_id=user.department_id,
        owner_id=user.id,
        adapter_id=adapter.id,
        adapter_name=adapter.name,
        filename=filename,
        sheet=data,
    )
    db.add(row)
    db.flush()
    audit.record(db, user, "question_list.upload", f"question list {row.id}", adapter=adapter.id)
    return row


def get(db: Session, user: User, list_id: int) -> QuestionList:
    """Return a list of one's own.

    Raises:
        NotFound: there is none, it is over its time, or it is somebody else's.
    """
    query = _own(user).where(QuestionList.id == list_id)
    found = db.scalars(query).one_or_none()
    if found is None:
        raise NotFound("This list does not exist, or it has been deleted.")
    return found


def list_own(db: Session, user: User, adapter: Adapter | None = None) -> list[QuestionList]:
    """Return one's lists, the newest first; of one adapter where one is given."""
    query = _own(user)
    if adapter is not None:
        query = query.where(QuestionList.adapter_id == adapter.id)
    return list(db.scalars(query.order_by(QuestionList.id.desc()).limit(MAX_KEPT)))


def start(
    db: Session,
    user: User,
    row: QuestionList,
    *,
    column: int,
    beside_base: bool,
    instruction: str,
) -> None:
    """Have the questions of a column answered; the caller rings the cpu queue after the commit.

    Raises:
        NotFound, Forbidden: the adapter is gone, or the person may not ask it any more.
        Invalid: there is no such column, or no question in it, or the instruction is too long.
        Conflict: it was started before, or cannot be read.
    """
    _lock(db, row)
    if row.status is not ListStatus.CHOOSING:
        raise Conflict("This list was started already; reload the page.")
    _require_adapter(db, user, row)
    if not 0 <= column < len(row.columns):
        raise Invalid("Choose the column that has the questions.", field="column")
    instruction = conversations.check_instruction(instruction)
    question = QuestionAnswer.cells[column].astext
    num_questions = db.scalar(
        select(func.count()).where(QuestionAnswer.list_id == row.id, question.regexp_match(r"\S"))
    )
    if not num_questions:
        raise Invalid(
            "This column is empty; choose the one that has the questions.", field="column"
        )
    row.question_column, row.instruction = column, instruction
    # Beside the starting model alone, the same would say the same.
    is_alone = row.adapter is not None and row.adapter.kind is AdapterKind.ALONE
    row.beside_base = beside_base and not is_alone
    row.status, row.updated_at = ListStatus.WAITING, func.now()
    db.flush()
    audit.record(db, user, "question_list.start", f"question list {row.id}", rows=row.num_rows)


def cancel(db: Session, user: User, row: QuestionList) -> None:
    """Stop a list; the answers that there are stay. A worker that has it is fenced off.

    Raises:
        Conflict: it is over.
    """
    _lock(db, row)
    if row.status in OVER:
        raise Conflict("This has ended already; reload the page.")
    row.status, row.finished_at, row.updated_at = ListStatus.CANCELLED, clock.NOW, func.now()
    row.worker_id = row.lease_until = row.progress = row.sheet = None
    db.flush()
    audit.record(db, user, "question_list.cancel", f"question list {row.id}")


def can_go_on(row: QuestionList) -> bool:
    """Say whether a list ended before its last row."""
    is_short = row.status in (ListStatus.FAILED, ListStatus.CANCELLED)
    return is_short and row.question_column is not None and row.num_done < row.num_rows


def go_on(db: Session, user: User, row: QuestionList) -> None:
    """Go on where a list ended; the caller rings the cpu queue after the commit.

    Raises:
        NotFound, Forbidden: the adapter is gone, or the person may not ask it any more.
        Conflict: there is nothing left to ask, or it is under way.
    """
    _lock(db, row)
    if not can_go_on(row):
        raise Conflict("There is nothing left to ask in this list; reload the page.")
    _require_adapter(db, user, row)
    row.status, row.strikes, row.reason = ListStatus.WAITING, 0, None
    row.finished_at, row.downloaded_at, row.updated_at = None, None, func.now()
    db.flush()
    audit.record(db, user, "question_list.go_on", f"question list {row.id}")


def delete(db: Session, user: User, row: QuestionList) -> None:
    """Delete a list, its questions and answers; a worker that has it is fenced off."""
    subject = f"question list {row.id}"
    db.execute(delete_rows(QuestionList).where(QuestionList.id == row.id))
    audit.record(db, user, "question_list.delete", subject)


def num_ahead(db: Session, row: QuestionList) -> int:
    """Count the lists whose turn comes before this one's."""
    sooner = or_(
        QuestionList.status == ListStatus.ANSWERING,
        (QuestionList.status == ListStatus.WAITING)
        & or_(
            QuestionList.attempt < row.attempt,
            (QuestionList.attempt == row.attempt) & (QuestionList.id < row.id),
        ),
    )
    return (
        db.scalar(select(func.count(QuestionList.id)).where(QuestionList.id != row.id, sooner)) or 0
    )


def is_going(row: QuestionList) -> bool:
    """Say whether a worker has it, or is about to."""
    return row.status in _GOING


def examples_of(db: Session, row: QuestionList, limit: int) -> list[QuestionAnswer]:
    """Return the first rows of a list."""
    return list(
        db.scalars(
            select(QuestionAnswer)
            .where(QuestionAnswer.list_id == row.id)
            .order_by(QuestionAnswer.index)
            .limit(limit)
        )
    )


def latest_of(db: Session, row: QuestionList, limit: int) -> list[QuestionAnswer]:
    """Return the rows that were answered last, the last one first."""
    return list(
        db.scalars(
            select(QuestionAnswer)
            .where(QuestionAnswer.list_id == row.id, QuestionAnswer.index < row.num_done)
            .order_by(QuestionAnswer.index.desc())
            .limit(limit)
        )
    )


def num_failed(db: Session, row: QuestionList) -> int:
    """Count the rows that got a sentence instead of an answer."""
    failed = QuestionAnswer.finish == Finish.FAILED
    query = select(func.count()).where(QuestionAnswer.list_id == row.id, failed)
    return db.scalar(query) or 0


# --- the sheet with answers ------------------------------------------------------------------


def headings(db: Session, row: QuestionList) -> list[str]:
    """Name the columns of the sheet with answers: its own, then ours."""
    names = [str(name) for name in row.columns]
    own, base = conversations.labels(row.adapter)
    added = [own, *([base] if row.beside_base else [])]
    added += ["Sources"] if _has_sources(db, row) else []
    added.append("Note")
    for name in added:
        number, heading = 1, name
        while heading in names:
            number += 1
            heading = f"{name} ({number})"
        names.append(heading)
    return names


def cells(db: Session, row: QuestionList) -> Iterator[list[str]]:
    """Yield the rows of the sheet with answers, in their order, some at a time."""
    after, has_sources = -1, _has_sources(db, row)
    while True:
        # Columns and not rows of the model: the session would hold a long list whole.
        batch = db.execute(
            select(
                QuestionAnswer.index.label("position"),
                QuestionAnswer.cells,
                QuestionAnswer.tuned,
                QuestionAnswer.base,
                QuestionAnswer.sources,
                QuestionAnswer.finish,
                QuestionAnswer.error,
            )
            .where(QuestionAnswer.list_id == row.id, QuestionAnswer.index > after)
            .order_by(QuestionAnswer.index)
            .limit(_BATCH_ROWS)
        ).all()
        told = _told(db, [source for one in batch for source in one.sources or ()])
        for one in batch:
            answers = [one.tuned or "", *([one.base or ""] if row.beside_base else [])]
            if has_sources:
                places = [(source["version"], source["index"]) for source in one.sources or ()]
                answers.append("\n".join(told[place] for place in places))
            yield [*map(str, one.cells), *answers, note(one.finish, one.error)]
        if len(batch) < _BATCH_ROWS:
            return
        after = batch[-1].position


def _has_sources(db: Session, row: QuestionList) -> bool:
    """Say whether rows of the data were put before any of its questions."""
    known = select(QuestionAnswer.index).where(
        QuestionAnswer.list_id == row.id, QuestionAnswer.sources.is_not(None)
    )
    return db.scalar(known.limit(1)) is not None


def _told(db: Session, sources: Sequence[Json]) -> dict[tuple[int, int], str]:
    """Write rows of the data out, by version and place; of deleted data the place alone."""
    told = {(one["version"], one["index"]): f"Row {one['index'] + 1:,}" for one in sources}
    for version_id in {version_id for version_id, _ in told}:
        version = db.get(DatasetVersion, version_id)
        if version is None or version.dataset.deleted_at is not None:
            continue
        places = [index for of_version, index in told if of_version == version_id]
        for found in examples.at(db, version, places):
            question, answer = nearest.question_of(found.messages)
            said = f"{question.strip()} – {answer.strip()}"[:_MAX_SOURCE]
            told[version_id, found.index] += f": {said}"
    return told


def note(finish: Finish | None, error: str | None) -> str:
    """Say in a sentence what there is to say of a row; empty where all is well."""
    return error or (CUT if finish is Finish.LENGTH else "")


def downloaded(db: Session, user: User, row: QuestionList, form: str) -> None:
    """Note that somebody takes a list home."""
    if row.status in OVER and row.downloaded_at is None:
        row.downloaded_at = clock.NOW
        db.flush()
    audit.record(db, user, "question_list.download", f"question list {row.id}", format=form)


def forget_old(db: Session) -> int:
    """Delete lists that are over their time."""
    deleted = db.execute(delete_rows(QuestionList).where(_is_old()).returning(QuestionList.id))
    return len(deleted.all())


# --- the worker's side -----------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """One row that is to be asked, of whom and where."""

    index: int
    text: str
    found: answering.Found
    requests: list[AnswerRequest]  # the adapter's first
    sources: Sequence[Json] = ()  # rows of the data that stand in that one


@dataclass(frozen=True)
class Blank:
    """A row that cannot be asked, with the sentence that says why."""

    index: int
    sentence: str


def fill(db: Session, lease: Lease, sheet: Sheet) -> None:
    """Keep what a sheet holds, and let a person choose the column; the file itself goes.

    Raises:
        LeaseLost: it was stopped or deleted meanwhile; roll back.
    """
    leases.release(
        db,
        lease,
        ListStatus.CHOOSING,
        columns=sheet.columns,
        warnings=sheet.warnings,
        question_column=sheet.question_column,
        num_rows=len(sheet.rows),
        sheet=None,
        updated_at=func.now(),
    )
    # What an earlier try may have left is none: rows come with the status.
    for start_ in range(0, len(sheet.rows), _BATCH_ROWS):
        batch = enumerate(sheet.rows[start_ : start_ + _BATCH_ROWS], start_)
        db.execute(
            QuestionAnswer.__table__.insert(),  # type: ignore[attr-defined]
            [{"list_id": lease.id, "index": index, "cells": row} for index, row in batch],
        )


def next_question(
    db: Session, lease: Lease, known: Source, *, is_new: bool
) -> Question | Blank | None:
    """Return what is to be asked next, or nothing once all is.

    Args:
        is_new: It was not asked before, so it counts as a use of the adapter.

    Raises:
        LeaseLost: another worker may have it by now, or it was stopped or deleted.
        NotFound, Forbidden, TooMany: it may not be asked any more, with a sentence for a person.
        Unavailable: nobody answers at the moment.
    """
    row = db.get(QuestionList, lease.id, populate_existing=True)
    if row is None or (row.attempt, row.status) != (lease.attempt, lease.status):
        raise LeaseLost(f"question list {lease.id}, attempt {lease.attempt}")
    if row.num_done >= row.num_rows:
        return None
    owner = db.get_one(User, row.owner_id)
    adapter = _require_adapter(db, owner, row)
    one = db.get_one(QuestionAnswer, (row.id, row.num_done), populate_existing=True)
    assert row.question_column is not None
    typed = str(one.cells[row.question_column])
    if not typed.strip():
        return Blank(one.index, NO_QUESTION)
    try:
        text = conversations.check_question(typed)
    except Invalid as error:
        return Blank(one.index, error.message)
    found = answering.find(db, adapter.base_model_id)
    if is_new:
        sharing.count_use(db, owner, adapter)
    own_label, base_label = conversations.labels(adapter)
    columns = [Column(0, own_label, adapter.id)]
    if row.beside_base:
        columns.append(Column(1, base_label, None))
    requests = [
        conversations.request_for(
            adapter, owner, known, column, text, (), row.instruction, row.temperature
        )
        # An account of its own: accounts take turns, and its owner may want to chat meanwhile.
        .model_copy(update={"account": f"question-list-{row.id}"})
        for column in columns
    ]
    return Question(one.index, text, found, requests)


def keep(
    db: Session,
    lease: Lease,
    index: int,
    progress: Json,
    *,
    question: str | None = None,
    tuned: str | None = None,
    base: str | None = None,
    sources: Sequence[Json] | None = None,
    finish: Finish,
    error: str | None = None,
) -> None:
    """Keep a row's answers and hold on; all of it or nothing.

    Args:
        sources: Rows of the data that were put before the question, by their places.

    Raises:
        LeaseLost: another worker may have it by now, or it was stopped or deleted; roll back.
    """
    leases.renew(db, lease, progress, num_done=index + 1, updated_at=func.now(), strikes=0)
    values: dict[str, Any] = {"question": question, "tuned": tuned, "base": base, "error": error}
    # PostgreSQL's text knows no NUL, and a model may say anything.
    values = {name: text and text.replace("\0", "\ufffd") for name, text in values.items()}
    db.execute(
        update(QuestionAnswer)
        .where(QuestionAnswer.list_id == lease.id, QuestionAnswer.index == index)
        .values(finish=finish, sources=list(sources) if sources else None, **values)
        .execution_options(synchronize_session=False)
    )


def others_wait(db: Session, lease: Lease) -> bool:
    """Say whether another list waits for its turn."""
    waiting = select(QuestionList.id).where(
        QuestionList.status == ListStatus.WAITING, QuestionList.id != lease.id
    )
    return db.scalar(waiting.limit(1)) is not None


def finish(db: Session, lease: Lease) -> None:
    """End a list whose last row is answered.

    Raises:
        LeaseLost: as for keep.
    """
    leases.release(
        db, lease, ListStatus.DONE, reason=None, finished_at=clock.NOW, updated_at=func.now()
    )
    notices.list_answered(db, db.get_one(QuestionList, lease.id, populate_existing=True))


def _require_adapter(db: Session, user: User, row: QuestionList) -> Adapter:
    """Return the adapter of a list, if its owner may ask it now."""
    if user.disabled_at is not None:
        raise Forbidden("The account that this list belongs to was closed.")
    adapter = db.get(Adapter, row.adapter_id, populate_existing=True) if row.adapter_id else None
    if adapter is None:
        raise NotFound(
            f"“{row.adapter_name}” was deleted, so it can answer no more questions.",
            code="model_not_found",
        )
    sharing.require_asking(user, adapter)
    return adapter


def _lock(db: Session, row: QuestionList) -> None:
    db.refresh(row, with_for_update={"of": QuestionList})


def _own(user: User) -> Select[QuestionList]:
    return select(QuestionList).where(QuestionList.owner_id == user.id, ~_is_old())


def _is_old() -> Any:
    old = QuestionList.updated_at <= _oldest()
    if settings.get().conversation_days > 0:
        return old
    seen = clock.NOW - timedelta(minutes=_GRACE_MINUTES)
    return or_(old, func.coalesce(QuestionList.downloaded_at <= seen, False))


def _oldest() -> Any:
    # Of the database's clock, as the column is.
    return clock.NOW - timedelta(days=settings.get().conversation_days or _UNKEPT_DAYS)
