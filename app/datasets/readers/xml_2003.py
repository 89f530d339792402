"""Workbooks that Excel 2003 saved as XML (SpreadsheetML): read as a stream, as they are shown."""

import datetime
from collections.abc import Iterator
from typing import NamedTuple

from app.datasets.mapping import Separators
from app.datasets.readers import number_formats, separators, signs
from app.datasets.readers.files import File
from app.datasets.readers.grids import (
    MAX_ROWS,
    Area,
    BadSheet,
    GridRow,
    Seen,
    check_length,
    too_long,
    too_many_merged,
)
from app.datasets.readers.number_formats import NumberFormat
from app.datasets.readers.tables import MAX_CELL_CHARACTERS, MAX_COLUMNS
from app.datasets.readers.unreadable import Unreadable
from app.datasets.readers.xml_stream import XmlStream

_MAX_STYLES = 100_000
_MAX_MERGED = 100_000
# Formats that go by a name: what they mean where it is settled, else the number of a built-in one.
_NAMED: dict[str, str | int] = {
    "General": 0, "General Number": 0, "Fixed": "0.00", "Standard": "#,##0.00", "Percent": "0.00%",
    "Scientific": "0.00E+00", "Short Date": 14, "General Date": 22, "Medium Date": "d\\-mmm\\-yy",
    "Short Time": "hh:mm", "Medium Time": "h:mm AM/PM", "Long Time": "h:mm:ss AM/PM",
    "Yes/No": '"Yes";"Yes";"No"', "True/False": '"True";"True";"False"',
    "On/Off": '"On";"On";"Off"',
}  # fmt: skip
# In the computer's own language or money.
_OF_THE_COMPUTER = {
    "Long Date": 'd" "mmmm" "yyyy',
    "Currency": "#,##0.00",
    "Euro Currency": "#,##0.00",
}
_EPOCH = datetime.datetime(1899, 12, 30)  # noqa: DTZ001 - a sheet knows no time zones


class _Style(NamedTuple):
    code: str = ""
    is_struck: bool = False
    raises: str = ""
    font: str = ""


class _Sheet:
    def __init__(self, name: str) -> None:
        self.name = name
        self.is_hidden = False
        self.merged: list[Area] = []
        self.hidden_columns: set[int] = set()
        self.num_notes = 0


class Xml2003Book:
    """A workbook in one XML file; its sheets stand one after the other."""

    separators: Separators | None = None

    def __init__(self, file: File) -> None:
        self._file = file
        index = _Content()
        with file.open() as stream:
            for _ in index.feed(stream):
                index.ready.clear()
        self._sheets = index.sheets
        self.region = separators.region(style.code for style in index.styles.values())

    @property
    def sheets(self) -> list[str]:
        return [sheet.name for sheet in self._sheets if not sheet.is_hidden]

    def sheet(self, name: str) -> "Xml2003Sheet":
        """Open a visible sheet."""
        place = next(n for n, each in enumerate(self._sheets) if each.name == name)
        return Xml2003Sheet(self._file, place, self._sheets[place])

    def num_notes(self, name: str) -> int:
        """Count the notes at a sheet's cells, which are not read."""
        return next(each.num_notes for each in self._sheets if each.name == name)


class Xml2003Sheet:
    """A sheet; its rows can be read as often as needed."""

    def __init__(self, file: File, place: int, sheet: _Sheet) -> None:
        self._file, self._place, self._sheet = file, place, sheet
        self.hidden_columns = sheet.hidden_columns
        self.separators: tuple[Separators, ...] = ("english",)
        self.seen = Seen()

    def merged(self) -> list[Area]:
        return sorted(self._sheet.merged)

    def rows(self) -> Iterator[GridRow]:
        """Read the rows that have cells."""
        self.seen = Seen(self.separators)
        content = _Content(self._place, self.seen)
        with self._file.open() as stream:
            for _ in content.feed(stream):
                yield from content.ready
                content.ready.clear()
                if len(content.sheets) > self._place + 1:
                    return


class _Content(XmlStream):
    """Reads what sheets there are, or the rows of one of them."""

    what, program = "workbook", "Excel"

    def __init__(self, wanted: int | None = None, seen: Seen | None = None) -> None:
        super().__init__()
        self.wanted, self.seen = wanted, seen or Seen()
        self.styles: dict[str, _Style] = {}
        self.parents: dict[str, str] = {}
        self.formats: dict[str, tuple[NumberFormat, bool]] = {}
        self.style = ""
        self.sheets: list[_Sheet] = []
        self.ready: list[GridRow] = []
        self.number = 0
        self.row_is_hidden = False
        self.span = 0  # blank rows that follow without a tag of their own
        self.size = 0
        self.cells: list[str] = []
        self.column, self.across = -1, 0
        self.columns = -1
        self.cell_style = _Style()
        self.kind = ""
        self.parts: list[str] | None = None
        self.tags: list[str] = []  # what stands within a cell's data
        self.is_struck = False
        self.in_comment = 0
        self.in_visible = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if self.in_comment or name in ("Comment", "PhoneticText"):
            if name == "Comment" and not self.in_comment and self.sheets:
                self.sheets[-1].num_notes += 1
            self.in_comment += 1
            return
        if self.parts is not None:
            self.tags.append(name)
            if name == "Font":  # its face may be one of signs
                self.tags[-1] = f"Font {attributes.get('Face', '')}"
            return
        match name:
            case "Style":
                self._start_style(attributes)
            case "NumberFormat" | "Font" if self.style:
                self._hear_style(name, attributes)
            case "Worksheet":
                self.style = ""
                self.sheets.append(_Sheet(attributes.get("Name", f"Sheet {len(self.sheets) + 1}")))
                self.number, self.columns = 0, -1
            case "Visible" if self.sheets:
                self.in_visible = True
            case "Column" if self.sheets:
                self._start_column(attributes)
            case "Row":
                self.number = _number(attributes.get("Index"), self.number + 1)
                self.row_is_hidden = attributes.get("Hidden") in ("1", "true")
                self.row_is_hidden |= attributes.get("Height") == "0"
                self.cells, self.column, self.across = [], -1, 0
                self.span = _number(attributes.get("Span"), 0)
            case "Cell" if self.sheets:
                self._start_cell(attributes)
            case "Data":
                self.kind, self.parts, self.tags = attributes.get("Type", ""), [], []
                self.is_struck, self.size = False, 0

    def _start_style(self, attributes: dict[str, str]) -> None:
        self.style = attributes.get("ID", "")
        parent = attributes.get("Parent", "Default")
        self.styles[self.style] = self.styles.get(parent, _Style())
        if len(self.styles) > _MAX_STYLES:
            raise Unreadable(
                "This workbook has more styles than Excel writes; open it in Excel, save it as "
                "XLSX and upload that."
            )

    def _hear_style(self, name: str, attributes: dict[str, str]) -> None:
        style = self.styles[self.style]
        if name == "NumberFormat":
            style = style._replace(code=attributes.get("Format", ""))
        else:
            font = attributes.get("FontName", "")
            raises = attributes.get("VerticalAlign", "")
            style = style._replace(
                is_struck=attributes.get("StrikeThrough") in ("1", "true"),
                raises=raises if raises in ("Superscript", "Subscript") else "",
                font=font if signs.is_symbol_font(font) else "",
            )
        self.styles[self.style] = style

    def _start_column(self, attributes: dict[str, str]) -> None:
        first = _number(attributes.get("Index"), self.columns + 2) - 1
        last = min(first + _number(attributes.get("Span"), 0), MAX_COLUMNS)
        if attributes.get("Hidden") in ("1", "true") or attributes.get("Width") == "0":
            self.sheets[-1].hidden_columns.update(range(first, last + 1))
        self.columns = last

    def _start_cell(self, attributes: dict[str, str]) -> None:
        self.column = _number(attributes.get("Index"), self.column + self.across + 2) - 1
        self.cell_style = self.styles.get(attributes.get("StyleID", "Default"), _Style())
        self.across = _number(attributes.get("MergeAcross"), 0)
        down = _number(attributes.get("MergeDown"), 0)
        if self.across or down:
            merged = self.sheets[-1].merged
            merged.append(
                Area(self.number, self.column, self.number + down, self.column + self.across)
            )
            if len(merged) > _MAX_MERGED:
                raise too_many_merged(_MAX_MERGED).of(self.sheets[-1].name)

    def end(self, name: str) -> None:
        if self.in_comment:
            self.in_comment -= 1
            return
        match name:
            case "Data" if self.parts is not None:
                self._end_data("".join(self.parts))
                self.parts = None
            case _ if self.parts is not None:
                if self.tags:
                    self.tags.pop()
            case "Style":
                self.style = ""
            case "Visible":
                self.in_visible = False
            case "Row":
                self._end_row()

    def text(self, data: str) -> None:
        if self.in_visible and data.strip() in ("SheetHidden", "SheetVeryHidden"):
            self.sheets[-1].is_hidden = True
        if self.parts is None or self.in_comment or not self._is_wanted:
            return
        # The innermost font counts, also where it is none of signs and the cell's is.
        fonts = [tag[5:] for tag in self.tags if tag.startswith("Font ") and tag[5:]]
        font = fonts[-1] if fonts else self.cell_style.font
        font = font if signs.is_symbol_font(font) else ""
        if self.cell_style.is_struck or {"S", "Strike", "Del"} & set(self.tags):
            self.is_struck = self.is_struck or bool(data.strip())
            return
        if font and self.kind == "String":
            data, num_unknown = signs.in_font(data, font)
            for _ in range(min(num_unknown, 100)):
                self.seen.add("sign", self.number)
        if "Sup" in self.tags:
            data = signs.raised(data)
        elif "Sub" in self.tags:
            data = signs.lowered(data)
        self.size += len(data)
        if self.size > MAX_CELL_CHARACTERS:
            raise self._of_sheet(too_long(self.number))
        self.parts.append(data)

    @property
    def _is_wanted(self) -> bool:
        return self.wanted is None or len(self.sheets) == self.wanted + 1

    def _end_data(self, value: str) -> None:
        if not self._is_wanted or not self.sheets:
            return
        shown = self._shown(value)
        if self.is_struck:
            self.seen.add("struck", self.number)
            shown = shown.strip()
        if not shown:
            return
        if self.column >= MAX_COLUMNS:
            try:
                self.seen.add_far(self.number)
            except BadSheet as error:
                raise self._of_sheet(error) from None
            return
        self.cells += [""] * (self.column + 1 - len(self.cells))
        self.cells[self.column] = check_length(shown, self.number)

    def _shown(self, value: str) -> str:
        if not value.strip() and self.kind != "String":
            return ""
        if self.kind == "Error":
            self.seen.add("error", self.number)
            return ""
        if self.kind == "Boolean":
            return "TRUE" if value.strip() in ("1", "true") else "FALSE"
        format_, is_settled = self._format(self.cell_style.code)
        number = _as_number(value, self.kind)
        if number is None:
            text = value.replace("\r\n", "\n").replace("\r", "\n")
            return self._raised(format_.show_text(text) if self.kind == "String" else text)
        shown = format_.show(number, separators=self.seen.separators)
        if not is_settled:
            shown = shown._replace(is_sure=False)
        code = self.cell_style.code or format_.code
        return self._raised(self.seen.number(shown, code, self.number))

    def _raised(self, text: str) -> str:
        match self.cell_style.raises:
            case "Superscript":
                return signs.raised(text)
            case "Subscript":
                return signs.lowered(text)
        return text

    def _format(self, code: str) -> tuple[NumberFormat, bool]:
        if code not in self.formats:
            named = _NAMED.get(code or "General", code)
            if code in _OF_THE_COMPUTER:
                found = (number_formats.of_code(_OF_THE_COMPUTER[code]), False)
            elif isinstance(named, int):
                found = (number_formats.built_in(named), True)
            else:
                found = (number_formats.of_code(named), True)
            self.formats[code] = found
        return self.formats[code]

    def _of_sheet(self, error: BadSheet) -> Unreadable:
        return error.of(self.sheets[-1].name) if self.sheets else error

    def _end_row(self) -> None:
        if self.number > MAX_ROWS:
            raise self._of_sheet(
                BadSheet(
                    f"has more than {MAX_ROWS:,} rows, which no sheet has; open the workbook in "
                    "Excel, save it as XLSX and upload that."
                )
            )
        if self._is_wanted and any(self.cells):
            self.ready.append(GridRow(self.number, self.cells, self.row_is_hidden))
        self.cells = []
        self.number += self.span


def _number(text: str | None, otherwise: int) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 8 else otherwise


def _as_number(value: str, kind: str) -> float | None:
    """Return the number that Excel has for a value; None for a text."""
    try:
        if kind == "DateTime":
            moment = datetime.datetime.fromisoformat(value.strip().removesuffix("Z"))
            return (moment - _EPOCH).total_seconds() / 86400
        return float(value) if kind == "Number" else None
    except (ValueError, OverflowError, TypeError):
        return None
