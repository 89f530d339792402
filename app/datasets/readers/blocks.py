"""Markdown and plain text -> blocks: headings, paragraphs and tables, as they stand in the file."""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple, TextIO

from app.datasets.readers.unreadable import Unreadable

MAX_LINE_CHARACTERS = 1024**2
MAX_BLOCK_CHARACTERS = 4 * 1024**2
_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)[ \t#]*$")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_RULE = re.compile(r" {0,3}([-*_])([ \t]*\1){2,}[ \t]*$")
TABLE_RULE = re.compile(r"[ \t]*\|?[ \t]*:?-{2,}:?[ \t]*(\|[ \t]*:?-{2,}:?[ \t]*)*\|?[ \t]*$")
_CELL = re.compile(r"(?<!\\)\|")


class Block(NamedTuple):
    """A piece of a document; `number` is its line, paragraph or page, from 1.

    At an “end”, what stood under headings of its level or below is over: what follows belongs to
    none of them.
    """

    kind: Literal["heading", "text", "table", "end"]
    number: int
    text: str = ""
    level: int = 0  # of a heading or an end: 1 is the highest
    rows: list[list[str]] = []  # noqa: RUF012 - of a table; never changed
    # The table's first row holds names: Markdown cannot write one without.
    has_header: bool = False
    # All of a text is in bold letters; known of Word alone.
    is_bold: bool = False


def text_blocks(text: TextIO) -> Iterator[Block]:
    """Read Markdown, of which plain text is a part, into blocks.

    Raises:
        Unreadable: a line is longer than 1 MB, or a paragraph than 4 MB.
    """
    paragraph: list[str] = []
    size, started, fence = 0, 0, ""
    for number, line in enumerate(_lines(text), start=1):
        if fence:
            paragraph.append(line)
            if line.strip().startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
        elif match := _FENCE.match(line):
            fence = match[1]
            started = started if paragraph else number
            paragraph.append(line)
        elif not line.strip() or _HEADING.match(line):
            yield from _paragraph(paragraph, started)
            paragraph, size = [], 0
            if heading := _HEADING.match(line):
                yield Block("heading", number, _plain(heading[2]), len(heading[1]))
        elif len(paragraph) == 1 and (under := _UNDERLINE.match(line)) and len(line.strip()) > 2:
            yield Block("heading", started, _plain(paragraph[0]), 1 if under[1][0] == "=" else 2)
            paragraph, size = [], 0
        elif not (_RULE.match(line) and not paragraph):
            started = started if paragraph else number
            paragraph.append(line)
        size += len(line)
        if size > MAX_BLOCK_CHARACTERS:
            raise Unreadable(
                f"The paragraph that begins in line {started:,} has more than 4 MB; put blank "
                "lines between paragraphs."
            )
    yield from _paragraph(paragraph, started)


def _lines(text: TextIO) -> Iterator[str]:
    number = 0
    while line := text.readline(MAX_LINE_CHARACTERS + 1):
        number += 1
        if len(line) > MAX_LINE_CHARACTERS:
            raise Unreadable(
                f"Line {number:,} is longer than 1 MB; break it into paragraphs, then upload the "
                "file again."
            )
        yield line.rstrip("\r\n")


def _paragraph(lines: list[str], number: int) -> Iterator[Block]:
    if len(lines) > 1 and "|" in lines[0] and TABLE_RULE.match(lines[1]) and "|" in lines[1]:
        rows = [_row(line) for line in (lines[0], *lines[2:])]
        yield Block("table", number, rows=rows, has_header=True)
    elif lines:
        yield Block("text", number, "\n".join(lines).strip("\n"))


def _row(line: str) -> list[str]:
    line = line.strip()
    line = line[1:] if line.startswith("|") else line
    line = line[:-1] if line.endswith("|") and not line.endswith("\\|") else line
    return [_plain(cell.replace("\\|", "|")) for cell in _CELL.split(line)]


def _plain(text: str) -> str:
    """Take the signs of bold type off a heading or a cell."""
    return text.strip().replace("**", "").replace("__", "").strip()
