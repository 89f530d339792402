"""Web pages and tables that call themselves XLS and are HTML: parsed once, held as a tree."""

import codecs
import re
from collections.abc import Iterator
from typing import Any

from app.datasets.mapping import LeftOut, Separators
from app.datasets.readers import encodings, gemini, number_formats
from app.datasets.readers.blocks import Block
from app.datasets.readers.files import File
from app.datasets.readers.grids import Area, GridRow, Seen, check_length
from app.datasets.readers.html_page import MAX_DEPTH, Facts, Page, Table, placed, too_deep
from app.datasets.readers.unreadable import Unreadable

# As a tree a page takes many times its size.
MAX_BYTES = 48 * 1024**2
_HEAD_BYTES = 4096
# What Excel, and programs that hand out tables for it, write into a page.
_OF_EXCEL = re.compile(
    r"urn:schemas-microsoft-com:office:excel|ProgId[\"']?\s+content=[\"']?Excel", re.I
)
_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{2,40})", re.IGNORECASE)
_XML_CHARSET = re.compile(rb"^\s*<\?xml[^>]{0,100}encoding\s*=\s*[\"']([\w.:-]{2,40})")
# Tags that XML ends at once, and HTML never.
_ENDED = re.compile(r"<([A-Za-z][\w:-]*)((?:\s[^<>]{0,5000})?)/>")
_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source"}
    | {"track", "wbr"}
)
# As browsers read them (the standard “Encoding”).
_READ_AS = {"iso8859-1": "cp1252", "ascii": "cp1252", "iso8859-9": "cp1254", "gb2312": "gb18030",
            "gbk": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949", "iso8859-8": "cp1255",
            "utf-16": "utf-8", "utf-16-le": "utf-8", "utf-16-be": "utf-8"}  # fmt: skip
# Tags that nest as deep as somebody writes them; others end where the next of their kind begins.
_NESTING = re.compile(
    r"<(/?)(?:div|span|section|article|main|ul|ol|dl|blockquote|table|b|i|u|em|strong|font|small|big|"
    r"details|form|fieldset|center|math|mrow|mfrac|msup|msub|msqrt|mstyle|semantics)\b",
    re.IGNORECASE,
)
_SCRIPTS = re.compile(r"<(script|style)\b.*?</\1\s*>|<!--.*?-->", re.DOTALL | re.IGNORECASE)
_LONG = 100_000
# So much of a page's text stands in tables, and the page is one.
_NEARLY_ALL = 0.9


def encoding_of(file: File, chosen: str | None, *, is_checked: bool) -> encodings.Encoding:
    """Find the encoding of a page: a mark at its start, what it says, else what fits.

    Raises:
        Unreadable: no encoding fits, or not the chosen one.
    """
    head = file.head(_HEAD_BYTES)
    has_mark = head.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if chosen is None and not has_mark and (said := _said(head)):
        try:
            return encodings.detect(file, said)
        except Unreadable:
            pass  # it says what is not true
    return encodings.detect(file, chosen, is_checked=is_checked)


def _said(head: bytes) -> str | None:
    match = _CHARSET.search(head) or _XML_CHARSET.match(head)
    if match is None:
        return None
    try:
        name = codecs.lookup(match[1].decode("ascii")).name
    except LookupError:
        return None
    name = _READ_AS.get(name, name)
    known = {codecs.lookup(each).name: each for each in encodings.CHOICES}
    return known.get(codecs.lookup(name).name)


class WebPage:
    """A page as a tree; what was left out of it is in `seen` once it was read."""

    def __init__(self, file: File, encoding: str) -> None:
        if file.size_bytes > MAX_BYTES:
            raise Unreadable(
                f"This web page has {file.size_bytes / 1e6:,.0f} MB and at most "
                f"{MAX_BYTES / 1e6:,.0f} MB can be read; save its rows as CSV, or its text as DOCX."
            )
        with file.text(encoding) as stream:
            text = stream.read().replace("\0", "\ufffd")
        self.is_of_excel = bool(_OF_EXCEL.search(text[: 16 * _HEAD_BYTES]))
        self.seen = Seen()
        self._tree, self._root = parsed(text)
        self._facts = Facts(self._root)
        if not self._root.text(deep=True).strip() and self._tree.css_first("frame, iframe"):
            raise Unreadable(
                "This web page only shows others in frames; upload those, or save it as XLSX or "
                "DOCX."
            )

    def blocks(self) -> Iterator[Block]:
        """Read it as a document, numbered by paragraph."""
        self.seen.clear()
        yield from Page(self._facts, self.seen).blocks(self._root)

    def is_table(self) -> bool:
        """Say whether it is a table and hardly anything else."""
        in_tables, in_all, num_rows = 0, 0, 0
        for block in self.blocks():
            size = len(block.text) + sum(len(cell) for row in block.rows for cell in row)
            in_all += size
            in_tables += size if block.kind == "table" else 0
            num_rows = max(num_rows, len(block.rows))
        self.seen.clear()
        if self.is_of_excel:
            return num_rows > 0
        return num_rows > 2 and in_tables >= _NEARLY_ALL * in_all

    def is_activity(self) -> bool:
        """Say whether it is what was asked and answered in Gemini, of Google Takeout."""
        return gemini.is_activity(self._root)

    def activity(self) -> Iterator[tuple[int, dict[str, Any] | LeftOut]]:
        """Read it as questions and answers, numbered by entry."""
        self.seen.clear()
        yield from gemini.of_page(self._root, self.seen)

    def tables(self) -> list[Table]:
        """List its tables."""
        page = Page(self._facts, Seen(), keeps_tables=True)
        for _ in page.blocks(self._root):
            pass
        return [table for table in page.tables if any(c.texts for r in table.rows for c in r)]


def parsed(text: str) -> tuple[Any, Any]:
    """Parse a page: the tree, which has to be kept, and the node of its body."""
    from selectolax.lexbor import LexborHTMLParser

    if len(text) > _LONG:
        _check_depth(text)
    if re.match(r"\s*(<\?xml|<!DOCTYPE[^>]{0,200}XHTML|<html[^>]{0,200}xmlns=)", text, re.I):
        text = _ENDED.sub(_with_end, text)
    tree = LexborHTMLParser(text)
    root = tree.body or tree.root
    if root is None:
        raise Unreadable("This web page has nothing in it; save it again and upload that.")
    return tree, root


def _check_depth(text: str) -> None:
    """Refuse what is nested without end before it is parsed: that takes the square of its depth."""
    depth = 0
    for tag in _NESTING.finditer(_SCRIPTS.sub("", text)):
        depth = max(depth - 1, 0) if tag[1] else depth + 1
        if depth > MAX_DEPTH:
            raise too_deep()


def _with_end(match: re.Match[str]) -> str:
    tag = match[1]
    return match[0] if tag.lower() in _VOID else f"<{tag}{match[2]}></{tag}>"


class HtmlBook:
    """The tables of a page as the sheets of a workbook."""

    # Numbers stand in a page as it shows them.
    separators: Separators | None = "english"
    region: Separators | None = None

    def __init__(self, page: WebPage) -> None:
        self._tables: dict[str, Table] = {}
        for number, table in enumerate(page.tables(), start=1):
            name = " ".join(table.caption.split())[:60] or f"Table {number}"
            self._tables[name if name not in self._tables else f"{name} ({number})"] = table

    @property
    def sheets(self) -> list[str]:
        return list(self._tables)

    def sheet(self, name: str) -> "HtmlSheet":
        """Open a table."""
        return HtmlSheet(self._tables[name])

    def num_notes(self, _: str) -> int:
        """There are no notes at the cells of a page."""
        return 0


class HtmlSheet:
    """A table of a page; its rows can be read as often as needed."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._rows, self._areas = placed(table.rows)
        self.hidden_columns: set[int] = set()
        self.separators: tuple[Separators, ...] = ("english",)
        self.seen = Seen()

    def merged(self) -> list[Area]:
        return self._areas

    def rows(self) -> Iterator[GridRow]:
        """Read the rows that have cells."""
        self.seen = Seen()
        self.seen.counts.update(self._table.seen.counts)
        self.seen.first.update(self._table.seen.first)
        for number, cells in enumerate(self._rows, start=1):
            for cell in self._table.rows[number - 1]:
                if cell.number_format and not _is_shown_so(cell.text, cell.number_format):
                    self.seen.add_format(cell.number_format, number)
            if any(cells):
                is_hidden = number - 1 in self._table.hidden
                yield GridRow(number, [check_length(cell, number) for cell in cells], is_hidden)


def _is_shown_so(text: str, code: str) -> bool:
    """Say whether Excel would show a number just as it stands in the page."""
    if code == "@" or not re.fullmatch(r"-?\d{1,15}(\.\d{1,15})?", text):
        return True
    return number_formats.of_code(code).show(float(text)).text.strip() == text
