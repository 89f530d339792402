"""What OpenDocument texts and sheets have in common: styles, and how they show text."""

import re
from typing import NamedTuple

from app.datasets.readers import signs
from app.datasets.readers.unreadable import Unreadable
from app.datasets.readers.xml_stream import XmlStream

_MAX_STYLES = 100_000
BLANKS = re.compile(r"[ \t\r\n]+")


class Look(NamedTuple):
    """What a style says of text, of columns or of a table; None: as its parent does."""

    is_struck: bool | None = None
    raises: str | None = None
    symbols: str | None = None
    is_hidden: bool | None = None

    def over(self, below: "Look") -> "Look":
        """Return this style, with another's word where this one says nothing."""
        own = {name: value for name, value in self._asdict().items() if value is not None}
        return below._replace(**own)


class Styles(XmlStream):
    """Styles by family and name; those that a document has for itself come before its text."""

    program = "LibreOffice"

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what
        self.looks: dict[str, Look] = {}
        self.parents: dict[str, str] = {}
        self.name = ""
        self.fonts: dict[str, str] = {}

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "style":
            self.name = f"{attributes.get('family', '')}:{attributes.get('name', '')}"
            self.looks[self.name] = Look()
            if len(self.looks) > _MAX_STYLES:
                raise Unreadable(
                    f"This {self.what} has more styles than any program writes; open it in "
                    "LibreOffice, save it again and upload that."
                )
            if parent := attributes.get("parent-style-name"):
                self.parents[self.name] = f"{attributes.get('family', '')}:{parent}"
        elif name == "font-face":
            self.fonts[attributes.get("name", "")] = attributes.get("font-family", "").strip("'\"")
        elif name == "text-properties" and self.name:
            look = self.looks[self.name]
            through = attributes.get("text-line-through-style") or attributes.get(
                "text-line-through-type"
            )
            if through is not None:
                look = look._replace(is_struck=through != "none")
            if position := attributes.get("text-position"):
                look = look._replace(raises=_raises(position))
            if attributes.get("display") == "none":
                look = look._replace(is_hidden=True)
            font = attributes.get("font-name", attributes.get("font-family", ""))
            font = self.fonts.get(font, font).strip("'\"")
            if font:
                look = look._replace(symbols=font if signs.is_symbol_font(font) else "")
            self.looks[self.name] = look
        elif name == "table-properties" and self.name and attributes.get("display") == "false":
            self.looks[self.name] = self.looks[self.name]._replace(is_hidden=True)

    def end(self, name: str) -> None:
        if name == "style":
            self.name = ""

    def look(self, family: str, name: str | None) -> Look:
        """Return what a style says, with what its parents say."""
        found, key = Look(), f"{family}:{name}"
        for _ in range(20):
            own = self.looks.get(key)
            if own is None:
                break
            found = found.over(own)
            key = self.parents.get(key, "")
        return found


def count_of(attributes: dict[str, str], name: str) -> int:
    """Read how often something is repeated, or over how much it spans; 1 where nothing is said."""
    text = attributes.get(name, "1")
    return max(int(text), 1) if text.isdecimal() and len(text) < 11 else 1


def _raises(position: str) -> str:
    first = position.split(maxsplit=1)[0] if position.strip() else ""
    if first == "super" or (first.endswith("%") and not first.startswith(("-", "0%"))):
        return "superscript"
    return "subscript" if first == "sub" or first.startswith("-") else ""
