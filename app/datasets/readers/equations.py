"""Word's equations (OMML) as a line of text: ½, r², √(x + 1), ∑_(i=1)^n i."""

import re

from app.datasets.readers import signs

_STRUCTURES = frozenset(
    {
        "oMath",
        "f",
        "sSup",
        "sSub",
        "sSubSup",
        "sPre",
        "rad",
        "nary",
        "d",
        "func",
        "limLow",
        "limUpp",
    }
    | {"acc", "bar", "m", "mr", "eqArr", "box", "borderBox", "groupChr", "phant"}
)
_ARGUMENTS = frozenset({"num", "den", "e", "sup", "sub", "deg", "fName", "lim"})
# A box with one of these lines through it shows what is no longer so.
_CROSSINGS = frozenset({"strikeH", "strikeV", "strikeBLTR", "strikeTLBR"})
_PROPERTIES = frozenset(
    {"chr", "begChr", "endChr", "sepChr", "type", "degHide", "pos", *_CROSSINGS}
)
_OFF = ("0", "false", "off", "none", "noStrike")
_SIMPLE = re.compile(r"[\w.,°%′µ]*")


class _Frame:
    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.parts: list[str] = []
        self.arguments: dict[str, list[str]] = {}
        self.properties: dict[str, str] = {}

    def add(self, text: str) -> None:
        """Put a text behind the others; a fraction is not glued to a number before it."""
        if text[:1] == " " and (not self.parts or self.parts[-1].endswith((" ", "("))):
            text = text.lstrip()
        glued = self.parts and self.parts[-1][-1:].isdecimal() and re.match(r"\d+/\d", text)
        self.parts.append(f" {text}" if glued else text)

    def get(self, name: str) -> str:
        return "".join(self.arguments.get(name, []))


class Equation:
    """An equation that is being read; it is over when its outermost tag ends."""

    def __init__(self, *, is_struck: bool = False, is_hidden: bool = False) -> None:
        self._frames = [_Frame("oMath")]
        self._paragraph = {"struck": is_struck, "hidden_text": is_hidden}
        self._run = dict(self._paragraph)
        # Why letters were left out of it, each time.
        self.left_out: list[str] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Begin a part of the equation, or hear how it is written."""
        if name == "r":
            self._run = dict(self._paragraph)
        elif name in ("strike", "dstrike", "vanish"):
            what = "hidden_text" if name == "vanish" else "struck"
            self._run[what] = attributes.get("val", "") not in _OFF
        elif name == "rPr" and "strike" in attributes:  # of PowerPoint
            self._run["struck"] = attributes["strike"] not in _OFF
        if name in _STRUCTURES or name in _ARGUMENTS:
            self._frames.append(_Frame(name))
        elif name in _PROPERTIES:
            self._frames[-1].properties[name] = attributes.get("val", "")

    def text(self, data: str) -> None:
        """Hear letters."""
        why = next((what for what, holds in self._run.items() if holds), None)
        if why is None:
            self._frames[-1].add(data)
        elif data.strip():
            self.left_out.append(why)

    def end(self, name: str) -> str | None:
        """End a part; the equation as a text where it was the last."""
        frame = self._frames[-1]
        if frame.tag != name:
            return None
        self._frames.pop()
        written = _written(frame)
        if name == "borderBox" and written.strip() and _is_crossed(frame):
            self.left_out.append("struck")
            written = ""
        if not self._frames:
            return written
        if name in _ARGUMENTS:
            self._frames[-1].arguments.setdefault(name, []).append(written)
        elif name == "mr":
            self._frames[-1].arguments.setdefault("mr", []).append(
                ", ".join(frame.arguments.get("e", []))
            )
        else:
            self._frames[-1].add(written)
        return None


def _is_crossed(frame: _Frame) -> bool:
    return any(frame.properties.get(line, "0") not in _OFF for line in _CROSSINGS)


def _written(frame: _Frame) -> str:  # noqa: PLR0912 - one a kind of part
    get, base = frame.get, frame.get("e")
    match frame.tag:
        case "f":
            if frame.properties.get("type") == "noBar":  # n over k, which divides nothing
                return f"({get('num')} over {get('den')})"
            return fraction(get("num"), get("den"))
        case "sSup":
            return base + upper(get("sup"))
        case "sSub":
            return base + lower(get("sub"))
        case "sSubSup":
            return base + lower(get("sub")) + upper(get("sup"))
        case "sPre":
            # Apart from what stands before it: 2 ¹³¹I is no power of two.
            return f" {upper(get('sup'))}{lower(get('sub'))}{base}"
        case "rad":
            degree = get("deg").strip()
            root = {"": "√", "2": "√", "3": "∛", "4": "∜"}.get(degree, f"{upper(degree)}√")
            return root + bracketed(base)
        case "nary":
            sign = frame.properties.get("chr", "∫")
            return f"{sign}{lower(get('sub'))}{upper(get('sup'))} {base}"
        case "d":
            begin, end = (
                frame.properties.get(key, sign) for key, sign in (("begChr", "("), ("endChr", ")"))
            )
            inner = frame.properties.get("sepChr", "|").join(frame.arguments.get("e", []))
            if (begin, end) == ("(", ")") and re.fullmatch(r"\([^()]* over [^()]*\)", inner):
                return inner
            return f"{begin}{inner}{end}"
        case "func":
            return f"{get('fName')} {base}"
        case "limLow":
            return base + lower(get("lim"))
        case "limUpp":
            return base + upper(get("lim"))
        case "acc":
            return base + frame.properties.get("chr", "\u0302")
        case "bar":
            is_above = frame.properties.get("pos", "bot") == "top"
            return with_bar(base) if is_above else "".join(f"{sign}\u0332" for sign in base)
        case "m":
            return f"[{'; '.join(frame.arguments.get('mr', []))}]"
        case "eqArr":
            return "\n".join(frame.arguments.get("e", []))
        case "phant":
            return ""
    return "".join(frame.parts) + base


def fraction(above: str, below: str) -> str:
    """Write a fraction: as one sign where there is such."""
    return signs.VULGAR.get(f"{above}/{below}") or f"{bracketed(above)}/{bracketed(below)}"


def with_bar(text: str) -> str:
    """Draw a line above a text."""
    return f"{text}\u0304" if len(text) == 1 else "".join(f"{sign}\u0305" for sign in text)


def bracketed(text: str) -> str:
    """Put a text into brackets unless it is one number or word."""
    is_simple = _SIMPLE.fullmatch(text) or (text[:1] == "(" and text.find(")") == len(text) - 1)
    return text if is_simple else f"({text})"


def upper(text: str) -> str:
    """Write a power: in raised signs where there are such, else behind a ^."""
    if not text:
        return ""
    return signs.power(text) or f"^{bracketed(text)}"


def lower(text: str) -> str:
    """Write an index: in lowered signs where there are such, else behind a _."""
    if not text:
        return ""
    return signs.index(text) or f"_{bracketed(text)}"
