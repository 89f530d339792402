"""Sheets of XLSX, XLS and ODS workbooks: their cells' values, never their formulas or macros."""

import datetime
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable
from typing import Any

from python_calamine import (
    CalamineError,
    CalamineSheet,
    CalamineWorkbook,
    PasswordError,
    SheetTypeEnum,
    SheetVisibleEnum,
)

from app.datasets.readers.files import Entry, File
from app.datasets.readers.tables import (
    MAX_CELL_CHARACTERS,
    MAX_COLUMNS,
    Cells,
    Rows,
    with_header,
)
from app.datasets.readers.unreadable import Unreadable

_LOCKED = (
    "This workbook is protected by a password; open it in Excel, remove the password and upload it "
    "again."
)
# An Excel 97 workbook's first record, and the one that says that the rest is enciphered.
_BEGINS, _FILE_PASS = b"\x09\x08\x10\x00\x00\x06\x05\x00", 0x2F
_LOCK_BYTES = 1024**2
# Sheets end at XFD1048576.
_NO_PLACE = re.compile(
    rb"<(?:\w+:)?(?:c|row)\s(?:[^<>]*\s)?r\s*=\s*[\"']\s*([a-z]{4,}[0-9]*|[a-z]*[0-9]{8,})",
    re.IGNORECASE,
)
_VALUE = re.compile(rb"<v>[^<]|<t[ >]")
_MAX_CELL_BYTES = 64 * 1024


class Workbook:
    """A workbook that is open; its sheets are read one at a time."""

    def __init__(self, file: File) -> None:
        try:
            self._book = (
                CalamineWorkbook.from_filelike(file.held())
                if isinstance(file, Entry)
                else CalamineWorkbook.from_path(str(file.path))
            )
        except PasswordError:
            raise Unreadable(_LOCKED) from None
        except (CalamineError, OSError, ValueError) as error:
            raise Unreadable(_LOCKED if _is_locked(file) else _damaged(error)) from None
        self.sheets = [
            data.name
            for data in self._book.sheets_metadata
            if data.visible is SheetVisibleEnum.Visible and data.typ is SheetTypeEnum.WorkSheet
        ]

    def first_filled(self) -> str:
        """Find the first visible sheet with cells.

        Raises:
            Unreadable: there is none.
        """
        for name in self.sheets:
            if self._sheet(name).height:
                return name
        raise Unreadable(
            "This workbook has no cells with text or numbers; fill a sheet and upload it again."
        )

    def columns(self, has_header: bool | None) -> dict[str, list[str]]:
        """Return the columns of each visible sheet with cells."""
        return {
            name: self.rows(name, has_header).columns
            for name in self.sheets
            if self._sheet(name).height
        }

    def rows(self, name: str, has_header: bool | None) -> Rows:
        """Read one sheet.

        Raises:
            Unreadable: there is no such sheet, or it is none that can be read.
        """
        if name not in self.sheets:
            raise Unreadable(f"The workbook has no visible sheet “{name}”; choose another.")
        sheet = self._sheet(name)
        if sheet.end is not None and sheet.end[1] - (sheet.start or (0, 0))[1] >= MAX_COLUMNS:
            raise Unreadable(
                f"Sheet “{name}” has more than {MAX_COLUMNS:,} columns; "
                "keep only the columns with questions and answers."
            )
        filled = (
            (number, _cells(row))
            for number, row in enumerate(sheet.iter_rows(), start=1)
            if any(value != "" for value in row)
        )
        return with_header(filled, has_header, "row")

    def _sheet(self, name: str) -> CalamineSheet:
        try:
            return self._book.get_sheet_by_name(name)
        except (CalamineError, OSError, ValueError) as error:
            raise Unreadable(_damaged(error)) from None


def _is_locked(file: File) -> bool:
    """Say whether an XLS file begins with the record of a password; calamine does not."""
    start = file.head(_LOCK_BYTES)
    position = start.find(_BEGINS)
    for _ in range(20):
        if position < 0 or position + 4 > len(start):
            return False
        kind, length = struct.unpack_from("<HH", start, position)
        if kind == _FILE_PASS:
            return True
        position += 4 + length
    return False


def _damaged(error: Exception) -> str:
    what = " ".join(str(error).split())[:80].rstrip(".").replace(". ", ", ")
    return f"This workbook is damaged ({what}); open it in Excel, save it again and upload that."


def _cells(row: Iterable[Any]) -> Cells:
    return [_cell(value) for value in row]


def _cell(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # a sheet has no whole numbers of its own
    if isinstance(value, str):
        if len(value) > MAX_CELL_CHARACTERS:
            raise Unreadable(
                "A cell of this workbook has more than 1 MB of text; shorten it, then upload the "
                "file again."
            )
        return value
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def check_cells(file: File) -> int:
    """Count the cells of an XLSX file whose formula nobody has worked out: they read as blank.

    Raises:
        Unreadable: a cell stands where no sheet has one; calamine would look for it for ever.
    """
    number = 0
    try:
        with file.open() as packed, zipfile.ZipFile(packed) as archive:
            for name in archive.namelist():
                if not name.startswith("xl/worksheets/") or not name.endswith(".xml"):
                    continue
                with archive.open(name) as sheet:
                    rest = b""
                    while piece := sheet.read(1024**2):
                        *cells, rest = (rest + piece).split(b"</c>")
                        number += sum(b"</f>" in cell and not _VALUE.search(cell) for cell in cells)
                        if match := _NO_PLACE.search(b"</c>".join([*cells, rest])):
                            raise Unreadable(
                                f"A cell of this workbook is at “{match[1][:20].decode()}”, "
                                "where no sheet has one; open the workbook in Excel, save it again "
                                "and upload that."
                            )
                        rest = rest[-_MAX_CELL_BYTES:]
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, zlib.error):
        return 0  # calamine says what is wrong with it
    return number
