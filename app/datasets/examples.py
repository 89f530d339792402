"""Examples of a version: written by COPY, split without overlap, hashed, read in pages."""

import hashlib
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.datasets.mapping import LEFT_OUT
from app.datasets.versions import inspection_of, mapping_of
from app.models import DatasetVersion, Example, Split

# How many rows are named for each reason to leave one out.
NUM_NAMED_ROWS = 5
MAX_PAGE = 200
_SINGULAR = {"are": "is", "have": "has", "hold": "holds", "call": "calls"}


@dataclass
class Written:
    """What became of a version's rows."""

    num_train: int = 0
    num_validation: int = 0
    sha256: str = ""


@dataclass
class LeftOutRows:
    """Rows that became no example, by reason: how many, and the first few by number."""

    counts: dict[str, int] = field(default_factory=dict)
    first_rows: dict[str, list[int]] = field(default_factory=dict)

    def add(self, number: int, reason: str) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + 1
        named = self.first_rows.setdefault(reason, [])
        if len(named) < NUM_NAMED_ROWS:
            named.append(number)


def validation_ranks(ranks: "array[int]", share: float) -> frozenset[int]:
    """Choose the ranks whose examples form the validation split; the smallest are drawn.

    Equal examples have equal ranks, so none of them can stand on both sides. The split has as
    many examples as the share says, or, after groups of equal ones, the next number that is
    possible; at least one where the share is not 0, and never all.
    """
    if share <= 0 or len(ranks) < 2:
        return frozenset()
    wanted = max(1, round(len(ranks) * share))
    sizes: dict[int, int] = {}
    for rank in ranks:
        sizes[rank] = sizes.get(rank, 0) + 1
    chosen: list[int] = []
    num_chosen = 0
    for rank in sorted(sizes):
        if num_chosen >= wanted or len(chosen) == len(sizes) - 1:
            break
        # A group as large as the rest of the wish many times over would swallow the practice set.
        if num_chosen + sizes[rank] > max(2 * wanted, 1):
            continue
        chosen.append(rank)
        num_chosen += sizes[rank]
    return frozenset(chosen)


def write(
    db: Session, version: DatasetVersion, spool: Iterable[str], validation: frozenset[int]
) -> Written:
    """Replace a version's examples by those of the spool, in its order, by COPY.

    Args:
        spool: Rank, row and messages as JSON in each line, between tabs (app.datasets.reader).
        validation: Ranks of the validation split.
    """
    mapping = mapping_of(version)
    assert mapping is not None
    kind = mapping.kind.value
    db.execute(delete(Example).where(Example.version_id == version.id))
    written = Written()
    digest = hashlib.sha256()
    connection: Any = db.connection().connection.driver_connection
    columns = "version_id, index, split, kind, messages, flags"
    with connection.cursor().copy(f"COPY example ({columns}) FROM STDIN") as copy:
        for index, line in enumerate(spool):
            rank, row, body = line.rstrip("\n").split("\t")
            if int(rank) in validation:
                split = Split.VALIDATION.value
                written.num_validation += 1
            else:
                split = Split.TRAIN.value
                written.num_train += 1
            digest.update(f"{split} {body}\n".encode())
            copy.write_row((version.id, index, split, kind, body, f'{{"row":{int(row)}}}'))
    written.sha256 = digest.hexdigest()
    return written


def page(
    db: Session,
    version: DatasetVersion,
    split: Split | None = None,
    offset: int = 0,
    limit: int = 50,
) -> list[Example]:
    """Return some examples of a version in order, of one split or of both."""
    query = select(Example).where(Example.version_id == version.id)
    if split is not None:
        query = query.where(Example.split == split)
    query = query.order_by(Example.index).offset(max(offset, 0)).limit(min(limit, MAX_PAGE))
    return list(db.scalars(query))


def get(db: Session, version: DatasetVersion, index: int) -> Example | None:
    """Return one example by its place in the version, if there is one."""
    return db.get(Example, (version.id, index))


def count(db: Session, version: DatasetVersion, split: Split) -> int:
    """Count the examples of a split as they stand in the table."""
    return db.scalars(
        select(func.count())
        .select_from(Example)
        .where(Example.version_id == version.id, Example.split == split)
    ).one()


def left_out_sentences(version: DatasetVersion) -> list[str]:
    """Say how many rows became no example and why, one sentence for each reason."""
    inspection = inspection_of(version)
    sentences = []
    counts: dict[str, int] = version.left_out or {}
    for reason, number in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        rows = inspection.left_out_rows.get(reason, []) if inspection else []
        where = ", ".join(f"{row:,}" for row in rows) + (", …" if number > len(rows) else "")
        place = f" ({inspection.place} {where})" if inspection and rows else ""
        sentences.append(f"{rows_that(reason, number)}{place}.")
    return sentences


def rows_that(reason: str, number: int) -> str:
    """Say e.g. “12 rows have no answer”; reasons are the keys of LEFT_OUT."""
    verb, _, rest = LEFT_OUT[reason].partition(" ")
    return f"{number:,} rows {verb} {rest}" if number > 1 else f"1 row {_SINGULAR[verb]} {rest}"
