"""RTF -> blocks: its groups read as a stream; pictures and objects are passed over, never opened.

striprtf was looked at: it gives the words alone, without what is raised, struck out, hidden or
deleted, and without headings and tables; a wrong dose would be learned without a word.
"""

import codecs
import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from app.datasets.readers import office_fields, signs
from app.datasets.readers.blocks import MAX_BLOCK_CHARACTERS, Block
from app.datasets.readers.equations import Equation
from app.datasets.readers.files import File
from app.datasets.readers.grids import Seen
from app.datasets.readers.unreadable import Unreadable

MAX_DEPTH = 1000
_CHUNK_BYTES = 256 * 1024
# The longest piece that is read at once: a control word, or letters up to the next one.
_MAX_PIECE_BYTES = 64 * 1024
_MAX_CELLS = 1000
_MAX_FONTS = 20_000
# Half points by which a manual raise or drop is more than a nudge.
_RAISED_BY = 4
_TOKEN = re.compile(
    rb"\\(?:(?P<word>[A-Za-z]{1,40})(?P<number>-?\d{1,10})?[ ]?|'(?P<byte>[0-9A-Fa-f]{2})"
    rb"|(?P<sign>[^A-Za-z']))|(?P<open>\{)|(?P<close>\})|(?P<text>[^\\{}\r\n]+)|[\r\n]+|(?P<other>.)",
    re.DOTALL,
)
_CHARSETS = {
    0: "cp1252", 77: "mac_roman", 128: "cp932", 129: "cp949", 130: "johab", 134: "gb18030",
    136: "big5", 161: "cp1253", 162: "cp1254", 163: "cp1258", 177: "cp1255", 178: "cp1256",
    186: "cp1257", 204: "cp1251", 222: "cp874", 238: "cp1250", 254: "cp437", 255: "cp850",
}  # fmt: skip
_CODE_PAGES = {10000: "mac_roman", 936: "gb18030", 65001: "utf-8", 708: "cp1256"}
_SIGNS = {
    "line": "\n", "tab": "\t", "emdash": "—", "endash": "–", "bullet": "•",
    "lquote": "‘", "rquote": "’", "ldblquote": "“", "rdblquote": "”", "emspace": " ",
    "enspace": " ", "qmspace": " ", "zwj": "\u200d", "zwnj": "\u200c",
}  # fmt: skip
_SPECIAL = {b"~": "\u00a0", b"_": "-", b"-": "", b"{": "{", b"}": "}", b"\\": "\\"}
# Groups whose words are no text of the document; of some it is said how many there are.
_COUNTED = {"pict": "picture", "shppict": "picture", "object": "object", "do": "object",
            "annotation": "comment", "NeXTGraphic": "picture"}  # fmt: skip
_SKIPPED = frozenset(
    {"colortbl", "info", "header", "headerl", "headerr", "headerf", "footer", "footerl", "footerr"}
    | {"footerf", "xe", "tc", "tcn", "rxe", "nonshppict", "themedata", "ftnsep", "ftnsepc", "ftncn"}
    | {
        "aftnsep",
        "aftnsepc",
        "aftncn",
        "mmathPict",
        "filetbl",
        "listpicture",
        "template",
        "private",
    }
    | {"bkmkstart", "bkmkend", "datafield", "sn", "sv", "shprslt", "pgptbl", "listtable", *_COUNTED}
)
# Starred groups, which old programs pass over, that have text all the same.
_STARRED = frozenset(
    {
        "shpinst",
        "moMath",
        "moMathPara",
        "mmath",
        "listtext",
        "pntext",
        "fldinst",
        "footnote",
        "cs",
        "ds",
    }
)
# What of an equation is a group of its own; without the m that each word begins with.
_MATH = frozenset(
    {"f", "sSup", "sSub", "sSubSup", "sPre", "rad", "nary", "d", "func", "limLow", "limUpp", "acc"}
    | {"bar", "m", "mr", "eqArr", "box", "borderBox", "groupChr", "phant", "num", "den", "e", "sup"}
    | {"sub", "deg", "fName", "lim"}
)
_MATH_SIGNS = frozenset(
    {"chr", "begChr", "endChr", "sepChr", "type", "pos"}
    | {"strikeH", "strikeV", "strikeBLTR", "strikeTLBR"}
)
_PRIVATE = re.compile("[\uf000-\uf0ff]")


def rtf_blocks(file: File, seen: Seen) -> Iterator[Block]:
    """Read an RTF document into headings, paragraphs and tables, numbered by paragraph.

    Args:
        seen: Counts afresh what is left out.

    Raises:
        Unreadable: it is damaged, or holds what no program writes.
    """
    seen.clear()
    with file.open() as stream:
        yield from _Document(seen).blocks(stream)


class _State(NamedTuple):
    """What holds within a group."""

    skips: bool = False
    font: int = -1
    num_skipped: int = 1  # signs that stand for one of Unicode's, for old programs
    is_struck: bool = False
    is_hidden: bool = False
    is_deleted: bool = False
    raises: str = ""
    in_table: bool = False
    is_nested: bool = False  # in a table within a table
    level: int = 0  # of a heading
    math: str = ""


class _Text:
    """Where letters go: a paragraph, or what is to be put elsewhere once its group ends."""

    def __init__(self, kind: str, depth: int) -> None:
        self.kind, self.depth = kind, depth
        self.parts: list[str] = []
        self.lost = False  # something was left out of it
        self.state = _State()  # what held where its last letters stood; of a field alone

    def taken(self) -> str:
        text = "".join(self.parts)
        if self.lost:
            text = re.sub(" {2,}", " ", text)
        self.parts, self.lost = [], False
        return text.strip(" \n")


class _Font(NamedTuple):
    charset: str = ""
    name: str = ""


class _Document:
    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.ready: list[Block] = []
        self.states: list[_State] = [_State()]
        self.texts: list[_Text] = [_Text("body", 0)]
        self.charset = "cp1252"
        self.fonts: dict[int, _Font] = {}
        self.default_font = self.font = self.style = 0
        self.levels: dict[int, int] = {}
        self.starred = self.is_first = False
        self.held = b""  # letters in the encoding of their font
        self.to_skip = 0
        self.high = 0  # the first half of a pair of UTF-16
        self.sign = ""  # of a list's item
        self.number = 1
        self.size = 0
        self.cell: list[str] = []
        self.row: list[str] = []
        self.rows: list[list[str]] = []
        self.merged: list[bool] = []  # which cells of a row go on from above
        self.is_merged = False
        self.nested_row: list[str] = []
        self.equation: Equation | None = None
        self.skips_result = False  # of a field whose sign is written

    def _change(self, **what: object) -> None:
        """Change what holds from here on within the group."""
        self.states[-1] = self.states[-1]._replace(**what)  # type: ignore[arg-type]

    # --- pieces ------------------------------------------------------------------------------

    def blocks(self, stream: BinaryIO) -> Iterator[Block]:
        data, at = stream.read(_CHUNK_BYTES), 0
        while True:
            while len(data) - at < _MAX_PIECE_BYTES and (more := stream.read(_CHUNK_BYTES)):
                data, at = data[at:] + more, 0
            match = _TOKEN.match(data, at, min(at + _MAX_PIECE_BYTES, len(data)))
            if match is None:
                break
            at = match.end()
            if match["word"] == b"bin" and match["number"]:
                data, at = _passed_over(stream, data, at, max(int(match["number"]), 0))
            else:
                self._see(match)
            if self.ready:
                yield from self.ready
                self.ready.clear()
            if match["close"] and len(self.states) == 1:
                break  # what stands behind the last bracket is no part of it
        self._decode()
        if len(self.states) > 1:
            raise Unreadable(
                "This RTF document breaks off before its end; open it in Word, save it again and "
                "upload that."
            )
        self._end_paragraph()
        self._end_table()
        yield from self.ready
        self.ready.clear()

    def _see(self, match: "re.Match[bytes]") -> None:  # noqa: PLR0912 - one a piece
        if match["byte"]:
            if self.to_skip:
                self.to_skip -= 1
            else:
                self._hold(bytes([int(match["byte"], 16)]))
        elif match["text"]:
            text = match["text"]
            self._hold(text[self.to_skip :])
            self.to_skip = max(self.to_skip - len(text), 0)
        elif match["sign"] == b"*":
            self.starred = True
            return
        elif match.lastgroup in (None, "other"):
            return
        else:
            self._decode()
            if match["open"]:
                self._open()
                return
            if match["close"]:
                self._close()
            elif match["sign"] in (b"\n", b"\r"):
                self._word("par", None)
            elif match["sign"] and self.to_skip:
                self.to_skip -= 1
            elif match["sign"] and not self.states[-1].skips:
                self._text(_SPECIAL.get(match["sign"], ""))
            elif match["word"]:
                self.to_skip = 0
                number = int(match["number"]) if match["number"] else None
                self._word(match["word"].decode("ascii"), number)
        self.is_first = self.starred = False

    def _hold(self, content: bytes) -> None:
        if content and not self.states[-1].skips:
            self.held += content
            if len(self.held) > _MAX_PIECE_BYTES:
                self._decode()

    def _decode(self) -> None:
        """Read the letters that were held back."""
        if not self.held:
            return
        held, self.held = self.held, b""
        font = self.fonts.get(self.states[-1].font, _Font())
        charset = "latin-1" if signs.is_symbol_font(font.name) else font.charset or self.charset
        self._text(held.decode(charset, errors="replace"))

    def _open(self) -> None:
        if len(self.states) > MAX_DEPTH:
            raise Unreadable(
                f"This RTF document is nested more than {MAX_DEPTH:,} levels deep; copy its text "
                "into a new one and upload that."
            )
        self.to_skip = 0
        self.states.append(self.states[-1]._replace(math=""))
        self.is_first = True

    def _close(self) -> None:
        self.to_skip = 0
        if len(self.states) == 1:
            raise Unreadable(
                "This RTF document has more closing than opening brackets; open it in Word, save "
                "it again and upload that."
            )
        while self.texts[-1].depth == len(self.states):
            self._end_text(self.texts.pop())
        before = self.states.pop()
        if before.math and self.equation is not None:
            written = self.equation.end(before.math)
            if written is not None:
                for what in self.equation.left_out:
                    self.seen.add(what, self.number)
                    self.texts[-1].lost = True
                self.equation = None
                before_it = "".join(self.texts[-1].parts[-1:])
                glued = before_it[-1:].isdecimal() and re.match(r"\d", written)
                self._put(f" {written}" if glued else written)

    def _begin(self, kind: str) -> None:
        """Send letters elsewhere until the group ends."""
        self.texts.append(_Text(kind, len(self.states)))

    def _end_text(self, text: _Text) -> None:
        written = text.taken()
        match text.kind:
            case "footnote" if written:
                self._put(f" [{' '.join(written.split())}]")
            case "sign":
                has_letters = any(c.isalnum() for c in written)
                self.sign = f"{written.strip()} " if has_letters else "- "
            case "style":
                self._name_style(written)
            case "font":
                self._name_font(written)
            case "field":
                self._end_field(written, text.state)
            case "box":
                self._emit(written)
            case _ if text.kind in _MATH_SIGNS and self.equation is not None:
                self.equation.start(text.kind, {"val": written})

    # --- words -------------------------------------------------------------------------------

    def _word(self, word: str, number: int | None) -> None:
        is_first, is_starred = self.is_first, self.starred
        if self.states[-1].skips:
            return
        if is_first and (word in _SKIPPED or (is_starred and word not in _STARRED)):
            if word in _COUNTED:
                self.seen.add(_COUNTED[word], self.number)
            self._change(skips=True)
        elif is_first and word == "fldrslt" and self.skips_result:
            self._change(skips=True)
            self.skips_result = False
        elif is_first and word.startswith("m") and self._math_word(word[1:]):
            return
        elif word == "u" and number is not None:
            self._unicode(number)
        elif self.texts[-1].kind in ("fonts", "font"):
            self._font_word(word, number)
        elif self.texts[-1].kind in ("styles", "style"):
            self._style_word(word, number)
        elif not self._group_word(word) and not self._letter_word(word, number):
            self._paragraph_word(word, number)

    def _group_word(self, word: str) -> bool:
        match word:
            case "fonttbl":
                self._begin("fonts")
            case "stylesheet":
                self._begin("styles")
            case "footnote":
                self._begin("footnote")
            case "listtext" | "pntext":
                self._begin("sign")
            case "fldinst":
                self._begin("field")
            case "shptxt":
                self._begin("box")
                self._change(in_table=False, level=0)
            case _:
                return False
        return True

    def _letter_word(self, word: str, number: int | None) -> bool:
        is_on = number != 0
        match word:
            case "f":
                self._change(font=number or 0)
            case "uc":
                self._change(num_skipped=min(max(number or 0, 0), 20))
            case "strike" | "striked":
                self._change(is_struck=is_on)
            case "v":
                self._change(is_hidden=is_on)
            case "deleted":
                self._change(is_deleted=is_on)
            case "super" | "sub":
                self._change(raises=word if is_on else "")
            case "nosupersub":
                self._change(raises="")
            case "up" | "dn":
                moved = 6 if number is None else number
                is_moved = moved >= _RAISED_BY
                self._change(raises=("super" if word == "up" else "sub") if is_moved else "")
            case "plain":
                self._change(
                    is_struck=False, is_hidden=False, is_deleted=False, raises="",
                    font=self.default_font,
                )  # fmt: skip
            case _ if word in _SIGNS:
                self._text(_SIGNS[word])
            case _:
                return False
        return True

    def _paragraph_word(self, word: str, number: int | None) -> None:  # noqa: PLR0912 - one a word
        match word:
            case "ansicpg" if number:
                self.charset = _known(_CODE_PAGES.get(number, f"cp{number}"), "cp1252")
            case "mac":
                self.charset = "mac_roman"
            case "pc" | "pca":
                self.charset = "cp437" if word == "pc" else "cp850"
            case "deff":
                self.default_font = number or 0
                self._change(font=self.default_font)
            case "field":
                self.skips_result = False
            case "par" | "sect" | "page" | "column":
                self._end_paragraph()
            case "pard":
                self._change(in_table=False, is_nested=False, level=0)
            case "s":
                self._change(level=self.levels.get(number or 0, 0))
            case "outlinelevel" if number is not None:
                self._change(level=number + 1 if 0 <= number < 9 else 0)
            case "intbl":
                self._change(in_table=True)
            case "itap":
                self._change(in_table=number != 0, is_nested=(number or 0) > 1)
            case "trowd":
                self.merged, self.is_merged = [], False
            case "clvmrg":
                self.is_merged = True
            case "cellx":
                if len(self.merged) < _MAX_CELLS:
                    self.merged.append(self.is_merged)
                self.is_merged = False
            case "cell":
                self._end_cell()
            case "row":
                self._end_row()
            case "nestcell":
                self.nested_row.append(self._taken())
            case "nestrow":
                self.cell += [" | ".join(self.nested_row)] if any(self.nested_row) else []
                self.nested_row = []

    def _font_word(self, word: str, number: int | None) -> None:
        if word == "f":
            if self.texts[-1].kind == "fonts":
                self._begin("font")
                self.texts[-1].depth = len(self.states)
            self.font = number or 0
        elif word == "fcharset" and number is not None and len(self.fonts) < _MAX_FONTS:
            self.fonts[self.font] = _Font(_known(_CHARSETS.get(number, ""), ""))
        elif word == "cpg" and number and len(self.fonts) < _MAX_FONTS:
            self.fonts[self.font] = _Font(_known(_CODE_PAGES.get(number, f"cp{number}"), ""))

    def _name_font(self, text: str) -> None:
        name = text.partition(";")[0].strip()
        if len(self.fonts) < _MAX_FONTS:
            self.fonts[self.font] = self.fonts.get(self.font, _Font())._replace(name=name)

    def _style_word(self, word: str, number: int | None) -> None:
        if self.texts[-1].kind == "styles":
            self._begin("style")
            self.style = 0
        if word == "s":
            self.style = number or 0
        elif word in ("cs", "ds", "ts"):
            self.style = -1
        elif word == "outlinelevel" and number is not None and 0 <= number < 9:
            self.levels.setdefault(self.style, number + 1)

    def _name_style(self, text: str) -> None:
        name = text.partition(";")[0].strip().lower()
        match = re.fullmatch(r"heading (\d)", name)
        if self.style >= 0 and (match or name == "title") and len(self.levels) < _MAX_FONTS:
            self.levels[self.style] = int(match[1]) if match else 1

    def _end_field(self, instruction: str, state: _State) -> None:
        """Write the sign or the equation that a field stands for."""
        font = self.fonts.get(state.font, _Font()).name
        try:
            shown = office_fields.written(
                instruction[: office_fields.MAX_INSTRUCTION_CHARACTERS], font
            )
        except office_fields.UnknownField as unknown:
            self.seen.add(unknown.kind, self.number)
            shown = ""
        if shown is None:
            return
        self.skips_result = True
        if self._is_left_out(shown, state):
            return
        before = "".join(self.texts[-1].parts[-1:])
        glued = before[-1:].isdecimal() and re.match(r"\d", shown)
        self._put(f" {shown}" if glued else shown)

    def _math_word(self, name: str) -> bool:
        """Take a group of an equation; False: the word is none."""
        if name == "oMath":
            self.equation = Equation()
            self._change(math="oMath")
        elif self.equation is None:
            return False
        elif name in _MATH:
            self.equation.start(name, {})
            self._change(math=name)
        elif name in _MATH_SIGNS:
            self._begin(name)
        elif not name.endswith("Pr"):
            return False
        return True

    def _unicode(self, number: int) -> None:
        self.to_skip = self.states[-1].num_skipped
        code = number + 0x10000 if number < 0 else number
        if 0xD800 <= code < 0xDC00:
            self.high = code
            return
        if 0xDC00 <= code < 0xE000:
            pair = 0x10000 + ((self.high - 0xD800) << 10) + (code - 0xDC00) if self.high else 0xFFFD
            code, self.high = pair, 0
        self._text(chr(code) if 0 < code <= 0x10FFFF else "\ufffd")

    # --- text --------------------------------------------------------------------------------

    def _text(self, text: str) -> None:
        state, kind = self.states[-1], self.texts[-1].kind
        if state.skips or not text:
            return
        if kind in ("fonts", "font", "styles", "style", "field") or kind in _MATH_SIGNS:
            self._put(text)
            if kind == "field" and text.strip():
                self.texts[-1].state = state
            if kind == "font" and ";" in text:  # fonts without brackets of their own
                self._end_text(self.texts.pop())
            return
        if self._is_left_out(text, state):
            return
        if self.equation is not None:
            self.equation.text(text)
            return
        font = self.fonts.get(state.font, _Font()).name
        is_symbol = signs.is_symbol_font(font)
        if is_symbol or _PRIVATE.search(text):
            text, num_unknown = signs.in_font(text, font if is_symbol else "")
            for _ in range(min(num_unknown, 100) if kind != "sign" else 0):
                self.seen.add("sign", self.number)
        if state.raises:
            text = signs.raised(text) if state.raises == "super" else signs.lowered(text)
        self._put(text)

    def _is_left_out(self, text: str, state: _State) -> bool:
        """Say whether a text is struck out, hidden or deleted, and count it."""
        if not (state.is_struck or state.is_hidden or state.is_deleted):
            return False
        if text.strip():
            what = "deleted" if state.is_deleted else "struck" if state.is_struck else ""
            self.seen.add(what or "hidden_text", self.number)
            self.texts[-1].lost = True
        return True

    def _put(self, text: str) -> None:
        self.texts[-1].parts.append(text)
        self.size += len(text)
        if self.size > MAX_BLOCK_CHARACTERS:
            raise Unreadable(
                f"Paragraph {self.number:,} or its table has more than 4 MB of text; break it up, "
                "then upload the document again."
            )

    def _taken(self) -> str:
        text, sign = self.texts[-1].taken(), self.sign
        self.sign = ""
        return f"{sign}{text}" if text else ""

    def _end_paragraph(self) -> None:
        if self.texts[-1].kind not in ("body", "box"):
            self._put("\n")
        elif self.states[-1].in_table:
            text = self._taken()
            self.cell += [text] if text else []
        else:
            self._end_table()
            self._emit(self._taken())

    def _emit(self, text: str) -> None:
        level = self.states[-1].level
        if text and level:
            text = " ".join(text.split()).removeprefix("- ")
            self.ready.append(Block("heading", self.number, text, level))
        elif text:
            self.ready.append(Block("text", self.number, text))
        self.number += 1
        self.size = 0

    def _end_cell(self) -> None:
        text = self._taken()
        self.cell += [text] if text else []
        if len(self.row) < _MAX_CELLS:
            self.row.append("\n".join(self.cell))
        self.cell = []

    def _end_row(self) -> None:
        """End a row; a cell that is merged with the one above has its text."""
        for column, goes_on in enumerate(self.merged[: len(self.row)]):
            above = self.rows[-1] if self.rows else []
            if goes_on and not self.row[column] and column < len(above) and above[column]:
                self.row[column] = above[column]
                self.seen.add("merged", self.number)
        if any(self.row):
            self.rows.append(self.row)
        self.row = []
        self.number += 1

    def _end_table(self) -> None:
        if self.rows:
            self.ready.append(Block("table", self.number - len(self.rows), rows=self.rows))
            self.rows = []
        self.size = 0


def _passed_over(stream: BinaryIO, data: bytes, at: int, num_bytes: int) -> tuple[bytes, int]:
    """Pass over the bytes of a picture, also where they go on in the stream."""
    if at + num_bytes <= len(data):
        return data, at + num_bytes
    beyond = at + num_bytes - len(data)
    while beyond > 0 and (piece := stream.read(min(beyond, _CHUNK_BYTES))):
        beyond -= len(piece)
    return b"", 0


def _known(charset: str, otherwise: str) -> str:
    try:
        return codecs.lookup(charset).name if charset else otherwise
    except LookupError:
        return otherwise
