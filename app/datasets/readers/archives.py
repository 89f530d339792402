"""The files inside a ZIP: checked by its directory before a byte is unpacked, then streamed."""

import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

from app.datasets.readers.files import Entry, File
from app.datasets.readers.sniffing import (
    MAX_ZIP_RATIO,
    SMALL_BYTES,
    bomb,
    is_link,
)
from app.datasets.readers.unreadable import Unreadable

MAX_FILES = 1000
MAX_UNPACKED_BYTES = 16 * 1024**3
_BEYOND = re.compile(r"^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)|\0")
# What systems put beside people's files.
_CLUTTER = re.compile(r"(^|/)(__MACOSX/|\.|Thumbs\.db$|desktop\.ini$)", re.IGNORECASE)


@contextmanager
def open_entries(file: File) -> Iterator[list[Entry]]:
    """Open the archive and list the files in it, in the order of their names.

    Raises:
        Unreadable: it is a trap, holds nothing, or holds what no honest archive does.
    """
    if isinstance(file, Entry):
        raise Unreadable(
            "This is an archive inside an archive; unpack it and put its files into one ZIP."
        )
    with file.open() as packed, zipfile.ZipFile(packed) as archive:
        entries = archive.infolist()
        _check(entries, file.size_bytes)
        readable = [
            Entry(file.path, archive, entry)
            for entry in sorted(entries, key=lambda entry: entry.filename)
            if not entry.is_dir() and not _CLUTTER.search(entry.filename)
        ]
        if not readable:
            raise Unreadable("This archive has no files in it; add files with examples.")
        yield readable


def _check(entries: list[zipfile.ZipInfo], packed: int) -> None:
    unpacked = sum(entry.file_size for entry in entries)
    if (
        len(entries) > MAX_FILES
        or unpacked > MAX_UNPACKED_BYTES
        or (unpacked > SMALL_BYTES and unpacked / max(packed, 1) > MAX_ZIP_RATIO)
    ):
        raise Unreadable(bomb("archive", unpacked, len(entries), packed))
    for entry in entries:
        if _BEYOND.search(entry.filename) or _BEYOND.search(entry.orig_filename):
            raise Unreadable(
                f"This archive has a file called “{shown(entry.filename)}”, which points out of "
                "its folder; pack the files again without that one."
            )
        if is_link(entry):
            raise Unreadable(
                f"“{shown(entry.filename)}” in this archive is a link, not a file; pack the file "
                "itself."
            )


def shown(name: str) -> str:
    """Cut the name of an entry to what a sentence can hold, without signs that steer a screen."""
    printable = "".join(c if c.isprintable() else "�" for c in name)
    printable = printable.encode(errors="replace").decode()
    return printable if len(printable) <= 80 else f"…{printable[-80:]}"
