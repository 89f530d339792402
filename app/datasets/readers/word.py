"""DOCX -> blocks: its XML read as a stream, entities refused: nothing grows or is fetched.

python-docx would hold the whole document as a tree, many times its size; this holds a paragraph.
"""

import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any
from xml.parsers import expat

from app.datasets.readers.blocks import MAX_BLOCK_CHARACTERS, Block
from app.datasets.readers.files import File
from app.datasets.readers.unreadable import Unreadable

_MAX_DEPTH = 200
_CHUNK_BYTES = 64 * 1024
_DAMAGED = "This Word document is damaged; open it in Word, save it again and upload that."
# Deleted, replaced or never shown: not part of what a reader of the document sees.
_SKIPPED = frozenset({"del", "moveFrom", "Fallback", "instrText", "delText", "rt", "sectPr"})


def word_blocks(file: File) -> Iterator[Block]:
    """Read a Word document into headings, paragraphs and tables, numbered by paragraph.

    Raises:
        Unreadable: it is damaged, or holds what Word never writes.
    """
    try:
        with file.open() as packed, zipfile.ZipFile(packed) as archive:
            names = [
                name for name in archive.namelist() if re.fullmatch(r"word/document\d*\.xml", name)
            ]
            if not names:
                raise Unreadable(_DAMAGED)
            levels = _heading_levels(archive)
            with archive.open(names[0]) as body:
                yield from _Body(levels).blocks(body)
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, zlib.error):
        raise Unreadable(_DAMAGED) from None


class _Xml:
    """A parser that refuses document types, and with them entities of any kind."""

    def __init__(self) -> None:
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.depth = 0

    def feed(self, stream: IO[bytes]) -> Iterator[None]:
        """Parse a stream; yields after each chunk."""
        try:
            while chunk := stream.read(_CHUNK_BYTES):
                self.parser.Parse(chunk, False)
                yield
            self.parser.Parse(b"", True)
        except expat.ExpatError as error:
            raise Unreadable(
                f"This Word document is damaged (its text breaks off at line {error.lineno:,} of "
                "its XML); open it in Word, save it again and upload that."
            ) from None
        yield

    def _refuse(self, *_: Any) -> None:
        raise Unreadable(
            "This Word document has a document type of its own (DTD), which Word never writes; "
            "open it in Word, save it again and upload that."
        )

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise Unreadable(
                f"This Word document is nested more than {_MAX_DEPTH} levels deep; copy its text "
                "into a new document and upload that."
            )
        self.start(
            name.rpartition(" ")[2], {k.rpartition(" ")[2]: v for k, v in attributes.items()}
        )

    def _end(self, name: str) -> None:
        self.depth -= 1
        self.end(name.rpartition(" ")[2])

    def _text(self, data: str) -> None:
        self.text(data)

    def start(self, name: str, attributes: dict[str, str]) -> None: ...

    def end(self, name: str) -> None: ...

    def text(self, data: str) -> None: ...


class _Styles(_Xml):
    """Which paragraph styles are headings; their ids are translated, their names are not."""

    def __init__(self) -> None:
        super().__init__()
        self.levels: dict[str, int] = {}
        self.bases: dict[str, str] = {}
        self.id = ""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        value = attributes.get("val", "")
        if name == "style":
            self.id = attributes.get("styleId", "")
        elif name == "name":
            if match := re.fullmatch(r"heading (\d)", value.lower()):
                self.levels[self.id] = int(match[1])
            elif value.lower() == "title":
                self.levels[self.id] = 1
        elif name == "basedOn":
            self.bases[self.id] = value
        elif name == "outlineLvl" and value.isdecimal() and int(value) < 9:
            self.levels.setdefault(self.id, int(value) + 1)


def _heading_levels(archive: zipfile.ZipFile) -> dict[str, int]:
    if "word/styles.xml" not in archive.namelist():
        return {}
    styles = _Styles()
    with archive.open("word/styles.xml") as stream:
        for _ in styles.feed(stream):
            pass
    for style in styles.bases:
        base, steps = style, 0
        while base not in styles.levels and base in styles.bases and steps < 20:
            base, steps = styles.bases[base], steps + 1
        if base in styles.levels:
            styles.levels.setdefault(style, styles.levels[base])
    return styles.levels


class _Paragraph:
    def __init__(self) -> None:
        self.parts: list[str] = []
        self.level = 0
        self.is_list = False

    def text(self) -> str:
        return "".join(self.parts).strip()


class _Body(_Xml):
    def __init__(self, levels: dict[str, int]) -> None:
        super().__init__()
        self.levels = levels
        self.ready: list[Block] = []
        self.number = 0
        self.skipping = 0
        self.in_text = 0
        self.paragraphs: list[_Paragraph] = []  # a text box stands inside a paragraph
        self.table: list[list[list[str]]] = []
        self.table_depth = 0
        self.size = 0

    def blocks(self, stream: IO[bytes]) -> Iterator[Block]:
        for _ in self.feed(stream):
            yield from self.ready
            self.ready.clear()

    def start(self, name: str, attributes: dict[str, str]) -> None:  # noqa: PLR0912 - one a tag
        if self.skipping or name in _SKIPPED:
            self.skipping += 1
            return
        value = attributes.get("val", "")
        match name:
            case "p":
                self.paragraphs.append(_Paragraph())
                self.number += 1
            case "t":
                self.in_text += 1
            case "tab":
                self._add("\t")
            case "br" | "cr":
                self._add("\n")
            case "noBreakHyphen":
                self._add("-")
            case "pStyle" if self.paragraphs:
                self.paragraphs[-1].level = self.levels.get(value, 0)
            case "outlineLvl" if self.paragraphs and value.isdecimal() and int(value) < 9:
                self.paragraphs[-1].level = int(value) + 1
            case "numPr" if self.paragraphs:
                self.paragraphs[-1].is_list = True
            case "tbl":
                self.table_depth += 1
                if self.table_depth == 1:
                    self.table, self.size = [], 0
            case "tr" if self.table_depth == 1:
                self.table.append([])
            case "tc" if self.table_depth == 1 and self.table:
                self.table[-1].append([])

    def end(self, name: str) -> None:
        if self.skipping:
            self.skipping -= 1
            return
        match name:
            case "t":
                self.in_text -= 1
            case "p" if self.paragraphs:
                self._end_paragraph(self.paragraphs.pop())
            case "tbl":
                self.table_depth -= 1
                if self.table_depth == 0:
                    rows = [["\n".join(cell) for cell in row] for row in self.table]
                    self.ready.append(Block("table", self.number, rows=rows))
                    self.table = []

    def text(self, data: str) -> None:
        if self.in_text and not self.skipping:
            self._add(data)

    def _add(self, text: str) -> None:
        if self.paragraphs:
            self.paragraphs[-1].parts.append(text)
            self.size += len(text)
            if self.size > MAX_BLOCK_CHARACTERS:
                raise Unreadable(
                    f"Paragraph {self.number:,} or its table has more than 4 MB of text; break it "
                    "up, then upload the document again."
                )

    def _end_paragraph(self, paragraph: _Paragraph) -> None:
        text = paragraph.text()
        if self.table_depth:
            if text and self.table and self.table[-1]:
                self.table[-1][-1].append(text)
            return
        self.size = 0
        if not text:
            return
        if paragraph.level:
            self.ready.append(
                Block("heading", self.number, " ".join(text.split()), paragraph.level)
            )
        else:
            self.ready.append(
                Block("text", self.number, f"- {text}" if paragraph.is_list else text)
            )
