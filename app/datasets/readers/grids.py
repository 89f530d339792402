"""What sheets of all kinds of workbooks have in common: rows of shown texts, and what was seen."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from app.core.sentences import counted
from app.datasets.mapping import LeftOut, Separators
from app.datasets.readers.headers import Cells
from app.datasets.readers.number_formats import Shown
from app.datasets.readers.tables import MAX_CELL_CHARACTERS, MAX_COLUMNS
from app.datasets.readers.unreadable import Unreadable

MAX_ROWS = 1_048_576
# Texts that a workbook holds once may stand in it a million times.
MAX_SHEET_CHARACTERS = 2 * 10**9
_NUM_NAMED_FORMATS = 3
_MAX_FAR = 100


class Area(NamedTuple):
    """Cells from a corner to another, both within; rows from 1, columns from 0."""

    top: int
    left: int
    bottom: int
    right: int


class GridRow(NamedTuple):
    """A row of a sheet as it is shown; numbered from 1."""

    number: int
    cells: list[str]
    is_hidden: bool = False


class Seen:
    """What a reader left out of a sheet or is unsure of: how often, and in which row first."""

    def __init__(self, separators: tuple[Separators, ...] = ("english",)) -> None:
        """Begin to count; `separators` are those that numbers may be written with."""
        self.separators = separators
        self.clear()

    def clear(self) -> None:
        """Begin to count."""
        self.counts: Counter[str] = Counter()
        self.first: dict[str, int] = {}
        self.formats: Counter[str] = Counter()
        # The first number that has separators, the first whose separators are doubtful; with rows.
        self.separated: tuple[str, int] | None = None
        self.doubtful: tuple[str, int] | None = None

    def add(self, what: str, row: int) -> None:
        """Count a cell."""
        self.counts[what] += 1
        self.first.setdefault(what, row)

    def add_far(self, row: int, number: int = 1) -> None:
        """Count cells further to the right than any table; a few are strays.

        Raises:
            BadSheet: they are many.
        """
        self.counts["far"] += number
        self.first.setdefault("far", row)
        if self.counts["far"] > _MAX_FAR:
            raise too_wide()

    def add_format(self, code: str, row: int) -> None:
        """Count a cell whose number may be shown otherwise."""
        self.add("unsure", row)
        if code in self.formats or len(self.formats) < 100:
            self.formats[code] += 1

    def number(self, shown: Shown, code: str, row: int) -> str:
        """Return what a cell shows of a number, and note whatever is not sure of it."""
        if not shown.is_sure:
            self.add_format(code, row)
        if shown.is_separated and self.separated is None:
            self.separated = shown.text, row
        if shown.is_doubtful and self.doubtful is None:
            self.doubtful = shown.text, row
        return shown.text

    def sentences(self, words: Mapping[str, tuple[str, str]] | None = None) -> list[str]:
        """Say it, one sentence for each kind; `words` are those of documents."""
        said = []
        for what, (one, many) in (words or _SENTENCES).items():
            if number := self.counts[what]:
                said.append(counted(number, one, many, row=f"{self.first[what]:,}"))
        if self.counts["unsure"]:
            codes = [f"“{code[:40]}”" for code, _ in self.formats.most_common(_NUM_NAMED_FORMATS)]
            more = ", …" if len(self.formats) > _NUM_NAMED_FORMATS else ""
            number, row = self.counts["unsure"], self.first["unsure"]
            cells = counted(number, "1 cell has", "{n} cells have")
            said.append(
                f"{cells} a number format that this file does not settle "
                f"({', '.join(codes)}{more}; first in row {row:,}), so that the sheet may show the "
                "number otherwise; check below what is learned of it."
            )
        return said


class Seeing(Protocol):
    """A sheet, which says what was seen in it since its rows were last begun."""

    seen: Seen


# {row} is where it is first; “1 cell” and “{n} cells” as in counted().
_SENTENCES = {
    "struck": (
        "In 1 cell text is struck out and was left out (row {row}).",
        "In {n} cells text is struck out and was left out (first in row {row}).",
    ),
    "hidden_text": (
        "In 1 cell text is hidden and was left out (row {row}).",
        "In {n} cells text is hidden and was left out (first in row {row}).",
    ),
    "error": (
        "1 cell shows an error such as #DIV/0! and counts as blank (row {row}).",
        "{n} cells show an error such as #DIV/0! and count as blank (first in row {row}).",
    ),
    "not_worked_out": (
        "1 cell has a formula without a value and counts as blank; open the workbook in Excel and "
        "save it to work the value out.",
        "{n} cells have formulas without values and count as blank; open the workbook in Excel and "
        "save it to work the values out.",
    ),
    "sign": (
        "1 sign of a symbol font is not known and was left out (row {row}); write it as a letter.",
        "{n} signs of a symbol font are not known and were left out (first in row {row}); write "
        "them as letters.",
    ),
    "no_formats": (
        "1 number was read without the format that Excel shows it in, such as a percent or a unit; "
        "save the workbook as XLSX and upload that.",
        "{n} numbers were read without the formats that Excel shows them in, such as percents and "
        "units, and hidden rows as all others; save the workbook as XLSX and upload that.",
    ),
    "far": (
        f"1 cell stands further right than column {MAX_COLUMNS:,} (row {{row}}) and was not read.",
        f"{{n}} cells stand further right than column {MAX_COLUMNS:,} (first in row {{row}}) and "
        "were not read.",
    ),
    "note": (
        "1 note (comment) at a cell was not read.",
        "{n} notes (comments) at cells were not read.",
    ),
    "picture": (
        "1 picture in the table was not read.",
        "{n} pictures in the table were not read.",
    ),
    "note_mark": (
        "1 raised mark that points to a note was left out (row {row}).",
        "{n} raised marks that point to notes were left out (first in row {row}).",
    ),
    "filled": (
        "1 cell was filled with the text of the merged cell that it belongs to (row {row}).",
        "{n} cells were filled with the text of the merged cells that they belong to (first in "
        "row {row}).",
    ),
    "merged": (
        "1 cell belongs to a merged cell and stayed blank (row {row}).",
        "{n} cells belong to merged cells and stayed blank (first in row {row}).",
    ),
}


class BadSheet(Unreadable):
    """A sheet cannot be read; its name is put into the sentence where it is known."""

    def __init__(self, what: str) -> None:
        super().__init__(f"A sheet of this workbook {what}")
        self.what = what

    def of(self, name: str) -> Unreadable:
        """Say which sheet it is."""
        return Unreadable(f"The sheet “{name[:60]}” of this workbook {self.what}")


def too_wide() -> BadSheet:
    """Make the error for a sheet with more columns than any honest one."""
    return BadSheet(
        f"has more than {MAX_COLUMNS:,} columns; keep only the columns with questions and answers."
    )


def too_many_merged(most: int) -> BadSheet:
    """Make the error for a sheet with more merged cells than any honest one."""
    return BadSheet(f"has more than {most:,} merged cells; save the rows as CSV and upload that.")


def too_long(row: int | None = None) -> BadSheet:
    """Make the error for a cell that holds more than any honest one."""
    where = f" in row {row:,}" if row else ""
    return BadSheet(
        f"has a cell with more than 1 MB of text{where}; shorten it, then upload the file again."
    )


def check_length(text: str, row: int) -> str:
    """Return a cell's text.

    Raises:
        Unreadable: it is too long.
    """
    if len(text) > MAX_CELL_CHARACTERS:
        raise too_long(row)
    return text


def table_rows(
    rows: Iterable[GridRow], merged: list[Area], sheet: Seeing, *, fills: bool, takes_hidden: bool
) -> Iterator[tuple[int, Cells | LeftOut]]:
    """Return the rows that have a cell with text; cells below a merged one get its text.

    Args:
        fills: Whether merged cells are filled down; else they stay blank and are counted.
        takes_hidden: Whether hidden rows are rows as others; else they are left out.
    """
    fill = _Filler(merged, sheet, fills=fills) if merged else None
    num_characters = 0
    for number, cells, is_hidden in rows:
        if not any(cells):
            continue
        if fill is not None:
            fill(number, cells)
        num_characters += sum(map(len, cells))
        if num_characters > MAX_SHEET_CHARACTERS:
            raise BadSheet(
                "shows more than 2,000 million letters, which looks like a trap (one text repeated "
                "without end); save the rows as CSV and upload that."
            )
        if is_hidden and not takes_hidden:
            yield number, LeftOut("hidden")
        else:
            yield number, cells


class _Filler:
    """Hand the text of merged cells down, row by row; one merged cell a column at a time."""

    def __init__(self, merged: list[Area], sheet: Seeing, *, fills: bool) -> None:
        self._sheet, self._fills = sheet, fills
        self._waiting = sorted(area for area in merged if area.bottom > area.top)
        self._at = 0
        self._open: dict[int, tuple[int, str]] = {}  # by column: up to which row, and the text

    def __call__(self, number: int, cells: list[str]) -> None:
        for column, (bottom, text) in list(self._open.items()):
            if number > bottom:
                del self._open[column]
            elif column >= len(cells) or not cells[column]:
                if text:
                    self._sheet.seen.add("filled" if self._fills else "merged", number)
                if self._fills and text:
                    cells += [""] * (column + 1 - len(cells))
                    cells[column] = text
        while self._at < len(self._waiting) and self._waiting[self._at].top <= number:
            area = self._waiting[self._at]
            self._at += 1
            if area.bottom > number:
                text = cells[area.left] if area.top == number and area.left < len(cells) else ""
                self._open[area.left] = (area.bottom, text)
