"""Examples of a version: written by COPY, split without overlap, hashed, and read: only here.

A derived version holds what changed and nothing else (app/datasets/changes.py). It is read through
its layers: of each index, the row of the newest layer counts, and one marked as removed counts as
none. Ids of versions rise from a base to what was derived from it, so the newest is the highest.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Integer,
    RowMapping,
    Select,
    Subquery,
    Text,
    UnaryExpression,
    cast,
    column,
    delete,
    exists,
    func,
    literal,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from app.core.db import read_once
from app.core.models import (
    DatasetVersion,
    Example,
    ExampleKind,
    Split,
    VersionStatus,
)
from app.core.sentences import counted
from app.datasets import notes
from app.datasets.mapping import LEFT_OUT, LeftOut
from app.datasets.parts import Drawn
from app.datasets.versions import inspection_of, mapping_of

# How many rows are named for each reason to leave one out.
NUM_NAMED_ROWS = 5
_MAX_WORDS, _NUM_NAMED_WORDS = 100, 8
MAX_PAGE = 200
STREAM_ROWS = 2000
_COPY_BYTES = 128 * 1024
_TRAIN, _CHECK, _TEST = (split.value.encode() for split in Split)


@dataclass
class Written:
    """What became of a version's rows."""

    num_train: int = 0
    num_validation: int = 0
    num_test: int = 0
    sha256: str = ""


@dataclass
class LeftOutRows:
    """Rows that became no example, by reason: how many, and the first few by number."""

    counts: dict[str, int] = field(default_factory=dict)
    first_rows: dict[str, list[int]] = field(default_factory=dict)
    words: dict[str, dict[str, int]] = field(default_factory=dict)  # that were met in them

    def add(self, number: int, reason: str, word: str = "") -> None:
        self.counts[reason] = self.counts.get(reason, 0) + 1
        named = self.first_rows.setdefault(reason, [])
        if len(named) < NUM_NAMED_ROWS:
            named.append(number)
        words = self.words.setdefault(reason, {}) if word else {}
        if word and (word in words or len(words) < _MAX_WORDS):
            words[word] = words.get(word, 0) + 1


def write(db: Session, version: DatasetVersion, spool: Iterable[bytes], drawn: Drawn) -> Written:
    """Replace a version's examples by those of the spool, in its order, by COPY.

    Args:
        spool: Rank, row, messages as JSON and tools as JSON or nothing in each line, between tabs
            (app.datasets.readers.reader).
        drawn: Which ranks check, and which test.
    """
    mapping = mapping_of(version)
    assert mapping is not None
    kind = mapping.kind.value.encode()
    db.execute(delete(Example).where(Example.version_id == version.id))
    written = Written()
    digest = hashlib.sha256()
    connection: Any = db.connection().connection.driver_connection
    columns = "version_id, index, split, kind, messages, tools, flags"
    with connection.cursor().copy(f"COPY example ({columns}) FROM STDIN") as copy:
        pending = bytearray()
        for index, line in enumerate(spool):
            rank, row, messages, tools = line.rstrip(b"\n").split(b"\t")
            number = int(rank)
            if number in drawn.test:
                split = _TEST
                written.num_test += 1
            elif number in drawn.check:
                split = _CHECK
                written.num_validation += 1
            else:
                split = _TRAIN
                written.num_train += 1
            digest.update(_hashed(split, messages, tools))
            # COPY's text format, written by hand: cell by cell it takes most of the time.
            cells = (version.id, index, split, kind, _escaped(messages), _escaped(tools) or b"\\N")
            pending += b'%d\t%d\t%b\t%b\t%b\t%b\t{"row":%d}\n' % (*cells, int(row))
            if len(pending) > _COPY_BYTES:
                copy.write(bytes(pending))
                pending.clear()
        copy.write(bytes(pending))
    written.sha256 = digest.hexdigest()
    return written


def page(
    db: Session,
    version: DatasetVersion,
    split: Split | None = None,
    *,
    after: int = -1,
    offset: int = 0,
    limit: int = 50,
) -> list[Example]:
    """Return some examples of a version in order, of one split or of all.

    Args:
        after: The index that the page before ended with; far quicker than an offset.
        offset: How many of those that follow are passed over.
    """
    offset, limit = max(offset, 0), min(limit, MAX_PAGE)
    rows = _near(version, split, Example.index > after, Example.index.asc(), offset + limit)
    listed = aliased(Example, rows)
    return list(db.scalars(select(listed).order_by(listed.index).offset(offset).limit(limit)))


def page_before(
    db: Session, version: DatasetVersion, split: Split | None, before: int, limit: int
) -> list[Example]:
    """Return the last examples before an index, in order: what `page` returns, the way back."""
    limit = min(limit, MAX_PAGE)
    rows = _near(version, split, Example.index < before, Example.index.desc(), limit)
    listed = aliased(Example, rows)
    return list(db.scalars(select(listed).order_by(listed.index.desc()).limit(limit)))[::-1]


def stream(
    db: Session, version: DatasetVersion, split: Split | None = None
) -> Iterator[Sequence[RowMapping]]:
    """Yield all examples in order, a few thousand at a time, as mappings of the table's columns.

    Each batch is a query of its own, since a version that is ready never changes: the caller may
    write, and commit, in between.
    """
    for start in range(0, end(db, version), STREAM_ROWS):
        rows = (
            select(Example)
            .where(
                Example.version_id.in_(layers(version)),
                Example.index.between(start, start + STREAM_ROWS - 1),
            )
            .order_by(Example.index, Example.version_id.desc())
            .ext(distinct_on(Example.index))
            .subquery()
        )
        query = select(rows).where(rows.c.is_removed.is_(False)).order_by(rows.c.index)
        if split is not None:
            query = query.where(rows.c.split == split)
        if batch := db.execute(query).mappings().all():
            yield batch


def own(db: Session, version: DatasetVersion) -> Iterator[Sequence[RowMapping]]:
    """Yield the rows that a version holds itself: all, or of a derived one what changed."""
    after = -1
    while True:
        query = (
            select(Example.index, Example.messages, Example.tools)
            .where(
                Example.version_id == version.id,
                Example.index > after,
                Example.is_removed.is_(False),
            )
            .order_by(Example.index)
            .limit(STREAM_ROWS)
        )
        batch = db.execute(query).mappings().all()
        if not batch:
            return
        yield batch
        after = batch[-1]["index"]


def copy_out(db: Session, version: DatasetVersion, file: IO[bytes]) -> None:
    """Write all examples to a file, in order, as COPY does: index, split, messages and tools."""
    query = (
        select(Example.index, Example.split, Example.messages, Example.tools)
        .where(Example.version_id.in_(layers(version)), *_counts(version, Example.version_id))
        .order_by(Example.index)
    )
    connection = db.connection()
    compiled = query.compile(
        connection, compile_kwargs={"literal_binds": True, "render_postcompile": True}
    )
    driver: Any = connection.connection.driver_connection
    with driver.cursor().copy(f"COPY ({compiled}) TO STDOUT") as copy:
        for piece in copy:
            file.write(piece)


def at(db: Session, version: DatasetVersion, indices: Iterable[int]) -> list[Example]:
    """Return the examples with these indices in order, without those that are not there."""
    return list(_rows_at(db, version, tuple(indices)))


@read_once
def _rows_at(db: Session, version: DatasetVersion, indices: tuple[int, ...]) -> tuple[Example, ...]:
    return tuple(row for row in db.scalars(_at(version, indices)) if not row.is_removed)


def get(db: Session, version: DatasetVersion, index: int) -> Example | None:
    """Return one example by its index, the same in all derived versions, if it is there."""
    rows = at(db, version, [index])
    return rows[0] if rows else None


def sample_sizes(db: Session, version: DatasetVersion, max_sample: int) -> dict[int, int]:
    """Return index -> bytes of at most `max_sample` examples, spread evenly over the version."""
    stop = end(db, version)
    every = max(1, -(-stop // max_sample))
    rows = db.execute(
        _at(version, range(0, stop, every)).with_only_columns(
            Example.index, Example.is_removed, func.octet_length(cast(Example.messages, Text))
        )
    )
    return {index: size for index, is_removed, size in rows if not is_removed}


def count(db: Session, version: DatasetVersion, split: Split) -> int:
    """Count the examples of a split as they stand in the table."""
    return db.scalars(
        select(func.count())
        .select_from(Example)
        .where(
            Example.version_id.in_(layers(version)),
            Example.split == split,
            *_counts(version, Example.version_id),
        )
    ).one()


def sha256(db: Session, version: DatasetVersion, beat: Callable[[], object] = lambda: None) -> str:
    """Hash all examples of a version, as `write` does with those that it writes.

    Args:
        beat: Called between batches, to keep a lease alive.
    """
    digest = hashlib.sha256()
    for batch in stream(db, version):
        beat()
        for row in batch:
            tools = body(row["tools"]).encode() if row["tools"] else b""
            messages = body(row["messages"]).encode()
            digest.update(_hashed(row["split"].value.encode(), messages, tools))
    return digest.hexdigest()


def body(messages: Sequence[Any]) -> str:
    """Write messages as the reader writes them: what is hashed must not depend on who wrote it."""
    return json.dumps(messages, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _hashed(split: bytes, messages: bytes, tools: bytes) -> bytes:
    return b"%b %b%b%b\n" % (split, messages, b" " if tools else b"", tools)


def as_copied(index: int, messages: bytes, tools: bytes) -> bytes:
    """Write an example of the reader's as `copy_out` would, before anything is stored of it."""
    return b"%d\ttrain\t%b\t%b\n" % (index, _escaped(messages), _escaped(tools) or b"\\N")


def _escaped(json_text: bytes) -> bytes:
    # JSON holds neither tabs nor line breaks of its own.
    return json_text.replace(b"\\", b"\\\\")


@read_once
def kind(db: Session, version: DatasetVersion) -> ExampleKind | None:
    """Return of which kind a version's examples are; None while nobody can say."""
    mapping = mapping_of(version)
    if version.status is not VersionStatus.READY:
        is_settled = version.status in (VersionStatus.CONFIRMED, VersionStatus.BUILDING)
        return mapping.kind if mapping and is_settled else None
    return db.scalar(select(Example.kind).where(Example.version_id == layers(version)[-1]).limit(1))


def layers(version: DatasetVersion) -> list[int]:
    """Return the ids of the versions whose rows make up this one, the newest first."""
    return list(version.layers) if version.layers else [version.id]


def _at(version: DatasetVersion, indices: Iterable[int]) -> Select[Example]:
    wanted = cast(list(indices), ARRAY(Integer))
    return (
        select(Example)
        .where(Example.version_id.in_(layers(version)), Example.index == func.any(wanted))
        .order_by(Example.index, Example.version_id.desc())
        .ext(distinct_on(Example.index))
    )


def end(db: Session, version: DatasetVersion) -> int:
    """Return the index behind the last, of rows that were left out since as well."""
    lasts = [
        select(func.max(Example.index)).where(Example.version_id == layer).scalar_subquery()
        for layer in layers(version)
    ]
    last = db.scalar(select(func.greatest(*lasts)))
    return 0 if last is None else last + 1


def _near(
    version: DatasetVersion,
    split: Split | None,
    beyond: ColumnElement[bool],
    order: UnaryExpression[int],
    limit: int,
) -> Subquery:
    """Select the next examples of each layer, either way: no query reads more than a page needs.

    The first `limit` of the whole are among the first `limit` of its layers, and each layer is
    walked along an index, so that a page costs the same at any place and hardly more with depth.
    """
    ids = func.unnest(cast(layers(version), ARRAY(Integer)))
    layer = ids.table_valued(column("id", Integer), name="layer").render_derived()
    query = select(Example).where(
        Example.version_id == layer.c.id, beyond, *_counts(version, layer.c.id)
    )
    if split is not None:
        query = query.where(Example.split == split)
    rows = query.order_by(order).limit(limit).correlate(layer).lateral("example_of_layer")
    return select(*rows.c).select_from(layer.join(rows, true())).subquery("effective")


def counted_rows(version: DatasetVersion) -> list[ColumnElement[bool]]:
    """Say of an example that it is one of the version's, and not of a layer that is replaced."""
    return _counts(version, Example.version_id)


def _counts(
    version: DatasetVersion, layer: ColumnElement[int] | InstrumentedAttribute[int]
) -> list[ColumnElement[bool]]:
    """Say of an example of a layer that it is not removed, and that no newer layer replaces it."""
    if version.layers is None:
        return []
    newer = aliased(Example, name="newer")
    replaced = exists(
        select(literal(1))
        .select_from(newer)
        .where(
            newer.version_id == func.any(cast(version.layers, ARRAY(Integer))),
            newer.version_id > layer,
            newer.index == Example.index,
        )
        .correlate_except(newer)
    )
    return [Example.is_removed.is_(False), ~replaced]


def left_out_sentences(version: DatasetVersion) -> list[str]:
    """Say how many rows became no example and why, one sentence for each reason."""
    inspection = inspection_of(version)
    sentences = []
    counts: dict[str, int] = version.left_out or {}
    for reason, number in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        rows = inspection.left_out_rows.get(reason, []) if inspection else []
        where = notes.where(inspection.place, rows, number) if inspection else ""
        words = inspection.left_out_words.get(reason) if inspection else None
        sentences.append(f"{rows_that(reason, number, words)}{where}.")
    return sentences


def note_sentences(version: DatasetVersion) -> list[str]:
    """Say what was passed over in rows that became examples, one sentence for each kind."""
    inspection = inspection_of(version)
    return notes.sentences(inspection.notes, inspection.place) if inspection else []


def rows_that(reason: str, number: int, words: dict[str, int] | None = None) -> str:
    """Say e.g. “12 rows have no answer”; reasons are the keys of LEFT_OUT.

    Args:
        reason: Why they were left out.
        number: How many.
        words: What was met in them, with its count.
    """
    said = counted(number, *LEFT_OUT[reason])
    if not words:
        return said
    by_count = sorted(words.items(), key=lambda item: -item[1])
    named = [f"“{word}”" if number == 1 else f"“{word}” {count:,}×" for word, count in by_count]
    more = [] if len(named) <= _NUM_NAMED_WORDS else ["…"]
    return f"{said}: {', '.join(named[:_NUM_NAMED_WORDS] + more)}"


def this_row(left_out: LeftOut) -> str:
    """Say the same beside the row itself: “this row has no answer”."""
    said = rows_that(left_out.reason, 1, {left_out.word: 1} if left_out.word else None)
    return f"this {said.removeprefix('1 ')}"
