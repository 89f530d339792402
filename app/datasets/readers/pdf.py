"""PDF with a text layer -> blocks: lines joined to paragraphs, larger or bold lines as headings.

Raised and lowered digits stay such as Unicode has them: 10³ is not 103.
"""

import ctypes
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from app.datasets.readers import pdf_columns, signs
from app.datasets.readers.blocks import Block
from app.datasets.readers.equations import fraction
from app.datasets.readers.files import File, Inner
from app.datasets.readers.grids import Seen
from app.datasets.readers.pdf_columns import Line
from app.datasets.readers.unreadable import Unreadable

MAX_PAGES = 5000
MAX_PAGE_CHARACTERS = 1024**2
_MAX_HEADING_CHARACTERS = 200
_BOLD_WEIGHT = 600
# A page with fewer letters holds a picture of text, a title or nothing.
_FEW_CHARACTERS = 20
_FEW_LINES = 3
# Heights of a line: so far above the last one begins the next column.
_FAR_UP = 3
_SENTENCE_ENDS = (".", "!", "?", ":", "…", "。", "？", "！", "؟", "।")
# How PDFium writes a hyphen at a line's end.
_HYPHENS = ("\x02", "\ufffe", "\u00ad", "-", "\u2010")

# Where PDFium writes the place of a letter.
_X, _Y = ctypes.c_double(), ctypes.c_double()
# What may have a power or an index in it, with its signs: 10³, Ca²⁺.
_NUMBER = re.compile(r"[0-9+\-−]+")
_SIGNS = frozenset("+-−")
# Two raised and lowered numbers with a line between them: ½.
_SLANTED = re.compile("([⁰¹²³⁴⁵⁶⁷⁸⁹]+)[/⁄]([₀₁₂₃₄₅₆₇₈₉]+)")
_LEVEL = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹₀₁₂₃₄₅₆₇₈₉", "01234567890123456789")
# What stands at a line's end above a number that is read after it.
_ABOVE = re.compile("([0-9]+|(?<=[0-9])[⁰¹²³⁴⁵⁶⁷⁸⁹]+)$")
# Letters of a line that say on which height it stands.
_MAX_LOOKED_AT = 300
# In heights of the line: so far apart signs are no longer one word.
_APART = 0.15
# So many points say nothing.
_LEVEL_POINTS = 0.05
# So far a raised number may stand above a lowered one, and of so many signs it is.
_OVERLAP, _MAX_SMALL = 1.0, 6
_SHIFTED = frozenset("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻₀₁₂₃₄₅₆₇₈₉₊₋")
# How far from the line's base, in heights of the line, and how much smaller than its other digits.
_NUDGE, _HIGHEST, _LOWEST, _SMALL = 0.06, 0.8, -0.5, 0.57


def pdf_blocks(file: File, seen: Seen) -> Iterator[Block]:
    """Read the text layer of a PDF into headings and paragraphs, numbered by page.

    Tables have no structure in a PDF: their cells come as lines. Columns are read one after the
    other.

    Args:
        seen: Counts afresh on which pages that order is unsure.

    Raises:
        Unreadable: it is damaged, protected or too long, or has no text layer.
    """
    seen.clear()
    lines = _without_margins(_lines(file, seen))
    if sum(len(line.text) for line in lines) < _FEW_CHARACTERS:
        raise Unreadable(
            "This PDF has no text, only pictures of pages (a scan); run text recognition (OCR) "
            "over it and upload the result, or a Word or text file."
        )
    sizes: Counter[float] = Counter()
    for line in lines:
        sizes[line.size] += len(line.text)
    body = sizes.most_common(1)[0][0]
    larger = sorted({line.size for line in lines if line.size > body * 1.12}, reverse=True)
    paragraph: list[Line] = []
    for line in lines:
        level = _level(line, body, larger)
        if level:
            yield from _paragraph(paragraph)
            paragraph = []
            yield Block("heading", line.page, line.text, level)
        else:
            if paragraph and _breaks(paragraph[-1], line):
                yield from _paragraph(paragraph)
                paragraph = []
            paragraph.append(line)
    yield from _paragraph(paragraph)


def _level(line: Line, body: float, larger: list[float]) -> int:
    if len(line.text) > _MAX_HEADING_CHARACTERS or not any(c.isalpha() for c in line.text):
        return 0
    if line.size in larger:
        return min(larger.index(line.size) + 1, 6)
    ends_sentence = line.text.endswith((".", ",", ";", ":"))
    return 6 if line.is_bold and line.size >= body * 0.95 and not ends_sentence else 0


def _breaks(before: Line, line: Line) -> bool:
    """Say whether a paragraph ends between two lines."""
    if line.starts:
        return True
    if before.page != line.page or line.jumps:
        return before.text.endswith(_SENTENCE_ENDS)
    height = max(before.top - before.bottom, 1.0)
    if line.bottom - before.top > _FAR_UP * height and line.text[:1].islower():
        return before.text.endswith(_SENTENCE_ENDS)  # a sentence goes on in the next column
    # Another column begins higher up; an ordinary line follows closely below.
    return not 0 <= before.bottom - line.top < height * 0.9 and not (
        abs(before.bottom - line.bottom) < height
    )


def _paragraph(lines: list[Line]) -> Iterator[Block]:
    text = ""
    for line in lines:
        if text.endswith(_HYPHENS) and line.text[:1].islower():
            text = text[:-1] + line.text
        else:
            text = f"{text} {line.text}" if text else line.text
    text = re.sub("[\x02\ufffe\u00ad]", "", text).strip()
    if text:
        yield Block("text", lines[0].page, text)


def _without_margins(lines: list[Line]) -> list[Line]:
    """Drop what stands at the top or the bottom of most pages: running titles, page numbers."""
    pages: dict[int, list[Line]] = {}
    for line in lines:
        pages.setdefault(line.page, []).append(line)
    if len(pages) < 3:
        return lines
    edges = [(page[edge], edge) for page in pages.values() for edge in (0, -1)]
    repeated = Counter((_shape(line.text), edge) for line, edge in edges)
    dropped = {
        id(line) for line, edge in edges if repeated[_shape(line.text), edge] * 2 > len(pages)
    }
    kept = [line for line in lines if id(line) not in dropped]
    # Pages that are all alike, as forms are, have no margins.
    return kept if len(kept) * 2 > len(lines) else lines


def _shape(text: str) -> str:
    return re.sub(r"\d+", "0", text)


def _lines(file: File, seen: Seen) -> list[Line]:
    import pypdfium2

    lines: list[Line] = []
    try:
        source = file.held() if isinstance(file, Inner) else file.path
        with pypdfium2.PdfDocument(source) as document:
            if len(document) > MAX_PAGES:
                raise Unreadable(
                    f"This PDF has {len(document):,} pages and at most {MAX_PAGES:,} can be read; "
                    "split it."
                )
            for number in range(len(document)):
                page = document[number]
                text = page.get_textpage()
                found = _page_lines(text, number + 1, seen)
                if not found:
                    seen.add("no_text", number + 1)
                lines += found
                text.close()
                page.close()
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower() or "security" in str(error).lower():
            raise Unreadable(
                "This PDF is protected by a password; save it without one and upload it again."
            ) from None
        raise Unreadable(
            "This PDF is damaged or incomplete; open it, save it again and upload that."
        ) from None
    return lines


def _page_lines(page: Any, number: int, seen: Seen) -> list[Line]:
    if page.count_chars() > MAX_PAGE_CHARACTERS:
        raise Unreadable(f"Page {number:,} of this PDF has more than 1 MB of text; split it.")
    written = page.get_text_range().split("\r\n")
    if not _has_gaps(page, written):
        return list(_pieces(page, number, written, seen, is_cut=False))
    ordered = pdf_columns.in_order(list(_pieces(page, number, written, seen, is_cut=True)))
    if not ordered.is_sure:
        seen.add("order", number)
    return ordered.lines


def _has_gaps(page: Any, written: list[str]) -> bool:
    """Say whether texts may stand side by side on a page."""
    if sum("   " in line.strip() for line in written) >= _FEW_LINES:
        return True
    boxes = (page.get_rect(n) for n in range(page.count_rects()))
    return pdf_columns.stands_side_by_side(list(boxes))


def _cut(page: Any, line: str, start: int) -> Iterator[tuple[str, int]]:
    """Cut a line at its wide gaps and where it was put together at a hyphen.

    Each piece comes with the place of its first sign.
    """
    begun = 0
    for blank in re.finditer(r" +|[\x02\ufffe]", line):
        if blank[0][0] != " ":
            yield line[begun : blank.end()], start + begun
            begun = blank.end()
            continue
        before, after = start + blank.start() - 1, start + blank.end()
        if blank.start() <= begun or blank.end() >= len(line):
            continue
        left, right = _sides(page, before), _sides(page, after)
        if right[0] - left[1] > pdf_columns.gap_of(_height(page, before)):
            yield line[begun : blank.start()], start + begun
            begun = blank.end()
    if line[begun:]:
        yield line[begun:], start + begun


def _sides(page: Any, index: int) -> tuple[float, float]:
    try:
        left, _, right, _ = page.get_charbox(index)
    except pdfium_error():
        return 0.0, 0.0
    return float(left), float(right)


class _Piece(NamedTuple):
    """A line, or a piece of one, and which of the page's signs it is made of."""

    line: Line
    first: int  # the places of its first and its last sign
    last: int
    middle: int  # and of one that stands on its height
    # PDFium breaks lines at raised and lowered signs: it ends with one, and may go on.
    is_open: bool = False
    # A small number above the line, apart from it: it may be the upper one of a fraction.
    above: "_Piece | None" = None


def _pieces(
    page: Any, number: int, written: list[str], seen: Seen, *, is_cut: bool
) -> Iterator[Line]:
    """Read the lines of a page, or the pieces of which they are made."""
    start = 0
    before: _Piece | None = None
    for whole in written:
        for line, at in _cut(page, whole, start) if is_cut else ((whole, start),):
            text = " ".join(line.replace("\0", "").split())
            if not text:
                continue
            piece = _read(page, number, line, at, text, before)
            if is_cut:
                left, right = _sides(page, piece.first)[0], _sides(page, piece.last)[1]
                piece = piece._replace(line=piece.line._replace(left=left, right=right))
            joined = _together(page, before, piece, line, is_cut=is_cut) if before else None
            if joined is None and before is not None:
                yield from _ended(before, seen)
            before = joined or piece
        start += len(whole) + 2
    if before is not None:
        yield from _ended(before, seen)


def _ended(piece: _Piece, seen: Seen) -> Iterator[Line]:
    yield piece.line
    if piece.above is not None:
        seen.add("small_number", piece.line.page)
        yield piece.above.line


def _together(
    page: Any, before: _Piece, piece: _Piece, line: str, *, is_cut: bool
) -> _Piece | None:
    """Join a piece to the one before it where both are of one line; none: they are not."""
    ahead = before.line
    height = ahead.top - ahead.bottom
    if height <= 0:
        return None
    text = piece.line.text
    is_number = len(text) <= _MAX_SMALL and _NUMBER.fullmatch(text) is not None
    if not (is_number or before.is_open or text[0] in _SHIFTED):
        return None
    gap = _sides(page, piece.first)[0] - _sides(page, before.last)[1]
    if is_number:
        return _with_small(page, before, piece, gap / height)
    if before.above is not None:
        return None
    if text[0] in _SHIFTED and abs(gap) < _APART * height:
        return _joined(before, piece, "")
    is_apart = is_cut and gap > pdf_columns.gap_of(piece.line.top - piece.line.bottom)
    if not before.is_open or is_apart or not _goes_on(page, piece.first, ahead):
        return None
    is_blank = line[0].isspace() or gap > _APART * height
    return _joined(before, piece, " " if is_blank else "")


def _joined(before: _Piece, piece: _Piece, between: str) -> _Piece:
    text = _SLANTED.sub(_slanted, f"{before.line.text}{between}{piece.line.text}")
    line = before.line._replace(text=text, right=piece.line.right)
    return before._replace(line=line, last=piece.last, is_open=piece.is_open)


def _with_small(page: Any, before: _Piece, piece: _Piece, gap: float) -> _Piece | None:
    """Join a small number to the line above or below which it stands.

    Args:
        gap: Between them, in heights of the line.
    """
    ahead, text = before.line, piece.line.text
    size, base = ahead.top - ahead.bottom, _baseline(page, before.middle)
    rise = (_baseline(page, piece.first) - base) / size
    is_small = all(
        _height(page, piece.first + n) <= _SMALL * size
        for n, sign in enumerate(text)
        if sign not in _SIGNS
    )
    if not is_small or not _LOWEST < rise < _HIGHEST:
        return None
    over = before.above or before
    if rise < _NUDGE and text.isdecimal() and _stands_below(page, over, piece, base, size):
        found = _ABOVE.search(ahead.text) if before.above is None else None
        if before.above is not None or found is not None:
            above = found[0].translate(_LEVEL) if found else over.line.text
            shown = ahead.text[: found.start()] if found else f"{ahead.text} "
            part = fraction(above, text)
            is_mixed = shown[-1:].isdecimal() and part[0].isdecimal()  # 1 3/7 is not 13/7
            shown += f" {part}" if is_mixed else part
            line = ahead._replace(text=shown, right=max(ahead.right, piece.line.right))
            return before._replace(line=line, last=piece.last, is_open=True, above=None)
    if before.above is not None or abs(rise) < _NUDGE:
        return None
    moved = signs.power(text) if rise > 0 else signs.index(text)
    if moved and -_OVERLAP < gap < _APART:
        shifted = piece._replace(line=piece.line._replace(text=moved), is_open=True)
        return _joined(before, shifted, "")
    if rise > 0 and text.isdecimal() and 0 < gap < 1:
        return before._replace(above=piece)
    return None


def _stands_below(page: Any, over: _Piece, piece: _Piece, base: float, size: float) -> bool:
    """Say whether a number stands below the raised one that a piece ends with, as in ½."""
    if _baseline(page, over.last) < base + _NUDGE * size:
        return False
    left, right = _sides(page, piece.first)[0], _sides(page, piece.last)[1]
    above_left, above_right = _sides(page, over.last)
    return left < above_right and right > above_left


def _read(
    page: Any, number: int, line: str, start: int, text: str, before: _Piece | None
) -> _Piece:
    """Read one piece of text."""
    first, last = start + len(line) - len(line.lstrip()), start + len(line.rstrip()) - 1
    # The middle stands for the line: its first sign may be a bullet or an initial.
    middle = next((n for n in range(len(line) // 2, len(line)) if line[n].isalnum()), 0)
    if _NUMBER.search(line) is None or _is_level(page, line, start, middle):
        return _Piece(_line(page, start + middle, number, text), first, last, start + middle)
    is_glued = before is not None and _is_glued(page, before, first)
    if before is not None and is_glued and not any(map(str.isalpha, text)):
        if not _NUMBER.fullmatch(text):  # such as “/2”: it has no height of its own
            middle = before.middle - start
    else:
        middle = _on_its_height(page, line, start, middle)
    found = _line(page, start + middle, number, text)
    shown, is_open = _with_raised(page, line, start, start + middle, found, is_glued=is_glued)
    found = found._replace(text=" ".join(shown.split()))
    return _Piece(found, first, last, start + middle, is_open)


def _is_glued(page: Any, before: _Piece, first: int) -> bool:
    """Say whether a sign follows a piece without a blank, on about the same height."""
    size = before.line.top - before.line.bottom
    gap = _sides(page, first)[0] - _sides(page, before.last)[1]
    rise = _baseline(page, first) - _baseline(page, before.middle)
    return abs(gap) < _APART * size and abs(rise) < _HIGHEST * size


def _is_level(page: Any, line: str, start: int, middle: int) -> bool:
    """Say whether a line's numbers stand on the height of a letter in its middle: most lines."""
    if not line[middle].isalpha():
        return False
    base = _baseline(page, start + middle)
    for run in _NUMBER.finditer(line):
        for at in range(start + run.start(), start + run.end()):
            if abs(_baseline(page, at) - base) >= _LEVEL_POINTS:
                return False
    return True


def _on_its_height(page: Any, line: str, start: int, middle: int) -> int:
    """Return the place of a sign that stands where most of a line do, and not raised among them.

    Large ones say more than small ones.
    """
    weights: dict[float, float] = {}
    places: dict[float, int] = {}
    for n, sign in enumerate(line[:_MAX_LOOKED_AT]):
        if sign.isalnum():
            height = round(_baseline(page, start + n), 1)
            weights[height] = weights.get(height, 0.0) + max(_size(page, start + n), 0.1)
            if height not in places or abs(n - middle) < abs(places[height] - middle):
                places[height] = n
    return places[max(weights, key=lambda height: weights[height])] if weights else middle


def _with_raised(
    page: Any, line: str, start: int, middle: int, found: Line, *, is_glued: bool
) -> tuple[str, bool]:
    """Write raised and lowered digits as such; say whether the last sign is one of them.

    Args:
        is_glued: It goes on right behind the piece before.
    """
    size, base = found.top - found.bottom, _baseline(page, middle)
    written, done, is_last = "", 0, False
    for run in _NUMBER.finditer(line) if size > 0 else ():
        is_first = run.start() == 0 and is_glued
        if len(run[0]) == 1 and not is_first and not line[: run.start()][-1:].strip():
            continue  # a number of its own
        for shift, first, end in _shifts(page, run, start, base, size):
            moved = line[first:end]
            written += line[done:first] + (signs.power if shift > 0 else signs.index)(moved)
            done = end
            is_last = not line[done:].strip()
    written += line[done:]
    if done:
        written = _SLANTED.sub(_slanted, written)
    return written.replace("\0", ""), is_last


def _slanted(match: re.Match[str]) -> str:
    above, below = (part.translate(_LEVEL) for part in match.groups())
    return signs.VULGAR.get(f"{above}/{below}", match[0])


def _shifts(
    page: Any, run: re.Match[str], start: int, base: float, size: float
) -> Iterator[tuple[int, int, int]]:
    """Yield where a run of digits and signs is raised (1) or lowered (-1), from where to where."""
    before, begun = 0, run.start()
    for at in range(run.start(), run.end() + 1):
        shift = _shift(page, run.string[at], start + at, base, size) if at < run.end() else 0
        if shift != before:
            if before:
                yield before, begun, at
            before, begun = shift, at


def _shift(page: Any, sign: str, index: int, base: float, size: float) -> int:
    above = (_baseline(page, index) - base) / size
    if not (_LOWEST < above < -_NUDGE or _NUDGE < above < _HIGHEST):
        return 0
    if sign not in _SIGNS and _height(page, index) > _SMALL * size:
        return 0
    return 1 if above > 0 else -1


def _goes_on(page: Any, index: int, before: Line) -> bool:
    """Say whether a line begins where the one before ended, on the same height."""
    line = _line(page, index, before.page, "")
    return abs(line.bottom - before.bottom) < (before.top - before.bottom) * 0.3


def _baseline(page: Any, index: int) -> float:
    import pypdfium2.raw as pdfium

    pdfium.FPDFText_GetCharOrigin(page, index, _X, _Y)
    return _Y.value


def _size(page: Any, index: int) -> float:
    import pypdfium2.raw as pdfium

    return float(pdfium.FPDFText_GetFontSize(page, index))


def _height(page: Any, index: int) -> float:
    try:
        _, bottom, _, top = page.get_charbox(index)
    except pdfium_error():
        return 0.0
    return float(top - bottom)


def _line(page: Any, index: int, number: int, text: str) -> Line:
    import pypdfium2.raw as pdfium

    index = min(index, max(page.count_chars() - 1, 0))
    size = round(pdfium.FPDFText_GetFontSize(page, index), 1)
    weight = pdfium.FPDFText_GetFontWeight(page, index)
    try:
        _, bottom, _, top = page.get_charbox(index, loose=True)
    except pdfium_error():
        bottom = top = 0.0
    return Line(number, text, size, weight >= _BOLD_WEIGHT, top, bottom)


def pdfium_error() -> type[Exception]:
    import pypdfium2

    return pypdfium2.PdfiumError  # type: ignore[no-any-return]
