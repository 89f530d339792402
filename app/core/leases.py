"""Hold a row for a while: claim, renew, release, reap, for rows that a worker works on.

Jobs have the same protocol with more to it (app/jobs/protocol.py). The worker's side, start to
end, is `run` in worker/leased.py.

`renew` and `release` raise LeaseLost once another worker may have the row: stop, write no more.
The sweep calls `reap` for each of RULES and commits; any number of sweeps may run at once.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Select, case, func, literal, select, update
from sqlalchemy.orm import Session

from app.core import clock, settings
from app.core.models import (
    Asking,
    AskingStatus,
    BaseModel,
    CheckStatus,
    Dataset,
    DatasetCheck,
    DatasetVersion,
    Evaluation,
    EvaluationStatus,
    Export,
    ExportStatus,
    FixRun,
    FixStatus,
    Json,
    Judging,
    JudgingStatus,
    ListStatus,
    ModelStatus,
    PrivacyReview,
    QuestionList,
    ReviewStatus,
    VersionStatus,
)


@dataclass(frozen=True)
class Rules:
    """Which statuses of a table wait for a worker, and what holding and giving up are called."""

    table: (
        type[DatasetVersion]
        | type[DatasetCheck]
        | type[BaseModel]
        | type[PrivacyReview]
        | type[FixRun]
        | type[Asking]
        | type[QuestionList]
        | type[Evaluation]
        | type[Judging]
        | type[Export]
    )
    held_from: dict[StrEnum, StrEnum]  # waiting status -> held status
    failed: StrEnum
    gave_up: str  # the sentence for a person after the last strike; {strikes} is filled in
    # Rows are handed back amid the work: whose turn came least often is next, not the oldest.
    takes_turns: bool = False
    # People take turns: whose row was taken longest ago is next, however many others have sent.
    by_person: bool = False


VERSIONS = Rules(
    DatasetVersion,
    {
        VersionStatus.UPLOADED: VersionStatus.INSPECTING,
        VersionStatus.CONFIRMED: VersionStatus.BUILDING,
    },
    VersionStatus.FAILED,
    "Reading this file was cut off {strikes} times, perhaps because the machine ran out of memory; "
    "split the file into smaller ones, or ask your administrator to look at the worker's log.",
    by_person=True,
)
BASE_MODELS = Rules(
    BaseModel,
    {ModelStatus.WAITING: ModelStatus.IMPORTING},
    ModelStatus.FAILED,
    "Importing this model was cut off {strikes} times, perhaps because the machine ran out of "
    "memory; choose a smaller model, or look at the worker's log.",
)
PRIVACY = Rules(
    PrivacyReview,
    {
        ReviewStatus.WAITING: ReviewStatus.SCANNING,
        ReviewStatus.REQUESTED: ReviewStatus.REPLACING,
    },
    ReviewStatus.FAILED,
    "Looking for personal details was cut off {strikes} times, perhaps because the machine ran out "
    "of memory; start it again, or ask your administrator to look at the worker's log.",
    by_person=True,
)
CHECKS = Rules(
    DatasetCheck,
    {CheckStatus.WAITING: CheckStatus.CHECKING},
    CheckStatus.FAILED,
    "Checking these examples was cut off {strikes} times, perhaps because the machine ran out of "
    "memory; ask your administrator to look at the worker's log.",
    by_person=True,
)
FIXES = Rules(
    FixRun,
    {FixStatus.WAITING: FixStatus.WORKING},
    FixStatus.FAILED,
    "Putting this right was cut off {strikes} times, perhaps because the machine ran out of "
    "memory; try it again, or ask your administrator to look at the worker's log.",
)
ASKINGS = Rules(
    Asking,
    {AskingStatus.WAITING: AskingStatus.ASKING},
    AskingStatus.FAILED,
    "Making up questions was cut off {strikes} times without getting on, perhaps because the "
    "machine ran out of memory; choose a smaller model, or ask your administrator to look at the "
    "worker's log.",
)
SHEETS = Rules(
    QuestionList,
    {ListStatus.UPLOADED: ListStatus.READING},
    ListStatus.FAILED,
    "Reading this sheet was cut off {strikes} times, perhaps because the machine ran out of "
    "memory; save it as CSV, or split it into smaller ones.",
    by_person=True,
)
QUESTION_LISTS = Rules(
    QuestionList,
    {ListStatus.WAITING: ListStatus.ANSWERING},
    ListStatus.FAILED,
    "Answering this list was cut off {strikes} times without getting on; start it again, or ask "
    "your administrator to look at the worker's log.",
    takes_turns=True,
)
EVALUATIONS = Rules(
    Evaluation,
    {EvaluationStatus.WAITING: EvaluationStatus.EVALUATING},
    EvaluationStatus.FAILED,
    "This evaluation was cut off {strikes} times without getting on, perhaps because the machine "
    "ran out of memory; start it again, or ask your administrator to look at the worker's log.",
)
JUDGINGS = Rules(
    Judging,
    {JudgingStatus.WAITING: JudgingStatus.JUDGING},
    JudgingStatus.FAILED,
    "Judging these answers was cut off {strikes} times without getting on, perhaps because the "
    "machine ran out of memory; choose a smaller model, or ask your administrator to look at the "
    "worker's log.",
)
EXPORTS = Rules(
    Export,
    {ExportStatus.WAITING: ExportStatus.MAKING},
    ExportStatus.FAILED,
    "Making this was cut off {strikes} times, perhaps because the machine ran out of memory; try "
    "it again, or ask your administrator to look at the worker's log.",
)
# What gpu workers do between two jobs; all else is for cpu workers.
ON_GPU = (EVALUATIONS, JUDGINGS)
RULES = (
    VERSIONS,
    BASE_MODELS,
    PRIVACY,
    CHECKS,
    FIXES,
    ASKINGS,
    SHEETS,
    QUESTION_LISTS,
    EVALUATIONS,
    JUDGINGS,
    EXPORTS,
)


@dataclass(frozen=True)
class Lease:
    """One worker's hold on one row; the attempt number is the fence."""

    rules: Rules
    id: int
    attempt: int
    status: StrEnum
    worker_id: str

    @property
    def came_from(self) -> StrEnum:
        """The status that the row had before the claim; releasing to it hands the row back."""
        return next(w for w, held in self.rules.held_from.items() if held is self.status)


class LeaseLost(Exception):
    """The row was reaped, deleted or taken by another worker: write nothing more for it."""


def claim(db: Session, rules: Rules, worker_id: str) -> Lease | None:
    """Take the row whose turn it is, or nothing; the caller commits before it begins to work."""
    table = rules.table
    waiting = (
        _in_turn(rules)
        .where(table.status.in_(rules.held_from))
        .limit(1)
        .with_for_update(skip_locked=True, of=table)
        .scalar_subquery()
    )
    row = db.execute(
        update(table)
        .where(table.id == waiting)
        .values(
            status=case(
                *((table.status == old, literal(new.value)) for old, new in rules.held_from.items())
            ),
            attempt=table.attempt + 1,
            worker_id=worker_id,
            lease_until=_until(),
            progress=None,
            **({"claimed_at": clock.NOW} if rules.by_person else {}),
        )
        .returning(table.id, table.attempt, table.status)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    return None if row is None else Lease(rules, row.id, row.attempt, row.status, worker_id)


def _in_turn(rules: Rules) -> Select[int]:
    """Select a table's rows in the order in which they are taken."""
    table = rules.table
    if not rules.by_person:
        order = (table.attempt, table.id) if rules.takes_turns else (table.id,)
        return select(table.id).order_by(*order)
    owner = QuestionList.owner_id if table is QuestionList else Dataset.owner_id
    turn = func.max(table.__table__.c.claimed_at).label("turn")
    turns = _with_owner(select(owner, turn), table).group_by(owner).subquery()
    rows = _with_owner(select(table.id), table)
    in_turn: Select[int] = rows.outerjoin(turns, turns.c.owner_id == owner).order_by(
        turns.c.turn.nulls_first(), table.id
    )
    return in_turn


def _with_owner(rows: Any, table: Any) -> Any:
    """Join a table's rows with what says whose they are."""
    if table is QuestionList:
        return rows
    if table is not DatasetVersion:
        rows = rows.select_from(table).join(DatasetVersion, DatasetVersion.id == table.version_id)
    return rows.join(DatasetVersion.dataset)


def renew(db: Session, lease: Lease, progress: Json | None = None, **columns: Any) -> None:
    """Hold on for another lease time and say how far the work is.

    Args:
        columns: What is kept of the work so far, under the same fence.

    Raises:
        LeaseLost: another worker may have the row by now.
    """
    values: dict[str, Any] = {"lease_until": _until(), **columns}
    if progress is not None:
        values["progress"] = progress
    _write(db, lease, values)


def stands(db: Session, lease: Lease) -> bool:
    """Say whether the row is still held under this lease."""
    table = lease.rules.table
    found = select(table.id).where(
        table.id == lease.id, table.attempt == lease.attempt, table.status == lease.status
    )
    return db.scalar(found) is not None


def release(db: Session, lease: Lease, status: StrEnum, **values: Any) -> None:
    """Let go of the row with its next status and columns, in the transaction of the work's result.

    Releasing to `lease.came_from` hands the row back without a strike, e.g. when draining.

    Raises:
        LeaseLost: another worker may have the row by now; roll back.
    """
    if status is not lease.came_from:
        values.setdefault("strikes", 0)
    let_go = {"status": status, "worker_id": None, "lease_until": None, "progress": None}
    _write(db, lease, let_go | values)


def reap(db: Session, rules: Rules) -> list[int]:
    """Take rows back whose lease ran out, with a strike; the last strike fails them."""
    grace = timedelta(seconds=settings.get().reap_grace_seconds)
    return _strike(db, rules, rules.table.lease_until < clock.NOW - grace)


def take_back(db: Session, rules: Rules, worker_id: str) -> list[int]:
    """Take back at once what an earlier process of this very worker held when it died.

    A worker id does one thing at a time, so what it holds as it looks for work is left over.
    """
    return _strike(db, rules, rules.table.worker_id == worker_id)


def hand_back(db: Session, rules: Rules) -> list[int]:
    """Let every held row wait again, without a strike: in a restored site no worker holds any."""
    table = rules.table
    backwards = {held: waiting for waiting, held in rules.held_from.items()}
    rows = db.execute(
        update(table)
        .where(table.status.in_(backwards))
        .values(
            status=case(
                *((table.status == held, literal(w.value)) for held, w in backwards.items())
            ),
            worker_id=None,
            lease_until=None,
            progress=None,
        )
        .returning(table.id)
        .execution_options(synchronize_session=False)
    )
    return list(rows.scalars())


def _strike(db: Session, rules: Rules, condition: ColumnElement[bool]) -> list[int]:
    table = rules.table
    max_strikes = settings.get().max_strikes
    over = table.strikes + 1 >= max_strikes
    backwards = {held: waiting for waiting, held in rules.held_from.items()}
    left = (
        select(table.id)
        .where(table.status.in_(backwards), condition)
        .with_for_update(skip_locked=True, of=table)
        .scalar_subquery()
    )
    rows = db.execute(
        update(table)
        .where(table.id.in_(left))
        .values(
            status=case(
                (over, literal(rules.failed.value)),
                *((table.status == held, literal(w.value)) for held, w in backwards.items()),
            ),
            reason=case((over, rules.gave_up.format(strikes=max_strikes)), else_=table.reason),
            strikes=table.strikes + 1,
            worker_id=None,
            lease_until=None,
            progress=None,
        )
        .returning(table.id)
        .execution_options(synchronize_session=False)
    )
    return list(rows.scalars())


def _write(db: Session, lease: Lease, values: dict[str, Any]) -> None:
    table = lease.rules.table
    written = db.execute(
        update(table)
        .where(table.id == lease.id, table.attempt == lease.attempt, table.status == lease.status)
        .values(values)
        .returning(table.id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if written is None:
        raise LeaseLost(f"{table.__tablename__} {lease.id}, attempt {lease.attempt}")


def _until() -> ColumnElement[Any]:
    return clock.NOW + timedelta(seconds=settings.get().lease_seconds)
