"""Browsing the examples of a version: search, filter, sort, a page at a time, back and forth.

A page is found by walking on from where the page before ended, or back from where the next begins,
never by counting from the start. Where few examples fit, the walk stops after a moment and says how
far it has come.
"""

import time
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.models import DatasetCheck, DatasetVersion, Example, Finding, Split
from app.datasets import examples, search, search_bits

PAGE_EXAMPLES = 25
# So long a page may search for what fits; what it has by then is shown. A dataset of no more
# examples than this is seen whole, however slow the machine is at the moment.
SEARCH_SECONDS = 0.05
_SMALL_EXAMPLES = 250
_BATCH = 64
# After so many positions passed over the clock is read.
_PASSED_OVER = 4096


class SortOrder(StrEnum):
    POSITION = "place"
    SHORTEST = "shortest"
    LONGEST = "longest"


@dataclass(frozen=True)
class Wish:
    """What a person wants to see."""

    words: str = ""
    split: Split | None = None
    finding: str = ""  # a kind that the version has, or nothing
    order: SortOrder = SortOrder.POSITION


@dataclass
class Matches:
    """A page of examples, where the next begins, and where the one before ends."""

    examples: list[Example] = field(default_factory=list)
    # What the next page is asked for with; None where nothing follows.
    following: int | None = None
    # What the page before is asked for with, `page_before`; None where there is none.
    preceding: int | None = None
    # It was walked backwards, so that searching on means further back.
    is_back: bool = False
    # The search took long: how far it has come, of how many.
    num_searched: int | None = None
    total: int = 0


def page(
    db: Session,
    version: DatasetVersion,
    wish: Wish,
    start: int = 0,
    limit: int = PAGE_EXAMPLES,
    seconds: float = SEARCH_SECONDS,
) -> Matches:
    """Return the next examples that fit, from `start` on: an index, or a position in an order."""
    start = max(start, 0)
    until = time.monotonic() + seconds
    if _is_plain(wish):
        rows = examples.page(db, version, wish.split, after=start - 1, limit=limit + 1)
        result = Matches(rows[:limit])
        if len(rows) > limit:
            result.following = rows[limit - 1].index + 1
    else:
        candidates, total = _candidates(db, version, wish, start, is_back=False)
        result, end = _walk(db, version, wish, candidates, total, limit, until, 1)
        result.following = end
        if end is not None and len(result.examples) < limit:
            result.num_searched = end
    result.preceding = start or None
    return result


def page_before(
    db: Session,
    version: DatasetVersion,
    wish: Wish,
    before: int,
    limit: int = PAGE_EXAMPLES,
    seconds: float = SEARCH_SECONDS,
) -> Matches:
    """Return the page that ends before a position; the first page where too little is before it."""
    before = max(before, 0)
    end: int | None = None
    until = time.monotonic() + seconds
    if _is_plain(wish):
        rows = examples.page_before(db, version, wish.split, before, limit + 1)
        result = Matches(rows[-limit:])
        if len(rows) > limit:
            end = rows[1].index
    else:
        candidates, total = _candidates(db, version, wish, before, is_back=True)
        result, last = _walk(db, version, wish, candidates, total, limit, until, -1)
        result.examples.reverse()
        if last is not None:
            end = last + 1
            if len(result.examples) < limit:
                result.num_searched = before - end
    if end is None:
        return page(db, version, wish, 0, limit, until - time.monotonic())
    result.is_back = True
    result.following, result.preceding = before, end
    return result


def _is_plain(wish: Wish) -> bool:
    """Say whether all examples fit but for their split, in their own order."""
    return wish.order is SortOrder.POSITION and not wish.finding and not search.terms(wish.words)


def _candidates(
    db: Session, version: DatasetVersion, wish: Wish, start: int, *, is_back: bool
) -> tuple[Iterator["Candidate"], int]:
    """Return what may fit from a position on, or backwards from it, and how much there is."""
    wanted = search.terms(wish.words)
    marked = marks(db, version, wish.finding) if wish.finding else None
    blocks = search.blocks(db, version, wanted)
    if wish.order is SortOrder.POSITION:
        total = examples.end(db, version)
        start = min(start, total)
        if marked is not None:
            indices = marked.preceding(start) if is_back else marked.following(start)
            return _thinned(((index, index) for index in indices), blocks.has), total
        if is_back:
            return _back_by_position(blocks, start), total
        return _by_position(blocks, start, total), total
    order = by_length(db, version)
    total = len(order)
    positions = range(min(start, total) - 1, -1, -1) if is_back else range(start, total)
    return _by_length(blocks, marked, order, positions, wish.order), total


def _walk(
    db: Session,
    version: DatasetVersion,
    wish: Wish,
    candidates: Iterator["Candidate"],
    total: int,
    limit: int,
    until: float,
    step: int,
) -> tuple[Matches, int | None]:
    """Take candidates until the page is full or the time is up.

    Args:
        step: 1 where positions rise, -1 backwards.

    Returns:
        The page so far, and the first position that was not searched; None where all were.
    """
    wanted = search.terms(wish.words)
    result = Matches(total=total)
    while True:
        began = time.monotonic()
        batch, has_more = _batch(candidates)
        indices = (index for _, index in batch if index is not None)
        rows = {row.index: row for row in examples.at(db, version, indices)}
        for position, index in batch:
            row = rows.get(index) if index is not None else None
            if row is None or (wish.split is not None and row.split is not wish.split):
                continue
            if wanted and not search.matches(row.messages, wanted):
                continue
            if len(result.examples) == limit:
                return result, position
            result.examples.append(row)
        if not has_more:
            return result, None
        now = time.monotonic()
        # The next batch takes as long as this one did, or about.
        if total > _SMALL_EXAMPLES and now + (now - began) > until:
            return result, batch[-1][0] + step


def _batch(candidates: Iterator["Candidate"]) -> tuple[list["Candidate"], bool]:
    """Return the next candidates, and whether there may be more; few where many do not fit."""
    batch: list[Candidate] = []
    for candidate in candidates:
        batch.append(candidate)
        if candidate[1] is None or len(batch) == _BATCH:
            return batch, True
    return batch, False


# A position, and the index of the example there; None where those up to it do not fit.
Candidate = tuple[int, int | None]


def _thinned(
    candidates: Iterable[tuple[int, int]], fits: Callable[[int], bool]
) -> Iterator[Candidate]:
    passed_over = 0
    for position, index in candidates:
        if fits(index):
            yield position, index
            passed_over = 0
        elif (passed_over := passed_over + 1) == _PASSED_OVER:
            yield position, None
            passed_over = 0


def _by_position(blocks: search.Blocks, start: int, end: int) -> Iterator[Candidate]:
    size = search_bits.BLOCK_EXAMPLES
    last = -(-end // size)
    block = blocks.following(start // size, last)
    while block < last:
        for index in range(max(block * size, start), min((block + 1) * size, end)):
            yield index, index
        block = blocks.following(block + 1, last)


def _back_by_position(blocks: search.Blocks, before: int) -> Iterator[Candidate]:
    size = search_bits.BLOCK_EXAMPLES
    block = blocks.preceding(-(-before // size))
    while block >= 0:
        for index in range(min((block + 1) * size, before) - 1, block * size - 1, -1):
            yield index, index
        block = blocks.preceding(block)


def _by_length(
    blocks: search.Blocks,
    marked: "Marks | None",
    order: "array[int]",
    positions: range,
    direction: SortOrder,
) -> Iterator[Candidate]:
    candidates = (
        (at, order[at] if direction is SortOrder.SHORTEST else order[-1 - at]) for at in positions
    )
    if marked is None:
        return _thinned(candidates, blocks.has)
    chosen = frozenset(marked.indices)
    return _thinned(candidates, lambda index: index in chosen and blocks.has(index))


@dataclass
class Marks:
    """The examples that have one finding, and beside each the example it has to do with."""

    indices: "array[int]"
    partners: "array[int] | None"

    def following(self, start: int) -> Iterator[int]:
        """Yield their indexes from `start` on."""
        yield from self.indices[bisect_right(self.indices, start - 1) :]

    def preceding(self, before: int) -> Iterator[int]:
        """Yield their indexes before this one, the last first."""
        yield from reversed(self.indices[: bisect_left(self.indices, before)])

    def has(self, index: int) -> bool:
        """Say whether the example with this index is among them."""
        position = bisect_right(self.indices, index) - 1
        return position >= 0 and self.indices[position] == index

    def partner(self, index: int) -> int | None:
        """Return the example that this one has to do with."""
        position = bisect_right(self.indices, index) - 1
        return self.partners[position] if self.partners is not None and self.has(index) else None


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
