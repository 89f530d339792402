"""Which kind of XML or HTML a file is, by its first tag."""

import codecs
import re
from typing import Literal

Markup = Literal["html", "spreadsheetml"]
_BEFORE = re.compile(
    r"(?:\s+|<!--.*?-->|<\?.*?\?>|<!DOCTYPE(?:[^<>\[]|\[.*?\])*>)*", re.DOTALL | re.I
)
_TAG = re.compile(r"<([A-Za-z_][\w.-]*:)?([A-Za-z_][\w.-]*)")
# Tags with which nothing but a page begins: Markdown may begin with a <div> or <p>.
_PAGE = frozenset({"html", "head", "body", "meta", "table", "style", "title"})
_SPREADSHEET = "urn:schemas-microsoft-com:office:spreadsheet"
_NAMES = {
    "wordDocument": "a Word document saved as XML; save it as DOCX",
    "package": "an Office document saved as XML; save it as DOCX or XLSX",
    "document": "an OpenDocument file saved as flat XML; save it as ODT or ODS",
    "document-content": "a part of an OpenDocument file; save the file as ODT or ODS",
    "svg": "a picture (SVG)",
    "rss": "a news feed (RSS)",
    "feed": "a news feed (Atom)",
}


def of(head: bytes) -> Markup | str | None:
    """Say what kind of markup a file is.

    Returns:
        A kind that is read, or what else it is in words; None where it is no markup at all.
    """
    text = _text(head)
    if not text.lstrip().startswith("<"):
        return None
    start = text[: _BEFORE.match(text).end()]  # type: ignore[union-attr]  # matches nothing, too
    tag = _TAG.match(text, len(start))
    is_xml = "<?xml" in start
    if "<!doctype html" in start.lower():
        return "html"
    if tag is None:
        return "XML" if is_xml else None
    name = tag[2]
    if name.lower() in _PAGE:
        return "html"
    if name == "Workbook" and _SPREADSHEET in text:
        return "spreadsheetml"
    if is_xml or tag[1]:
        return _NAMES.get(name, "XML")
    return _NAMES.get(name) if name in ("svg", "rss", "feed") else None


def _text(head: bytes) -> str:
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return head.decode("utf-16", errors="ignore")
    return head.removeprefix(codecs.BOM_UTF8).decode("latin-1")
