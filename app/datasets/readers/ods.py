"""ODS: its content read as a stream; a cell's text stands in the file as the sheet shows it."""

import re
import zipfile
from collections.abc import Iterator

from app.datasets.mapping import Separators
from app.datasets.readers import number_formats, signs
from app.datasets.readers.grids import (
    MAX_ROWS,
    Area,
    BadSheet,
    GridRow,
    Seen,
    too_long,
    too_many_merged,
)
from app.datasets.readers.odf import BLANKS, Look, Styles, count_of
from app.datasets.readers.tables import MAX_CELL_CHARACTERS, MAX_COLUMNS
from app.datasets.readers.unreadable import Unreadable
from app.datasets.readers.xml_stream import XmlStream

DAMAGED = (
    "This workbook is damaged ({what}); open it in LibreOffice, save it again and upload that."
)
_MAX_MERGED = 100_000
# Beside the cells' own text, or not shown at all.
_SKIPPED = frozenset(
    {"annotation", "shapes", "tracked-changes", "frame", "custom-shape", "ruby-text"}
)


class OdsBook:
    """A spreadsheet whose package is open; its tables stand one after the other in one stream."""

    separators: Separators | None = None
    region: Separators | None = None

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        if "content.xml" not in archive.namelist():
            raise Unreadable(DAMAGED.format(what="it has no content"))
        self._styles = Styles("workbook")
        if "styles.xml" in archive.namelist():
            with archive.open("styles.xml") as stream:
                self._styles.read(stream)
        index = _Content(self._styles)
        with archive.open("content.xml") as stream:
            for _ in index.feed(stream):
                index.ready.clear()
        self._tables = [table for table in index.tables if not table.is_hidden]

    @property
    def sheets(self) -> list[str]:
        return [table.name for table in self._tables]

    def sheet(self, name: str) -> "OdsSheet":
        """Open a visible sheet."""
        table = next(table for table in self._tables if table.name == name)
        return OdsSheet(self._archive, self._styles, table)

    def num_notes(self, name: str) -> int:
        """Count the notes at a sheet's cells, which are not read."""
        return next(table.num_notes for table in self._tables if table.name == name)


class _Table:
    def __init__(self, number: int, name: str, *, is_hidden: bool) -> None:
        self.number, self.name, self.is_hidden = number, name, is_hidden
        self.merged: list[Area] = []
        self.num_notes = 0


class OdsSheet:
    """A sheet; its rows can be read as often as needed."""

    def __init__(self, archive: zipfile.ZipFile, styles: Styles, table: _Table) -> None:
        self._archive, self._styles, self._table = archive, styles, table
        self.hidden_columns: set[int] = set()
        self.separators: tuple[Separators, ...] = ("english",)
        self.seen = Seen()

    def merged(self) -> list[Area]:
        return sorted(self._table.merged)

    def rows(self) -> Iterator[GridRow]:
        """Read the rows that have cells."""
        self.seen = Seen(self.separators)
        content = _Content(self._styles, self._table.number, self.seen, self.hidden_columns)
        with self._archive.open("content.xml") as stream:
            for _ in content.feed(stream):
                for row, times in content.ready:
                    yield row
                    for n in range(1, times):
                        yield GridRow(row.number + n, list(row.cells), row.is_hidden)
                content.ready.clear()
                if content.is_over:
                    return


_ERROR = re.compile(r"#[^\W\d_]+(/[^\W_]+)*[!?/]?\s*$|Err:\d")


class _Content(XmlStream):
    """Reads the tables, or the rows of one of them."""

    what, program = "workbook", "LibreOffice"

    def __init__(
        self,
        styles: Styles,
        wanted: int | None = None,
        seen: Seen | None = None,
        hidden_columns: set[int] | None = None,
    ) -> None:
        super().__init__()
        # A document's own styles stand before its tables.
        self.styles = styles
        self.wanted, self.seen = wanted, seen or Seen()
        self.hidden_columns = set() if hidden_columns is None else hidden_columns
        self.tables: list[_Table] = []
        self.ready: list[tuple[GridRow, int]] = []
        self.is_over = False
        self.skipping = 0
        self.table_depth = 0
        self.columns = 0
        self.number, self.times = 0, 1
        self.row_is_hidden = False
        self.cells: list[str] = []
        self.column, self.repeats = 0, 1
        self.cell: dict[str, str] | None = None
        self.paragraphs: list[str] = []
        self.parts: list[str] | None = None
        self.size = 0
        self.looks: list[Look] = []
        self.seen_in_cell: set[str] = set()

    @property
    def is_wanted(self) -> bool:
        return self.wanted is None or (bool(self.tables) and self.tables[-1].number == self.wanted)

    def start(self, name: str, attributes: dict[str, str]) -> None:  # noqa: PLR0912 - one a tag
        if self.skipping or name in _SKIPPED:
            self.skipping += 1
            if name == "annotation" and self.tables and self.skipping == 1:
                self.tables[-1].num_notes += 1
            return
        if self.table_depth == 0 and name != "table":
            self.styles.start(name, attributes)
            return
        match name:
            case "table":
                self.table_depth += 1
                if self.table_depth == 1:
                    look = self.styles.look("table", attributes.get("style-name"))
                    title = attributes.get("name", f"Sheet {len(self.tables) + 1}")
                    self.tables.append(
                        _Table(len(self.tables), title, is_hidden=bool(look.is_hidden))
                    )
                    self.columns = self.number = 0
            case "table-column":
                times = count_of(attributes, "number-columns-repeated")
                if self.is_wanted and attributes.get("visibility", "visible") != "visible":
                    last = min(self.columns + times, MAX_COLUMNS)
                    self.hidden_columns.update(range(self.columns, last))
                self.columns += times
            case "table-row":
                self.times = count_of(attributes, "number-rows-repeated")
                self.row_is_hidden = attributes.get("visibility", "visible") != "visible"
                self.cells, self.column = [], 0
            case "table-cell" | "covered-table-cell":
                self.repeats = count_of(attributes, "number-columns-repeated")
                self.cell = attributes if name == "table-cell" else None
                self.paragraphs, self.size, self.seen_in_cell = [], 0, set()
                self.looks = [self.styles.look("table-cell", attributes.get("style-name"))]
                if self.cell is not None:
                    self._note_span(attributes)
            case "p" | "h" if self.cell is not None:
                self.parts = []
            case "span" | "a" if self.parts is not None:
                look = self.styles.look("text", attributes.get("style-name"))
                above = self.looks[-1]
                self.looks.append(look.over(above))
            case "s" if self.parts is not None:
                self._add(" " * min(count_of(attributes, "c"), 1000))
            case "tab" if self.parts is not None:
                self._add("\t")
            case "line-break" if self.parts is not None:
                self._add("\n")

    def end(self, name: str) -> None:
        if self.skipping:
            self.skipping -= 1
            return
        if self.table_depth == 0:
            self.styles.end(name)
            return
        match name:
            case "table":
                self.table_depth -= 1
                if self.table_depth == 0 and self.wanted is not None and self.is_wanted:
                    self.is_over = True
            case "table-row":
                self._end_row()
            case "table-cell" | "covered-table-cell":
                self._end_cell()
            case "p" | "h" if self.parts is not None:
                self.paragraphs.append("".join(self.parts))
                self.parts = None
            case "span" | "a" if self.parts is not None and len(self.looks) > 1:
                self.looks.pop()

    def text(self, data: str) -> None:
        if self.parts is None or self.skipping:
            return
        shown = BLANKS.sub(" ", data)
        if shown.startswith(" ") and (not self.parts or self.parts[-1].endswith((" ", "\n"))):
            shown = shown[1:]
        self._add(shown)

    def _add(self, text: str) -> None:
        look = self.looks[-1]
        if not text or self.parts is None:
            return
        self.size += len(text)
        if self.size > MAX_CELL_CHARACTERS:
            raise too_long(self.number + 1).of(self.tables[-1].name)
        if (look.is_struck or look.is_hidden) and text.strip():
            self.seen_in_cell.add("struck" if look.is_struck else "hidden_text")
            return
        if look.symbols:
            text, num_unknown = signs.in_font(text, look.symbols)
            if num_unknown:
                self.seen_in_cell.add("sign")
        if look.raises:
            text = signs.raised(text) if look.raises == "superscript" else signs.lowered(text)
        self.parts.append(text)

    def _note_span(self, attributes: dict[str, str]) -> None:
        rows = count_of(attributes, "number-rows-spanned")
        columns = count_of(attributes, "number-columns-spanned")
        if (rows > 1 or columns > 1) and self.column < MAX_COLUMNS:
            merged = self.tables[-1].merged
            row = self.number + 1
            merged.append(Area(row, self.column, row + rows - 1, self.column + columns - 1))
            if len(merged) > _MAX_MERGED:
                raise too_many_merged(_MAX_MERGED).of(self.tables[-1].name)

    def _end_cell(self) -> None:
        if self.cell is not None and self.is_wanted:
            text = "\n".join(self.paragraphs)
            if not text and not self.seen_in_cell:
                text = self._of_value(self.cell)
            row = self.number + 1
            for what in self.seen_in_cell:
                self.seen.add(what, row)
            if self.seen_in_cell & {"struck", "hidden_text"}:
                text = text.strip()
            if self._is_error(text):
                self.seen.add("error", row)
                text = ""
            if text:
                times = max(min(self.repeats, MAX_COLUMNS - self.column), 0)
                if times < self.repeats:
                    self._add_far(row, self.repeats - times)
                if times:
                    self.cells += [""] * (self.column - len(self.cells)) + [text] * times
        self.column += self.repeats
        self.cell = None

    def _add_far(self, row: int, number: int) -> None:
        try:
            self.seen.add_far(row, number)
        except BadSheet as error:
            raise error.of(self.tables[-1].name) from None

    def _is_error(self, text: str) -> bool:
        """Say whether a cell shows an error, in whatever language: #DIV/0!, #WERT!, Err:502."""
        assert self.cell is not None
        kind = self.cell.get("value-type")
        # LibreOffice says so; of other programs' formulas the words do.
        if kind == "error":
            return True
        if not text.startswith(("#", "Err:")):
            return False
        return (kind != "string" or "formula" in self.cell) and _ERROR.match(text) is not None

    def _of_value(self, cell: dict[str, str]) -> str:
        """Return what a cell without text shows, as well as its value tells."""
        kind = cell.get("value-type", "")
        if kind in ("float", "percentage", "currency"):
            value = cell.get("value", "")
            try:
                number = float(value)
            except ValueError:
                return value
            number = number * 100 if kind == "percentage" else number
            shown = number_formats.general(number, self.seen.separators)
            text = self.seen.number(shown._replace(is_sure=False), kind, self.number + 1)
            if kind == "percentage":
                return f"{text}%"
            return (
                f"{text} {cell['currency']}" if kind == "currency" and "currency" in cell else text
            )
        if kind in ("date", "time"):
            self.seen.add_format(kind, self.number + 1)
            return cell.get(f"{kind}-value", "")
        return cell.get("string-value", cell.get("boolean-value", "").upper())

    def _end_row(self) -> None:
        if self.is_wanted and any(self.cells):
            if self.number + self.times > MAX_ROWS:
                raise BadSheet(
                    f"has more than {MAX_ROWS:,} rows, which no sheet has; open the workbook in "
                    "LibreOffice, save it again and upload that."
                ).of(self.tables[-1].name)
            row = GridRow(self.number + 1, self.cells, self.row_is_hidden)
            self.ready.append((row, self.times))
        self.number += self.times
