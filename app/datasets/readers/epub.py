"""EPUB -> blocks: its chapters in their order, each read as a web page is."""

import posixpath
import re
import zipfile
from collections.abc import Iterator
from urllib.parse import unquote

from app.datasets.readers.blocks import Block
from app.datasets.readers.files import DAMAGES, Entry, File
from app.datasets.readers.grids import Seen
from app.datasets.readers.html_page import Facts, Page
from app.datasets.readers.unreadable import Unreadable
from app.datasets.readers.web_page import MAX_BYTES, encoding_of, parsed
from app.datasets.readers.xml_stream import XmlStream

_WHAT = "e-book"
_DAMAGED = (
    f"This {_WHAT} (EPUB) is damaged; open it in the program it comes from, and save it again."
)
_MAX_CHAPTERS = 5000
_PAGES = frozenset({"application/xhtml+xml", "text/html", "application/x-dtbook+xml"})
# Of fonts alone: the text is not locked.
_FONT_LOCKS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")


def epub_blocks(file: File, seen: Seen) -> Iterator[Block]:
    """Read an e-book into headings, paragraphs and tables, numbered by chapter (file).

    Args:
        seen: Counts afresh what is left out.

    Raises:
        Unreadable: it is damaged or locked, or holds what no e-book does.
    """
    seen.clear()
    try:
        with file.open() as packed, zipfile.ZipFile(packed) as archive:
            names = {entry.filename: entry for entry in archive.infolist()}
            book = _opened(archive, names)
            for number, name in enumerate(book, start=1):
                yield from _chapter(Entry(file.path, archive, names[name]), number, seen)
    except DAMAGES:
        raise Unreadable(_DAMAGED) from None


def _chapter(entry: Entry, number: int, seen: Seen) -> Iterator[Block]:
    if entry.size_bytes > MAX_BYTES:
        raise Unreadable(
            f"Chapter {number:,} of this e-book would unpack to {entry.size_bytes / 1e6:,.0f} MB, "
            f"and at most {MAX_BYTES / 1e6:,.0f} MB can be read; save its text as DOCX."
        )
    encoding = encoding_of(entry, None, is_checked=False)
    with entry.text(encoding.name) as stream:
        tree, root = parsed(stream.read().replace("\0", "\ufffd"))
    yield Block("end", number, level=1)  # a chapter begins with nothing above it
    yield from Page(Facts(root), seen, number).blocks(root)
    del tree  # its nodes are gone with it


def _opened(archive: zipfile.ZipFile, names: dict[str, zipfile.ZipInfo]) -> list[str]:
    """List the chapters."""
    if "META-INF/encryption.xml" in names:
        locks = _Locks()
        with archive.open("META-INF/encryption.xml") as stream:
            locks.read(stream)
        if locks.has_text:
            raise Unreadable(
                "This e-book is locked (DRM), so its text cannot be read; ask the publisher for a "
                "copy without a lock, or upload the text as DOCX."
            )
    container = _Container()
    if "META-INF/container.xml" not in names:
        raise Unreadable(_DAMAGED)
    with archive.open("META-INF/container.xml") as stream:
        container.read(stream)
    if container.path not in names:
        raise Unreadable(_DAMAGED)
    package = _Package(posixpath.dirname(container.path))
    with archive.open(container.path) as stream:
        package.read(stream)
    chapters = [package.pages[each] for each in package.order if each in package.pages]
    chapters = list(dict.fromkeys(name for name in chapters if name in names))
    if len(chapters) > _MAX_CHAPTERS:
        raise Unreadable(
            f"This e-book has {len(chapters):,} chapters and at most {_MAX_CHAPTERS:,} can be "
            "read; split it."
        )
    return chapters


class _Part(XmlStream):
    what = _WHAT


class _Locks(_Part):
    """Which parts are locked; fonts may be, the text not."""

    def __init__(self) -> None:
        super().__init__()
        self.has_text = False
        self.is_font = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "EncryptionMethod":
            self.is_font = attributes.get("Algorithm", "") in _FONT_LOCKS
        elif name == "CipherReference":
            path = attributes.get("URI", "")
            is_page = bool(re.search(r"\.(x?html?|xml|opf)$", path, re.IGNORECASE))
            self.has_text = self.has_text or (is_page and not self.is_font)


class _Container(_Part):
    def __init__(self) -> None:
        super().__init__()
        self.path = ""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "rootfile" and not self.path:
            self.path = attributes.get("full-path", "")


class _Package(_Part):
    """What the book is made of, and in which order."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = folder
        self.pages: dict[str, str] = {}
        self.order: list[str] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "item" and attributes.get("media-type", "").lower() in _PAGES:
            is_contents = "nav" in attributes.get("properties", "").split()
            if not is_contents:
                path = posixpath.join(self.folder, unquote(attributes.get("href", "")))
                self.pages[attributes.get("id", "")] = posixpath.normpath(path)
        elif name == "itemref":
            self.order.append(attributes.get("idref", ""))
