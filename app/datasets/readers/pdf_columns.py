"""The order of a PDF's lines where texts stand side by side: columns are never read across.

A PDF has letters at places and nothing else. Where lines were drawn across columns, their pieces
are put into an order again: full columns of prose one after the other, cells of a table row by
row. Where that cannot be told from how the pieces stand, it is said.
"""

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

# So many lines have to begin at one place to the right of others.
_MIN_ROWS = 3
_MAX_COLUMNS = 6
# Points by which lines of one column may begin apart.
_TOLERANCE = 3.0
# Cells of a table are shorter, letters a line.
_PROSE_CHARACTERS = 18
# A line of prose fills its column nearly, but for the last of a paragraph.
_FULL = 0.65
# Wider than between the lines of a paragraph, in distances of lines.
_STRIP = 1.35


class Line(NamedTuple):
    """A line of a page, or a piece of one; places in points from the lower left corner."""

    page: int
    text: str
    size: float
    is_bold: bool
    top: float
    bottom: float
    left: float = 0.0
    right: float = 0.0
    # It stands elsewhere than below the one before: a column's top, or a cell.
    jumps: bool = False
    starts: bool = False


class Ordered(NamedTuple):
    """The lines of a page in their order, and whether it is sure."""

    lines: list[Line]
    is_sure: bool


def stands_side_by_side(boxes: Sequence[tuple[float, float, float, float]]) -> bool:
    """Say whether several lines of a page have a wide gap in them.

    Args:
        boxes: Left, bottom, right and top of each piece of text.
    """
    rows: dict[int, list[tuple[float, float, float]]] = {}
    for left, bottom, right, top in boxes:
        rows.setdefault(round((bottom + top) / 4), []).append((left, right, top - bottom))
    num_gaps = 0
    for pieces in rows.values():
        pieces.sort()
        num_gaps += any(
            after[0] - before[1] > gap_of(max(before[2], after[2]))
            for before, after in pairwise(pieces)
        )
    return num_gaps >= _MIN_ROWS


def gap_of(height: float) -> float:
    """Return how wide a gap is that no blank between words makes, in points."""
    return max(8.0, 0.9 * height)


def in_order(pieces: list[Line]) -> Ordered:
    """Put the pieces of a page's lines, which come as they were drawn, into the order to read."""
    rows = _rows(pieces)
    gutters = _gutters(rows)
    ordered: list[Line] = []
    is_sure = True
    for region, crosses in _regions(rows, gutters):
        if crosses or sum(len(row) > 1 for row in region) < _MIN_ROWS:
            ordered += map(_joined, region)
            continue
        lines, region_is_sure = _region(region, gutters)
        ordered += lines
        is_sure = is_sure and region_is_sure
    return Ordered(ordered, is_sure)


def _rows(pieces: list[Line]) -> list[list[Line]]:
    """Put together what was drawn one after the other on one height."""
    rows: list[list[Line]] = []
    for piece in pieces:
        before = rows[-1][-1] if rows else None
        height = max(piece.top - piece.bottom, 1.0)
        if (
            before is not None
            and abs(before.bottom - piece.bottom) < 0.4 * height
            and piece.left > before.right
        ):
            rows[-1].append(piece)
        else:
            rows.append([piece])
    return rows


def _gutters(rows: list[list[Line]]) -> list[float]:
    """Find where columns begin that stand to the right of another."""
    starts = sorted(piece.left for row in rows for piece in row[1:])
    clusters: list[list[float]] = []
    for start in starts:
        if clusters and start - clusters[-1][-1] <= _TOLERANCE:
            clusters[-1].append(start)
        else:
            clusters.append([start])
    return [cluster[0] for cluster in clusters if len(cluster) >= _MIN_ROWS][: _MAX_COLUMNS - 1]


def _regions(
    rows: list[list[Line]], gutters: list[float]
) -> Iterator[tuple[list[list[Line]], bool]]:
    """Cut a page where a line goes across the place between columns."""
    region: list[list[Line]] = []
    region_crosses = False
    for row in rows:
        crosses = any(
            piece.left < gutter - _TOLERANCE and piece.right > gutter
            for piece in row
            for gutter in gutters
        )
        # Above what was drawn before: a new column or the next text, drawn by itself.
        goes_up = bool(region) and row[0].bottom > region[-1][0].bottom + 1
        if region and (crosses != region_crosses or goes_up):
            yield region, region_crosses
            region = []
        region.append(row)
        region_crosses = crosses
    if region:
        yield region, region_crosses


def _joined(row: list[Line]) -> Line:
    """Put the pieces of a line together again."""
    if len(row) == 1:
        return row[0]
    longest = max(row, key=lambda piece: len(piece.text))
    text = " ".join(piece.text for piece in row)
    return longest._replace(text=text, left=row[0].left, right=row[-1].right)


def _column_of(piece: Line, gutters: list[float]) -> int:
    return sum(piece.left >= gutter - _TOLERANCE for gutter in gutters)


def _region(rows: list[list[Line]], gutters: list[float]) -> tuple[list[Line], bool]:
    columns: dict[int, list[Line]] = {}
    for row in rows:
        for piece in row:
            columns.setdefault(_column_of(piece, gutters), []).append(piece)
    if len(columns) < 2:
        return [_joined(row) for row in rows], True
    is_prose = all(map(_is_prose, columns.values()))
    is_short = any(
        statistics.fmean(len(piece.text) for piece in column) < _PROSE_CHARACTERS
        for column in columns.values()
    )
    if is_short and not is_prose:  # names, numbers and units: a table, whose rows are lines
        return [_joined(row) for row in rows], True
    strips = list(_strips(rows))
    num_side_by_side = sum(any(len(row) > 1 for row in strip) for strip in strips)
    if is_prose and num_side_by_side <= 2:
        return _one_by_one(columns, in_cells=False), True
    lines: list[Line] = []
    for strip in strips:
        cells: dict[int, list[Line]] = {}
        for row in strip:
            for piece in row:
                cells.setdefault(_column_of(piece, gutters), []).append(piece)
        lines += _one_by_one(cells, in_cells=True)
    return lines, False


def _is_prose(column: list[Line]) -> bool:
    """Say whether lines fill their column, as those of paragraphs do."""
    if len(column) < _MIN_ROWS + 1:
        return False
    widths = [piece.right - piece.left for piece in column]
    widest = max(*widths, 1.0)
    is_long = statistics.fmean(len(piece.text) for piece in column) >= _PROSE_CHARACTERS
    return is_long and 2 * sum(width >= _FULL * widest for width in widths) >= len(widths)


def _strips(rows: list[list[Line]]) -> Iterator[list[list[Line]]]:
    """Cut rows where a wide gap goes through all columns, as between the rows of a table."""
    steps = [before[0].bottom - row[0].bottom for before, row in pairwise(rows)]
    usual = Counter(round(step, 1) for step in steps).most_common(1)
    distance = usual[0][0] if usual else 0.0
    strip = [rows[0]]
    for step, row in zip(steps, rows[1:], strict=True):
        if step > _STRIP * distance:
            yield strip
            strip = []
        strip.append(row)
    yield strip


def _one_by_one(columns: dict[int, list[Line]], *, in_cells: bool) -> list[Line]:
    """List the lines of columns from left to right."""
    lines: list[Line] = []
    for _, column in sorted(columns.items()):
        first = column[0]._replace(jumps=not in_cells, starts=in_cells)
        lines += [first, *column[1:]]
    return lines
