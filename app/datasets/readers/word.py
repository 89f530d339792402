"""DOCX -> blocks: its XML read as a stream, entities refused: nothing grows or is fetched.

python-docx would hold the whole document as a tree, many times its size; this holds a paragraph.
What a reader of the document sees is kept: raised digits, signs and equations as Unicode. What is
struck out, hidden or deleted is left out and counted.
"""

import re
import zipfile
from collections.abc import Iterator
from typing import IO, NamedTuple

from app.datasets.readers import office_fields, signs
from app.datasets.readers.blocks import MAX_BLOCK_CHARACTERS, Block
from app.datasets.readers.equations import Equation
from app.datasets.readers.files import DAMAGES, File
from app.datasets.readers.grids import Seen
from app.datasets.readers.unreadable import Unreadable
from app.datasets.readers.xml_stream import XmlStream

_DAMAGED = "This Word document is damaged; open it in Word, save it again and upload that."
# Deleted or moved away, and said; or never shown.
_DELETED = frozenset({"del", "moveFrom"})
# How a text looked before a change that was tracked: it no longer does.
_FORMER = frozenset(
    {"rPrChange", "pPrChange", "sectPrChange", "numberingChange"}
    | {"tblPrChange", "tblPrExChange", "tblGridChange", "trPrChange", "tcPrChange"}
)
_SKIPPED = frozenset({"Fallback", "delText", "rt", "sectPr", *_DELETED, *_FORMER})
_MAX_NOTES_CHARACTERS = 16 * 1024**2
# Where symbol fonts have their signs.
_PRIVATE = re.compile("[\uf000-\uf0ff]")
# Word's tables have no more columns.
_MAX_SPAN = 63
_A_MARK = re.compile(r"\W{0,3}\w?\W{0,9}")
# Half points by which a manual raise or drop is more than a nudge.
_RAISED_BY = 4


def word_blocks(file: File, seen: Seen) -> Iterator[Block]:
    """Read a Word document into headings, paragraphs and tables, numbered by paragraph.

    Args:
        seen: Counts afresh what is left out.

    Raises:
        Unreadable: it is damaged, or holds what Word never writes.
    """
    seen.clear()
    try:
        with file.open() as packed, zipfile.ZipFile(packed) as archive:
            names = [
                name for name in archive.namelist() if re.fullmatch(r"word/document\d*\.xml", name)
            ]
            if not names:
                raise Unreadable(_DAMAGED)
            styles = _read_styles(archive)
            notes = _read_notes(archive, styles, seen)
            with archive.open(names[0]) as body:
                yield from _Body(styles, seen, notes).blocks(body)
    except DAMAGES:
        raise Unreadable(_DAMAGED) from None


class _Look(NamedTuple):
    """What a style or a run says of its text; None: as what is around it."""

    is_struck: bool | None = None
    is_hidden: bool | None = None
    raises: str | None = None
    symbols: str | None = None
    is_bold: bool | None = None

    def over(self, below: "_Look") -> "_Look":
        """Return this, with another's word where this says nothing."""
        own = {name: value for name, value in self._asdict().items() if value is not None}
        return below._replace(**own)

    def hearing(self, name: str, attributes: dict[str, str]) -> "_Look":
        """Return this with what one property says."""
        value = attributes.get("val", "")
        is_on = value not in ("0", "false", "off", "none")
        match name:
            case "strike" | "dstrike":
                return self._replace(is_struck=is_on)
            case "b":
                return self._replace(is_bold=is_on)
            case "vanish":
                return self._replace(is_hidden=is_on)
            case "vertAlign":
                return self._replace(raises=value if value != "baseline" else "")
            case "position" if re.fullmatch(r"-?\d{1,4}", value) and abs(int(value)) >= _RAISED_BY:
                return self._replace(raises="superscript" if int(value) > 0 else "subscript")
            case "rFonts":
                font = attributes.get("ascii") or attributes.get("hAnsi") or ""
                if font:
                    return self._replace(symbols=font if signs.is_symbol_font(font) else "")
        return self


class _Word(XmlStream):
    what, program = "Word document", "Word"


class _Styles(_Word):
    """Which paragraph styles are headings, and how styles show text; ids are translated."""

    def __init__(self) -> None:
        super().__init__()
        self.levels: dict[str, int] = {}
        self.bases: dict[str, str] = {}
        self.looks: dict[str, _Look] = {}
        self.id = ""
        self.in_style = False
        self.skipping = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if self.skipping or name in _FORMER:
            self.skipping += 1
            return
        value = attributes.get("val", "")
        if name == "style":
            self.id, self.in_style = attributes.get("styleId", ""), True
        elif name == "name":
            if match := re.fullmatch(r"heading (\d)", value.lower()):
                self.levels[self.id] = int(match[1])
            elif value.lower() == "title":
                self.levels[self.id] = 1
        elif name == "basedOn":
            self.bases[self.id] = value
        elif name == "outlineLvl" and value.isdecimal() and int(value) < 9:
            self.levels.setdefault(self.id, int(value) + 1)
        elif self.in_style:
            before = self.looks.get(self.id, _Look())
            after = before.hearing(name, attributes)
            if after != before:
                self.looks[self.id] = after

    def end(self, name: str) -> None:
        if self.skipping:
            self.skipping -= 1
        elif name == "style":
            self.in_style = False

    def finish(self) -> None:
        """Give styles what those they are based on say."""
        for style in self.bases:
            base, steps = style, 0
            look = self.looks.get(style, _Look())
            while base in self.bases and steps < 20:
                base, steps = self.bases[base], steps + 1
                if base in self.levels:
                    self.levels.setdefault(style, self.levels[base])
                look = look.over(self.looks.get(base, _Look()))
            if look != _Look():
                self.looks[style] = look

    def look(self, style: str) -> _Look:
        return self.looks.get(style, _Look())


def _read_styles(archive: zipfile.ZipFile) -> _Styles:
    styles = _Styles()
    if "word/styles.xml" in archive.namelist():
        with archive.open("word/styles.xml") as stream:
            styles.read(stream)
        styles.finish()
    return styles


def _read_notes(archive: zipfile.ZipFile, styles: _Styles, seen: Seen) -> dict[str, str]:
    """Return the texts of footnotes and endnotes by their kind and number."""
    notes: dict[str, str] = {}
    for kind in ("footnote", "endnote"):
        if f"word/{kind}s.xml" not in archive.namelist():
            continue
        reader = _Notes(kind, styles, seen)
        with archive.open(f"word/{kind}s.xml") as stream:
            for _ in reader.blocks(stream):
                pass
        notes |= reader.own
    return notes


class _Paragraph:
    def __init__(self) -> None:
        self.parts: list[str] = []
        self.level = 0
        self.is_list = False
        self.look = _Look()
        self.lost = False  # something was left out of it
        self.not_bold: list[str] = []

    def text(self) -> str:
        return "".join(self.parts).strip()

    def is_bold(self) -> bool:
        """Say whether all of it is in bold letters, but a mark such as “a)” before it."""
        plain = "".join(self.not_bold).strip()
        return len(plain) < len(self.text()) and _A_MARK.fullmatch(plain) is not None


class _Field:
    """A field that is open: its instruction, and then what is shown of it."""

    def __init__(self, instruction: str | None = None) -> None:
        self.instruction: list[str] = []
        self.size = 0
        self.look = _Look()
        self.has_begun = instruction is not None  # with what is shown
        self.is_written = False  # what it stands for was, so that its own result is not
        self.add(instruction or "")

    def add(self, text: str) -> None:
        self.size += len(text)
        if self.size <= office_fields.MAX_INSTRUCTION_CHARACTERS:
            self.instruction.append(text)


class _Cell:
    def __init__(self) -> None:
        self.texts: list[str] = []
        self.span = 1
        self.goes_on = False  # it is merged with the cell above


class _Body(_Word):
    def __init__(self, styles: _Styles, seen: Seen, notes: dict[str, str]) -> None:
        super().__init__()
        self.styles, self.seen, self.notes = styles, seen, notes
        self.ready: list[Block] = []
        self.number = 0
        self.skipping = 0
        self.skipped = ""
        self.in_text = 0
        self.in_run = False
        self.look = _Look()
        self.equation: Equation | None = None
        self.fields: list[_Field] = []  # one may stand within another
        self.in_instruction = self.in_object = 0
        self.paragraphs: list[_Paragraph] = []  # a text box stands inside a paragraph
        self.tables: list[list[list[_Cell]]] = []  # a table may stand in a cell
        self.gone: list[list[_Cell]] = []  # rows that were deleted while changes were tracked
        self.in_row_settings = False
        self.size = 0

    def blocks(self, stream: IO[bytes]) -> Iterator[Block]:
        for _ in self.feed(stream):
            yield from self.ready
            self.ready.clear()

    def start(self, name: str, attributes: dict[str, str]) -> None:  # noqa: PLR0912, PLR0915 - a tag each
        if name == "del" and self.in_row_settings and not self.skipping:
            self.gone.append(self.tables[-1][-1])
        if self.skipping or name in _SKIPPED:
            self.skipping += 1
            if self.skipping == 1:
                self.skipped = name
            return
        value = attributes.get("val", "")
        if self.equation is not None:
            self.equation.start(name, attributes)
            self.in_text += name == "t"
            return
        match name:
            case "p":
                self.paragraphs.append(_Paragraph())
                self.number += 1
            case "r":
                self.in_run = True
                self.look = self.paragraphs[-1].look if self.paragraphs else _Look()
            case "t":
                self.in_text += 1
            case "oMath":
                look = self.paragraphs[-1].look if self.paragraphs else _Look()
                self.equation = Equation(
                    is_struck=bool(look.is_struck), is_hidden=bool(look.is_hidden)
                )
            case "fldChar":
                self._hear_field(attributes.get("fldCharType", ""))
            case "fldSimple":
                self.fields.append(_Field(attributes.get("instr", "")))
                self._write_field(self.fields[-1])
            case "instrText":
                self.in_instruction += 1
                if self.fields:
                    self.fields[-1].look = self.look
            case "tab" if self.in_run:
                self._add("\t")
            case "br" | "cr":
                self._add("\n")
            case "noBreakHyphen":
                self._add("-")
            case "sym":
                self._add_symbol(attributes.get("char", ""), attributes.get("font", ""))
            case "footnoteReference" | "endnoteReference":
                note = self.notes.get(f"{name.removesuffix('Reference')} {attributes.get('id')}")
                if note:
                    self._add(f" [{note}]")
            case "object":  # such as an equation of an old program, with a picture of it
                self.in_object += 1
                self.seen.add("object", self.number)
            case "blip" | "imagedata" if not self.in_object:
                self.seen.add("picture", self.number)
            case "chart" | "relIds":  # of a drawing whose words stand elsewhere
                self.seen.add("object", self.number)
            case "commentReference":
                self.seen.add("comment", self.number)
            case "pStyle" if self.paragraphs:
                self.paragraphs[-1].level = self.styles.levels.get(value, 0)
                self.paragraphs[-1].look = self.styles.look(value)
            case "outlineLvl" if self.paragraphs and value.isdecimal() and int(value) < 9:
                self.paragraphs[-1].level = int(value) + 1
            case "numPr" if self.paragraphs:
                self.paragraphs[-1].is_list = True
            case "rStyle" if self.in_run:
                self.look = self.styles.look(value).over(self.look)
            case "tbl":
                self.tables.append([])
                if len(self.tables) == 1:
                    self.size = 0
            case "tr" if self.tables:
                self.tables[-1].append([])
            case "trPr":
                self.in_row_settings = bool(self.tables and self.tables[-1])
            case "tc" if self.tables and self.tables[-1]:
                self.tables[-1][-1].append(_Cell())
            case "gridSpan" if (cell := self._cell()) and value.isdecimal() and len(value) < 3:
                cell.span = min(max(int(value), 1), _MAX_SPAN)
            case "vMerge" if cell := self._cell():
                cell.goes_on = value != "restart"
            case _ if self.in_run:
                self.look = self.look.hearing(name, attributes)

    def end(self, name: str) -> None:  # noqa: PLR0912 - a tag each
        if self.skipping:
            self.skipping -= 1
            return
        if self.equation is not None:
            self.in_text -= name == "t"
            if (written := self.equation.end(name)) is not None:
                for what in self.equation.left_out:
                    self._leave_out(what)
                self.equation = None
                self._add_equation(written)
            return
        match name:
            case "t":
                self.in_text -= 1
            case "r":
                self.in_run = False
            case "instrText":
                self.in_instruction -= 1
            case "object":
                self.in_object -= 1
            case "fldSimple" if self.fields:
                self.fields.pop()
            case "p" if self.paragraphs:
                self._end_paragraph(self.paragraphs.pop())
            case "trPr":
                self.in_row_settings = False
            case "tr" if self.gone and self.tables[-1][-1] is self.gone[-1]:
                self.gone.pop()
                self.tables[-1].pop()
                self.seen.add("deleted", self.number)
            case "tbl" if self.tables:
                self._end_table(self._filled(self.tables.pop()))

    def text(self, data: str) -> None:
        if self.skipping:
            if self.skipped in (*_DELETED, "delText") and data.strip():
                self.seen.add("deleted", self.number)
        elif self.equation is not None:
            if self.in_text:
                self.equation.text(data)
        elif self.in_instruction:
            if self.fields:
                self.fields[-1].add(data)
        elif self.in_text:
            self._add_text(data)

    def _hear_field(self, kind: str) -> None:
        if kind == "begin":
            self.fields.append(_Field())
        elif self.fields and kind in ("separate", "end"):
            field = self.fields[-1]
            if not field.has_begun:
                field.has_begun = True
                self._write_field(field)
            if kind == "end":
                self.fields.pop()

    def _write_field(self, field: _Field) -> None:
        """Write the sign or the equation that a field stands for, as the field around it."""
        try:
            shown = office_fields.written("".join(field.instruction), field.look.symbols or "")
        except office_fields.UnknownField as unknown:
            self.seen.add(unknown.kind, self.number)
            shown = ""
        if shown:
            look = field.look
            if look.is_struck or look.is_hidden:
                self._leave_out("struck" if look.is_struck else "hidden_text")
            else:
                self._add_equation(shown)
        field.is_written = shown is not None

    def _leave_out(self, what: str) -> None:
        self.seen.add(what, self.number)
        if self.paragraphs:
            self.paragraphs[-1].lost = True

    def _add_text(self, data: str) -> None:
        look = self.look
        if look.is_struck or look.is_hidden:
            if data.strip() and not self._is_written():
                self._leave_out("struck" if look.is_struck else "hidden_text")
            return
        if look.symbols or (not data.isascii() and _PRIVATE.search(data)):
            data, num_unknown = signs.in_font(data, look.symbols or "")
            for _ in range(min(num_unknown, 100) if not self._is_written() else 0):
                self.seen.add("sign", self.number)
        if look.raises:
            data = signs.raised(data) if look.raises == "superscript" else signs.lowered(data)
        self._add(data)

    def _add_symbol(self, char: str, font: str) -> None:
        code = int(char, 16) if re.fullmatch(r"[0-9A-Fa-f]{1,6}", char) else -1
        sign = signs.symbol(code, font) if 0 <= code <= 0x10FFFF else ""
        if self.look.is_struck or self.look.is_hidden:
            self._leave_out("struck" if self.look.is_struck else "hidden_text")
        elif sign:
            self._add(sign)
        else:
            self.seen.add("sign", self.number)

    def _add_equation(self, written: str) -> None:
        before = (
            self.paragraphs[-1].parts[-1] if self.paragraphs and self.paragraphs[-1].parts else ""
        )
        glued = before[-1:].isdecimal() and re.match(r"\d", written)
        self._add(f" {written}" if glued else written)

    def _is_written(self) -> bool:
        """Say whether a text is the result of a field that was written already."""
        return any(field.is_written for field in self.fields)

    def _add(self, text: str) -> None:
        if self.fields:
            if self._is_written():
                return
            # What stands in a field's instruction belongs to it.
            if (
                field := next((f for f in reversed(self.fields) if not f.has_begun), None)
            ) is not None:
                field.add(text)
                return
        if self.paragraphs:
            self.paragraphs[-1].parts.append(text)
            if not self.look.is_bold:
                self.paragraphs[-1].not_bold.append(text)
            self.size += len(text)
            if self.size > MAX_BLOCK_CHARACTERS:
                raise Unreadable(
                    f"Paragraph {self.number:,} or its table has more than 4 MB of text; break it "
                    "up, then upload the document again."
                )

    def _cell(self) -> _Cell | None:
        row = self.tables[-1][-1] if self.tables and self.tables[-1] else []
        return row[-1] if row else None

    def _end_paragraph(self, paragraph: _Paragraph) -> None:
        # Only a field that shows what stands in the file goes on beyond its paragraph.
        self.fields = [field for field in self.fields if field.has_begun and not field.is_written]
        text = paragraph.text()
        if paragraph.lost:  # blanks stood on both sides of what was left out
            text = re.sub(" {2,}", " ", text)
        if self.tables:
            if text and (cell := self._cell()):
                cell.texts.append(text)
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
                Block(
                    "text",
                    self.number,
                    f"- {text}" if paragraph.is_list else text,
                    is_bold=paragraph.is_bold(),
                )
            )

    def _filled(self, table: list[list[_Cell]]) -> list[list[str]]:
        """Return a table's texts; a cell that is merged with the one above has its text."""
        rows: list[list[str]] = []
        for cells in table:
            row: list[str] = []
            for cell in cells:
                text, column = "\n".join(cell.texts), len(row)
                if cell.goes_on and not text and rows and column < len(rows[-1]):
                    text = rows[-1][column]
                    if text:
                        self.seen.add("merged", self.number)
                row += [text] + [""] * (cell.span - 1)
            rows.append(row)
        return rows

    def _end_table(self, rows: list[list[str]]) -> None:
        if not self.tables:
            self.ready.append(Block("table", self.number, rows=rows))
        elif cell := self._cell():
            cell.texts += [" | ".join(row) for row in rows if any(row)]


class _Notes(_Body):
    """The notes at the foot of pages or at the end, by their numbers."""

    def __init__(self, kind: str, styles: _Styles, seen: Seen) -> None:
        super().__init__(styles, seen, {})
        self.kind = kind
        self.notes_of: dict[str, list[str]] = {}
        self.id = ""
        self.total = 0

    @property
    def own(self) -> dict[str, str]:
        return {key: " ".join(texts) for key, texts in self.notes_of.items() if texts}

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == self.kind and not self.skipping:
            self.id = f"{self.kind} {attributes.get('id')}"
            self.notes_of[self.id] = []
        super().start(name, attributes)

    def _end_paragraph(self, paragraph: _Paragraph) -> None:
        text = " ".join(paragraph.text().split())
        self.size = 0
        self.total += len(text)
        if self.total > _MAX_NOTES_CHARACTERS:
            raise Unreadable(
                "The footnotes of this Word document have more than 16 MB of text; leave them out."
            )
        if text and self.id:
            self.notes_of[self.id].append(text)
