"""Equations of web pages and OpenDocument (MathML) as a line of text: ½, r², √(x+1)."""

import re

from app.datasets.readers.equations import bracketed, fraction, lower, upper, with_bar

# Written for programs, or not shown.
_SKIPPED = frozenset({"annotation", "annotation-xml", "mphantom", "maligngroup", "malignmark"})
_BLANKS = re.compile(r"\s+")
# “Apply this function”, “times” and “comma”, of which nothing is seen.
_UNSEEN = re.compile("[\u2061-\u2064]")
# Where the scripts begin that stand before a sign.
_BEFORE = "\0"
_TOKENS = frozenset({"mi", "mn", "mo", "mtext", "ms"})


class _Part:
    def __init__(self, tag: str, attributes: dict[str, str]) -> None:
        self.tag, self.attributes = tag, attributes
        self.parts: list[str] = []

    def at(self, place: int) -> str:
        return self.parts[place] if place < len(self.parts) else ""

    def joined(self) -> str:
        written = ""
        for part in self.parts:
            # 1 1/16 is not 11/16.
            glued = written[-1:].isdecimal() and re.match(r"\d+/\d", part)
            written += f" {part}" if glued else part
        return written


class MathMl:
    """An equation that is being read; it is over when its outermost tag ends."""

    def __init__(self) -> None:
        self._open = [_Part("math", {})]
        self._skipping = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Begin a part of the equation."""
        if self._skipping or name in _SKIPPED:
            self._skipping += 1
        else:
            self._open.append(_Part(name, attributes))

    def text(self, data: str) -> None:
        """Hear letters."""
        if not self._skipping and self._open[-1].tag in _TOKENS:
            self._open[-1].parts.append(_UNSEEN.sub("", _BLANKS.sub(" ", data)))

    def end(self) -> str | None:
        """End a part; the equation as a text where it was the last."""
        if self._skipping:
            self._skipping -= 1
            return None
        written = _written(self._open.pop())
        if not self._open:
            return written.strip()
        self._open[-1].parts.append(written)
        return None


def _with_scripts(parts: list[str]) -> str:
    """Write pairs of what is lowered and raised behind a sign, and those before it: ¹³¹₅₃I."""
    at = parts.index(_BEFORE) if _BEFORE in parts else len(parts)
    behind, before = parts[1:at], parts[at + 1 :]
    after = "".join(map(lower, behind[::2])) + "".join(map(upper, behind[1::2]))
    ahead = "".join(map(upper, before[1::2])) + "".join(map(lower, before[::2]))
    return f"{ahead}{parts[0] if at else ''}{after}"


def _written(part: _Part) -> str:  # noqa: PLR0912 - one a kind of part
    at = part.at
    match part.tag:
        case "mi" | "mn" | "mo" | "mtext" | "ms":
            return "".join(part.parts).strip() or (" " if part.parts else "")
        case "mfrac":
            if part.attributes.get("linethickness", "").strip(" .") in ("0", "0px", "0pt", "0em"):
                return f"({at(0)} over {at(1)})"  # n over k, which divides nothing
            return fraction(at(0), at(1))
        case "msup":
            return at(0) + upper(at(1))
        case "msub":
            return at(0) + lower(at(1))
        case "msubsup" | "munderover":
            return at(0) + lower(at(1)) + upper(at(2))
        case "munder":
            return at(0) + lower(at(1))
        case "mover":
            if at(1).strip() in ("¯", "‾", "―", "\u0304", "\u0305"):
                return with_bar(at(0))
            is_accent = len(at(1)) == 1 and not at(1).isalnum()
            return at(0) + (at(1) if is_accent else upper(at(1)))
        case "msqrt":
            return f"√{bracketed(part.joined())}"
        case "mroot":
            root = {"2": "√", "3": "∛", "4": "∜"}.get(at(1), f"{upper(at(1))}√")
            return root + bracketed(at(0))
        case "mprescripts":
            return _BEFORE
        case "mmultiscripts":
            return _with_scripts(part.parts)
        case "mfenced":
            begin, end = part.attributes.get("open", "("), part.attributes.get("close", ")")
            separator = part.attributes.get("separators", ",").strip()[:1]
            return begin + f"{separator} ".join(part.parts) + end
        case "mspace":
            return " "
        case "mtr":
            return ", ".join(part.parts)
        case "mtable":
            return f"[{'; '.join(part.parts)}]"
        case "semantics" | "maction":
            return at(0)
    return part.joined()
