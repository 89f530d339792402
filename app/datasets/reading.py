"""What is in a file: its format, columns and rows; sniffed by content, never by name."""

import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.datasets import documents, encodings, tables
from app.datasets.mapping import LeftOut
from app.datasets.sniffing import Unreadable, sniff

Format = Literal["csv", "json", "jsonl", "xlsx"]
NUM_PREVIEW_ROWS = 20
PREVIEW_CHARACTERS = 2000
_PROGRESS_ROWS = 5000

NumberedRow = tuple[int, dict[str, Any] | LeftOut]


class ReadAs(BaseModel):
    """How a person says that a file is to be read; what is left out goes by the content."""

    model_config = ConfigDict(extra="forbid")

    encoding: str | None = Field(default=None, max_length=40)
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    sheet: str | None = Field(default=None, max_length=200)
    has_header: bool | None = None


class PreviewRow(BaseModel):
    number: int  # line of a text file, row of a sheet, place in a JSON list; from 1
    values: dict[str, Any]


class Inspection(BaseModel):
    """What the reader found; kept as DatasetVersion.inspection."""

    format: Format
    # What a row's number counts: "line" or "row" or "entry".
    place: str
    encoding: str | None = None
    # No proof but a guess: the person looks at the preview and may choose another.
    encoding_is_guess: bool = False
    delimiter: str | None = None
    sheet: str | None = None
    sheets: list[str] = []
    has_header: bool = True
    columns: list[str]
    num_rows: int
    preview: list[PreviewRow]
    # One sentence each.
    warnings: list[str] = []
    # What the proposed mapping rests on, as a sentence, and whether it needs no person to look.
    why: str = ""
    is_sure: bool = False
    # The first rows that became no example, by reason; known once the examples are built.
    left_out_rows: dict[str, list[int]] = {}


class Source:
    """A file opened as rows; `found` says how it is read, without what only the rows tell."""

    def __init__(self, found: Inspection, rows: Iterator[NumberedRow], unnamed: set[str]) -> None:
        self.found = found
        self.rows = rows
        self.unnamed = unnamed


@contextmanager
def open_rows(path: Path, read_as: ReadAs) -> Iterator[Source]:
    """Sniff a file and open it; the rows come one at a time.

    Raises:
        Unreadable: now or while the rows are read; one sentence.
    """
    if sniff(path) == "xlsx":
        table, sheet, sheets = tables.read_xlsx(path, read_as.sheet, read_as.has_header)
        found = Inspection(
            format="xlsx",
            place="row",
            sheet=sheet,
            sheets=sheets,
            has_header=table.has_header,
            columns=table.columns,
            num_rows=0,
            preview=[],
            warnings=table.warnings,
        )
        yield Source(found, table.rows, table.unnamed)
        return
    encoding = encodings.detect(path, read_as.encoding)
    with path.open(encoding=encoding.name, newline="") as text:
        yield _open_text(text, encoding, read_as)


def _open_text(text: io.TextIOWrapper, encoding: encodings.Encoding, read_as: ReadAs) -> Source:
    found = Inspection(
        format="csv",
        place="line",
        encoding=encoding.name,
        encoding_is_guess=encoding.is_guess,
        columns=[],
        num_rows=0,
        preview=[],
    )
    if encoding.is_guess:
        name = encodings.CHOICES[encoding.name]
        found.warnings.append(
            f"The file does not say its encoding; it is read as {name} ({encoding.name}): "
            "look whether accents and umlauts are right below, and choose another if not."
        )
    first = _first_character(text)
    if not first:
        raise Unreadable("This file holds only blank space; upload one with examples.")
    if first in "[{":
        return _open_json(text, found)
    return _open_csv(text, found, read_as)


def inspect(path: Path, read_as: ReadAs, report: Callable[[int], None]) -> Inspection:
    """Read a whole file and say what is in it; `report` hears of each few thousand rows.

    Raises:
        Unreadable: the file cannot be read, or holds no row.
    """
    with open_rows(path, read_as) as source:
        found = source.found
        # A JSON file names its columns row by row; a dict keeps their order.
        columns = dict.fromkeys(found.columns)
        num_columns = 0
        filled: set[str] = set()
        left_out: list[int] = []
        for number, row in source.rows:
            found.num_rows += 1
            if found.num_rows % _PROGRESS_ROWS == 0:
                report(found.num_rows)
            if isinstance(row, LeftOut):
                left_out.append(number)
                continue
            for name, value in row.items():
                if value not in (None, ""):
                    filled.add(name)
                columns.setdefault(name)
            if len(columns) > num_columns:
                _check_names(list(columns)[num_columns:], f"{found.place} {number:,}")
                num_columns = len(columns)
            if num_columns > tables.MAX_COLUMNS:
                raise Unreadable(
                    f"The objects of this file have more than {tables.MAX_COLUMNS:,} different "
                    f"names (at {found.place} {number:,}); keep only the questions and answers."
                )
            if len(found.preview) < NUM_PREVIEW_ROWS:
                values = {name: _short(value) for name, value in row.items()}
                found.preview.append(PreviewRow(number=number, values=values))
    if found.num_rows == 0:
        raise Unreadable(
            "This file has names of columns but no rows below them; add examples and upload it "
            "again."
            if columns
            else "This file holds an empty list; add examples and upload it again."
        )
    _judge(found, left_out)
    blank = [name for name in columns if name not in filled]
    found.columns = [name for name in columns if name in filled or name not in source.unnamed]
    for shown in found.preview:
        shown.values = {name: shown.values.get(name) for name in found.columns}
    for name in [name for name in blank if name in found.columns][:3]:
        found.warnings.append(f"The column “{name}” is blank in every row.")
    return found


def _check_names(names: list[str], where: str) -> None:
    for name in names:
        if len(name) > tables.MAX_NAME_CHARACTERS or _short(name) != name:
            raise Unreadable(
                f"A field in {where} has a name that is longer than "
                f"{tables.MAX_NAME_CHARACTERS} characters or is no text; name it “question” or "
                "“answer”, for example."
            )


def _judge(found: Inspection, left_out: list[int]) -> None:
    if len(left_out) * 2 > found.num_rows:
        raise Unreadable(
            f"From {found.place} {left_out[0]:,} on, most rows have more cells than the first "
            f"{found.place} has columns; the texts probably hold the delimiter without quotes "
            "around them: save the file as XLSX, or as CSV with quotes."
        )
    if left_out:
        many = f"{len(left_out):,} rows have" if len(left_out) > 1 else "1 row has"
        found.warnings.append(
            f"{many} more cells than there are columns (first in {found.place} "
            f"{left_out[0]:,}) and will be left out; put quotes around texts that hold the "
            "delimiter."
        )


def _open_json(text: io.TextIOWrapper, found: Inspection) -> Source:
    rows: Iterator[NumberedRow]
    if documents.is_jsonl(text):
        found.format, rows = "jsonl", documents.read_jsonl(text)
    else:
        found.format, found.place, rows = "json", "entry", documents.read_json(text)
    return Source(found, rows, set())


def _open_csv(text: io.TextIOWrapper, found: Inspection, read_as: ReadAs) -> Source:
    delimiter = read_as.delimiter or tables.sniff_delimiter(text)
    found.delimiter = None if delimiter == tables.NO_DELIMITER else delimiter
    table = tables.read_csv(text, delimiter, read_as.has_header)
    found.columns = table.columns
    found.has_header = table.has_header
    found.warnings += table.warnings
    return Source(found, table.rows, table.unnamed)


def _first_character(text: io.TextIOWrapper) -> str:
    while (piece := text.read(4096)) and not piece.strip():
        pass
    text.seek(0)
    return piece.strip()[:1]


def _short(value: Any) -> Any:
    """Cut a value for the preview; structure stays, so that messages show as such."""
    if isinstance(value, str):
        # PostgreSQL's JSON has no place for either.
        value = value.replace("\0", "�")
        value = value.encode(errors="replace").decode()
        return value if len(value) <= PREVIEW_CHARACTERS else value[:PREVIEW_CHARACTERS] + "…"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # 1e999 is valid JSON in a file, and none in the database
    if isinstance(value, list):
        return [_short(part) for part in value[:20]]
    if isinstance(value, dict):
        return {_short(key): _short(part) for key, part in list(value.items())[:50]}
    return value
