"""A sheet of questions as a table of texts, and which column the questions are in."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from app.datasets.column_names import ROLES, plain
from app.datasets.mapping import ColumnRole, LeftOut
from app.datasets.readers.headers import MAX_NAME_CHARACTERS
from app.datasets.readers.inspections import ReadAs
from app.datasets.readers.reading import open_rows
from app.datasets.readers.tables import MAX_COLUMNS, NO_DELIMITER
from app.datasets.readers.unreadable import Unreadable

# All texts of a sheet together: they stand in the database for some days.
MAX_CHARACTERS = 20_000_000
_QUESTION_MARKS = ("?", "？", "؟", ";")  # the last one is Greek's
# More rows say no more about which column has the questions.
_NUM_LOOKED_AT = 200


class Sheet(BaseModel):
    """A table as it was sent: each row has a text for each column."""

    columns: list[str]
    rows: list[list[str]]
    question_column: int
    # One sentence each.
    warnings: list[str] = []


def read_sheet(path: Path, max_rows: int) -> Sheet:
    """Read a whole sheet.

    Raises:
        Unreadable: it is no table, has no rows, or is too long; one sentence.
    """
    names: dict[str, None] = {}
    found: list[dict[str, Any]] = []
    num_characters = 0
    with open_rows(path, _how_to_read(path)) as source:
        if source.inspection.is_document:
            raise Unreadable(
                "This is a document and not a table; put each question in a row of its own, in a "
                "spreadsheet or a CSV file."
            )
        names.update(dict.fromkeys(source.inspection.columns))
        for number, row in source.rows:
            place = source.inspection.place
            if isinstance(row, LeftOut) and row.reason != "too_many_cells":
                continue  # hidden, a total, or the names again
            if isinstance(row, LeftOut):
                raise Unreadable(
                    f"In {place} {number:,} there are more cells than columns, or it cannot be "
                    "read; put texts with commas in quotes, or save the sheet as a workbook."
                )
            if len(found) == max_rows:
                raise Unreadable(
                    f"This sheet has more than {max_rows:,} rows; split it into smaller ones."
                )
            cells = {name[:MAX_NAME_CHARACTERS]: _text(value) for name, value in row.items()}
            num_characters += sum(map(len, cells.values()))
            if num_characters > MAX_CHARACTERS:
                raise Unreadable(
                    f"This sheet has more than {MAX_CHARACTERS:,} letters; split it, or leave out "
                    "columns that nobody needs."
                )
            found.append(cells)
            names.update(dict.fromkeys(cells))  # JSON names its columns row by row
            if len(names) > MAX_COLUMNS:
                raise Unreadable(
                    f"This sheet has more than {MAX_COLUMNS:,} columns; keep only those that are "
                    "needed."
                )
        warnings = source.inspection.warnings
        # Named by nobody and with nothing in it.
        columns = [
            name
            for name in names
            if name not in source.unnamed or any(cells.get(name) for cells in found)
        ]
    if not found:
        raise Unreadable(
            "This sheet has no rows with questions; write each question in a row of its own."
        )
    rows = [[cells.get(name, "") for name in columns] for cells in found]
    return Sheet(
        columns=[_clean(name) for name in columns],
        rows=rows,
        question_column=propose_column(columns, rows),
        warnings=warnings,
    )


def _how_to_read(path: Path) -> ReadAs:
    """Read a file with a question in each line as one column, its commas being of the questions."""
    read_as = ReadAs(form="table", as_it_stands=True)
    with open_rows(path, read_as) as source:
        is_nameless = source.inspection.format == "csv" and not source.inspection.has_header
        if not is_nameless or source.inspection.delimiter not in (",", ";"):
            return read_as
        for _, row in itertools.islice(source.rows, _NUM_LOOKED_AT):
            later = list(row.values())[1:] if isinstance(row, dict) else []
            # In prose a space follows a comma.
            if any(text and not text.startswith(" ") for text in later):
                return read_as
    return ReadAs(form="table", as_it_stands=True, delimiter=NO_DELIMITER, has_header=False)


def propose_column(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Return which column the questions are in: by its name, else by what stands in it."""
    roles = [ROLES.get(plain(name)) for name in columns]
    looked_at = rows[:_NUM_LOOKED_AT]

    def rank(column: int) -> tuple[bool, int, float, int]:
        texts = [row[column].strip() for row in looked_at]
        num_asking = sum(text.endswith(_QUESTION_MARKS) for text in texts)
        # Long texts may be questions, numbers and marks are none.
        length = sum(min(len(text), 300) for text in texts if not _is_figure(text))
        is_named = roles[column] is ColumnRole.QUESTION and any(texts)
        is_other = roles[column] is ColumnRole.ANSWER
        return is_named, num_asking, 0 if is_other else length, -column

    return max(range(len(columns)), key=rank)


def _is_figure(text: str) -> bool:
    return not any(character.isalpha() for character in text)


def _text(value: Any) -> str:
    match value:
        case str():
            return _clean(value)
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case dict() | list():
            return _clean(json.dumps(value, ensure_ascii=False, default=str))
    return _clean(str(value))


def _clean(text: str) -> str:
    # Neither a NUL nor half a surrogate pair can stand in the database.
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
