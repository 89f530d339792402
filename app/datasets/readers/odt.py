"""ODT -> blocks: its content read as a stream, as DOCX is: entities refused, a paragraph held.

What a reader of the document sees is kept; what is struck out, hidden or deleted is left out and
counted.
"""

import re
import zipfile
from collections.abc import Iterator
from typing import IO

from app.datasets.readers import signs
from app.datasets.readers.blocks import MAX_BLOCK_CHARACTERS, Block
from app.datasets.readers.files import DAMAGES, File
from app.datasets.readers.grids import Seen
from app.datasets.readers.mathml import MathMl
from app.datasets.readers.odf import BLANKS, Look, Styles, count_of
from app.datasets.readers.unreadable import Unreadable
from app.datasets.readers.xml_stream import XmlStream

_WHAT = "OpenDocument text"
_DAMAGED = f"This {_WHAT} is damaged; open it in LibreOffice, save it again and upload that."
_INDEXES = frozenset(
    {"table-of-content", "illustration-index", "table-index", "object-index", "user-index"}
    | {"alphabetical-index", "bibliography"}
)
# Of no words that are read; some are counted.
_SKIPPED = _INDEXES | {
    "annotation", "tracked-changes", "note-citation", "ruby-text", "forms", "sequence-decls",
    "variable-decls", "user-field-decls", "dde-connection-decls", "scripts",
}  # fmt: skip
_SHAPES = frozenset(
    {"frame", "custom-shape", "g", "rect", "ellipse", "line", "path", "polygon", "connector"}
)
_HEADING = re.compile(r"paragraph:(?:Heading(?:_20_| )([1-9])|Title)")
_MAX_SPAN = 1000
_MAX_EQUATION_BYTES = 1024**2


def odt_blocks(file: File, seen: Seen) -> Iterator[Block]:
    """Read an OpenDocument text into headings, paragraphs and tables, numbered by paragraph.

    Args:
        seen: Counts afresh what is left out.

    Raises:
        Unreadable: it is damaged, or holds what no program writes.
    """
    seen.clear()
    try:
        with file.open() as packed, zipfile.ZipFile(packed) as archive:
            if "content.xml" not in archive.namelist():
                raise Unreadable(_DAMAGED)
            styles = Styles(_WHAT)
            if "styles.xml" in archive.namelist():
                with archive.open("styles.xml") as stream:
                    styles.read(stream)
            with archive.open("content.xml") as body:
                yield from _Body(archive, styles, seen).blocks(body)
    except DAMAGES:
        raise Unreadable(_DAMAGED) from None


class _Math(XmlStream):
    """An equation, which is a document of its own in the package."""

    what, program = _WHAT, "LibreOffice"

    def __init__(self) -> None:
        super().__init__()
        self.equation: MathMl | None = None
        self.written: str | None = None

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if self.equation is not None:
            self.equation.start(name, attributes)
        elif name == "math":
            self.equation = MathMl()

    def end(self, _: str) -> None:
        if self.equation is not None and (written := self.equation.end()) is not None:
            self.equation, self.written = None, written

    def text(self, data: str) -> None:
        if self.equation is not None:
            self.equation.text(data)


class _Paragraph:
    def __init__(self, look: Look, level: int, *, is_list: bool) -> None:
        self.parts: list[str] = []
        self.level, self.is_list = level, is_list
        self.looks = [look]
        self.lost = False  # something was left out of it
        self.is_hidden = False

    def text(self) -> str:
        text = "".join(self.parts).strip()
        # Blanks stood on both sides of what was left out.
        return re.sub(" {2,}", " ", text) if self.lost else text


class _Table:
    def __init__(self) -> None:
        self.rows: list[list[str]] = []
        self.has_header = False
        # By column: how many rows a merged cell still reaches down, and its text.
        self.reaching: dict[int, tuple[int, str]] = {}
        self.cell: list[str] | None = None
        self.spans = (1, 1)  # of the open cell: columns and rows


class _Body(XmlStream):
    what, program = _WHAT, "LibreOffice"

    def __init__(self, archive: zipfile.ZipFile, styles: Styles, seen: Seen) -> None:
        super().__init__()
        self.archive, self.styles, self.seen = archive, styles, seen
        self.ready: list[Block] = []
        self.number = 0
        self.in_body = self.is_open = False  # the styles are over
        self.skipping = 0
        self.skipped = ""
        self.hidden = 0  # how deep in a hidden section
        self.paragraphs: list[_Paragraph] = []  # a note or a text box stands inside a paragraph
        self.tables: list[_Table] = []
        self.notes: list[list[str]] = []
        self.lists: list[bool] = []  # open items: whether their sign was written
        self.frames: list[bool] = []  # open frames: whether their equation was read
        self.size = 0

    def blocks(self, stream: IO[bytes]) -> Iterator[Block]:
        for _ in self.feed(stream):
            yield from self.ready
            self.ready.clear()

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if not self.is_open:
            self.is_open = self.in_body and name == "text"
            self.in_body = self.in_body or name == "body"
            self.styles.start(name, attributes)
        elif self.skipping or name in _SKIPPED or (self.frames and name in ("title", "desc")):
            self._skip(name)
        elif self.hidden or (name == "section" and attributes.get("display") == "none"):
            self.hidden += 1
        elif not self._start_table(name, attributes):
            self._start_text(name, attributes)

    def _skip(self, name: str) -> None:
        self.skipping += 1
        if self.skipping == 1:
            self.skipped = name
            if name == "annotation":
                self.seen.add("comment", self.number)
            elif name in _INDEXES:
                self.seen.add("index", self.number)
        elif self.skipped == "tracked-changes" and name == "deletion":
            self.seen.add("deleted", self.number or 1)

    def _start_table(self, name: str, attributes: dict[str, str]) -> bool:
        table = self.tables[-1] if self.tables else None
        match name:
            case "table":
                self.tables.append(_Table())
                if len(self.tables) == 1:
                    self.size = 0
            case "table-header-rows" if table is not None:
                table.has_header = not table.rows
            case "table-row" if table is not None:
                table.rows.append([])
            case "table-cell" if table is not None and table.rows:
                table.cell = []
                table.spans = (
                    min(count_of(attributes, "number-columns-spanned"), _MAX_SPAN),
                    min(count_of(attributes, "number-rows-spanned"), _MAX_SPAN),
                )
            case "covered-table-cell" if table is not None and table.rows:
                self._add_covered(table, count_of(attributes, "number-columns-repeated"))
            case _:
                return False
        return True

    def _start_text(self, name: str, attributes: dict[str, str]) -> None:  # noqa: PLR0912 - one a tag
        paragraph = self.paragraphs[-1] if self.paragraphs else None
        match name:
            case "p" | "h":
                self._start_paragraph(name, attributes)
            case "list-item" | "list-header":
                self.lists.append(name == "list-header")
            case "note":
                self.notes.append([])
            case _ if name in _SHAPES:
                self.frames.append(False)
            case "image" if not (self.frames and self.frames[-1]):
                self.seen.add("picture", self.number)
                if self.frames:  # one picture in several formats is one
                    self.frames[-1] = True
            case "object" | "object-ole" | "plugin":
                self._add_object(attributes.get("href", ""))
            case _ if paragraph is None:
                return
            case "span" | "a" | "meta" | "ruby":
                look = self.styles.look("text", attributes.get("style-name"))
                paragraph.looks.append(look.over(paragraph.looks[-1]))
            case "hidden-text" if attributes.get("is-hidden") == "true":
                paragraph.looks.append(paragraph.looks[-1]._replace(is_hidden=True))
            case "hidden-text":
                paragraph.looks.append(paragraph.looks[-1])
            case "hidden-paragraph" if attributes.get("is-hidden") == "true":
                paragraph.is_hidden = True
            case "s":
                self._add(" " * min(count_of(attributes, "c"), 1000))
            case "tab":
                self._add("\t")
            case "line-break":
                self._add("\n")

    def _start_paragraph(self, name: str, attributes: dict[str, str]) -> None:
        self.number += 1
        style = attributes.get("style-name", "")
        level = count_of(attributes, "outline-level") if name == "h" else 0
        is_list = bool(self.lists) and not self.lists[-1]
        if is_list:
            self.lists[-1] = True
        level = level or self._level_of(style)
        look = self.styles.look("paragraph", style)
        self.paragraphs.append(_Paragraph(look, min(level, 9), is_list=is_list))

    def _level_of(self, style: str) -> int:
        """Return how high a heading a paragraph is by its style; 0: it is none."""
        key = f"paragraph:{style}"
        for _ in range(20):
            if match := _HEADING.fullmatch(key):
                return int(match[1] or 1)
            key = self.styles.parents.get(key, "")
        return 0

    def end(self, name: str) -> None:
        if not self.is_open:
            self.styles.end(name)
            return
        if self.skipping:
            self.skipping -= 1
            return
        if self.hidden:
            self.hidden -= 1
            return
        match name:
            case "p" | "h" if self.paragraphs:
                self._end_paragraph(self.paragraphs.pop())
            case "list-item" | "list-header" if self.lists:
                self.lists.pop()
            case "span" | "a" | "meta" | "ruby" | "hidden-text":
                if self.paragraphs and len(self.paragraphs[-1].looks) > 1:
                    self.paragraphs[-1].looks.pop()
            case "note" if self.notes:
                note = " ".join(self.notes.pop())
                if note:
                    self._add(f" [{note}]")
            case _ if name in _SHAPES and self.frames:
                self.frames.pop()
            case "table-cell" if self.tables:
                self._end_cell(self.tables[-1])
            case "table" if self.tables:
                self._end_table(self.tables.pop())

    def text(self, data: str) -> None:
        if not self.is_open or self.skipping:
            return
        if self.hidden:
            if data.strip():
                self.seen.add("hidden_text", self.number or 1)
            return
        if not self.paragraphs:
            return
        parts = self.paragraphs[-1].parts
        shown = BLANKS.sub(" ", data)
        if shown.startswith(" ") and (not parts or parts[-1].endswith((" ", "\n"))):
            shown = shown[1:]
        self._add(shown)

    def _add(self, text: str) -> None:
        if not text or not self.paragraphs:
            return
        paragraph = self.paragraphs[-1]
        look = paragraph.looks[-1]
        if look.is_struck or look.is_hidden or paragraph.is_hidden:
            if text.strip():
                self.seen.add("struck" if look.is_struck else "hidden_text", self.number)
                paragraph.lost = True
            return
        if look.symbols:
            text, num_unknown = signs.in_font(text, look.symbols)
            for _ in range(min(num_unknown, 100)):
                self.seen.add("sign", self.number)
        if look.raises:
            text = signs.raised(text) if look.raises == "superscript" else signs.lowered(text)
        self._put(text)

    def _put(self, text: str) -> None:
        self.paragraphs[-1].parts.append(text)
        self.size += len(text)
        if self.size > MAX_BLOCK_CHARACTERS:
            raise Unreadable(
                f"Paragraph {self.number:,} or its table has more than 4 MB of text; break it up, "
                "then upload the document again."
            )

    def _add_object(self, href: str) -> None:
        """Write an embedded equation; what else is embedded is counted."""
        written = self._equation(href.removeprefix("./").rstrip("/"))
        if written and self.paragraphs:
            before = self.paragraphs[-1].parts[-1:] or [""]
            glued = before[0][-1:].isdecimal() and re.match(r"\d", written)
            self._put(f" {written}" if glued else written)
        else:
            self.seen.add("object", self.number)
        if self.frames:  # the picture of it that stands beside
            self.frames[-1] = True

    def _equation(self, folder: str) -> str | None:
        try:
            entry = self.archive.getinfo(f"{folder}/content.xml")
        except KeyError:
            return None
        if entry.file_size > _MAX_EQUATION_BYTES:
            return None
        reader = _Math()
        with self.archive.open(entry) as stream:
            reader.read(stream)
        return reader.written

    def _end_paragraph(self, paragraph: _Paragraph) -> None:
        text = paragraph.text()
        if self.notes:
            self.notes[-1] += [text] if text else []
            return
        if text and paragraph.is_list and not paragraph.level:
            text = f"- {text}"
        if self.tables:
            if text and self.tables[-1].cell is not None:
                self.tables[-1].cell.append(text)
            return
        if not self.paragraphs:
            self.size = 0
        if not text:
            return
        if paragraph.level:
            text = " ".join(text.split())
            self.ready.append(Block("heading", self.number, text, paragraph.level))
        else:
            self.ready.append(Block("text", self.number, text))

    def _add_covered(self, table: _Table, times: int) -> None:
        row = table.rows[-1]
        for _ in range(min(times, _MAX_SPAN)):
            num_left, text = table.reaching.get(len(row), (0, ""))
            if num_left and text:
                self.seen.add("merged", self.number)
            row.append(text if num_left else "")
            if num_left:
                table.reaching[len(row) - 1] = (num_left - 1, text)
            self._check_width(row)

    def _end_cell(self, table: _Table) -> None:
        if table.cell is None or not table.rows:
            return
        text, (_, num_rows) = "\n".join(table.cell), table.spans
        row = table.rows[-1]
        table.reaching[len(row)] = (num_rows - 1, text)
        row.append(text)
        table.cell = None
        self._check_width(row)

    def _check_width(self, row: list[str]) -> None:
        if len(row) > _MAX_SPAN:
            raise Unreadable(
                f"A table at paragraph {self.number:,} has more than {_MAX_SPAN:,} columns; keep "
                "those with questions and answers."
            )

    def _end_table(self, table: _Table) -> None:
        rows = [row for row in table.rows if row]
        if self.tables:
            if self.tables[-1].cell is not None:
                self.tables[-1].cell += [" | ".join(row) for row in rows if any(row)]
        elif rows:
            self.ready.append(Block("table", self.number, rows=rows, has_header=table.has_header))
            self.size = 0
