"""PDF with a text layer -> blocks: lines joined to paragraphs, larger or bold lines as headings.

Raised and lowered digits stay such as Unicode has them: 10³ is not 103.
"""

import ctypes
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from app.datasets.readers import pdf_columns, signs
from app.datasets.readers.blocks import Block
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
# What may end in a power or an index, with the sign before it.
_NUMBER = re.compile(r"[0-9+\-−]*[0-9]")
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
        return list(_pieces(page, number, written, is_cut=False))
    ordered = pdf_columns.in_order(list(_pieces(page, number, written, is_cut=True)))
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


def _pieces(page: Any, number: int, written: list[str], *, is_cut: bool) -> Iterator[Line]:
    """Read the lines of a page, or the pieces of which they are made."""
    start = 0
    open_line: Line | None = None  # ends with a raised or lowered sign, where PDFium breaks lines
    for whole in written:
        for line, at in _cut(page, whole, start) if is_cut else ((whole, start),):
            text = " ".join(line.replace("\0", "").split())
            if not text:
                continue
            found, is_open = _read(page, number, line, at, text)
            if is_cut:
                inner = len(line) - len(line.lstrip()), len(line.rstrip()) - 1
                left, right = _sides(page, at + inner[0])[0], _sides(page, at + inner[1])[1]
                found = found._replace(left=left, right=right)
            is_apart = (
                is_cut
                and open_line is not None
                and (found.left - open_line.right > pdf_columns.gap_of(found.top - found.bottom))
            )
            if open_line is not None and not is_apart and _goes_on(page, at, open_line):
                blank = " " if line[0].isspace() or found.text[0].isalpha() else ""
                found = open_line._replace(
                    text=f"{open_line.text}{blank}{found.text}", right=found.right
                )
            elif open_line is not None:
                yield open_line
            open_line = found if is_open else None
            if not is_open:
                yield found
        start += len(whole) + 2
    if open_line is not None:
        yield open_line


def _read(page: Any, number: int, line: str, start: int, text: str) -> tuple[Line, bool]:
    """Read one piece of text, and say whether it ends with a raised or lowered sign."""
    # The middle stands for the line: its first sign may be a bullet or an initial.
    middle = next((n for n in range(len(line) // 2, len(line)) if line[n].isalnum()), 0)
    found = _line(page, start + middle, number, text)
    if not _NUMBER.search(line):
        return found, False
    shown, is_open = _with_raised(page, line, start, start + middle, found)
    return found._replace(text=" ".join(shown.split())), is_open


def _with_raised(page: Any, line: str, start: int, middle: int, found: Line) -> tuple[str, bool]:
    """Write raised and lowered digits as such; say whether the last sign is one of them."""
    size, base = found.top - found.bottom, _baseline(page, middle)
    written, done, is_last = "", 0, False
    for run in _NUMBER.finditer(line):
        if size <= 0 or (len(run[0]) == 1 and line[run.start() - 1 : run.start()].strip() == ""):
            continue  # a number of its own
        at = run.end()
        rise = 0.0
        # From its end on: in 10³ the last digit is raised.
        while at > run.start() and start + at - 1 != middle:
            above = (_baseline(page, start + at - 1) - base) / size
            if not (_LOWEST < above < -_NUDGE or _NUDGE < above < _HIGHEST):
                break
            if line[at - 1] not in "+-−" and _height(page, start + at - 1) > _SMALL * size:
                break
            at, rise = at - 1, above
        if at < run.end():
            moved = line[at : run.end()]
            written += line[done:at] + (signs.power if rise > 0 else signs.index)(moved)
            done = run.end()
            is_last = not line[done:].strip()
    return (written + line[done:]).replace("\0", ""), is_last


def _goes_on(page: Any, index: int, before: Line) -> bool:
    """Say whether a line begins where the one before ended, on the same height."""
    line = _line(page, index, before.page, "")
    return abs(line.bottom - before.bottom) < (before.top - before.bottom) * 0.3


def _baseline(page: Any, index: int) -> float:
    import pypdfium2.raw as pdfium

    pdfium.FPDFText_GetCharOrigin(page, index, _X, _Y)
    return _Y.value


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
