"""Looking through the examples of a version: search, filter, sort, a page at a time.

A page is found by walking on from where the page before ended, never by counting from the start.
Where few examples fit, the walk stops after a moment and says how far it has come.
"""

import time
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.datasets import examples, search
from app.models import DatasetCheck, DatasetVersion, Example, Finding, Split

PAGE_EXAMPLES = 25
# So long a page may look for what fits; what it has found by then is shown.
LOOK_SECONDS = 0.05
_FIRST_BATCH, _LARGEST_BATCH = 50, 128


class Order(StrEnum):
    PLACE = "place"
    SHORTEST = "shortest"
    LONGEST = "longest"


@dataclass(frozen=True)
class Wish:
    """What a person wants to see."""

    words: str = ""
    split: Split | None = None
    finding: str = ""  # a kind that the version has, or nothing
    order: Order = Order.PLACE


@dataclass
class Found:
    """A page of examples and where the next begins."""

    examples: list[Example] = field(default_factory=list)
    # What the next page is asked for with; None where nothing follows.
    following: int | None = None
    # Looking took long: how far it has come, of how many.
    looked: int | None = None
    total: int = 0


def page(
    db: Session,
    version: DatasetVersion,
    wish: Wish,
    start: int = 0,
    limit: int = PAGE_EXAMPLES,
    seconds: float = LOOK_SECONDS,
) -> Found:
    """Return the next examples that fit, from `start` on: an index, or a place in the order."""
    start = max(start, 0)
    wanted = search.terms(wish.words)
    marked = marks(db, version, wish.finding) if wish.finding else None
    if wish.order is Order.PLACE and marked is None and not wanted:
        return _plain(db, version, wish, start, limit)
    if wish.order is Order.PLACE:
        total = _end(db, version)
        candidates = _by_place(db, version, wanted, marked, start, total)
    else:
        order = by_length(db, version)
        total = len(order)
        candidates = _by_length(db, version, wanted, marked, order, start, wish.order)
    return _walk(db, version, wish, candidates, limit, seconds, total)


def _plain(db: Session, version: DatasetVersion, wish: Wish, start: int, limit: int) -> Found:
    rows = examples.page(db, version, wish.split, after=start - 1, limit=limit + 1)
    found = Found(rows[:limit])
    if len(rows) > limit:
        found.following = rows[limit - 1].index + 1
    return found


def _walk(
    db: Session,
    version: DatasetVersion,
    wish: Wish,
    candidates: Iterator[tuple[int, int]],
    limit: int,
    seconds: float,
    total: int,
) -> Found:
    """Take candidates, pairs of place and index, until the page is full or the time is up."""
    wanted = search.terms(wish.words)
    found = Found(total=total)
    until = time.monotonic() + seconds
    size = _FIRST_BATCH
    while True:
        batch = list(islice(candidates, size))
        rows = {row.index: row for row in examples.at(db, version, (index for _, index in batch))}
        for place, index in batch:
            row = rows.get(index)
            if row is None or (wish.split is not None and row.split is not wish.split):
                continue
            if wanted and not search.matches(row.messages, wanted):
                continue
            if len(found.examples) == limit:
                found.following = place
                return found
            found.examples.append(row)
        if len(batch) < size:
            return found
        if time.monotonic() > until:
            found.following = found.looked = batch[-1][0] + 1
            return found
        size = min(2 * size, _LARGEST_BATCH)


def _by_place(
    db: Session,
    version: DatasetVersion,
    wanted: list[str],
    marked: "Marks | None",
    start: int,
    end: int,
) -> Iterator[tuple[int, int]]:
    blocks = search.blocks(db, version, wanted)
    if marked is not None:
        for index in marked.following(start):
            if blocks.has(index):
                yield index, index
        return
    size = search.BLOCK_EXAMPLES
    last = -(-end // size)
    block = blocks.following(start // size, last)
    while block < last:
        for index in range(max(block * size, start), min((block + 1) * size, end)):
            yield index, index
        block = blocks.following(block + 1, last)


def _by_length(
    db: Session,
    version: DatasetVersion,
    wanted: list[str],
    marked: "Marks | None",
    order: "array[int]",
    start: int,
    direction: Order,
) -> Iterator[tuple[int, int]]:
    blocks = search.blocks(db, version, wanted)
    chosen = frozenset(marked.indices) if marked is not None else None
    for place in range(start, len(order)):
        index = order[place] if direction is Order.SHORTEST else order[-1 - place]
        if (chosen is None or index in chosen) and blocks.has(index):
            yield place, index


@dataclass
class Marks:
    """The examples that have one finding, and beside each the example it has to do with."""

    indices: "array[int]"
    partners: "array[int] | None"

    def following(self, start: int) -> Iterator[int]:
        """Yield their indexes from `start` on."""
        yield from self.indices[bisect_right(self.indices, start - 1) :]

    def has(self, index: int) -> bool:
        """Say whether the example with this index is among them."""
        place = bisect_right(self.indices, index) - 1
        return place >= 0 and self.indices[place] == index

    def partner(self, index: int) -> int | None:
        """Return the example that this one has to do with."""
        place = bisect_right(self.indices, index) - 1
        return self.partners[place] if self.partners is not None and self.has(index) else None


def marks(db: Session, version: DatasetVersion, kind: str) -> Marks:
    """Return which examples of a version have a finding; none where it has no such finding."""
    row = db.execute(
        select(Finding.rows, Finding.partners).where(
            Finding.version_id == version.id, Finding.kind == kind
        )
    ).one_or_none()
    if row is None:
        return Marks(array("i"), None)
    partners = None if row.partners is None else _numbers(row.partners)
    return Marks(_numbers(row.rows), partners)


def by_length(db: Session, version: DatasetVersion) -> "array[int]":
    """Return the indexes of a version's examples, the shortest first; empty before the check."""
    kept = db.scalar(select(DatasetCheck.by_length).where(DatasetCheck.version_id == version.id))
    return _numbers(kept or b"")


def _numbers(body: bytes) -> "array[int]":
    numbers = array("i")
    numbers.frombytes(body)
    return numbers


def _end(db: Session, version: DatasetVersion) -> int:
    """Return the number after a version's highest index; derived versions have no higher ones."""
    highest = db.scalar(
        select(func.max(Example.index)).where(Example.version_id == examples.layers(version)[-1])
    )
    return 0 if highest is None else highest + 1
