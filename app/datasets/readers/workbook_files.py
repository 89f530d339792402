"""Workbooks and a page's tables -> rows: one sheet, or those with the same columns as one."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Literal

from app.datasets.readers import workbooks
from app.datasets.readers.files import File
from app.datasets.readers.inspections import ALL_SHEETS, Format, Inspection, ReadAs, new_inspection
from app.datasets.readers.joining import joined
from app.datasets.readers.sources import Source, of_known_table, of_option_table, of_table


def open_workbook(
    file: File,
    kind: Literal["xlsx", "xls", "ods", "spreadsheetml"],
    read_as: ReadAs,
    stack: ExitStack,
) -> Source:
    """Open a workbook: the sheet that is chosen, or all of those that agree."""
    book = workbooks.Workbook(file, kind, stack)
    return open_book(book, new_inspection(kind, "row"), read_as)


def open_book(book: workbooks.Workbook, inspection: Inspection, read_as: ReadAs) -> Source:
    """Open the sheets of a workbook, or the tables of a page."""
    kind = inspection.format
    inspection.sheets = book.sheets
    inspection.hidden, inspection.merged = read_as.hidden, read_as.merged
    inspection.separators = read_as.separators or book.separators[0]
    chosen = read_as.model_dump(
        include={"header_row", "has_header", "hidden", "merged", "separators"}
    )
    sheet = read_as.sheet
    if len(book.sheets) > 1:
        by_sheet = book.columns(**chosen)
        inspection.sheets_agree = (
            len(by_sheet) > 1 and len({tuple(c) for c in by_sheet.values()}) == 1
        )
        if sheet is None and inspection.sheets_agree:
            sheet = ALL_SHEETS
    inspection.sheet = sheet or book.first_table(**chosen)
    if inspection.sheet == ALL_SHEETS:
        filled = book.columns(**chosen)
        return joined(
            [(name, _sheet_opener(book, name, chosen, kind, read_as)) for name in filled],
            inspection,
            "sheet",
            read_as,
        )
    if len(book.sheets) > 1:
        what = "page has {} tables" if kind == "html" else "workbook has {} sheets"
        inspection.warnings.append(
            f"The {what.format(len(book.sheets))}; “{inspection.sheet}” was read and the others "
            "were not."
        )
    return of_known_table(of_table(inspection, book.rows(inspection.sheet, **chosen)), read_as)


def _sheet_opener(
    book: workbooks.Workbook, name: str, chosen: dict[str, Any], kind: Format, read_as: ReadAs
) -> Callable[[ExitStack], Source]:
    return lambda _: of_option_table(
        of_table(new_inspection(kind, "row"), book.rows(name, **chosen)), read_as
    )
