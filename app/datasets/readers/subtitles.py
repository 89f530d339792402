"""VTT and SRT: what is said in a lesson or a consultation, by speaker where the file names them."""

import html
import re
from collections.abc import Iterator
from typing import NamedTuple, TextIO

from app.datasets.readers.blocks import MAX_LINE_CHARACTERS, Block
from app.datasets.readers.chats import Said
from app.datasets.readers.unreadable import Unreadable

_MAX_CUE_CHARACTERS = 1024**2
_TIME = r"(?:(\d{1,3}):)?(\d{1,2}):(\d{2})[.,](\d{3})"
_TIMES = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?")
_VOICE = re.compile(r"<v(?:\.[^\s<>]{0,200})?[ \t]{1,9}([^<>]{1,200})>", re.IGNORECASE)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<\d[\d:.]*>|\{\\[^{}]{1,40}\}")
# “Anna Smith: …”, as Zoom and many others write it.
_NAME = re.compile(r"(?:>>|-|–)?\s*\[?([^\W\d_][^:\[\]\n.!?]{0,50})\]?:\s+(\S.*)", re.DOTALL)
_MAX_WORDS_OF_NAME = 5
_NUM_CUES_LOOKED_AT = 100
# So long a silence ends a paragraph where nobody is named.
_PARAGRAPH_SECONDS = 3
_PARAGRAPH_CHARACTERS = 2000


class _Cue(NamedTuple):
    number: int
    begins: float
    ends: float
    text: str


def looks_like_subtitles(sample: str) -> bool:
    """Tell VTT by its first word, and SRT by the times below a number."""
    lines = [line for line in sample.lstrip("\ufeff").splitlines()[:20] if line.strip()]
    if not lines:
        return False
    if re.match(r"WEBVTT(\s|$)", lines[0]):
        return True
    second = lines[1] if len(lines) > 1 and lines[0].strip().isdecimal() else lines[0]
    return _TIMES.fullmatch(second) is not None


def names_speakers(sample: str) -> bool:
    """Say whether a file tells who speaks: by voices, or by names before what is said."""
    if _VOICE.search(sample):
        return True
    texts = [
        cue.text
        for _, cue in zip(
            range(_NUM_CUES_LOOKED_AT), _cues(iter(sample.splitlines(True))), strict=False
        )
    ]
    names = [found[1] for text in texts if (found := _named(text))]
    return len(names) * 2 >= len(texts) > 0 and len(set(names)) < len(names)


def _named(text: str) -> re.Match[str] | None:
    found = _NAME.match(text)
    return found if found and len(found[1].split()) <= _MAX_WORDS_OF_NAME else None


def spoken(text: TextIO) -> Iterator[Said]:
    """Yield what is said by whom, with the numbers of the lines; cues of one speaker are joined.

    Raises:
        Unreadable: a cue has more than 1 MB.
    """
    waiting: Said | None = None
    ends = 0.0
    who = ""
    for cue in _cues(_lines(text)):
        for name, said in _voices(cue.text):
            who = name or who
            if not said:
                continue
            if not who:
                yield Said(cue.number, "", said, cue.begins, left_out="no_speaker")
                continue
            is_soon = cue.begins - ends < _PARAGRAPH_SECONDS * 20
            if waiting is not None and waiting.speaker == who and is_soon:
                joined = f"{waiting.text} {said}"
                if len(joined) <= _MAX_CUE_CHARACTERS:
                    waiting = waiting._replace(text=joined)
                    ends = cue.ends
                    continue
            if waiting is not None:
                yield waiting
            waiting = Said(cue.number, who, said, cue.begins, _clock(cue.begins))
            ends = cue.ends
    if waiting is not None:
        yield waiting


def _voices(text: str) -> Iterator[tuple[str, str]]:
    """Yield each voice of a cue and what it says; a voice without a name goes on."""
    pieces = _VOICE.split(text)
    if len(pieces) == 1:
        plain = _plain(text)
        named = _named(plain)
        yield (named[1].strip(), named[2].strip()) if named else ("", plain)
        return
    if before := _plain(pieces[0]):
        yield "", before
    for name, said in zip(pieces[1::2], pieces[2::2], strict=True):
        yield html.unescape(name).strip(), _plain(said)


def subtitle_blocks(text: TextIO) -> Iterator[Block]:
    """Read what is said into paragraphs, where nobody is named.

    Raises:
        Unreadable: a cue has more than 1 MB.
    """
    pieces: list[str] = []
    number, size, ends = 0, 0, 0.0
    for cue in _cues(_lines(text)):
        said = _plain(cue.text)
        if not said:
            continue
        is_over = size > _PARAGRAPH_CHARACTERS and pieces[-1].endswith((".", "?", "!", "…"))
        if pieces and (is_over or cue.begins - ends > _PARAGRAPH_SECONDS):
            yield Block("text", number, " ".join(pieces))
            pieces, size = [], 0
        number = number if pieces else cue.number
        # Captions that scroll show each line twice.
        if not pieces or pieces[-1] != said:
            pieces.append(said)
            size += len(said)
        ends = cue.ends
    if pieces:
        yield Block("text", number, " ".join(pieces))


def _plain(text: str) -> str:
    return " ".join(html.unescape(_TAG.sub("", text)).split())


def _lines(text: TextIO) -> Iterator[str]:
    number = 0
    while line := text.readline(MAX_LINE_CHARACTERS + 1):
        number += 1
        if len(line) > MAX_LINE_CHARACTERS:
            raise Unreadable(
                f"Line {number:,} is longer than 1 MB, which no subtitles have; export the "
                "transcript again."
            )
        yield line


def _cues(lines: Iterator[str]) -> Iterator[_Cue]:
    """Yield the cues; numbers, styles and notes beside them say nothing that was said."""
    times: re.Match[str] | None = None
    said: list[str] = []
    number = begun = size = 0
    for line in lines:
        number += 1
        found = _TIMES.fullmatch(line.rstrip("\r\n"))
        if found is None and times is not None and line.strip():
            said.append(line.strip())
            size += len(line)
            if size > _MAX_CUE_CHARACTERS:
                raise Unreadable(
                    f"The subtitle in line {begun:,} has more than 1 MB; export the transcript "
                    "again."
                )
            continue
        if times is not None:
            if found is not None and said and said[-1].isdecimal():
                said.pop()  # the next cue's number, without a blank line before it
            yield _Cue(begun, _seconds(times, 1), _seconds(times, 5), "\n".join(said))
        times, said, begun, size = found, [], number, 0
    if times is not None:
        yield _Cue(begun, _seconds(times, 1), _seconds(times, 5), "\n".join(said))


def _seconds(times: re.Match[str], group: int) -> float:
    hours, minutes, seconds, parts = (int(times[group + n] or 0) for n in range(4))
    return hours * 3600 + minutes * 60 + seconds + parts / 1000


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
