"""Fields of Word that stand for signs: SYMBOL, and EQ, in which older equations are written.

Of neither does a file have the words that are shown, so that “5 µg” would become “5 g”.
"""

import re

from app.datasets.readers import signs
from app.datasets.readers.equations import bracketed, fraction, lower, upper

MAX_INSTRUCTION_CHARACTERS = 10_000
_MAX_DEPTH = 20
_SYMBOL = re.compile(r"\s*SYMBOL\s+(\d{1,5}|0x[0-9A-Fa-f]{1,5})\b(.*)", re.DOTALL | re.IGNORECASE)
_FONT = re.compile(r'\\f\s*(?:"([^"]*)"|([\w-]+))', re.IGNORECASE)
_UNICODE = re.compile(r"\\u\b", re.IGNORECASE)
_EQ = re.compile(r"\s*EQ\b", re.IGNORECASE)
# A word of EQ with its options up to its bracket: \f(, \s\up8(.
_WORD = re.compile(r"\\([a-z]+)((?:\s*\\[a-z]+ *\d*)*)\s*\(", re.IGNORECASE)


class UnknownField(Exception):
    """A field stands for a sign or an equation that cannot be written; `kind` is counted."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


def written(instruction: str, font: str = "") -> str | None:
    """Return what a field stands for, or none where its words stand in the file.

    Args:
        font: The symbol font of the text around it, if it has one.

    Raises:
        UnknownField: it is a sign or an equation that is not known here.
    """
    if found := _SYMBOL.match(instruction):
        sign = _symbol(int(found[1], 0), found[2], font)
        if not sign:
            raise UnknownField("sign")
        return sign
    if found := _EQ.match(instruction):
        try:
            return _Equation(instruction[found.end() :]).text().strip()
        except ValueError:
            raise UnknownField("equation") from None
    return None


def _symbol(code: int, options: str, font: str) -> str:
    if _UNICODE.search(options):
        return chr(code) if code <= 0x10FFFF and not 0xD800 <= code < 0xE000 else ""
    if named := _FONT.search(options):
        font = (named[1] or named[2] or "").strip()
    if signs.is_symbol_font(font) or code > 0xFF:
        return signs.symbol(code, font)
    return bytes([code]).decode("cp1252", errors="ignore")


class _Equation:
    """An EQ field, read from its left to its right; ValueError: there is more than is known."""

    def __init__(self, code: str) -> None:
        self.code, self.at = code, 0

    def text(self) -> str:
        parts = self._parts(depth=0)
        if len(parts) != 1 or self.at < len(self.code):
            raise ValueError
        return parts[0]

    def _parts(self, depth: int) -> list[str]:
        """Read up to a closing bracket: what stands between commas or semicolons."""
        if depth > _MAX_DEPTH:
            raise ValueError
        pieces = [""]
        splits: list[str] = []
        while self.at < len(self.code):
            sign = self.code[self.at]
            if sign == "\\":
                pieces[-1] += self._word(depth)
                continue
            self.at += 1
            if sign == ")" and depth:
                break
            if sign in ",;" and depth:
                splits.append(sign)
                pieces.append("")
            else:
                pieces[-1] += sign
        # Where a comma stands in numbers, programs divide by semicolons.
        if ";" in splits and "," in splits:
            joined = [pieces[0]]
            for split, piece in zip(splits, pieces[1:], strict=True):
                if split == ";":
                    joined.append(piece)
                else:
                    joined[-1] += f",{piece}"
            pieces = joined
        return [piece.strip() for piece in pieces] if depth else pieces

    def _word(self, depth: int) -> str:
        if self.code[self.at + 1 : self.at + 2] in tuple("\\(),;"):
            self.at += 2
            return self.code[self.at - 1]
        found = _WORD.match(self.code, self.at)
        if found is None:
            raise ValueError
        self.at = found.end()
        name, options = found[1].lower(), "".join(found[2].split()).lower()
        parts = self._parts(depth + 1)
        match name, options, parts:
            case "f", "", [above, below] if above and below:
                return fraction(above, below)
            case "r", "", [base]:
                return f"√{bracketed(base)}"
            case "r", "", [degree, base]:
                return {"": "√", "2": "√", "3": "∛"}.get(degree, f"{upper(degree)}√") + bracketed(
                    base
                )
            case "b", "", [inner]:
                return f"({inner})"
            case "s", _, [inner] if re.fullmatch(r"\\up\d*", options):
                return upper(inner)
            case "s", _, [inner] if re.fullmatch(r"\\do\d*", options):
                return lower(inner)
        raise ValueError
