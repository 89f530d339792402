"""Which rows a job practises, chooses by and is tested on.

With a test set of its own, a job practises all rows of its version but those that check. Of a
version of two parts it practises all of them then, and the test set chooses, too.

Rows that the adapter from which a job starts, or one before it, has practised neither check nor
test: those of a version that is split are practised again, those of a test set of its own are left
out.
"""

import math
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy.orm import Session

from app.core.errors import Invalid
from app.core.models import (
    Adapter,
    DatasetVersion,
    Job,
    PractisedRows,
    Split,
    VersionStatus,
)
from app.datasets import examples, parts, practised, sameness
from app.datasets.practised import Practised

# Of parts of the practice rows: whoever draws one by it draws the same rows again.
_SHARE_KEY = b"learning curve"
ChosenBy = Literal["check", "test", "practice"]
# A result on fewer test rows says nothing.
LEAST_TEST_ROWS = 5
# Nobody waits on a page for more of an older adapter's rows; a worker reads all of them.
_MOST_ROWS_AT_ONCE = 20_000


@dataclass(frozen=True)
class Sizes:
    """How many rows a job practises, chooses by and is tested on."""

    practice: int
    check: int  # none: the last checkpoint is kept, or the test set chooses (chosen_by)
    test: int


def use_of(version: DatasetVersion, split: Split, *, has_own_tests: bool) -> Split:
    """Return what a job does with a row of its version: practise, check or test.

    Args:
        version: That it learns from.
        split: In which the row is stored.
        has_own_tests: It is tested on another version, all of it.
    """
    part = parts.meant(version, split)
    return Split.TRAIN if has_own_tests and part is Split.TEST else part


def rank(messages: Sequence[Mapping[str, Any]]) -> int:
    """Return a row's rank in the order in which parts of the practice rows are drawn.

    Equal questions and answers have equal ranks: a part has all of them or none, and a larger part
    has all of a smaller one.
    """
    return sameness.number(sameness.question(messages), _SHARE_KEY)


def last_rank(ranks: "array[int]", percent: int) -> int:
    """Return the rank up to which rows are in a part: as many as are wanted, or a few more."""
    return sorted(ranks)[max(0, math.ceil(len(ranks) * percent / 100) - 1)] if ranks else 0


def num_of(num_practice: int, percent: int) -> int:
    """Return about how many rows a part has."""
    return math.ceil(num_practice * percent / 100)


def chosen_by(job: Job) -> ChosenBy:
    """Say by which rows a job chooses its checkpoint, in one word: check, test or practice.

    By what was practised nothing is chosen: the last one is kept.
    """
    return chosen_without(job, (job.practised_before or {}).get("num_check_moved", 0))


def chosen_without(job: Job, num_moved: int) -> ChosenBy:
    """Say the same of a job of whose check rows so many had been practised by an earlier one."""
    if parts.has_three(job.version):
        return "check" if parts.num_check(job.version) > num_moved else "practice"
    is_tested = job.validation_version_id is not None or parts.num_test(job.version) > 0
    return "test" if is_tested else "practice"


@dataclass(frozen=True)
class Known:
    """What is known of the rows that an adapter, and those before it, have practised."""

    rows: Practised
    is_complete: bool


def known(
    db: Session,
    adapter: Adapter,
    *,
    most_rows: int | None = None,
    beat: Callable[[], object] = lambda: None,
) -> Known | None:
    """Return which rows an adapter and those before it have practised.

    What was not kept, because the adapter is older than that or its key was lost, is made from its
    data while that is there, and kept.

    Args:
        most_rows: Where more than these would have to be read, nothing is returned.
        beat: Called while rows are read, to keep a lease alive.

    Returns:
        None where nobody can say, or not now.
    """
    key = practised.key()
    kept = db.get(PractisedRows, adapter.id)
    if kept is not None and kept.key_id == practised.key_id(key):
        return Known(Practised.from_bytes(kept.fingerprints, key), kept.is_complete)
    job = adapter.job
    if job is None or job.version.dataset.deleted_at is not None:
        return None
    before = None
    if adapter.lineage:
        start = db.get(Adapter, adapter.start_adapter_id) if adapter.start_adapter_id else None
        before = known(db, start, most_rows=most_rows, beat=beat) if start else None
    version, has_own_tests = job.version, job.validation_version_id is not None
    learned = {
        split
        for split in parts.splits(version)
        if use_of(version, split, has_own_tests=has_own_tests) is Split.TRAIN
    }
    num_rows = sum(parts.count(version, split) for split in learned)
    if most_rows is not None and num_rows > most_rows:
        return None
    collector = practised.Collector()
    for batch in examples.stream(db, version):
        beat()
        for row in batch:
            if row["split"] in learned:
                collector.add(row["messages"])
    found = _together(collector.rows(), before, bool(adapter.lineage))
    _write(db, adapter.id, found)
    return found


def keep(db: Session, adapter: Adapter, own: Practised) -> None:
    """Keep which rows an adapter has practised, beside those of what it started from."""
    start = db.get(Adapter, adapter.start_adapter_id) if adapter.start_adapter_id else None
    before = known(db, start, most_rows=0) if start else None
    _write(db, adapter.id, _together(own, before, bool(adapter.lineage)))


def _together(own: Practised, before: Known | None, has_before: bool) -> Known:
    if before is None:
        return Known(own, not has_before)
    return Known(own.with_those_of(before.rows), before.is_complete)


def _write(db: Session, adapter_id: int, found: Known) -> None:
    row = PractisedRows(
        adapter_id=adapter_id,
        key_id=practised.key_id(practised.key()),
        fingerprints=found.rows.to_bytes(),
        is_complete=found.is_complete,
    )
    db.merge(row)
    db.flush()


def require_new_rows(
    db: Session, adapter: Adapter, version: DatasetVersion, held_out: DatasetVersion | None
) -> None:
    """Refuse data of which next to nothing is left to test on; as far as can be said by now.

    Raises:
        Invalid: with what to do.
    """
    tested = held_out or version
    num_test = held_out.num_rows if held_out is not None else parts.num_test(version)
    if tested.status is not VersionStatus.READY or not num_test:
        return
    found = known(db, adapter, most_rows=_MOST_ROWS_AT_ONCE)
    if found is None:
        return
    num_new = 0
    for row in _test_rows(db, tested, held_out is not None):
        num_new += row["messages"] not in found.rows
        if num_new >= LEAST_TEST_ROWS:
            return
    if is_too_few(num_test, num_new):
        field = "validation_version_id" if held_out is not None else "version_id"
        raise Invalid(too_few(adapter.name, num_test, num_new), field=field)


def _test_rows(db: Session, version: DatasetVersion, is_all: bool) -> Iterator[Any]:
    for batch in examples.stream(db, version, None if is_all else parts.test_split(version)):
        yield from batch


def is_too_few(num_test: int, num_new: int) -> bool:
    """Say whether what is new in a test set is too little to say anything."""
    return num_new < min(num_test, LEAST_TEST_ROWS)


def too_few(name: str, num_test: int, num_new: int) -> str:
    """Say that a test set is no test."""
    new = "none" if num_new == 0 else f"only {num_new}"
    return (
        f"The trained model “{name}” has already practised these rows: of the {num_test:,} to "
        "test on, "
        f"{new} would be new to it, and a test needs at least {min(num_test, LEAST_TEST_ROWS)}; "
        "add new rows, or send others to test on."
    )


def sentences(job: Job) -> list[str]:
    """Say what became of test rows that were practised before; nothing to say is no sentence."""
    found = job.practised_before
    if found is None:
        return []
    said = []
    moved, left_out = found["num_moved"], found["num_left_out"]
    check_moved = found.get("num_check_moved", 0)
    if moved:
        said.append(
            f"{_rows(moved)} of the test set had been practised by the trained model it starts "
            "from, or "
            f"by one before that: this job practises {_them(moved)} again and is not tested on "
            f"{_them(moved)}."
        )
    if check_moved:
        said.append(
            f"{_rows(check_moved)} of the check set had been practised by the trained model it "
            "starts "
            f"from, or by one before that: this job practises {_them(check_moved)} again and "
            f"chooses nothing by {_them(check_moved)}."
        )
    if left_out:
        said.append(
            f"{_rows(left_out)} to test on had been practised by the trained model it starts "
            "from, or by "
            f"one before that, and {'was' if left_out == 1 else 'were'} left out of the test."
        )
    if not found["is_checked"]:
        said.append(
            "Which rows an earlier trained model practised is not known any more, as its data was "
            "deleted: some of the rows to test on may be among them, and then the result looks "
            "better than it is."
        )
    return said


def _rows(number: int) -> str:
    return "1 row" if number == 1 else f"{number:,} rows"


def _them(number: int) -> str:
    return "it" if number == 1 else "them"


def sizes(job: Job, held_out: DatasetVersion | None) -> Sizes:
    """Return how many rows a job practises, chooses by and is tested on."""
    first, found = sizes_of(job.version, held_out), job.practised_before or {}
    moved, check_moved = found.get("num_moved", 0), found.get("num_check_moved", 0)
    return Sizes(
        num_of(first.practice + moved + check_moved, job.rows_percent),
        first.check - check_moved,
        first.test - moved - found.get("num_left_out", 0),
    )


def sizes_of(version: DatasetVersion, held_out: DatasetVersion | None) -> Sizes:
    """Return the same of a job that starts from a model and practises this version.

    Args:
        held_out: On which it is tested, all of it; none: on a part of the version itself.
    """
    num_check, num_test = parts.num_check(version), parts.num_test(version)
    if held_out is not None:
        return Sizes(version.num_rows - num_check, num_check, held_out.num_rows)
    return Sizes(version.num_train, num_check, num_test)
