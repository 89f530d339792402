"""Rows of CSV and TSV: the delimiter, and cells a row at a time."""

import csv
import io
import itertools
import re
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Literal

from app.core.sentences import counted
from app.datasets.column_names import is_known_name
from app.datasets.mapping import LeftOut
from app.datasets.readers.headers import Cells, Numbered, Rows, is_total_line, with_header
from app.datasets.readers.unreadable import Unreadable

MAX_COLUMNS = 1000
MAX_CELL_CHARACTERS = 1024**2
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
# The unit separator: a sign that no text holds.
NO_DELIMITER = "\x1f"
# Text behind a quote that closes; and a quote that is open where its line ends, or one that is
# written twice or behind a backslash, since it stands within others.
_BARE_QUOTES = re.compile(r'(?:^|\t)"[^"\t]*"(?!["\t\r\n]|$)')
_NEEDS_QUOTES = re.compile(r'""|\\"|(?:^|\t)"[^"]*$')
_SAMPLE_CHARACTERS = 64 * 1024
_NUM_SAMPLE_ROWS = 50
# Excel's own first line, which names the delimiter; other programs take it for the header.
_SEPARATOR_LINE = re.compile(
    r'[\ufeff \t]*(?P<quote>"?)sep=(?P<sign>[^\r\n"]|\\t)(?P=quote)[,;\t| ]*(\r\n|\r|\n|$)',
    re.IGNORECASE,
)
# Fewer lines that go on are no pattern: a total below the rows, say.
_MIN_JOINED, _MAX_JOINED = 3, 1000
# So many rows, nearly all with all their cells: then none is written without its last ones.
_MIN_STRICT_ROWS, _MIN_STRICT = 20, 0.9


def read_csv(
    text: io.TextIOBase,
    sample: str,
    delimiter: str,
    *,
    header_row: int | None = None,
    has_header: bool | None = None,
    as_it_stands: bool = False,
) -> Rows:
    """Read delimited text; quotes follow RFC 4180.

    Args:
        sample: The first lines, by which is told whether line breaks stand in cells without quotes.
        as_it_stands: Every line is a row, whatever the next one says of it.
    """
    has_bare_quotes = delimiter == "\t" and _has_bare_quotes(text)
    num_skipped = int(separator_line(sample) is not None)
    if num_skipped:
        text.readline()
    lines = csv_rows(text, delimiter, num_skipped, as_text=has_bare_quotes)
    rows: Iterator[Numbered] = lines
    width = _broken_width(sample, delimiter)
    joined = _Joined()
    if width:
        rows = _put_together(lines, width, joined)
    judged = None
    if not width and delimiter != NO_DELIMITER and not as_it_stands:
        judged = partial(_without_broken, is_strict=_is_strict(sample, delimiter))
    table = with_header(rows, "line", header_row=header_row, has_header=has_header, judged=judged)
    if has_bare_quotes:
        table.warnings.append("Quotes in this file are a part of its texts and were kept.")
    if width:
        table.rows = _telling(table.rows, table, joined)
    return table


def _telling(rows: Iterator[Any], table: Rows, joined: "_Joined") -> Iterator[Any]:
    yield from rows
    if joined.count:
        table.closing.append(
            counted(
                joined.count,
                "Line {line} goes on with a cell of the row before it, by the number of columns: "
                "it was put there. Put quotes around texts with line breaks to be sure.",
                "{n} lines go on with cells of the rows before them, by the number of columns "
                "(first line {line}): they were put there. Put quotes around texts with line "
                "breaks to be sure.",
                line=f"{joined.first:,}",
            )
        )


def separator_line(sample: str) -> str | None:
    """Return the delimiter that a first line “sep=;” names, if there is one."""
    match = _SEPARATOR_LINE.match(sample)
    if match is None:
        return None
    return "\t" if match["sign"] == "\\t" else match["sign"]


def sniff_delimiter(sample: str) -> tuple[str, float]:
    """Find the delimiter under which most rows have as many cells as the header.

    Returns:
        The delimiter, or NO_DELIMITER where the text is one column, commas and all; and the share
        of rows that have as many cells as the first.
    """
    if sign := separator_line(sample):
        return sign, 1.0
    best, best_score = NO_DELIMITER, (0.0, 0)
    for delimiter in DELIMITERS:
        rows = _sample_rows(sample, delimiter)
        if rows is None:
            continue
        if width := _width_of_broken(rows, delimiter, has_quotes='"' in sample):
            rows = [cells for _, cells in _put_together(enumerate(rows), width, _Joined())]
        # The header decides where it can: texts hold more commas than names of columns do.
        start = next((n for n, cells in enumerate(rows) if len(cells) > 1), 0)
        counts = [len(cells) for cells in rows[start:]]
        if not counts or counts[0] < 2:
            continue
        share = round(counts.count(counts[0]) / len(counts), 1)
        # Titles above it have no delimiter; neither has prose.
        if start and (len(counts) < 4 or share < 0.9 or not any(map(is_known_name, rows[start]))):
            continue
        score = (share, counts[0])
        if score > best_score:
            best, best_score = delimiter, score
    return best, best_score[0]


def _sample_rows(
    sample: str, delimiter: str, num_rows: int = _NUM_SAMPLE_ROWS
) -> list[Cells] | None:
    rows: list[Cells] = []
    try:
        for cells in csv.reader(io.StringIO(sample), delimiter=delimiter):
            if cells:
                rows.append(cells)
            if len(rows) == num_rows:
                break
    except csv.Error:
        return None
    return rows


# --- line breaks in cells without quotes -----------------------------------------------------


class _Joined:
    """How many lines went on with a cell of the row before, and which was the first."""

    def __init__(self) -> None:
        self.count, self.first = 0, 0

    def add(self, line: int) -> None:
        self.count += 1
        self.first = self.first or line


def _broken_width(sample: str, delimiter: str) -> int:
    """Return how many cells whole rows have, where lines break within cells; else 0."""
    if delimiter == NO_DELIMITER or '"' in sample:
        return 0
    rows = _sample_rows(sample, delimiter, 400)
    return _width_of_broken(rows, delimiter, has_quotes=False) if rows else 0


def _width_of_broken(rows: list[Cells], delimiter: str, *, has_quotes: bool) -> int:
    if has_quotes or delimiter == NO_DELIMITER:
        return 0
    wide = [len(cells) for cells in rows if len(cells) > 1]
    if not wide:
        return 0
    width = wide[0]
    first = next(cells for cells in rows if len(cells) > 1)
    is_table = delimiter != "," or width > 2
    if max(wide) > width or not is_table or not any(map(is_known_name, first)):
        # Names of an export may be unknown by themselves: their last words say it.
        last_words = any(is_known_name(str(c).replace("_", " ").split(" ")[-1]) for c in first if c)
        if max(wide) > width or not is_table or not last_words:
            return 0
    joined = _Joined()
    made = [
        cells
        for _, cells in _put_together(enumerate(rows), width, joined)
        if len(cells) > 1 or not is_total_line(str(cells[0]))
    ]
    if joined.count < _MIN_JOINED or joined.count * 10 < len(rows):
        return 0
    num_whole = sum(len(cells) == width for cells in made)
    questions = any(len(cells) == 1 and str(cells[0]).rstrip().endswith("?") for cells in rows)
    return width if num_whole * 20 >= len(made) * 19 and not (width == 2 and questions) else 0


def _put_together(
    rows: Iterable[tuple[int, Cells]], width: int, joined: _Joined
) -> Iterator[tuple[int, Cells]]:
    """Join a row to the one before where that makes a row of the table's width."""
    waiting: tuple[int, Cells] | None = None
    num_lines = 0
    for line, cells in rows:
        if waiting is None:
            if len(cells) == width:
                waiting = (line, cells)
            else:
                yield line, cells
            continue
        number, before = waiting
        is_rest = len(before) < width and len(before) + len(cells) - 1 <= width
        goes_on = len(cells) == 1 and not is_total_line(str(cells[0]))
        if (is_rest or goes_on) and len(cells) < width:
            joined.add(line)
            waiting = (number, [*before[:-1], f"{before[-1]}\n{cells[0]}", *cells[1:]])
            num_lines += 1
            if num_lines > _MAX_JOINED or len(waiting[1][-1]) > MAX_CELL_CHARACTERS:
                raise Unreadable(
                    f"From line {number:,} on, a text has line breaks without quotes around it and "
                    "does not end; put quotes around texts with line breaks, or save the file as "
                    "XLSX."
                )
            continue
        yield waiting
        waiting, num_lines = (line, cells), 0
    if waiting is not None:
        yield waiting


def _is_strict(sample: str, delimiter: str) -> bool:
    """Say whether a table's rows have all their cells, blank ones too."""
    rows = _sample_rows(sample, delimiter, 400) or []
    lengths = [len(cells) for cells in rows if len(cells) > 1]
    if len(lengths) < _MIN_STRICT_ROWS:
        return False
    return lengths.count(max(lengths)) >= _MIN_STRICT * len(lengths)


def _without_broken(rows: Iterator[Numbered], width: int, *, is_strict: bool) -> Iterator[Numbered]:
    """Leave out a row whose text may go on in the next line, and that line: never half an answer.

    Too few lines go on to tell how, so that they are not put together. What begins with a small
    letter behind such a line may be the end of a question.
    """
    if width < 2:
        yield from rows
        return
    before: Numbered | None = None
    length, is_broken = width, False  # of the row before; whether it is a part of a broken text
    for line in rows:
        number, cells = line
        if isinstance(cells, LeftOut):
            if before is not None:
                yield before
            before, length, is_broken = line, width, False
            continue
        now = len(cells)
        if now >= width and not is_broken:
            if before is not None:
                yield before
            before, length = line, now
            continue
        first, goes_on = cells[0].strip(), False
        if now == 1 and now < width:
            # What has too many cells is left out anyway, and what follows it is a row.
            is_question = width == 2 and first.endswith(("?", "？", "؟"))
            may_go_on = length <= width or is_broken
            goes_on = bool(first) and may_go_on and not is_question and not is_total_line(first)
        elif now < width and is_strict and before is not None and length <= width:
            goes_on = first[:1].islower() or now + length == width + 1
        is_rest = is_broken and not goes_on and first[:1].islower()
        if before is not None:
            is_lost = goes_on and not isinstance(before[1], LeftOut)
            yield (before[0], LeftOut("broken_row")) if is_lost else before
        before = (number, LeftOut("broken_row")) if goes_on or is_rest else line
        length, is_broken = now, goes_on
    if before is not None:
        yield before


def sample_of(text: io.TextIOBase) -> str:
    """Return the first whole lines of a text and rewind it."""
    sample = text.read(_SAMPLE_CHARACTERS)
    text.seek(0)
    if len(sample) == _SAMPLE_CHARACTERS:
        sample = sample[: sample.rfind("\n") + 1] or sample
    return sample


def _has_bare_quotes(text: io.TextIOBase) -> bool:
    """Say whether quotes are a part of the texts, as in “"It" is”, and no cell needs its own."""
    is_bare = False
    for line in text:
        if '"' in line:
            if _NEEDS_QUOTES.search(line):
                is_bare = False
                break
            is_bare = is_bare or _BARE_QUOTES.search(line) is not None
    text.seek(0)
    return is_bare


def csv_rows(
    text: io.TextIOBase, delimiter: str, num_skipped: int, *, as_text: bool = False
) -> Iterator[tuple[int, Cells]]:
    """Yield the cells of rows with the numbers of their lines, of which some were read before.

    Args:
        as_text: Quotes are a part of the cells.

    Raises:
        Unreadable: quotes are wrong, or a row or a cell is larger than any honest one.
    """
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    quoting: Literal[0, 3] = csv.QUOTE_NONE if as_text else csv.QUOTE_MINIMAL
    reader = csv.reader(text, delimiter=delimiter, strict=True, quoting=quoting)
    before = num_skipped + 1
    while True:
        line = reader.line_num + before
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            last = reader.line_num + before - 1
            fault = _csv_fault(str(error), line, last, delimiter, _has_backslash(text, last))
            raise Unreadable(fault) from None
        if len(cells) > MAX_COLUMNS:
            raise Unreadable(
                f"Line {line:,} has {len(cells):,} cells; at most {MAX_COLUMNS:,} columns can be "
                "read: keep only the columns with questions and answers."
            )
        if cells:
            # Exports that were glued keep the mark of a file's start, and behind it the quotes.
            if cells[0][:1] == "\ufeff":
                cells[0] = cells[0].strip('\ufeff"')
            # A row of several lines: breaks within its cells are written as everywhere.
            if reader.line_num + before - 1 > line:
                cells = [cell.replace("\r\n", "\n").replace("\r", "\n") for cell in cells]
            yield line, cells


def _has_backslash(text: io.TextIOBase, line: int) -> bool:
    """Say whether a line writes a quote as other programs do, with a backslash before it."""
    text.seek(0)
    return any('\\"' in each for each in itertools.islice(text, line - 1, line))


def _csv_fault(message: str, first: int, last: int, delimiter: str, has_backslash: bool) -> str:
    if "field limit" in message or "unexpected end" in message:
        return (
            f'Line {first:,} opens a quote (") that is never closed, or holds a text of more than '
            "1 MB; close the quote or shorten the text, then upload the file again."
        )
    if "expected after" in message and has_backslash:
        return (
            f'Line {last:,} has a quote with a backslash before it (\\"), which only some programs '
            'read; write each such quote twice instead (""), or save the file as XLSX, then upload '
            "it again."
        )
    if "expected after" in message:
        return (
            f'Line {last:,} has a quote (") inside a text that is itself in quotes; write that '
            f'quote twice (""), or put a {DELIMITERS.get(delimiter, "delimiter")} behind it if the '
            "text ends there, or save the file as XLSX."
        )
    return f"Line {first:,} cannot be read as a table row; correct it or save the file as XLSX."
