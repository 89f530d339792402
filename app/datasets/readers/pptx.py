"""PPTX -> blocks: each slide's XML read as a stream, as DOCX is; python-pptx would hold trees.

A slide's title is a heading, below it stand its texts, its tables and the speaker's notes. What is
struck out or hidden is left out and counted.
"""

import posixpath
import re
import zipfile
from collections.abc import Iterator
from typing import NamedTuple

from app.datasets.readers import signs
from app.datasets.readers.blocks import MAX_BLOCK_CHARACTERS, Block
from app.datasets.readers.equations import Equation
from app.datasets.readers.files import DAMAGES, File
from app.datasets.readers.grids import Seen
from app.datasets.readers.unreadable import Unreadable
from app.datasets.readers.xml_stream import XmlStream

_WHAT = "presentation"
_DAMAGED = f"This {_WHAT} is damaged; open it in PowerPoint, save it again and upload that."
_MAX_SLIDES = 5000
_MAX_SPAN = 1000
# Of each slide the same, or numbers of pages.
_REPEATED = frozenset({"ftr", "hdr", "dt", "sldNum", "sldImg"})
_TITLES = frozenset({"title", "ctrTitle"})
_SKIPPED = frozenset({"Fallback", "extLst"})


class _Relation(NamedTuple):
    kind: str  # the last part of its type: slide, notesSlide, diagramData …
    target: str  # a part's name


def pptx_blocks(file: File, seen: Seen, *, takes_hidden: bool = False) -> Iterator[Block]:
    """Read a presentation into headings, paragraphs and tables, numbered by slide.

    Args:
        seen: Counts afresh what is left out.
        takes_hidden: Whether hidden slides are slides as others; else they are left out.

    Raises:
        Unreadable: it is damaged, or holds what PowerPoint never writes.
    """
    seen.clear()
    try:
        with file.open() as packed, zipfile.ZipFile(packed) as archive:
            names = set(archive.namelist())
            for number, name in enumerate(_slides(archive, names), start=1):
                slide = _Slide(number, seen)
                with archive.open(name) as stream:
                    slide.read(stream)
                if slide.is_hidden and not takes_hidden:
                    seen.add("hidden_slide", number)
                else:
                    yield from _slide_blocks(archive, names, name, slide, seen)
    except DAMAGES:
        raise Unreadable(_DAMAGED) from None


def _slides(archive: zipfile.ZipFile, names: set[str]) -> list[str]:
    """List the slides in their order."""
    main = "ppt/presentation.xml"
    if main not in names:
        raise Unreadable(_DAMAGED)
    order = _Order()
    with archive.open(main) as stream:
        order.read(stream)
    relations = _relations(archive, names, main)
    slides = [relations[each].target for each in order.ids if each in relations]
    slides = [name for name in slides if name in names]
    if len(slides) > _MAX_SLIDES:
        raise Unreadable(
            f"This presentation has {len(slides):,} slides and at most {_MAX_SLIDES:,} can be "
            "read; split it."
        )
    return slides


def _relations(archive: zipfile.ZipFile, names: set[str], part: str) -> dict[str, _Relation]:
    folder, _, name = part.rpartition("/")
    path = f"{folder}/_rels/{name}.rels"
    if path not in names:
        return {}
    reader = _Relations(folder)
    with archive.open(path) as stream:
        reader.read(stream)
    return reader.found


def _slide_blocks(
    archive: zipfile.ZipFile, names: set[str], name: str, slide: "_Slide", seen: Seen
) -> Iterator[Block]:
    number = slide.number
    slide.tell()
    if not slide.title:
        yield Block("end", number, level=1)  # else it would belong to the slide before
    yield from slide.title
    yield from slide.blocks
    for relation in _relations(archive, names, name).values():
        if relation.target not in names:
            continue
        if relation.kind == "comments":
            comments = _Comments()
            with archive.open(relation.target) as stream:
                comments.read(stream)
            for _ in range(comments.count):
                seen.add("comment", number)
        elif relation.kind == "diagramData":
            yield from _read(_Diagram(number, seen), archive, relation.target)
        elif relation.kind == "notesSlide":
            notes = list(_read(_Slide(number, seen, is_notes=True), archive, relation.target))
            if notes:
                seen.add("speaker_notes", number)
            yield from notes


def _read(part: "_Slide", archive: zipfile.ZipFile, name: str) -> list[Block]:
    with archive.open(name) as stream:
        part.read(stream)
    part.tell()
    return part.blocks


class _PowerPoint(XmlStream):
    what, program = _WHAT, "PowerPoint"


class _Order(_PowerPoint):
    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        super()._start(name, attributes)
        if self.local(name) == "sldId":
            # Beside an id without a prefix, which is a number.
            self.ids += [value for key, value in attributes.items() if key.endswith(":id")]


class _Relations(_PowerPoint):
    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = folder
        self.found: dict[str, _Relation] = {}

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name != "Relationship" or attributes.get("TargetMode") == "External":
            return
        target = attributes.get("Target", "")
        path = target if target.startswith("/") else f"/{self.folder}/{target}"
        kind = attributes.get("Type", "").rpartition("/")[2]
        self.found[attributes.get("Id", "")] = _Relation(kind, posixpath.normpath(path)[1:])


class _Comments(_PowerPoint):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def start(self, name: str, _: dict[str, str]) -> None:
        self.count += name == "cm"


class _Shape:
    def __init__(self) -> None:
        self.placeholder: str | None = None
        self.is_hidden = False


class _Cell:
    def __init__(self, attributes: dict[str, str]) -> None:
        self.texts: list[str] = []
        self.goes_down = attributes.get("vMerge") in ("1", "true")
        self.goes_right = attributes.get("hMerge") in ("1", "true")


class _Slide(_PowerPoint):
    """A slide or its notes; `blocks` are there once it was read."""

    def __init__(self, number: int, total: Seen, *, is_notes: bool = False) -> None:
        super().__init__()
        self.number, self.is_notes = number, is_notes
        self.total, self.seen = total, Seen()
        self.is_hidden = False
        self.title: list[Block] = []
        self.blocks: list[Block] = []
        self.skipping = 0
        self.shapes: list[_Shape] = []
        self.table: list[list[_Cell]] | None = None
        self.parts: list[str] | None = None
        self.bullet = ""
        self.numbering: dict[int, int] = {}
        self.level = 0
        self.lost = False
        self.in_text = self.in_run = False
        self.run: dict[str, str] = {}
        self.font = ""
        self.equation: Equation | None = None
        self.size = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:  # noqa: PLR0912 - one a tag
        if self.skipping or name in _SKIPPED:
            self.skipping += 1
            return
        if self.equation is not None:
            self.equation.start(name, attributes)
            self.in_text = self.in_text or name == "t"
            return
        match name:
            case "sld":
                self.is_hidden = attributes.get("show") in ("0", "false")
            case "sp" | "graphicFrame" | "pic" | "cxnSp":
                self.shapes.append(_Shape())
                self.numbering = {}
                if name == "pic":
                    self.seen.add("picture", self.number)
            case "cNvPr" if self.shapes and attributes.get("hidden") in ("1", "true"):
                self.shapes[-1].is_hidden = True
            case "ph" if self.shapes:
                self.shapes[-1].placeholder = attributes.get("type", "obj")
            case "chart" | "oleObj":
                self.seen.add("object", self.number)
            case "tbl":
                self.table = []
            case "tr" if self.table is not None:
                self.table.append([])
            case "tc" if self.table:
                self.table[-1].append(_Cell(attributes))
            case "p":
                self.parts, self.lost, self.level = [], False, 0
                self.bullet = "- " if self._is_list() else ""
            case "oMath" if self.parts is not None:
                self.equation = Equation()
            case _ if self.parts is not None:
                self._start_in_paragraph(name, attributes)

    def _start_in_paragraph(self, name: str, attributes: dict[str, str]) -> None:
        match name:
            case "pPr":
                level = attributes.get("lvl", "0")
                self.level = int(level) if level.isdecimal() and len(level) == 1 else 0
            case "buNone":
                self.bullet = ""
            case "buChar" | "buBlip":
                self.bullet = "- "
            case "buAutoNum":
                first = attributes.get("startAt", "1")
                start = int(first) if first.isdecimal() and len(first) < 6 else 1
                self.bullet = f"{self.numbering.get(self.level, start)}. "
            case "r" | "fld":
                self.in_run, self.run, self.font = True, {}, ""
            case "rPr" if self.in_run:
                self.run = attributes
            case "latin" | "sym" if self.in_run:
                font = attributes.get("typeface", "")
                self.font = font if signs.is_symbol_font(font) else self.font
            case "br":
                self._put("\n")
            case "tab":
                self._put("\t")
            case "t":
                self.in_text = True

    def tell(self) -> None:
        """Count what was left out; of a hidden slide nothing is."""
        for what, count in self.seen.counts.items():
            self.total.counts[what] += count
            self.total.first.setdefault(what, self.number)

    def _is_list(self) -> bool:
        """Say whether a paragraph has a bullet by the slide's layout."""
        kind = self.shapes[-1].placeholder if self.shapes else None
        return kind in ("obj", "body") and self.table is None and not self.is_notes

    def end(self, name: str) -> None:
        if self.skipping:
            self.skipping -= 1
            return
        if self.equation is not None:
            self.in_text = self.in_text and name != "t"
            if (written := self.equation.end(name)) is not None:
                for what in self.equation.left_out:
                    self.seen.add(what, self.number)
                    self.lost = True
                self.equation = None
                self._add_equation(written)
            return
        match name:
            case "t":
                self.in_text = False
            case "r" | "fld":
                self.in_run = False
            case "p" if self.parts is not None:
                self._end_paragraph()
            case "tbl" if self.table is not None:
                self._end_table(self.table)
                self.table = None
            case "sp" | "graphicFrame" | "pic" | "cxnSp" if self.shapes:
                self.shapes.pop()

    def text(self, data: str) -> None:
        if self.skipping or not self.in_text:
            return
        if self.equation is not None:
            self.equation.text(data)
            return
        is_struck = self.run.get("strike", "noStrike") != "noStrike"
        if is_struck or (self.shapes and self.shapes[-1].is_hidden):
            if data.strip():
                self.seen.add("struck" if is_struck else "hidden_text", self.number)
                self.lost = True
            return
        if self.font or any("\uf000" <= c <= "\uf0ff" for c in data):
            data, num_unknown = signs.in_font(data, self.font)
            for _ in range(min(num_unknown, 100)):
                self.seen.add("sign", self.number)
        baseline = self.run.get("baseline", "0").rstrip("%")
        if re.fullmatch(r"-?[1-9]\d*(\.\d+)?", baseline):
            data = signs.lowered(data) if baseline.startswith("-") else signs.raised(data)
        self._put(data)

    def _put(self, text: str) -> None:
        if self.parts is None:
            return
        self.parts.append(text)
        self.size += len(text)
        if self.size > MAX_BLOCK_CHARACTERS:
            raise Unreadable(
                f"Slide {self.number:,} has more than 4 MB of text; split it, then upload the "
                "presentation again."
            )

    def _add_equation(self, written: str) -> None:
        before = self.parts[-1] if self.parts else ""
        glued = before[-1:].isdecimal() and re.match(r"\d", written)
        self._put(f" {written}" if glued else written)

    def _end_paragraph(self) -> None:
        text = "".join(self.parts or ()).strip()
        self.parts = None
        if self.lost:
            text = re.sub(" {2,}", " ", text)
        kind = self.shapes[-1].placeholder if self.shapes else None
        if not text or kind in _REPEATED:
            return
        if match := re.match(r"\d+", self.bullet):
            self.numbering[self.level] = int(match[0]) + 1
        if self.table is not None:
            if self.table and self.table[-1]:
                self.table[-1][-1].texts.append(self.bullet + text)
        elif kind in _TITLES and not self.is_notes:
            before = self.title[0].text + " " if self.title else ""
            self.title = [Block("heading", self.number, before + " ".join(text.split()), 1)]
        else:
            self.blocks.append(Block("text", self.number, self.bullet + text))

    def _end_table(self, table: list[list[_Cell]]) -> None:
        """Write a table; a cell that is merged with the one above has its text."""
        rows: list[list[str]] = []
        for cells in table:
            row: list[str] = []
            for column, cell in enumerate(cells[:_MAX_SPAN]):
                text = "\n".join(cell.texts)
                is_below = cell.goes_down and not cell.goes_right
                if is_below and not text and rows and column < len(rows[-1]):
                    text = rows[-1][column]
                    if text:
                        self.seen.add("merged", self.number)
                row.append(text)
            rows.append(row)
        if any(any(row) for row in rows):
            self.blocks.append(Block("table", self.number, rows=rows))


class _Diagram(_Slide):
    """The words of a SmartArt drawing, in the order in which they were typed."""

    def _is_list(self) -> bool:
        return True
