"""The sheet with answers as a file: a workbook for people, CSV for programs.

What stands in a cell is other people's text and a model's: it is a text in the workbook, never a
formula or a link, and in CSV nothing that a spreadsheet program takes for one.
"""

import csv
import io
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import IO

import xlsxwriter

from app.core import settings
from app.datasets.downloads import harmless

# In UTF-16's units, as Excel counts them.
MAX_CELL = 32_767
_CUT = " […]"
# What XML cannot hold, not even escaped.
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def write_xlsx(target: IO[bytes], headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a workbook with one sheet; no more than a row of it is in memory."""
    run_dir = settings.get().run_dir
    run_dir.mkdir(parents=True, exist_ok=True)
    book = xlsxwriter.Workbook(
        target,
        {
            "constant_memory": True,
            "tmpdir": str(run_dir),
            "strings_to_formulas": False,
            "strings_to_numbers": False,
            "strings_to_urls": False,
        },
    )
    plain = book.add_format({"valign": "top", "text_wrap": True, "num_format": "@"})
    bold = book.add_format({"bold": True, "valign": "top", "text_wrap": True})
    sheet = book.add_worksheet("Questions")
    sheet.set_column(0, max(len(headings) - 1, 0), 40)
    sheet.freeze_panes(1, 0)
    # A number that stands as a text is meant here: no green corner in each cell.
    sheet.ignore_errors({"number_stored_as_text": "A1:XFD1048576"})
    for number, cells in enumerate(itertools.chain([headings], rows)):
        for column, text in enumerate(cells):
            if text:
                sheet.write_string(number, column, _fitting(text), plain if number else bold)
    book.close()


def csv_lines(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield a table's lines; a cell that looks like a formula begins with an apostrophe."""
    # Spreadsheet programs take the mark for “this is UTF-8”.
    yield "\ufeff" + _line(headings)
    for cells in rows:
        yield _line(cells)


def _fitting(text: str) -> str:
    """Cut a text to what a cell of a workbook holds, and say so at its end."""
    text = _NO_XML.sub("\ufffd", text).replace("\r\n", "\n").replace("\r", "\n")
    if len(text.encode("utf-16-le")) <= 2 * MAX_CELL:
        return text
    kept = text.encode("utf-16-le")[: 2 * (MAX_CELL - len(_CUT))]
    return kept.decode("utf-16-le", "ignore") + _CUT


def _line(cells: Sequence[str]) -> str:
    out = io.StringIO()
    csv.writer(out).writerow([harmless(cell) for cell in cells])
    return out.getvalue()
