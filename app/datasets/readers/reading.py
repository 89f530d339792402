"""What is in a file: its format, columns and rows; sniffed by content, never by name."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from app.datasets.continued import Below
from app.datasets.mapping import MAX_WORDS, LeftOut
from app.datasets.readers import exports, gzipped, headers, parquet, tables
from app.datasets.readers.archive_files import open_archive
from app.datasets.readers.document_files import open_document_file
from app.datasets.readers.files import File
from app.datasets.readers.inspections import Inspection, PreviewRow, ReadAs, new_inspection
from app.datasets.readers.page_files import open_page
from app.datasets.readers.passed_over import judge, no_rows, none_usable, tell_passed_over
from app.datasets.readers.sniffing import sniff
from app.datasets.readers.sources import Source, of_export, of_option_table
from app.datasets.readers.text_files import open_text
from app.datasets.readers.unreadable import Unreadable
from app.datasets.readers.workbook_files import open_workbook
from app.datasets.turns import parsed, unknown_roles

NUM_PREVIEW_ROWS = 20
PREVIEW_CHARACTERS = 2000
_PROGRESS_ROWS = 5000
_TABLES = frozenset({"csv", "xlsx", "xls", "ods", "spreadsheetml", "html", "zip"})
# A list of something else may have a role in each entry, and a new word in each role.
_MAX_ROLE_WORDS = 1000


@contextmanager
def open_rows(path: Path, read_as: ReadAs) -> Iterator[Source]:
    """Sniff a file and open it; the rows come one at a time.

    Raises:
        Unreadable: now or while the rows are read; one sentence.
    """
    with ExitStack() as stack:
        source = _open(File(path), read_as, stack)
        if read_as.files and source.inspection.format != "zip":
            raise Unreadable(
                "Something was chosen for single files of a ZIP, and this is none whose files are "
                "read one by one; say it for the whole file."
            )
        yield source


def _open(file: File, read_as: ReadAs, stack: ExitStack) -> Source:
    kind = sniff(file)
    match kind:
        case "zip":
            return open_archive(file, read_as, stack, _open)
        case "xlsx" | "xls" | "ods" | "spreadsheetml":
            return open_workbook(file, kind, read_as, stack)
        case "parquet":
            inspection = new_inspection("parquet", "row")
            inspection.columns, rows = parquet.open_parquet(file)
            return of_option_table(Source(inspection, rows), read_as)
        case "mail" | "quiz_xml" | "anki":
            return of_export(exports.open_file(kind, file, read_as.options))
        case "docx" | "odt" | "rtf" | "pptx" | "epub" | "pdf":
            return open_document_file(file, kind, read_as)
        case "html":
            return open_page(file, read_as, stack)
        case "gzip":
            return _open_gzip(file, read_as, stack)
        case "text":
            return open_text(file, read_as, stack)


def _open_gzip(file: File, read_as: ReadAs, stack: ExitStack) -> Source:
    inner = gzipped.unpacked(file)
    if sniff(inner) == "zip":
        raise Unreadable(
            "This is a ZIP archive packed by gzip; upload the ZIP as it was before that."
        )
    return _open(inner, read_as, stack)


def inspect(  # noqa: PLR0912 - a branch for each thing that is counted
    path: Path, read_as: ReadAs, report: Callable[[int], None]
) -> Inspection:
    """Read a whole file and say what is in it; `report` hears of each few thousand rows.

    Raises:
        Unreadable: the file cannot be read, or holds no row.
    """
    with open_rows(path, read_as) as source:
        inspection = source.inspection
        # A JSON file names its columns row by row; a dict keeps their order.
        columns = dict.fromkeys(inspection.columns)
        num_columns = 0
        filled: set[str] = set()
        left_out: list[int] = []
        passed_over: Counter[str] = Counter()
        words: dict[str, Counter[str]] = {}
        below = Below()
        is_table = inspection.format in _TABLES
        for number, row in source.rows:
            inspection.num_rows += 1
            if inspection.num_rows % _PROGRESS_ROWS == 0:
                report(inspection.num_rows)
            if is_table:
                below.see(number, row)
            if isinstance(row, LeftOut):
                if row.reason == "too_many_cells":
                    left_out.append(number)
                passed_over[row.reason] += 1
                continue
            if not row.keys() <= columns.keys():
                columns |= dict.fromkeys(row)
            _count_roles(words, row)
            if len(filled) < len(columns):
                filled.update(name for name, value in row.items() if value not in (None, ""))
            if len(columns) > num_columns:
                _check_names(list(columns)[num_columns:], f"{inspection.place} {number:,}")
                num_columns = len(columns)
            if num_columns > tables.MAX_COLUMNS:
                raise Unreadable(
                    f"The objects of this file have more than {tables.MAX_COLUMNS:,} different "
                    f"names (at {inspection.place} {number:,}); keep only the questions and "
                    "answers."
                )
            if len(inspection.preview) < NUM_PREVIEW_ROWS:
                values = {name: short(value) for name, value in row.items()}
                inspection.preview.append(PreviewRow(number=number, values=values))
    if inspection.num_rows == 0:
        raise Unreadable(no_rows(inspection))
    inspection.going_on = below.found
    judge(inspection, left_out)
    tell_passed_over(inspection, passed_over)
    inspection.unknown_roles = {
        name: dict(found.most_common(MAX_WORDS)) for name, found in words.items()
    }
    inspection.columns = [name for name in columns if name in filled or name not in source.unnamed]
    if not inspection.columns:
        raise Unreadable(none_usable(passed_over))
    for shown in inspection.preview:
        shown.values = {name: shown.values.get(name) for name in inspection.columns}
    # Of rows that were all left out nobody knows what is blank.
    has_cells = not inspection.is_document and inspection.num_rows > passed_over.total()
    blank = [name for name in inspection.columns if has_cells and name not in filled]
    inspection.warnings += [f"The column “{name}” is blank in every row." for name in blank[:3]]
    return inspection


def _count_roles(words: dict[str, Counter[str]], row: dict[str, Any]) -> None:
    for name, value in row.items():
        # Asked of every cell: the first letters of a text tell a list in it.
        if type(value) is not list and not (type(value) is str and value[:2] == "[{"):
            continue
        for role in unknown_roles(parsed(value)):
            found = words.setdefault(name, Counter())
            if role in found or len(found) < _MAX_ROLE_WORDS:
                found[role] += 1


def _check_names(names: list[str], where: str) -> None:
    for name in names:
        if len(name) > headers.MAX_NAME_CHARACTERS or short(name) != name:
            raise Unreadable(
                f"A field in {where} has a name that is longer than "
                f"{headers.MAX_NAME_CHARACTERS} characters or is not text; name it “question” or "
                "“answer”, for example."
            )


def short(value: Any) -> Any:
    """Cut a value for the preview; structure stays, so that messages show as such."""
    if isinstance(value, str):
        # PostgreSQL's JSON has no place for either.
        value = value.replace("\0", "�")
        value = value.encode(errors="replace").decode()
        return value if len(value) <= PREVIEW_CHARACTERS else value[:PREVIEW_CHARACTERS] + "…"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # 1e999 is valid JSON in a file, and none in the database
    if isinstance(value, list):
        return [short(part) for part in value[:20]]
    if isinstance(value, dict):
        return {short(key): short(part) for key, part in list(value.items())[:50]}
    return value
