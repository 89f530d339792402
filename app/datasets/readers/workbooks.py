"""Sheets of workbooks of any kind as tables: what they show, never their formulas or macros."""

import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Any, Protocol

from app.datasets.column_names import ROLES, plain
from app.datasets.mapping import ColumnRole, Hidden, Merged, Separators
from app.datasets.readers import separators as number_separators
from app.datasets.readers.files import DAMAGES, File, Inner
from app.datasets.readers.grids import Area, BadSheet, GridRow, Seen, table_rows
from app.datasets.readers.headers import Rows, with_header
from app.datasets.readers.ods import OdsBook
from app.datasets.readers.unreadable import Unreadable
from app.datasets.readers.web_page import HtmlBook, WebPage
from app.datasets.readers.xls import XlsBook
from app.datasets.readers.xlsb import XlsbBook
from app.datasets.readers.xlsx import XlsxBook
from app.datasets.readers.xml_2003 import Xml2003Book

# So many rows and sheets tell in which language a workbook is; of long texts the first ones.
_NUM_LOOKED_AT, _NUM_SHEETS_LOOKED_AT, _MAX_CHARACTERS = 300, 5, 100_000
_PAIR = frozenset({ColumnRole.QUESTION, ColumnRole.ANSWER})
_LOCKED = (
    "This workbook is protected by a password; open it in Excel, remove the password and upload it "
    "again."
)
_DAMAGED = (
    "This workbook is damaged or incomplete; open it in the program it comes from, save it again "
    "and upload that."
)


class _Sheet(Protocol):
    seen: Seen
    hidden_columns: set[int]
    separators: tuple[Separators, ...]

    def merged(self) -> list[Area]: ...

    def rows(self) -> Iterator[GridRow]: ...


class _Book(Protocol):
    # How its numbers are written, where the file says so; and in the country that a number format
    # names, which counts where the texts are in a language of that country.
    separators: Separators | None
    region: Separators | None

    @property
    def sheets(self) -> list[str]: ...

    def sheet(self, name: str) -> _Sheet: ...

    def num_notes(self, name: str) -> int: ...


class Workbook:
    """A workbook that is open for as long as the stack is; its sheets are read one at a time."""

    def __init__(
        self, file: File, kind: str, stack: ExitStack, page: WebPage | None = None
    ) -> None:
        """Open a workbook, or the tables of a page as one."""
        self._separators: tuple[Separators, ...] | None = None
        with _whole():
            self._book = HtmlBook(page) if page is not None else _opened(file, kind, stack)
            self.sheets = self._book.sheets

    def first_table(self, **read: Any) -> str:
        """Find the first visible sheet that is a table, before a cover or a list of notes.

        The first whose names are those of questions and answers, else the first with rows of
        several cells, else with rows at all, else with cells.

        Raises:
            Unreadable: there is none with cells.
        """
        columns: dict[str, list[str]] = {name: [] for name in filter(self._is_filled, self.sheets)}
        if len(columns) > 1:
            columns |= self.columns(**read)
            ranks = {name: self._rank(name, columns[name], read) for name in columns}
            return max(ranks, key=lambda name: ranks[name])  # of equals the first
        for name in columns:
            return name
        raise Unreadable(
            "This workbook has no cells with text or numbers; fill a sheet and upload it again."
        )

    def columns(self, **read: Any) -> dict[str, list[str]]:
        """Return the columns of each visible sheet with cells; none of one that has no header."""
        found = {}
        for name in filter(self._is_filled, self.sheets):
            try:
                found[name] = self.rows(name, **read).columns
            except Unreadable:
                found[name] = []
        return found

    def rows(
        self,
        name: str,
        *,
        header_row: int | None = None,
        has_header: bool | None = None,
        hidden: Hidden = "leave_out",
        merged: Merged = "fill",
        separators: Separators | None = None,
    ) -> Rows:
        """Read one sheet.

        Raises:
            Unreadable: there is no such sheet, or it is none that can be read.
        """
        if name not in self.sheets:
            raise Unreadable(f"The workbook has no visible sheet “{name}”; choose another.")
        with _whole(name):
            sheet = self._book.sheet(name)
            sheet.separators = (separators,) if separators else self.separators
            areas = sheet.merged()
            takes_hidden = hidden == "take_in"
            table = with_header(
                table_rows(
                    sheet.rows(), areas, sheet, fills=merged == "fill", takes_hidden=takes_hidden
                ),
                "row",
                header_row=header_row,
                has_header=has_header,
                groups=((area.top, area.left, area.right) for area in areas),
                dropped=() if takes_hidden else sheet.hidden_columns,
            )
        table.rows = self._telling(name, table.rows, table, sheet, separators is not None)
        return table

    @property
    def separators(self) -> tuple[Separators, ...]:
        """How the numbers are written, as the language of the first rows has it."""
        if self._separators is None:
            known = self._book.separators
            self._separators = (known,) if known else self._guess()
        return self._separators

    def _guess(self) -> tuple[Separators, ...]:
        texts, num_characters = [], 0
        for name in self.sheets[:_NUM_SHEETS_LOOKED_AT]:
            with _whole(name):
                for row in islice(self._book.sheet(name).rows(), _NUM_LOOKED_AT):
                    text = " ".join(row.cells)[:_MAX_CHARACTERS]
                    texts.append(text)
                    num_characters += len(text)
                    if num_characters > _MAX_CHARACTERS:
                        break
        return number_separators.guess("\n".join(texts), self._book.region)

    def _telling(
        self, name: str, rows: Iterator[Any], table: Rows, sheet: _Sheet, is_chosen: bool
    ) -> Iterator[Any]:
        with _whole(name):
            yield from rows
            seen = sheet.seen
            if num_notes := self._book.num_notes(name):
                seen.counts["note"] = num_notes
                seen.first["note"] = 0
            table.numbers_are_doubtful = seen.doubtful is not None
            table.closing += seen.sentences() + number_separators.said(seen, is_chosen)

    def _rank(self, name: str, columns: list[str], read: dict[str, Any]) -> int:
        if not columns:
            return 0
        try:
            rows = self.rows(name, **read).rows
            if not any(isinstance(row, dict) for _, row in rows):
                return 0
        except Unreadable:
            return 0
        known = {ROLES.get(plain(column)) for column in columns}
        if ColumnRole.MESSAGES in known or known >= _PAIR:
            return 3
        return 2 if len(columns) > 1 else 1

    def _is_filled(self, name: str) -> bool:
        with _whole(name):
            return any(any(row.cells) for row in self._book.sheet(name).rows())


def _opened(file: File, kind: str, stack: ExitStack) -> _Book:
    if kind == "xls":
        return XlsBook(file, _LOCKED)
    if kind == "spreadsheetml":
        return Xml2003Book(file)
    source = file.held() if isinstance(file, Inner) else file.path
    archive = stack.enter_context(zipfile.ZipFile(source))
    if kind == "ods":
        return OdsBook(archive)
    if "xl/workbook.xml" in archive.namelist():
        return XlsxBook(archive)
    return XlsbBook(file, _LOCKED)


@contextmanager
def _whole(name: str = "") -> Iterator[None]:
    """Say in a sentence what is wrong with a package, or with a sheet of that name."""
    try:
        yield
    except BadSheet as error:
        raise error.of(name) if name else error from None
    except DAMAGES:
        raise Unreadable(_DAMAGED) from None
