"""What differs between two versions of a dataset, a page at a time."""

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.models import DatasetVersion, Example
from app.datasets import examples, parts

PAGE_DIFFERENCES = 25
# Of so many that might differ, those that do are shown; then the page ends, wherever it is.
_MAX_COMPARED = 2_000
_BATCH = 200


class How(StrEnum):
    EDITED = "edited"
    MOVED = "moved"
    LEFT_OUT = "left out"
    ADDED = "added"


@dataclass(frozen=True)
class Difference:
    """One example as it was and as it is; it may be on one side only."""

    index: int
    how: How
    before: Example | None
    after: Example | None


def page(
    db: Session, before: DatasetVersion, after: DatasetVersion, start: int = 0
) -> tuple[list[Difference], int | None]:
    """Return the next differences and where the following page begins.

    Versions that go back to the same one differ only in what stands in layers that they do not
    share; others are compared place by place.
    """
    own = set(examples.layers(before)) ^ set(examples.layers(after))
    differences: list[Difference] = []
    num_compared = 0
    while True:
        indices = db.scalars(
            select(Example.index)
            .where(Example.version_id.in_(own), Example.index >= start)
            .distinct()
            .order_by(Example.index)
            .limit(_BATCH)
        ).all()
        old, new = (
            {row.index: row for row in examples.at(db, version, indices)}
            for version in (before, after)
        )
        for index in indices:
            difference = _difference(index, before, old.get(index), after, new.get(index))
            if difference is None:
                continue
            if len(differences) == PAGE_DIFFERENCES:
                return differences, index
            differences.append(difference)
        if len(indices) < _BATCH:
            return differences, None
        start = indices[-1] + 1
        num_compared += len(indices)
        if num_compared >= _MAX_COMPARED:
            return differences, start


def _difference(
    index: int,
    before: DatasetVersion,
    old: Example | None,
    after: DatasetVersion,
    new: Example | None,
) -> Difference | None:
    if old is None and new is None:
        return None
    if new is None:
        return Difference(index, How.LEFT_OUT, old, None)
    if old is None:
        return Difference(index, How.ADDED, None, new)
    if old.messages != new.messages:
        return Difference(index, How.EDITED, old, new)
    # The test set of two parts is stored as the check set of three.
    is_moved = parts.meant(before, old.split) is not parts.meant(after, new.split)
    return Difference(index, How.MOVED, old, new) if is_moved else None
