"""The files inside a ZIP: checked by its directory before a byte is unpacked, then streamed."""

import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from app.core.sentences import listed
from app.datasets.readers import named_kinds
from app.datasets.readers.files import DAMAGES, Entry, File
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
# What systems and Office put beside people's files.
_CLUTTER = re.compile(
    r"(^|/)(__MACOSX/|\.|~\$|~[^/]{0,80}\.tmp$|Thumbs\.db$|desktop\.ini$|Icon\r?$)", re.IGNORECASE
)
_ABOUT = re.compile(
    r"(^|/)(read[ _-]?me|lies[ _-]?mich|lisez[ _-]?moi|licen[cs]e|copying|changelog)"
    r"(\.(txt|md|markdown|rst|html?|pdf))?$"
    r"|(^|/)archive_browser\.html$",  # what Google Takeout puts beside everything
    re.IGNORECASE,
)
_NUM_NAMED = 5


class PassedOver(NamedTuple):
    """A file of an archive that is not read, and what it is."""

    name: str
    what: str


@contextmanager
def open_entries(file: File) -> Iterator[tuple[list[Entry], list[PassedOver]]]:
    """Open the archive and list the files in it, in the order of their names.

    What is clutter, empty, or a picture, a sound or a film beside others, is passed over.

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
        readable: list[Entry] = []
        passed: list[PassedOver] = []
        for entry in sorted(entries, key=lambda entry: entry.filename):
            if entry.is_dir():
                continue
            one = Entry(file.path, archive, entry)
            if what := _unread(one):
                passed.append(PassedOver(shown(entry.filename), what))
            else:
                readable.append(one)
        about = [one for one in readable if _ABOUT.search(one.info.filename)]
        if len(about) < len(readable):
            readable = [one for one in readable if one not in about]
            passed += [PassedOver(shown(one.info.filename), "about the others") for one in about]
        if not readable and passed:
            raise Unreadable(
                f"This archive has no files in it with examples, only {listed_over(passed)}; add "
                "files with examples."
            )
        if not readable:
            raise Unreadable("This archive has no files in it; add files with examples.")
        yield readable, passed


def _unread(entry: Entry) -> str:
    """Say why a file of an archive is passed over; nothing if it is to be read."""
    if _CLUTTER.search(entry.info.filename):
        return "left behind by a program"
    if not entry.size_bytes:
        return "empty"
    try:
        media = named_kinds.media_of(entry.head(named_kinds.HEAD_BYTES))
    except (*DAMAGES, RuntimeError):
        return ""  # said where it is read
    return f"a {media.sort}" if media else ""


def listed_over(passed: list[PassedOver]) -> str:
    """List what was passed over: the first names, each with what it is."""
    named = [f"“{one.name}” ({one.what})" for one in passed[:_NUM_NAMED]]
    if len(passed) > _NUM_NAMED:
        named.append(f"{len(passed) - _NUM_NAMED:,} more")
    return listed(named)


def damaged(name: str) -> Unreadable:
    """Make the error for a file whose bytes are not those that were packed."""
    return Unreadable(
        f"“{name}” in this archive is damaged: its bytes do not match its checksum; pack the files "
        "again, or download the archive once more, then upload it again."
    )


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
