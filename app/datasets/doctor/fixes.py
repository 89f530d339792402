"""What can be done about a finding: changes for the next version, shown before they are made."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.core.errors import Conflict, Invalid
from app.core.models import (
    DatasetVersion,
    Example,
    FixRun,
    FixStatus,
    Split,
    User,
)
from app.datasets import browsing, changes, examples, versions
from app.datasets.browsing import Marks
from app.datasets.changes import Change
from app.datasets.doctor import mending

_BATCH = 500
# What is about more examples a worker puts right: nobody's browser waits for it.
MAX_AT_ONCE = 2_000


@dataclass(frozen=True)
class Batch:
    """Some of the examples that have a finding."""

    db: Session
    version: DatasetVersion
    rows: list[Example]
    marks: Marks


@dataclass(frozen=True)
class Fix:
    """One way to put a finding right.

    Attributes:
        words: What its button says.
        done: What was done, for the list of versions.
        make: The changes for one batch of marked examples.
    """

    words: str
    done: str
    make: Callable[[Batch], Iterator[Change]]


@dataclass(frozen=True)
class Changed:
    """One example before and after."""

    before: Example
    change: Change

    @property
    def after(self) -> list[Any]:
        return self.before.messages if self.change.messages is None else self.change.messages


def _leave_out(batch: Batch) -> Iterator[Change]:
    for row in batch.rows:
        yield Change(row.index, is_removed=True)


def _together(batch: Batch) -> Iterator[Change]:
    """Move each to where its copy stands: to practice, if there is one, or to the check set."""
    found = [batch.marks.partner(row.index) for row in batch.rows]
    copies = examples.at(batch.db, batch.version, {index for index in found if index is not None})
    splits = {copy.index: copy.split for copy in copies}
    for row, copy in zip(batch.rows, found, strict=True):
        yield Change(row.index, split=splits.get(-1 if copy is None else copy, Split.TRAIN))


def _mend(mend: Callable[[str], str]) -> Callable[[Batch], Iterator[Change]]:
    def make(batch: Batch) -> Iterator[Change]:
        for row in batch.rows:
            mended = [_with(message, mend) for message in row.messages]
            # What would leave nothing is for a person to decide.
            if mended != row.messages and all(m.get("content", "x") for m in mended):
                yield Change(row.index, mended)

    return make


def _with(message: dict[str, Any], mend: Callable[[str], str]) -> dict[str, Any]:
    texts = {key: mend(message[key]) for key in ("content", "rejected") if message.get(key)}
    return message | texts


def _keep_longest(batch: Batch) -> Iterator[Change]:
    """Of each question keep the longest answer."""
    for first, others in _by_question(batch):
        group = [first, *others]
        longest = max(group, key=lambda row: len(row.messages[-1]["content"]))
        for row in group:
            if row is not longest:
                yield Change(row.index, is_removed=True)


def _merge(batch: Batch) -> Iterator[Change]:
    """Put the answers of a question one below the other."""
    for first, others in _by_question(batch):
        answers = dict.fromkeys(row.messages[-1]["content"] for row in [first, *others])
        last = first.messages[-1] | {"content": "\n\n".join(answers)}
        yield Change(first.index, [*first.messages[:-1], last])
        for row in others:
            yield Change(row.index, is_removed=True)


def _by_question(batch: Batch) -> Iterator[tuple[Example, list[Example]]]:
    """Yield each first example of a question with the others; whole groups, whichever rows came."""
    marks = batch.marks
    assert marks.partners is not None
    here = {row.index for row in batch.rows}
    wanted = {marks.partner(row.index) for row in batch.rows} - {None}
    others = examples.at(batch.db, batch.version, (index for index in wanted if index is not None))
    firsts = {row.index: row for row in others}
    members: dict[int, list[int]] = {first: [] for first in firsts}
    for index, first in zip(marks.indices, marks.partners, strict=True):
        if first in members:
            members[first].append(index)
    for first, indices in members.items():
        # A group belongs to the batch in which its first other example stands.
        if indices[0] in here:
            yield firsts[first], examples.at(batch.db, batch.version, indices)


LEAVE_OUT = Fix("Leave them out", "left out", _leave_out)
FIXES: dict[str, dict[str, Fix]] = {
    "empty": {"remove": LEAVE_OUT},
    "placeholder": {"remove": LEAVE_OUT},
    "broken_letters": {
        "mend": Fix("Repair the letters", "letters repaired", _mend(mending.letters)),
        "remove": LEAVE_OUT,
    },
    "leak": {
        "remove": Fix("Leave them out", "examples of two sets left out", _leave_out),
        "move": Fix(
            "Move each to the set of its copy", "moved to the set of their copies", _together
        ),
    },
    "duplicate": {"remove": Fix("Keep one of each", "duplicates left out", _leave_out)},
    "near_duplicate": {
        "remove": Fix("Keep the first of each", "near-duplicates left out", _leave_out)
    },
    "conflict": {
        "first": Fix("Keep the first answer of each", "first answers kept", _leave_out),
        "longest": Fix("Keep the longest answer of each", "longest answers kept", _keep_longest),
        "merge": Fix("Combine the answers", "answers combined", _merge),
    },
    "echo": {"remove": LEAVE_OUT},
    "markup": {"mend": Fix("Remove the code", "web page code removed", _mend(mending.markup))},
    "language": {"remove": LEAVE_OUT},
    "cut": {"remove": LEAVE_OUT},
    "long": {"remove": LEAVE_OUT},
    "short": {"remove": LEAVE_OUT},
    "spaces": {
        "mend": Fix("Remove the extra spaces", "extra spaces removed", _mend(mending.spaces))
    },
}


def choose(kind: str, name: str) -> Fix:
    """Return a fix of a finding.

    Raises:
        Invalid: there is no such fix; with the field `fix`.
    """
    fix = FIXES.get(kind, {}).get(name)
    if fix is None:
        raise Invalid("Choose what to do.", field="fix")
    return fix


def preview(
    db: Session, version: DatasetVersion, kind: str, fix: Fix, limit: int = 5
) -> list[Changed]:
    """Return the first changes that a fix would make."""
    first = list(islice(made(db, version, kind, fix), limit))
    rows = {row.index: row for row in examples.at(db, version, (one.index for one in first))}
    return [Changed(rows[one.index], one) for one in first]


def apply(
    db: Session, user: User, version: DatasetVersion, kind: str, name: str
) -> DatasetVersion | None:
    """Make the next version, in which a finding is put right; a long one is left to a worker.

    Returns:
        The version, or nothing where a worker is to make it: call queue.hint("cpu") after the
        commit.

    Raises:
        Conflict: a worker is changing this version already.
        Forbidden: viewers look only.
        Invalid: there is no such fix, nothing would change, or too little would be left.
    """
    fix = choose(kind, name)
    if len(browsing.marks(db, version, kind).indices) <= MAX_AT_ONCE:
        return changes.derive(db, user, version, made(db, version, kind, fix), fix.done)
    versions.require_editor(user)
    # Not behind the version's lock, which a worker keeps as long as it is at it.
    asked = insert(FixRun).values(
        version_id=version.id, owner_id=user.id, status=FixStatus.WAITING, kind=kind, fix=name
    )
    if db.scalar(asked.on_conflict_do_nothing().returning(FixRun.id)) is None:
        raise Conflict("This version is being fixed already; wait until that is done.")
    return None


def newest_run(db: Session, version: DatasetVersion) -> FixRun | None:
    """Return the last of what a worker puts right, or put right, in a version."""
    runs = select(FixRun).where(FixRun.version_id == version.id)
    return db.scalars(runs.order_by(FixRun.id.desc()).limit(1)).first()


def made(db: Session, version: DatasetVersion, kind: str, fix: Fix) -> Iterator[Change]:
    """Yield the changes that put a finding right, read as they are needed."""
    marks = browsing.marks(db, version, kind)
    for start in range(0, len(marks.indices), _BATCH):
        rows = examples.at(db, version, marks.indices[start : start + _BATCH])
        yield from fix.make(Batch(db, version, rows, marks))
