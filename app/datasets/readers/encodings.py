"""Bytes -> text: the mark at the start, then UTF-8 to the letter, then a guess that is shown."""

import codecs
import re
from typing import NamedTuple

from charset_normalizer import from_bytes

from app.datasets.readers import western_encodings
from app.datasets.readers.files import File
from app.datasets.readers.unreadable import Unreadable

# What a person may choose from, with the words for it.
CHOICES = {
    "utf-8": "UTF-8",
    "cp1252": "Western Europe (Windows)",
    "cp1250": "Central Europe (Windows)",
    "cp1251": "Cyrillic (Windows)",
    "cp1253": "Greek (Windows)",
    "cp1254": "Turkish (Windows)",
    "cp1255": "Hebrew (Windows)",
    "cp1256": "Arabic (Windows)",
    "cp1257": "Baltic (Windows)",
    "iso8859-15": "Western Europe (ISO)",
    "iso8859-2": "Central Europe (ISO)",
    "iso8859-7": "Greek (ISO)",
    "iso8859-9": "Turkish (ISO)",
    "mac_roman": "Western Europe (old Mac)",
    "cp437": "DOS",
    "cp850": "Western Europe (DOS)",
    "koi8_r": "Russian (KOI8-R)",
    "gb18030": "Chinese, simplified",
    "big5": "Chinese, traditional",
    "cp932": "Japanese (Shift-JIS)",
    "euc_jp": "Japanese (EUC)",
    "cp949": "Korean",
    "utf-16": "UTF-16",
    "utf-16-le": "UTF-16 without a mark",
    "utf-16-be": "UTF-16 without a mark, big-endian",
}
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What is guessed: without a NUL nothing but noise reads as UTF-16 that has no mark.
_GUESSED = {
    codecs.lookup(name).name: name for name in CHOICES if not name.startswith(("utf-16", "utf-8"))
}
_CONTROLS = re.compile("[\x01-\x08\x0e-\x1a\x1c-\x1f\x7f-\x84\x86-\x9f\ufffd]")
_CHUNK_BYTES = 1024**2
_SAMPLE_BYTES = 128 * 1024


class Encoding(NamedTuple):
    name: str
    is_guess: bool
    # Another fits as well, and gives other letters: a person has to look.
    is_doubtful: bool = False


class _Fault(NamedTuple):
    line: int
    is_nul: bool
    offset: int
    # Text before it had letters beyond ASCII that were right.
    had_letters: bool


def detect(file: File, chosen: str | None = None, *, is_checked: bool = False) -> Encoding:
    """Find an encoding that the whole file agrees with.

    Args:
        is_checked: The whole file was read in the chosen encoding before; only its mark is looked
            at again.

    Raises:
        Unreadable: the chosen one does not fit, or no encoding can.
    """
    head = file.head(_SAMPLE_BYTES)
    if chosen is not None and is_checked:
        marks = [name for mark, name in _MARKS if head.startswith(mark)]
        return Encoding(marks[0] if marks else chosen, is_guess=False)
    if chosen is not None:
        return Encoding(_checked(file, chosen, head), is_guess=False)
    for mark, name in _MARKS:
        if head.startswith(mark):
            return Encoding(_checked(file, name, head), is_guess=False)
    fault = _first_fault(file, "utf-8")
    if fault is None:
        return Encoding("utf-8", is_guess=False)
    if fault.is_nul:
        bare = _bare_utf16(head)
        if bare and _first_fault(file, bare) is None:
            return Encoding(bare, is_guess=True)
        raise Unreadable(_nul(fault))
    if fault.had_letters:
        raise Unreadable(
            f"Line {fault.line:,} has bytes that are not UTF-8, although the lines before are; "
            "the file is damaged or was joined from two: save it again as UTF-8."
        )
    guessed, is_doubtful = _guess(file, fault)
    _refuse_noise(head.decode(guessed, errors="replace"))
    return Encoding(guessed, is_guess=True, is_doubtful=is_doubtful)


def _checked(file: File, name: str, head: bytes) -> str:
    if name not in CHOICES and name not in {mark[1] for mark in _MARKS}:
        raise Unreadable(
            f"“{name}” is not an encoding that can be chosen here; choose another, such as utf-8."
        )
    if name == "utf-8" and head.startswith(codecs.BOM_UTF8):
        name = "utf-8-sig"
    fault = _first_fault(file, name)
    if fault is not None and fault.is_nul:
        raise Unreadable(_nul(fault))
    if fault is not None:
        raise Unreadable(
            f"Line {fault.line:,} cannot be read as {name}; choose another encoding for this file, "
            "or save it as UTF-8."
        )
    return name


def _nul(fault: _Fault) -> str:
    return (
        f"Line {fault.line:,} has NUL bytes, which text never has; the file is damaged or is "
        "not a text file: export it again as CSV or JSONL."
    )


def _first_fault(file: File, name: str) -> _Fault | None:
    decoder = codecs.getincrementaldecoder(name)()
    lines, offset, had_letters = 1, 0, False
    with file.open() as stream:
        while True:
            chunk = stream.read(_CHUNK_BYTES)
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                before = error.object[: error.start]
                return _Fault(
                    lines + before.count(b"\n"),
                    b"\0" in before,
                    # What the decoder held back from the last chunk is part of error.object.
                    max(offset - (len(error.object) - len(chunk)) + error.start, 0),
                    had_letters or not before.isascii(),
                )
            nul = text.find("\0")
            if nul >= 0:
                return _Fault(lines + text.count("\n", 0, nul), True, offset, had_letters)
            if not chunk:
                return None
            had_letters = had_letters or not text.isascii()
            lines += text.count("\n")
            offset += len(chunk)


def _refuse_noise(text: str) -> None:
    # Old encodings give every byte a meaning, so that anything can be read in them.
    strange = len(_CONTROLS.findall(text))
    if strange * 50 > len(text):
        raise Unreadable(
            "This file is not text: many of its bytes are not characters; open it in the program "
            "it comes from and save it as CSV or JSONL."
        )


def _bare_utf16(head: bytes) -> str | None:
    # Western text in UTF-16 has a NUL in nearly every second place.
    even, odd = head[0::2].count(0), head[1::2].count(0)
    half = len(head) // 2
    if odd > half * 0.4 and even < half * 0.05:
        return "utf-16-le"
    if even > half * 0.4 and odd < half * 0.05:
        return "utf-16-be"
    return None


def _guess(file: File, fault: _Fault) -> tuple[str, bool]:
    """Return the likeliest encoding, and whether another is nearly as likely."""
    with file.open() as stream:
        stream.seek(max(fault.offset - _SAMPLE_BYTES // 2, 0))
        sample = stream.read(_SAMPLE_BYTES)
    western = western_encodings.likeliest(sample)
    if western is not None and _first_fault(file, western.name) is None:
        return western.name, western.is_doubtful
    best = from_bytes(sample, cp_isolation=list(_GUESSED.values())).best()
    # It has names of its own for some: “iso8859_15”.
    guessed = _GUESSED.get(codecs.lookup(best.encoding).name) if best else None
    # The usual one in most organisations; taken where it says the same as the guess.
    if guessed is None or _same(sample, guessed, "cp1252"):
        guessed = "cp1252"
    for name in (guessed, "cp1252", "cp850"):
        if _first_fault(file, name) is None:
            # Of the western ones none was plain.
            return name, name in western_encodings.NAMES
    raise Unreadable(
        f"Line {fault.line:,} is in an encoding that cannot be recognised; open the file in the "
        "program it comes from and save it as UTF-8."
    )


def _same(sample: bytes, one: str, other: str) -> bool:
    try:
        return sample.decode(one) == sample.decode(other)
    except UnicodeDecodeError:
        return False


def guessed(encoding: Encoding) -> str:
    """Say that an encoding is a guess, and ask for a look."""
    said = (
        "The file does not say its encoding, so it was read as "
        f"{CHOICES.get(encoding.name, encoding.name)} ({encoding.name}): check that accents and "
        "umlauts are right below, and choose another if not."
    )
    if encoding.is_doubtful:
        said += " Another encoding fits as well, so please do look."
    return said
