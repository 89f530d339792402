"""Rows of a Parquet file, a batch at a time; only in the reading process, never in the web."""

import datetime
import decimal
import struct
from collections.abc import Iterator
from typing import Any

from app.datasets.readers.chat_exports import with_first_answer
from app.datasets.readers.files import File, Inner
from app.datasets.readers.tables import MAX_CELL_CHARACTERS, MAX_COLUMNS
from app.datasets.readers.unreadable import Unreadable

_BATCH_ROWS = 64
# Repeated values are written once in a Parquet file: a ratio that no honest table comes near.
_MAX_RATIO = 1000
_SUSPECT_BYTES = 1024**3
_MAX_ROW_GROUP_BYTES = 1024**3


def open_parquet(file: File) -> tuple[list[str], Iterator[tuple[int, dict[str, Any]]]]:
    """Open a Parquet file.

    Returns:
        The names of its columns and its rows, numbered from 1.

    Raises:
        Unreadable: now or while the rows are read; it is damaged, a trap, or too wide.
    """
    import pyarrow as pa
    from pyarrow import parquet as pq

    # One thread and the C library's allocator: what it takes counts against the limit at once.
    pa.set_memory_pool(pa.system_memory_pool())
    pa.set_cpu_count(1)
    try:
        source = (
            pa.BufferReader(file.held().getvalue()) if isinstance(file, Inner) else str(file.path)
        )
        opened = pq.ParquetFile(source, memory_map=False, pre_buffer=False)
        names = _shown_names(opened.schema_arrow)
        groups = [opened.metadata.row_group(n) for n in range(opened.metadata.num_row_groups)]
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Unreadable(_damaged(error)) from None
    if len(names) > MAX_COLUMNS:
        raise Unreadable(
            f"This Parquet file has {len(names):,} columns and at most {MAX_COLUMNS:,} can be "
            "read; keep only the columns with questions and answers."
        )
    if any(group.total_byte_size > _MAX_ROW_GROUP_BYTES for group in groups):
        raise Unreadable(
            "A row group of this Parquet file has more than 1 GB; write it again with smaller row "
            "groups, for example of 10,000 rows."
        )
    return names, _rows(opened, file.size_bytes)


def _rows(opened: Any, size_bytes: int) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow as pa

    number, cells = 0, _Cells()
    is_squad = _is_squad(opened.schema_arrow)
    widened = _widened(opened.schema_arrow)
    try:
        for batch in opened.iter_batches(batch_size=_BATCH_ROWS, use_threads=False):
            if cells.size > _SUSPECT_BYTES and cells.size / size_bytes > _MAX_RATIO:
                raise Unreadable(
                    f"This Parquet file of {size_bytes / 1e6:,.1f} MB unpacks to more than "
                    f"{cells.size / 1e9:,.0f} GB, which looks like a trap; save the rows as CSV "
                    "and upload that."
                )
            for row in (_with_short_floats(batch, widened) if widened else batch).to_pylist():
                number += 1
                read = {name: cells.value(cell, number) for name, cell in row.items()}
                if is_squad and not (read["answers"] or {}).get("text"):
                    read["answers"] = {"text": []}  # nulls are no answer
                yield number, with_first_answer(read) if is_squad else read
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise Unreadable(_damaged(error, number)) from None


def _shown_names(schema: Any) -> list[str]:
    names = list(schema.names)
    return (
        [name for name in names if name != "answers"] + ["answer"] if _is_squad(schema) else names
    )


def _is_squad(schema: Any) -> bool:
    """Say whether a column holds lists of answers to a question, as data sets like SQuAD do."""
    import pyarrow as pa

    if "answers" not in schema.names or "answer" in schema.names:
        return False
    kind = schema.field("answers").type
    return pa.types.is_struct(kind) and any(
        field.name == "text" and pa.types.is_list(field.type) for field in kind
    )


def _widened(schema: Any) -> dict[int, tuple[Any, Any]]:
    """Return which columns hold floats of fewer digits than Python's, by their places.

    With the types by which they get the shortest text of their own type: 0.1, and not
    0.10000000149011612.
    """
    import pyarrow as pa

    found = {}
    for place, field in enumerate(schema):
        as_text = _with(field.type, pa.string())
        if as_text != field.type:
            found[place] = (as_text, _with(field.type, pa.float64()))
        elif pa.types.is_float16(field.type):
            found[place] = (None, pa.float64())
    return found


def _with(kind: Any, other: Any) -> Any:
    """Return a type with another one wherever it holds floats of 32 bits."""
    import pyarrow as pa

    types = pa.types
    if types.is_float32(kind):
        return other
    if types.is_list(kind):
        return pa.list_(_with(kind.value_type, other))
    if types.is_large_list(kind):
        return pa.large_list(_with(kind.value_type, other))
    if types.is_fixed_size_list(kind):
        return pa.list_(_with(kind.value_type, other), kind.list_size)
    if types.is_struct(kind):
        return pa.struct([(field.name, _with(field.type, other)) for field in kind])
    return kind


def _with_short_floats(batch: Any, widened: dict[int, tuple[Any, Any]]) -> Any:
    import pyarrow as pa

    columns = list(batch.columns)
    for place, (as_text, as_float) in widened.items():
        column = columns[place]
        if as_text is None:
            values = [_short_half(value) for value in column.to_pylist()]
            columns[place] = pa.array(values, as_float)
        else:
            columns[place] = column.cast(as_text).cast(as_float)
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _short_half(value: Any) -> float | None:
    """Return the number with the fewest digits that is the same as a float of 16 bits."""
    if value is None or not -65504 <= value <= 65504:
        return None if value is None else float(value)
    packed = struct.pack("e", value)
    short = (float(f"{float(value):.{digits}g}") for digits in range(1, 6))
    return next((each for each in short if struct.pack("e", each) == packed), float(value))


class _Cells:
    """Arrow's values as JSON has them; `size` counts the characters, however they were packed."""

    def __init__(self) -> None:
        self.size = 0

    def value(self, value: Any, number: int) -> Any:
        if isinstance(value, str):
            self.size += len(value)
            if len(value) > MAX_CELL_CHARACTERS:
                raise Unreadable(
                    f"Row {number:,} has a text of more than 1 MB; shorten it, then upload the "
                    "file again."
                )
            return value
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, bytes):
            # Some programs write their texts as bytes; a picture stays what it is, no text.
            try:
                return self.value(value.decode(), number)
            except UnicodeDecodeError:
                return {"bytes": len(value)}
        if isinstance(value, list | tuple):
            return [self.value(part, number) for part in value]
        if isinstance(value, dict):
            return self._struct(value, number)
        if isinstance(value, datetime.date | datetime.time):
            return value.isoformat()
        if isinstance(value, decimal.Decimal):
            return format(value, "f")
        return str(value)

    def _struct(self, value: dict[str, Any], number: int) -> dict[str, Any] | None:
        """Drop what a struct has no value for: other rows' fields stand there as nulls.

        One that has none at all is none itself.
        """
        parts = {str(name): self.value(part, number) for name, part in value.items()}
        filled = {name: part for name, part in parts.items() if part is not None}
        return filled if filled or not parts else None


def _damaged(error: Exception, number: int = 0) -> str:
    what = " ".join(str(error).split())[:80].rstrip(".").replace(". ", ", ")
    if number:
        return (
            f"This Parquet file is damaged or incomplete after row {number:,} ({what}); write it "
            "again and upload that."
        )
    return f"This Parquet file is damaged or incomplete ({what}); write it again and upload that."
