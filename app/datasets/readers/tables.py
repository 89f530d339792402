"""Rows of CSV and TSV, and what all tables share: delimiter, header and cells; a row at a time."""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from app.datasets.column_names import is_known_name
from app.datasets.mapping import LeftOut
from app.datasets.readers.unreadable import Unreadable

MAX_COLUMNS = 1000
MAX_CELL_CHARACTERS = 1024**2
MAX_NAME_CHARACTERS = 200
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
# The unit separator: a sign that no text holds.
NO_DELIMITER = "\x1f"
_SAMPLE_CHARACTERS = 64 * 1024
_NUM_SAMPLE_ROWS = 50

Cells = list[Any]


@dataclass
class Rows:
    """Named columns and numbered rows; a row that cannot be one is a LeftOut."""

    columns: list[str]
    rows: Iterator[tuple[int, dict[str, Any] | LeftOut]]
    # Columns that the file gives no name: dropped where they stay blank.
    unnamed: set[str] = field(default_factory=set)
    has_header: bool = True
    warnings: list[str] = field(default_factory=list)


def read_csv(text: io.TextIOBase, delimiter: str, has_header: bool | None) -> Rows:
    """Read delimited text; quotes follow RFC 4180."""
    return with_header(_csv_rows(text, delimiter), has_header, "line")


def sniff_delimiter(sample: str) -> tuple[str, float]:
    """Find the delimiter under which most rows have as many cells as the header.

    Returns:
        The delimiter, or NO_DELIMITER where the text is one column, commas and all; and the share
        of rows that have as many cells as the first.
    """
    best, best_score = NO_DELIMITER, (0.0, 0)
    for delimiter in DELIMITERS:
        counts: list[int] = []
        try:
            for cells in csv.reader(io.StringIO(sample), delimiter=delimiter):
                if cells:
                    counts.append(len(cells))
                if len(counts) == _NUM_SAMPLE_ROWS:
                    break
        except csv.Error:
            continue
        # The header decides where it can: texts hold more commas than names of columns do.
        if not counts or counts[0] < 2:
            continue
        score = (round(counts.count(counts[0]) / len(counts), 1), counts[0])
        if score > best_score:
            best, best_score = delimiter, score
    return best, best_score[0]


def sample_of(text: io.TextIOBase) -> str:
    """Return the first whole lines of a text and rewind it."""
    sample = text.read(_SAMPLE_CHARACTERS)
    text.seek(0)
    if len(sample) == _SAMPLE_CHARACTERS:
        sample = sample[: sample.rfind("\n") + 1] or sample
    return sample


def _csv_rows(text: io.TextIOBase, delimiter: str) -> Iterator[tuple[int, Cells]]:
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise Unreadable(_csv_fault(str(error), line, reader.line_num, delimiter)) from None
        if len(cells) > MAX_COLUMNS:
            raise Unreadable(
                f"Line {line:,} has {len(cells):,} cells; at most {MAX_COLUMNS:,} columns can be "
                "read: keep only the columns with questions and answers."
            )
        if cells:
            yield line, cells


def _csv_fault(message: str, first: int, last: int, delimiter: str) -> str:
    if "field limit" in message or "unexpected end" in message:
        return (
            f'Line {first:,} opens a quote (") that is never closed, or holds a text of more than '
            "1 MB; close the quote or shorten the text, then upload the file again."
        )
    if "expected after" in message:
        return (
            f'Line {last:,} has a quote (") in the middle of a quoted text; write it twice (""), '
            'also where a backslash stands before it (\\"), or '
            f"put a {DELIMITERS.get(delimiter, 'delimiter')} after it, or save the file as XLSX."
        )
    return f"Line {first:,} cannot be read as a table row; correct it or save the file as XLSX."


def with_header(rows: Iterator[tuple[int, Cells]], has_header: bool | None, place: str) -> Rows:
    """Take the first row for the columns' names, unless it looks like an example."""
    number, first = next(rows, (0, []))
    if not first:
        raise Unreadable("This file is blank; upload one with examples.")
    warnings: list[str] = []
    if has_header is None:
        has_header = not _looks_like_data(first)
        if not has_header:
            warnings.append(
                f"The first {place} looks like an example and not like column names, so the "
                "columns are numbered; if it does have the names, say so below."
            )
    names, unnamed = _names(first if has_header else [""] * len(first), warnings, has_header)

    def following() -> Iterator[tuple[int, dict[str, Any] | LeftOut]]:
        if not has_header:
            yield number, dict(zip(names, first, strict=True))
        width = len(names)
        blanks = [""] * width
        for at, cells in rows:
            if len(cells) > width and any(cells[width:]):
                yield at, LeftOut("too_many_cells")
            else:
                yield at, dict(zip(names, cells + blanks[len(cells) :], strict=False))

    return Rows(names, following(), unnamed, has_header, warnings)


def _names(header: Cells, warnings: list[str], has_header: bool) -> tuple[list[str], set[str]]:
    names: list[str] = []
    unnamed: set[str] = set()
    doubled: list[str] = []
    for position, cell in enumerate(header, start=1):
        wanted = " ".join(str(cell).split())[:MAX_NAME_CHARACTERS] or f"Column {position}"
        name, count = wanted, 1
        while name in names:
            count += 1
            name = f"{wanted} ({count})"
        if count == 2:
            doubled.append(wanted)
        if has_header and not str(cell).strip():
            unnamed.add(name)
        names.append(name)
    if doubled:
        shown = ", ".join(f"“{name}”" for name in doubled[:3])
        warnings.append(
            f"Several columns are called {shown}; the later ones are numbered, e.g. "
            f"“{doubled[0]} (2)”."
        )
    return names, unnamed


def _looks_like_data(cells: Cells) -> bool:
    texts = [str(cell).strip() for cell in cells]
    if any(is_known_name(text) for text in texts):
        return False
    return any(
        len(text) > 100
        or "\n" in text
        or text.endswith(("?", "？", "؟", "."))
        or re.fullmatch(r"-?\d+([.,]\d+)?", text)
        for text in texts
    )
