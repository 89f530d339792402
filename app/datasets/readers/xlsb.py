"""XLSB, Excel's binary workbooks, by calamine: their values, for it gives no more than those."""

import datetime
from collections.abc import Iterator
from typing import Any

from python_calamine import (
    CalamineError,
    CalamineSheet,
    CalamineWorkbook,
    PasswordError,
    SheetTypeEnum,
    SheetVisibleEnum,
)

from app.datasets.mapping import Separators
from app.datasets.readers import number_formats
from app.datasets.readers.files import File, Inner
from app.datasets.readers.grids import Area, GridRow, Seen, check_length
from app.datasets.readers.tables import MAX_COLUMNS
from app.datasets.readers.unreadable import Unreadable

DAMAGED = "This workbook is damaged ({what}); open it in Excel, save it again and upload that."


class XlsbBook:
    """A binary workbook; its sheets are read one at a time."""

    separators: Separators | None = None
    region: Separators | None = None

    def __init__(self, file: File, locked: str) -> None:
        try:
            self._book = (
                CalamineWorkbook.from_filelike(file.held())
                if isinstance(file, Inner)
                else CalamineWorkbook.from_path(str(file.path))
            )
        except PasswordError:
            raise Unreadable(locked) from None
        except (CalamineError, OSError, ValueError) as error:
            raise _damaged(error) from None
        self.sheets = [
            data.name
            for data in self._book.sheets_metadata
            if data.visible is SheetVisibleEnum.Visible and data.typ is SheetTypeEnum.WorkSheet
        ]

    def sheet(self, name: str) -> "XlsbSheet":
        """Open a visible sheet."""
        try:
            return XlsbSheet(self._book.get_sheet_by_name(name))
        except (CalamineError, OSError, ValueError) as error:
            raise _damaged(error) from None

    def num_notes(self, _: str) -> int:
        """Say nothing of notes: calamine does not tell."""
        return 0


def _damaged(error: Exception) -> Unreadable:
    what = " ".join(str(error).split())[:80].rstrip(".").replace(". ", ", ")
    return Unreadable(DAMAGED.format(what=what))


class XlsbSheet:
    """A sheet of values."""

    def __init__(self, sheet: CalamineSheet) -> None:
        self._sheet = sheet
        self.hidden_columns: set[int] = set()
        self.separators: tuple[Separators, ...] = ("english",)
        self.seen = Seen()

    def merged(self) -> list[Area]:
        return []

    def rows(self) -> Iterator[GridRow]:
        """Read the rows that have cells."""
        self.seen = Seen(self.separators)
        sheet = self._sheet
        for number, row in enumerate(sheet.iter_rows(), start=1):
            far = sum(value not in (None, "") for value in row[MAX_COLUMNS:])
            if far:
                self.seen.add_far(number, far)
            yield GridRow(number, [self._shown(value, number) for value in row[:MAX_COLUMNS]])

    def _shown(self, value: Any, row: int) -> str:
        if isinstance(value, str):
            return check_length(value, row)
        if isinstance(value, bool):
            return "TRUE" if value else "FALSE"
        self.seen.add("no_formats", row)
        if isinstance(value, int | float):
            shown = number_formats.general(float(value), self.seen.separators)
            return self.seen.number(shown._replace(is_sure=True), "", row)
        if isinstance(value, datetime.datetime) and value.time() == datetime.time():
            return value.date().isoformat()
        if isinstance(value, datetime.date | datetime.time):
            return value.isoformat()
        return str(value)
