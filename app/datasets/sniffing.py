"""What a file is, by its first bytes; what it is called plays no part."""

import zipfile
from pathlib import Path
from typing import Literal

MAX_ZIP_ENTRIES = 10_000
MAX_UNPACKED_BYTES = 2 * 1024**3
# A sheet of ordinary rows shrinks 5 to 30 times; repeated rows up to about 100 times.
MAX_ZIP_RATIO = 200
_SMALL_BYTES = 50 * 1024**2

_USE = "use CSV, TSV, JSON, JSONL or XLSX"
_NAMES = (
    (b"%PDF-", "a PDF document"),
    (b"\x89PNG", "a picture (PNG)"),
    (b"\xff\xd8\xff", "a picture (JPEG)"),
    (b"GIF8", "a picture (GIF)"),
    (b"BM\x00", "a picture (BMP)"),
    (b"II*\0", "a picture (TIFF)"),
    (b"MM\0*", "a picture (TIFF)"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"MZ", "a Windows program"),
    (b"\x7fELF", "a program"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"BZh", "a bzip2 archive; unpack it first"),
    (b"\xfd7zXZ", "an xz archive; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive; unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it first"),
    (b"Rar!", "a RAR archive; unpack it first"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"RIFF", "a sound or a film"),
    (b"ID3", "a sound (MP3)"),
    (b"OggS", "a sound (Ogg)"),
    (b"{\\rtf", "an RTF document"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


class Unreadable(Exception):
    """The file cannot be read; the message says in one sentence what, where and what to do."""


def sniff(path: Path) -> Literal["text", "xlsx"]:
    """Say whether a file is text or a workbook.

    Raises:
        Unreadable: it is empty, or something else; the message names it.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    if not head:
        raise Unreadable(
            "This file is empty (0 bytes); save it again in the program it comes from, "
            "then upload it anew."
        )
    if head.startswith(_OLE):
        raise Unreadable(_ole(path))
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip(path)
    name = next((name for magic, name in _NAMES if head.startswith(magic)), None)
    if name is None and head[4:8] == b"ftyp":
        name = "a film or a sound (MP4)"
    if name is None and head.lstrip(b"\xef\xbb\xbf \t\r\n")[:14].lower().startswith(
        (b"<!doctype html", b"<html", b"<?xml")
    ):
        name = "a web page or XML"
    if name is not None:
        raise Unreadable(f"This is {name}, which holds no rows that can be read here; {_USE}.")
    return "text"


def _ole(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(4 * 1024**2)
    if "EncryptedPackage".encode("utf-16-le") in start:
        return (
            "This workbook is protected by a password; open it in Excel, remove the password "
            "(File, Info, Protect Workbook) and upload it again."
        )
    return (
        "This is a document in Office's old format (before 2007); open it and save it as "
        "XLSX or CSV."
    )


def _zip(path: Path) -> Literal["xlsx"]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise Unreadable(
            "This workbook or archive is damaged or was cut off on its way; save it again and "
            "upload the new file."
        ) from None
    names = {entry.filename for entry in entries}
    unpacked = sum(entry.file_size for entry in entries)
    packed = max(path.stat().st_size, 1)
    if (
        len(entries) > MAX_ZIP_ENTRIES
        or unpacked > MAX_UNPACKED_BYTES
        or (unpacked > _SMALL_BYTES and unpacked / packed > MAX_ZIP_RATIO)
    ):
        raise Unreadable(
            f"This workbook would unpack to {unpacked / 1e6:,.0f} MB in {len(entries):,} parts "
            f"from {packed / 1e6:,.1f} MB, which looks like a trap (a “zip bomb”); "
            "save the rows as CSV and upload that."
        )
    if any(entry.flag_bits & 1 for entry in entries):
        raise Unreadable("This archive is protected by a password; remove it and upload it again.")
    if "xl/workbook.xml" in names or "xl/workbook.bin" in names:
        return "xlsx"
    if any(name.startswith("word/") for name in names):
        name = "a Word document"
    elif any(name.startswith("ppt/") for name in names):
        name = "a PowerPoint presentation"
    elif "mimetype" in names and "content.xml" in names:
        name = "an OpenDocument file; save it as XLSX"
    else:
        name = "a zip archive; unpack it first and upload the file inside"
    raise Unreadable(f"This is {name}: {_USE}.")
