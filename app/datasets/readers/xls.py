"""XLS, the workbooks of Excel 97 to 2003, by xlrd: it knows formats, hidden rows and rich text."""

from collections.abc import Iterator
from typing import Any

import xlrd
from xlrd.biffh import XLRDError

from app.datasets.mapping import Separators
from app.datasets.readers import number_formats, separators, signs
from app.datasets.readers.files import File, Inner
from app.datasets.readers.grids import Area, GridRow, Seen, check_length
from app.datasets.readers.number_formats import NumberFormat
from app.datasets.readers.tables import MAX_COLUMNS
from app.datasets.readers.unreadable import Unreadable

DAMAGED = "This workbook is damaged ({what}); open it in Excel, save it again and upload that."
_GENERAL = number_formats.built_in(0)
# Excel writes the country of the computer into the file, by its telephone number. Programs name
# the United States wherever they run.
_COUNTRIES: dict[int, Separators] = {
    **dict.fromkeys((31, 34, 39, 45, 49, 55, 351), "german"),
    **dict.fromkeys((33, 46, 47, 48, 358, 420), "french"),
    41: "swiss",
    44: "english",
    52: "english",
}
# Formats that the file spells out in the words of the computer that wrote it.
_OF_THE_COMPUTER = frozenset({14, 22, *range(27, 37), *range(50, 59)})


class _Nowhere:
    """What xlrd would print; standard output is spoken for."""

    def write(self, _: str) -> None: ...

    def flush(self) -> None: ...


class XlsBook:
    """A workbook, held whole as xlrd reads it."""

    def __init__(self, file: File, locked: str) -> None:
        content = file.held() if isinstance(file, Inner) else None
        try:
            self._book = xlrd.open_workbook(
                None if content is not None else str(file.path),
                file_contents=content.getvalue() if content is not None else None,
                formatting_info=True,
                ragged_rows=True,
                logfile=_Nowhere(),
            )
            self._sheets = [sheet for sheet in self._book.sheets() if sheet.visibility == 0]
            formats = (str(each.format_str or "") for each in self._book.format_map.values())
            self.region = separators.region(formats)
            self.separators = _COUNTRIES.get(self._book.countries[1])
        except MemoryError:
            raise
        except Exception as error:  # xlrd meets what is wrong wherever it happens to be
            if "encrypted" in str(error):
                raise Unreadable(locked) from None
            raise Unreadable(DAMAGED.format(what=_what(error))) from None

    @property
    def sheets(self) -> list[str]:
        return [str(sheet.name) for sheet in self._sheets]

    def sheet(self, name: str) -> "XlsSheet":
        """Open a visible sheet."""
        return XlsSheet(self._book, next(s for s in self._sheets if s.name == name))

    def num_notes(self, name: str) -> int:
        """Count the notes at a sheet's cells, which are not read."""
        return len(next(s for s in self._sheets if s.name == name).cell_note_map)


def _what(error: Exception) -> str:
    said = " ".join(str(error).split())[:80].rstrip(".").replace(". ", ", ")
    return said if isinstance(error, XLRDError) and said else "it cannot be read to its end"


class XlsSheet:
    """A sheet; its rows can be read as often as needed."""

    def __init__(self, book: Any, sheet: Any) -> None:
        self._book, self._sheet = book, sheet
        self._formats: dict[int, NumberFormat] = {}
        self.separators: tuple[Separators, ...] = ("english",)
        self.seen = Seen()
        self.hidden_columns = {
            column
            for column, info in sheet.colinfo_map.items()
            if (info.hidden or info.width == 0) and column < MAX_COLUMNS
        }

    def merged(self) -> list[Area]:
        return sorted(
            Area(top + 1, left, bottom, right - 1)
            for top, bottom, left, right in self._sheet.merged_cells
        )

    def rows(self) -> Iterator[GridRow]:
        """Read the rows that have cells."""
        self.seen = Seen(self.separators)
        sheet = self._sheet
        for row in range(sheet.nrows):
            cells = [self._shown(row, column) for column in range(sheet.row_len(row))]
            if any(cells):
                info = sheet.rowinfo_map.get(row)
                is_hidden = info is not None and bool(info.hidden)
                yield GridRow(row + 1, cells, is_hidden)

    def _shown(self, row: int, column: int) -> str:
        sheet = self._sheet
        kind, value = sheet.cell_type(row, column), sheet.cell_value(row, column)
        if kind in (xlrd.XL_CELL_EMPTY, xlrd.XL_CELL_BLANK):
            return ""
        if kind == xlrd.XL_CELL_ERROR:
            self.seen.add("error", row + 1)
            return ""
        if kind == xlrd.XL_CELL_BOOLEAN:
            return "TRUE" if value else "FALSE"
        style = self._style(sheet.cell_xf_index(row, column))
        format_ = self._format(style)
        if kind != xlrd.XL_CELL_TEXT:
            shown = format_.show(
                float(value),
                is_1904=bool(self._book.datemode),
                separators=self.seen.separators,
            )
            text = self.seen.number(shown, format_.code, row + 1)
        else:
            text = str(value).replace("\r\n", "\n").replace("\r", "\n")
        written = self._written(text, style, row, column)
        if kind != xlrd.XL_CELL_TEXT:
            return written
        return check_length(format_.show_text(written), row + 1)

    def _style(self, index: int | None) -> Any:
        styles = self._book.xf_list
        return styles[index] if index is not None and 0 <= index < len(styles) else None

    def _format(self, style: Any) -> NumberFormat:
        if style is None:
            return _GENERAL
        key = style.format_key
        if key not in self._formats:
            known = self._book.format_map.get(key)
            self._formats[key] = (
                number_formats.built_in(key)
                if key in _OF_THE_COMPUTER or known is None
                else number_formats.of_code(known.format_str)
            )
        return self._formats[key]

    def _written(self, text: str, style: Any, row: int, column: int) -> str:
        """Write a text without what is struck out, its raised letters and symbols as such."""
        runs = self._sheet.rich_text_runlist_map.get((row, column), [])
        fonts = self._book.font_list
        own = style.font_index if style is not None else -1
        starts = [(0, own), *((at, font) for at, font in runs if at < len(text))]
        written, is_struck = "", False
        for n, (at, index) in enumerate(starts):
            end = starts[n + 1][0] if n + 1 < len(starts) else len(text)
            piece = text[at:end]
            font = fonts[index] if 0 <= index < len(fonts) else None
            if font is None or not piece:
                written += piece
                continue
            if font.struck_out and piece.strip():
                is_struck = True
                continue
            if signs.is_symbol_font(font.name):
                piece, num_unknown = signs.in_font(piece, font.name)
                for _ in range(min(num_unknown, 100)):
                    self.seen.add("sign", row + 1)
            if font.escapement in (1, 2):
                piece = signs.raised(piece) if font.escapement == 1 else signs.lowered(piece)
            written += piece
        if is_struck:
            self.seen.add("struck", row + 1)
            written = written.strip()
        return written
