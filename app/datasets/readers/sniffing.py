"""What a file is, by its first bytes; what it is called plays no part."""

import stat
import zipfile
from typing import Literal, cast

from app.core.sentences import counted
from app.datasets.readers import anki, mail, markup, named_kinds, quiz_xml
from app.datasets.readers.files import File
from app.datasets.readers.unreadable import Unreadable

Kind = Literal[
    "text", "xlsx", "ods", "xls", "parquet", "docx", "pdf", "zip", "mail", "quiz_xml", "anki",
    "odt", "rtf", "pptx", "html", "spreadsheetml", "epub", "gzip",
]  # fmt: skip
MAX_ZIP_ENTRIES = 10_000
MAX_UNPACKED_BYTES = 2 * 1024**3
# A sheet of ordinary rows shrinks 5 to 30 times; repeated rows up to about 100 times.
MAX_ZIP_RATIO = 200
SMALL_BYTES = 50 * 1024**2

_USE = (
    "use CSV, Excel, JSON, Parquet, Word, OpenDocument, PowerPoint, RTF, HTML, EPUB, PDF with "
    "text, Markdown or plain text"
)
_NAMES = (
    (b"SQLite format 3\0", "an SQLite database"),
    (b"MZ", "a Windows program"),
    (b"\x7fELF", "a program"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"ARROW1", "an Arrow file"),
    (b"PARE", "an encrypted Parquet file"),
    (b"GGUF", "a starting model"),
    (b"L\x00\x00\x00\x01\x14\x02\x00", "a shortcut to a file"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_ODF = "application/vnd.oasis.opendocument."


def sniff(file: File) -> Kind:
    """Say what kind of file this is.

    Raises:
        Unreadable: it is empty, or something that holds no examples; the message names it.
    """
    head = file.head(4096)
    if not head:
        raise Unreadable(
            "This file is empty (0 bytes); save it again in the program it comes from, "
            "then upload it again."
        )
    if head.startswith(_OLE):
        return _ole(file)
    if head.startswith(_ZIP):
        return _zip(file)
    if kind := _by_first_bytes(head):
        return kind
    if refusal := named_kinds.refusal_of(head):
        raise Unreadable(refusal)
    if mail.looks_like_mail(head):
        return "mail"
    if quiz_xml.is_quiz(head):
        return "quiz_xml"
    name = next((name for magic, name in _NAMES if head.startswith(magic)), None)
    if name is None and head[257:262] == b"ustar":
        name = "a tar archive"
    name = name or markup.of(head)
    if name in ("html", "spreadsheetml"):
        return cast(Kind, name)
    if name is not None and name.endswith("archive"):
        raise Unreadable(f"This is {name}; unpack it, then upload the file in it: {_USE}.")
    if name is not None:
        raise Unreadable(f"This is {name}, which has no rows that can be read here; {_USE}.")
    return "text"


def _by_first_bytes(head: bytes) -> Kind | None:
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    if head.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n").startswith(b"{\\rtf"):
        return "rtf"
    # Printers and mail programs put a little before it; readers accept that, and so do we.
    return "pdf" if b"%PDF-" in head[:1024] else None


def _ole(file: File) -> Kind:
    """Office before 2007 and everything with a password: told apart by the names of its streams."""
    start = file.head(64 * 1024**2)
    if "EncryptedPackage".encode("utf-16-le") in start:
        raise Unreadable(
            "This document is protected by a password; open it in Office, remove the password "
            "(File, Info, Protect) and upload it again."
        )
    if any(name.encode("utf-16-le") in start for name in ("Workbook\0", "Book\0")):
        return "xls"
    if "__substg1.0_".encode("utf-16-le") in start:
        raise Unreadable(
            "This is a mail of Outlook (MSG), which cannot be read here; open it in Outlook, save "
            "it as EML or text, or drag it into another mail program, and upload that."
        )
    raise Unreadable(
        "This is a document in Office's old format (before 2007), not a workbook; open it and "
        "save it as DOCX, XLSX or CSV."
    )


def _zip(file: File) -> Kind:
    try:
        with file.open() as packed, zipfile.ZipFile(packed) as archive:
            entries = archive.infolist()
            mimetype = b""
            if entries and entries[0].filename == "mimetype" and entries[0].file_size < 200:
                mimetype = archive.read(entries[0])
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError):
        raise Unreadable(
            "This workbook or archive is damaged or incomplete; save it again and "
            "upload the new file."
        ) from None
    names = {entry.filename for entry in entries}
    kind: Kind = "zip"
    if "xl/workbook.xml" in names or "xl/workbook.bin" in names:
        kind = "xlsx"
    elif any(name.startswith("word/document") for name in names):
        kind = "docx"
    elif mimetype.startswith(f"{_ODF}spreadsheet".encode()):
        kind = "ods"
    elif not names.isdisjoint(anki.COLLECTIONS):
        kind = "anki"
    elif any(name.startswith("ppt/") for name in names):
        kind = "pptx"
    elif mimetype.startswith(f"{_ODF}text".encode()):
        kind = "odt"
    elif mimetype.startswith(b"application/epub+zip") or "META-INF/container.xml" in names:
        kind = "epub"
    elif mimetype.startswith(_ODF.encode()):
        raise Unreadable(
            "This is an OpenDocument presentation or drawing; save it as PPTX, ODT or PDF."
        )
    if any(entry.flag_bits & 1 for entry in entries):
        raise Unreadable(
            "This archive is protected by a password; pack its files again without one, then "
            "upload that."
        )
    if kind != "zip":
        _check_package(entries, file)
    return kind


def _check_package(entries: list[zipfile.ZipInfo], file: File) -> None:
    unpacked = sum(entry.file_size for entry in entries)
    packed = max(file.size_bytes, 1)
    if (
        len(entries) > MAX_ZIP_ENTRIES
        or unpacked > MAX_UNPACKED_BYTES
        or (unpacked > SMALL_BYTES and unpacked / packed > MAX_ZIP_RATIO)
    ):
        raise Unreadable(bomb("document", unpacked, len(entries), packed))


def bomb(what: str, unpacked: int, num_parts: int, packed: int) -> str:
    """Say that a file looks like one that was made to fill the memory or the disk."""
    parts = counted(num_parts, "in 1 part", "in {n} parts")
    return (
        f"This {what} would unpack to {unpacked / 1e6:,.0f} MB {parts} from "
        f"{packed / 1e6:,.1f} MB, which looks like a trap (a “zip bomb”); save the rows as CSV "
        "and upload that."
    )


def is_link(entry: zipfile.ZipInfo) -> bool:
    """Say whether an entry of an archive is a symbolic link."""
    return stat.S_ISLNK(entry.external_attr >> 16)
