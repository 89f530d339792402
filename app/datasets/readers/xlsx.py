"""XLSX: its XML read as streams, for calamine gives neither formats nor hidden rows nor rich text.

A sheet's rows come one at a time; only the workbook's shared texts are held.
"""

import datetime
import posixpath
import re
import zipfile
from collections.abc import Iterator
from typing import IO, NamedTuple

from app.datasets.mapping import Separators
from app.datasets.readers import number_formats, separators, signs
from app.datasets.readers.grids import (
    MAX_ROWS,
    Area,
    GridRow,
    Seen,
    check_length,
    too_long,
    too_many_merged,
)
from app.datasets.readers.number_formats import NumberFormat
from app.datasets.readers.tables import MAX_CELL_CHARACTERS, MAX_COLUMNS
from app.datasets.readers.unreadable import Unreadable
from app.datasets.readers.xml_stream import XmlStream

_MAX_FORMATS = 70_000
_MAX_MERGED = 100_000
_CHUNK_BYTES = 256 * 1024
_TAIL_BYTES = 512
_NUM_KEPT_NUMBERS = 10_000
_MERGED = re.compile(
    rb"<(?:\w+:)?mergeCell\s[^<>]*?ref\s*=\s*[\"']([A-Z]+)(\d+):([A-Z]+)(\d+)[\"']"
)
_COMMENT = re.compile(rb"<(?:\w+:)?comment\s")
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_WHAT, _PROGRAM = "workbook", "Excel"
DAMAGED = "This workbook is damaged ({what}); open it in Excel, save it again and upload that."


class _Font(NamedTuple):
    is_struck: bool = False
    raises: str = ""  # “superscript”, “subscript” or nothing
    symbols: str = ""  # the name of a symbol font

    @property
    def is_plain(self) -> bool:
        return not (self.is_struck or self.raises or self.symbols)


class _Style(NamedTuple):
    format: NumberFormat
    font: _Font


_PLAIN = _Font()
_GENERAL = _Style(number_formats.built_in(0), _PLAIN)
# A text that is not of one font: pieces, each with its own; None stands for the cell's.
_Rich = list[tuple[str, _Font | None]]


class _SheetPart(NamedTuple):
    name: str
    path: str


class XlsxBook:
    """A workbook whose package is open; its sheets are read one at a time."""

    separators: Separators | None = None

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._names = set(archive.namelist())
        index = _Index()
        self._feed(index, "xl/workbook.xml")
        if not index.sheets:
            raise Unreadable(DAMAGED.format(what="it names no sheets"))
        self.is_1904 = index.is_1904
        parts = self._related("xl/workbook.xml", "/worksheet")
        self._sheets = [
            _SheetPart(name, parts[key]) for name, key, state in index.sheets
            if state == "visible" and key in parts
        ]  # fmt: skip
        others = self._related("xl/workbook.xml", "/styles", "/sharedStrings").values()
        styles = _Styles()
        self._feed(styles, next((p for p in others if "tyles" in p), "xl/styles.xml"))
        self._styles = styles.styles()
        self.region = separators.region(styles.codes.values())
        self._shared_path = next((p for p in others if "haredS" in p), "xl/sharedStrings.xml")
        self._shared: _SharedTexts | None = None

    @property
    def sheets(self) -> list[str]:
        return [sheet.name for sheet in self._sheets]

    def sheet(self, name: str) -> "XlsxSheet":
        """Open a visible sheet."""
        part = next(sheet for sheet in self._sheets if sheet.name == name)
        if part.path not in self._names:
            raise Unreadable(DAMAGED.format(what=f"sheet “{name}” is missing"))
        if self._shared is None:
            # Only beside a cell's own look does it matter that a piece has none.
            keeps_runs = any(style.font is not _PLAIN for style in self._styles)
            self._shared = _SharedTexts(keeps_runs=keeps_runs)
            self._feed(self._shared, self._shared_path)
        return XlsxSheet(self._archive, part.path, self._styles, self._shared, self.is_1904)

    def num_notes(self, name: str) -> int:
        """Count the notes at a sheet's cells, which are not read."""
        part = next(sheet for sheet in self._sheets if sheet.name == name)
        number = 0
        for path in self._related(part.path, "/comments").values():
            if path in self._names:
                with self._archive.open(path) as stream:
                    number += sum(
                        1 for _ in _COMMENT.finditer(stream.read(MAX_CELL_CHARACTERS * 8))
                    )
        return number

    def _related(self, path: str, *kinds: str) -> dict[str, str]:
        """Return the parts that a part names, by their ids."""
        folder, name = posixpath.split(path)
        relations = _Relations()
        index = f"{folder}/_rels/{name}.rels"
        if index in self._names:
            self._feed(relations, index)
        found = {}
        for key, kind, target in relations.found:
            if kind.endswith(kinds):
                whole = target[1:] if target.startswith("/") else posixpath.join(folder, target)
                found[key] = posixpath.normpath(whole)
        return found

    def _feed(self, parser: XmlStream, path: str) -> None:
        if path not in self._names:
            return
        with self._archive.open(path) as stream:
            parser.read(stream)


class _Part(XmlStream):
    what, program = _WHAT, _PROGRAM


class _Index(_Part):
    def __init__(self) -> None:
        super().__init__()
        self.sheets: list[tuple[str, str, str]] = []
        self.is_1904 = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "sheet":
            state = attributes.get("state", "visible")
            self.sheets.append((attributes.get("name", ""), attributes.get("id", ""), state))
        elif name == "workbookPr":
            self.is_1904 = attributes.get("date1904", "0") in ("1", "true")


class _Relations(_Part):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str, str]] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "Relationship" and attributes.get("TargetMode") != "External":
            self.found.append(tuple(attributes.get(key, "") for key in ("Id", "Type", "Target")))  # type: ignore[arg-type]


class _FontReader(_Part):
    """Reads what a font says of its text, wherever a font stands."""

    def __init__(self) -> None:
        super().__init__()
        self.is_struck, self.raises, self.symbols = False, "", ""

    def begin_font(self) -> None:
        self.is_struck, self.raises, self.symbols = False, "", ""

    def see_font(self, name: str, attributes: dict[str, str]) -> None:
        value = attributes.get("val", "")
        match name:
            case "strike":
                self.is_struck = value not in ("0", "false")
            case "vertAlign":
                self.raises = value if value in ("superscript", "subscript") else ""
            case "name" | "rFont" if signs.is_symbol_font(value):
                self.symbols = value

    def font(self) -> _Font:
        font = _Font(self.is_struck, self.raises, self.symbols)
        return font if font != _PLAIN else _PLAIN


class _Styles(_FontReader):
    def __init__(self) -> None:
        super().__init__()
        self.codes: dict[int, str] = {}
        self.fonts: list[_Font] = []
        self.cells: list[tuple[int, int]] = []
        self.within: list[str] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.within.append(name)
        match name:
            case "numFmt" if "dxf" not in self.within:
                self.codes[_int(attributes.get("numFmtId"))] = attributes.get("formatCode", "")
            case "font":
                self.begin_font()
            case "xf" if "cellXfs" in self.within:
                numbers = (_int(attributes.get(key)) for key in ("numFmtId", "fontId"))
                self.cells.append(tuple(numbers))  # type: ignore[arg-type]
                if len(self.cells) > _MAX_FORMATS:
                    raise Unreadable(DAMAGED.format(what="it has more formats than Excel can have"))
            case _:
                self.see_font(name, attributes)

    def end(self, name: str) -> None:
        self.within.pop()
        if name == "font" and "fonts" in self.within:
            self.fonts.append(self.font())

    def styles(self) -> list[_Style]:
        made: dict[tuple[int, int], _Style] = {}
        for number, font in self.cells:
            if (number, font) not in made:
                code = self.codes.get(number)
                made[number, font] = _Style(
                    number_formats.built_in(number)
                    if code is None
                    else number_formats.of_code(code),
                    self.fonts[font] if font < len(self.fonts) else _PLAIN,
                )
        return [made[key] for key in self.cells]


class _SharedTexts(_FontReader):
    """The texts that a workbook's cells share, in the order of their numbers."""

    def __init__(self, *, keeps_runs: bool) -> None:
        super().__init__()
        self.texts: list[str | _Rich] = []
        # Of texts whose pieces all look plain, for cells that do not.
        self.runs: dict[int, _Rich] = {}
        self.keeps_runs = keeps_runs
        self.pieces: _Rich = []
        self.parts: list[str] = []
        self.size = 0
        self.in_text = self.in_phonetic = False
        self.run: _Font | None = None
        # Most of a workbook's texts are one <si><t>, and there are a million of them.
        self.parser.StartElementHandler = self._begin
        self.parser.EndElementHandler = self._finish

    def _begin(self, name: str, attributes: dict[str, str]) -> None:
        tag = self.local(name)
        if tag == "t" and not self.in_phonetic:
            self.in_text, self.parts = True, []
        elif tag == "si":
            self.pieces, self.size, self.run = [], 0, None
        else:
            self.start(tag, attributes)

    def _finish(self, name: str) -> None:
        tag = self.local(name)
        if tag == "t" and self.in_text:
            self.in_text = False
            self.pieces.append(("".join(self.parts), self.run))
        elif tag == "si":
            only = self.pieces[0] if len(self.pieces) == 1 else None
            if only is not None and only[1] is None:
                self.texts.append(_plain(only[0]))
                return
            if self.keeps_runs and any(font is not None for _, font in self.pieces):
                self.runs[len(self.texts)] = _parts(self.pieces)
            self.texts.append(joined(self.pieces))
        else:
            self.end(tag)

    def start(self, name: str, attributes: dict[str, str]) -> None:
        match name:
            case "rPh":
                self.in_phonetic = True
            case "r":
                self.run = None
            case "rPr":
                self.begin_font()
            case _:
                self.see_font(name, attributes)

    def end(self, name: str) -> None:
        match name:
            case "rPr":
                self.run = self.font()
            case "rPh":
                self.in_phonetic = False

    def text(self, data: str) -> None:
        if self.in_text:
            self.size += len(data)
            if self.size > MAX_CELL_CHARACTERS:
                raise too_long()
            self.parts.append(data)


def joined(pieces: _Rich) -> str | _Rich:
    """Join the pieces of a text, unless one of them is struck out, raised or in symbols."""
    if any(font is not None and not font.is_plain for _, font in pieces):
        return _parts(pieces)
    return _plain("".join(text for text, _ in pieces))


def _parts(pieces: _Rich) -> _Rich:
    return [(_plain(text), font) for text, font in pieces]


def _plain(text: str) -> str:
    if "_x" in text:
        text = _ESCAPED.sub(lambda match: _sign(int(match[1], 16)), text)
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _sign(code: int) -> str:
    return "\ufffd" if 0xD800 <= code < 0xE000 or code == 0 else chr(code)


def _int(text: str | None) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 10 else 0


class XlsxSheet:
    """A sheet; its rows can be read as often as needed."""

    def __init__(
        self,
        archive: zipfile.ZipFile,
        path: str,
        styles: list[_Style],
        shared: _SharedTexts,
        is_1904: bool,
    ) -> None:
        self._archive, self._path = archive, path
        self._styles, self._shared, self._is_1904 = styles, shared, is_1904
        self.hidden_columns: set[int] = set()
        self.separators: tuple[Separators, ...] = ("english",)
        self.seen = Seen()

    def merged(self) -> list[Area]:
        """Find the merged cells, which stand behind the rows, by their bytes."""
        found: list[Area] = []
        with self._archive.open(self._path) as stream:
            rest = b""
            while piece := stream.read(_CHUNK_BYTES * 4):
                text = rest + piece
                if b"mergeCell" in text:
                    for left, top, right, bottom in _MERGED.findall(text):
                        area = _area(left, top, right, bottom)
                        if area is not None:
                            found.append(area)
                        if len(found) > _MAX_MERGED:
                            raise too_many_merged(_MAX_MERGED)
                    rest = text[text.rfind(b"<") :][-_TAIL_BYTES:]
                else:
                    rest = text[-_TAIL_BYTES:]
        return sorted(set(found))

    def rows(self) -> Iterator[GridRow]:
        """Read the rows that have cells."""
        self.seen = Seen(self.separators)
        self.hidden_columns.clear()
        parser = _Rows(self._styles, self._shared, self._is_1904, self.seen)
        parser.hidden_columns = self.hidden_columns
        with self._archive.open(self._path) as stream:
            for _ in parser.feed(stream):
                if parser.ready:
                    yield from parser.ready
                    parser.ready.clear()


def _area(left: bytes, top: bytes, right: bytes, bottom: bytes) -> Area | None:
    if max(len(left), len(right)) > 3 or max(len(top), len(bottom)) > 7:
        return None
    area = Area(int(top), column_of(left.decode()), int(bottom), column_of(right.decode()))
    return area if area.left < MAX_COLUMNS else None


def column_of(letters: str) -> int:
    """Return the place of a column, from 0."""
    place = 0
    for letter in letters:
        place = place * 26 + _LETTERS.index(letter) + 1
    return place - 1


_COLUMNS = {
    letters: column_of(letters)
    for first in ("", *_LETTERS)
    for letters in (first + second for second in _LETTERS)
}


class _Rows:
    """A sheet's rows, from expat's calls; short, since there are millions of them."""

    def __init__(
        self, styles: list[_Style], shared: _SharedTexts, is_1904: bool, seen: Seen
    ) -> None:
        self.styles, self.is_1904, self.seen = styles, is_1904, seen
        self.shared, self.runs = shared.texts, shared.runs
        self.hidden_columns: set[int] = set()
        self.ready: list[GridRow] = []
        self.number = 0
        self.cells: list[str] = []
        self.is_hidden = False
        self.column = -1
        self.kind = ""
        self.style = 0
        self.parts: list[str] = []
        self.collects = False
        self.value = ""
        self.has_formula = False
        self.pieces: _Rich | None = None
        self.fonts = _FontReader()
        self.run: _Font | None = None
        self.in_rows = self.in_phonetic = False
        self.depth = 0
        self.local = self.fonts.local
        self.numbers: dict[tuple[int, str], str] = {}

    def feed(self, stream: IO[bytes]) -> Iterator[None]:
        base = _Part()
        parser = base.parser
        parser.buffer_size = _CHUNK_BYTES
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        for _ in base.feed(stream):
            if self.collects and sum(map(len, self.parts)) > MAX_CELL_CHARACTERS:
                raise too_long(self.number)
            yield

    def _text(self, data: str) -> None:
        if self.collects:
            self.parts.append(data)

    def _start(self, name: str, attributes: dict[str, str]) -> None:  # noqa: PLR0912 - one a tag
        tag = self.local(name)
        if not self.in_rows:
            if tag == "sheetData":
                self.in_rows = True
            elif tag == "col" and _is_hidden(attributes, "width"):
                first, last = (_int(attributes.get(key)) for key in ("min", "max"))
                self.hidden_columns.update(range(max(first - 1, 0), min(last, MAX_COLUMNS)))
            return
        if tag == "c":
            place = attributes.get("r")
            if place is None:
                self.column += 1
            else:
                letters = place.rstrip("0123456789")
                column = _COLUMNS.get(letters)
                self.column = self._far(place) if column is None else column
            self.kind = attributes.get("t", "n")
            style = attributes.get("s")
            self.style = int(style) if style is not None and style.isdecimal() else 0
            self.value, self.pieces, self.has_formula = "", None, False
        elif tag in ("v", "t"):
            self.collects, self.parts = not self.in_phonetic, []
        elif tag == "row":
            place = attributes.get("r")
            self.number = self.number + 1 if place is None else self._row_number(place)
            self.cells, self.column = [], -1
            self.is_hidden = _is_hidden(attributes, "ht")
        elif tag == "f":
            self.has_formula = True
        elif tag == "is":
            self.pieces, self.run = [], None
        elif tag == "r":
            self.run = None
        elif tag == "rPr":
            self.fonts.begin_font()
        elif tag == "rPh":
            self.in_phonetic = True
        elif self.pieces is not None:
            self.fonts.see_font(tag, attributes)

    def _end(self, name: str) -> None:  # noqa: PLR0912 - one a tag
        tag = self.local(name)
        if not self.in_rows:
            return
        if tag == "c":
            text = self._shown()
            if text:
                cells, column = self.cells, self.column
                if column == len(cells) < MAX_COLUMNS:
                    cells.append(text)
                elif column >= MAX_COLUMNS:
                    self.seen.add_far(self.number)
                else:
                    cells += [""] * (column + 1 - len(cells))
                    cells[column] = text
        elif tag == "v":
            self.value = "".join(self.parts) if len(self.parts) != 1 else self.parts[0]
            self.collects = False
        elif tag == "t":
            if self.collects and self.pieces is not None:
                self.pieces.append(("".join(self.parts), self.run))
            self.collects = False
        elif tag == "row":
            if self.cells:
                self.ready.append(GridRow(self.number, self.cells, self.is_hidden))
        elif tag == "rPr":
            self.run = self.fonts.font()
        elif tag == "rPh":
            self.in_phonetic = False
        elif tag == "sheetData":
            self.in_rows = False

    def _far(self, place: str) -> int:
        match = re.fullmatch(r"([A-Z]{1,3})(\d{0,7})", place.strip())
        if match is None:
            raise _no_place(place)
        return column_of(match[1])

    def _row_number(self, place: str) -> int:
        number = int(place) if place.isdecimal() and len(place) < 8 else 0
        if not 0 < number <= MAX_ROWS:
            raise _no_place(f"row {place}")
        return number

    def _shown(self) -> str:  # noqa: PLR0912 - one a kind of cell
        """Return what the cell that ends here shows."""
        kind, value = self.kind, self.value
        if kind == "n":
            if not value.strip():
                return self._blank()
            key = (self.style, value)
            known = self.numbers.get(key)
            return self._number(key) if known is None else known
        style = self.styles[self.style] if self.style < len(self.styles) else _GENERAL
        match kind:
            case "s":
                if not value:
                    return ""
                number = _int(value)
                if number >= len(self.shared):
                    raise Unreadable(DAMAGED.format(what="a cell names a text that is not there"))
                text = self.shared[number]
                if style.font is not _PLAIN and number in self.runs:
                    text = self.runs[number]
            case "inlineStr":
                pieces = self.pieces or []
                text = joined(pieces) if style.font is _PLAIN else _parts(pieces)
            case "str":
                text = _plain(value)
                if not value:
                    return self._blank()
            case "b":
                return "TRUE" if value.strip() in ("1", "true") else "FALSE" if value else ""
            case "e":
                self.seen.add("error", self.number)
                return ""
            case "d":
                return self._of_iso(value.strip(), style)
            case _:
                text = _plain(value)
        if isinstance(text, str) and style.font is _PLAIN:
            return check_length(style.format.show_text(text), self.number) if text else ""
        return self._rich(text, style)

    def _blank(self) -> str:
        if self.has_formula:
            self.seen.add("not_worked_out", self.number)
        return ""

    def _number(self, key: tuple[int, str]) -> str:
        number, value = key
        style = self.styles[number] if number < len(self.styles) else _GENERAL
        try:
            shown = style.format.show(
                float(value), is_1904=self.is_1904, separators=self.seen.separators
            )
        except (ValueError, OverflowError):
            self.seen.add_format(value[:40], self.number)
            return value
        text = self.seen.number(shown, style.format.code, self.number)
        if not style.font.is_plain:
            return self._rich(text, style)
        if shown.is_sure and len(value) < 40 and len(self.numbers) < _NUM_KEPT_NUMBERS:
            self.numbers[key] = text
        return text

    def _of_iso(self, value: str, style: _Style) -> str:
        """Return what a date that is written as ISO has it shows in its cell."""
        try:
            date = datetime.datetime.fromisoformat(value).replace(tzinfo=None)
        except ValueError:
            return check_length(value, self.number)
        if style.format.is_general:
            return value
        first = datetime.datetime.fromisoformat("1904-01-01" if self.is_1904 else "1899-12-30")
        days = (date - first) / datetime.timedelta(days=1)
        return self._number((self.style, repr(days)))

    def _rich(self, text: str | _Rich, style: _Style) -> str:
        """Write a text that has fonts of its own, without what is struck out."""
        written, is_struck, num_unknown = "", False, 0
        for piece, own in [(text, None)] if isinstance(text, str) else text:
            font = style.font if own is None else own
            if font.is_struck and piece.strip():
                is_struck = True
                continue
            shown = piece
            if font.symbols:
                shown, num = signs.in_font(shown, font.symbols)
                num_unknown += num
            if font.raises:
                shown = (
                    signs.raised(shown) if font.raises == "superscript" else signs.lowered(shown)
                )
            written += shown
        for _ in range(min(num_unknown, 100)):
            self.seen.add("sign", self.number)
        if is_struck:
            self.seen.add("struck", self.number)
            written = written.strip()
        return check_length(style.format.show_text(written), self.number) if written else ""


def _is_hidden(attributes: dict[str, str], size: str) -> bool:
    hidden = attributes.get("hidden")
    if hidden is not None and hidden in ("1", "true"):
        return True
    length = attributes.get(size)
    return length is not None and length in ("0", "0.0")


def _no_place(place: str) -> Unreadable:
    shown = "".join(c for c in place[:20] if c.isprintable())
    return Unreadable(
        f"A cell of this workbook is at “{shown}”, where no sheet has one; open the workbook in "
        "Excel, save it again and upload that."
    )
