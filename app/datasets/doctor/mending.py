"""Damage that can be mended letter by letter: broken accents, marks of web pages, stray blanks.

The check asks whether mending would change a text, and the fix does it: both mean the same.
"""

import html
import re

REPLACEMENT = "�"
# What the bytes 0x80 to 0xBF become where UTF-8 was read as Windows-1252 or Latin-1.
_TAIL = (
    "\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc"
    "\u2013\u2014\u2018-\u201a\u201c-\u201e\u2020-\u2022\u2026\u2030\u2039\u203a\u20ac\u2122"
)
_BROKEN = re.compile(
    f"(?:[\u00c2-\u00df][{_TAIL}]|[\u00e0-\u00ef][{_TAIL}]{{2}}|[\u00f0-\u00f4][{_TAIL}]{{3}})+"
)
_ENTITY = re.compile(r"&(?:[A-Za-z]{2,10}\d{0,2}|#\d{2,6}|#[xX][0-9A-Fa-f]{2,6});")
_TAGS = (
    "a|b|br|div|em|font|h[1-6]|hr|i|img|li|ol|p|span|strong|sub|sup|table|tbody|td|th|thead|tr|u|ul"
)
_TAG = re.compile(rf"</?(?:{_TAGS})(?:\s[^<>]{{0,300}})?/?>", re.IGNORECASE)
_BREAKS = re.compile(r"</?(?:br|div|h[1-6]|hr|li|p|tr)(?:\s[^<>]{0,300})?/?>", re.IGNORECASE)
_BLANKS = re.compile(r"[ \t]+\n")
_GAPS = re.compile(r"\n{4,}")


def letters(text: str) -> str:
    """Mend accents and umlauts whose bytes were read in the wrong encoding."""
    if text.isascii():
        return text
    return _BROKEN.sub(_mended, text)


def markup(text: str) -> str:
    """Take the marks of a web page out of a text: tags, and names of characters."""
    if "<" in text and _TAG.search(text):
        text = _TAG.sub("", _BREAKS.sub("\n", text))
    if "&" in text:
        text = _ENTITY.sub(_character, text)
    return text


def spaces(text: str) -> str:
    """Take blanks from both ends of a text, and more than two blank lines from within it."""
    text = text.strip()
    return _GAPS.sub("\n\n", text) if "\n\n\n\n" in text else text


def _mended(match: re.Match[str]) -> str:
    for encoding in ("cp1252", "latin-1"):
        try:
            return match[0].encode(encoding).decode()
        except UnicodeError:
            continue
    return match[0]


def _character(match: re.Match[str]) -> str:
    character = html.unescape(match[0])
    if character == match[0]:
        return character
    return " " if character == "\xa0" else "".join(c for c in character if c >= " " or c in "\n\t")
