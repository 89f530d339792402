"""A version made of another and what changed: rows that were edited, moved, left out or added.

It appears ready at once, in the caller's transaction, and copies nothing that stayed the same.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from sqlalchemy import insert
from sqlalchemy.orm import Session

from app.core import audit, clock, settings
from app.core.errors import Conflict, Invalid
from app.core.models import DatasetVersion, Example, Json, Split, User, VersionStatus
from app.core.sentences import counted, listed
from app.datasets import examples, parts, versions
from app.datasets.doctor import checks
from app.datasets.privacy import reviews

_BATCH_ROWS = 1000
# Hashing reads every example: of a longer version a job does it, which reads them all anyway.
MAX_HASHED_AT_ONCE = 20_000
_TWO_PARTS = (
    "This version has only a practice set and a test set. Make another version of its file to get "
    "a check set as well."
)
# By what `DatasetVersion.changes` counts.
_DIFFERENCES = {
    "num_added": ("1 example added", "{n} examples added"),
    "num_accepted": ("1 example accepted", "{n} examples accepted"),
    "num_edited": ("1 example edited", "{n} examples edited"),
    "num_moved": ("1 example moved", "{n} examples moved"),
    "num_removed": ("1 example left out", "{n} examples left out"),
}


@dataclass(frozen=True)
class Change:
    """What becomes of the example with this index; what is None stays as it is."""

    index: int
    messages: list[Any] | None = None
    split: Split | None = None
    is_removed: bool = False
    tools: list[Any] | None = None


@dataclass(frozen=True)
class Addition:
    """An example that is new; it stands behind all others."""

    messages: list[Any]
    split: Split = Split.TRAIN
    flags: Json | None = None


@dataclass
class _Tally:
    num_added: int = 0
    num_edited: int = 0
    num_moved: int = 0
    num_removed: int = 0
    of_split: dict[Split, int] = field(default_factory=dict)

    @property
    def num_rows(self) -> int:
        return sum(self.of_split.values())

    def add(self, split: Split, number: int) -> None:
        if split not in self.of_split:
            raise Invalid(_TWO_PARTS, field="split")
        self.of_split[split] += number


def derive(
    db: Session,
    user: User,
    base: DatasetVersion,
    changes: Iterable[Change],
    why: str,
    *,
    added: Sequence[Addition] = (),
    patience_seconds: float | None = versions.PATIENCE_SECONDS,
) -> DatasetVersion:
    """Make the next version of a dataset: the base with these changes, each index at most once.

    A change that changes nothing is passed over.

    Args:
        changes: Taken one at a time, so that they may be many.
        why: What was done, in words for the list of versions and the audit log; never what stands
            in people's rows.
        added: New examples, of the base's kind.
        patience_seconds: How long to wait where another version is being made; None for workers.

    Raises:
        Forbidden: viewers look only.
        Conflict: the base is not ready, was deleted, or lacks an example that is to change; or
            another version is being made.
        Invalid: nothing changes, or too little would be left to learn from.
    """
    versions.require_editor(user)
    versions.lock_to_derive(db, base, patience_seconds)
    if base.status is not VersionStatus.READY or base.dataset.deleted_at is not None:
        raise Conflict("This version is not ready yet; wait until it is.")
    version = _following(db, base)
    tally = _Tally(of_split={split: parts.count(base, split) for split in parts.splits(base)})
    for batch in _batches(changes):
        _write(db, base, version, batch, tally)
    _add(db, base, version, added, tally)
    _check(base, tally)
    version.num_train = tally.of_split[Split.TRAIN]
    version.num_validation = tally.of_split[Split.VALIDATION]
    # A base of two parts stays one: which rows are to check was never drawn.
    version.num_test = tally.of_split.get(Split.TEST)
    counts = {
        "num_edited": tally.num_edited,
        "num_moved": tally.num_moved,
        "num_removed": tally.num_removed,
    }
    if tally.num_added:
        counts["num_added"] = tally.num_added
    version.changes = {"why": why, **counts}
    version.status = VersionStatus.READY
    version.ready_at = clock.NOW
    if tally.num_rows <= MAX_HASHED_AT_ONCE:
        version.examples_sha256 = examples.sha256(db, version)
    db.flush()
    reviews.begin(db, version.id)
    checks.want(db, version)
    subject = f"dataset version {version.id}"
    audit.record(db, user, "dataset.derive", subject, base=base.id, why=why, **counts)
    return version


def _following(db: Session, base: DatasetVersion) -> DatasetVersion:
    version = versions.next_version(db, base)
    version.layers = [version.id, *examples.layers(base)]
    version.mapping = base.mapping
    version.validation_share, version.split_seed = base.validation_share, base.split_seed
    version.left_out = base.left_out
    db.flush()
    return version


def _batches(changes: Iterable[Change]) -> Iterator[list[Change]]:
    rest = iter(changes)
    while batch := list(islice(rest, _BATCH_ROWS)):
        yield batch


def _write(
    db: Session, base: DatasetVersion, version: DatasetVersion, batch: list[Change], tally: _Tally
) -> None:
    by_index = {row.index: row for row in examples.at(db, base, [change.index for change in batch])}
    rows = []
    for change in batch:
        old = by_index.get(change.index)
        if old is None:
            raise Conflict(f"Example {change.index + 1:,} is no longer in this version.")
        messages = old.messages if change.messages is None else change.messages
        tools = old.tools if change.tools is None else change.tools
        split = change.split or old.split
        is_edited = messages != old.messages or tools != old.tools
        is_moved = split is not old.split
        if not (change.is_removed or is_edited or is_moved):
            continue
        tally.add(old.split, -1)
        if change.is_removed:
            tally.num_removed += 1
        else:
            tally.add(split, 1)
            tally.num_edited += is_edited
            tally.num_moved += is_moved
        # All columns, whichever there are: what a change does not name goes along.
        row = {name: getattr(old, name) for name in Example.__table__.columns.keys()}  # noqa: SIM118
        row |= {"version_id": version.id, "split": split, "messages": messages, "tools": tools}
        if change.is_removed:  # what was taken out is not kept once more
            row |= {"messages": [], "tools": None, "is_removed": True}
        rows.append(row)
    if rows:
        db.execute(insert(Example), rows)
    for example in by_index.values():
        db.expunge(example)  # a version may change in a million places


def _add(
    db: Session,
    base: DatasetVersion,
    version: DatasetVersion,
    added: Sequence[Addition],
    tally: _Tally,
) -> None:
    if not added:
        return
    kind = examples.kind(db, base)
    first = examples.end(db, base)
    rows = []
    for index, addition in enumerate(added, start=first):
        tally.add(addition.split, 1)
        rows.append(
            {
                "version_id": version.id,
                "index": index,
                "split": addition.split,
                "kind": kind,
                "messages": addition.messages,
                "flags": addition.flags,
            }
        )
    tally.num_added = len(rows)
    db.execute(insert(Example), rows)


def _check(base: DatasetVersion, tally: _Tally) -> None:
    if tally.num_added + tally.num_edited + tally.num_moved + tally.num_removed == 0:
        raise Invalid("Nothing would change, so there is no new version to make.")
    wanted = settings.get().min_examples
    if tally.num_rows < wanted or tally.of_split[Split.TRAIN] == 0:
        left = listed(
            [
                f"{number:,} {'example' if number == 1 else 'examples'} in the "
                f"{parts.name(base, split)}"
                for split, number in tally.of_split.items()
            ]
        )
        raise Invalid(
            f"This would leave {left}, and training needs at least {wanted} in all; "
            "keep more of them."
        )


def described(version: DatasetVersion) -> str:
    """List how a derived version differs from its base: “3 examples edited, 1 example moved”."""
    counts = version.changes or {}
    return ", ".join(
        counted(counts[name], one, many)
        for name, (one, many) in _DIFFERENCES.items()
        if counts.get(name)
    )
