"""WhatsApp's “Export chat”, from iPhones and from Android, in any language."""

import datetime
import re
from collections.abc import Iterable, Iterator
from typing import TextIO

from app.datasets.readers.blocks import MAX_LINE_CHARACTERS
from app.datasets.readers.chats import Said
from app.datasets.readers.unreadable import Unreadable

_MAX_MESSAGE_CHARACTERS = 1024**2
_NUMBER = re.compile(r"\d+")
_BLANK = r"[ \t\u00a0\u202f]"
_START = re.compile(
    r"[\u200e\u200f\ufeff]*(?P<bracket>\[)?"
    r"(?P<date>\d{1,4}(?P<mark>[./-])\d{1,2}(?P=mark)\d{2,4})[.,]{0,2}" + _BLANK + "{1,2}"
    r"(?:(?:à|às|at|um|om|alle|kl\.?)" + _BLANK + ")?"
    r"(?P<time>\d{1,2}[:.]\d{2}(?:[:.]\d{2})?)"
    r"(?:" + _BLANK + r"Uhr)?"
    r"(?:" + _BLANK + r"?(?P<half>[AaPp])\.?" + _BLANK + r"?[Mm]\.?)?"
    r"(?(bracket)\]" + _BLANK + r"?|" + _BLANK + r"[-–]" + _BLANK + r")(?P<rest>.*)"
)
# Korean, of KakaoTalk as well: “2027. 1. 5. 오후 9:05, Ana : …”; the half of the day comes first.
_EAST = re.compile(
    r"[\u200e\u200f\ufeff]*(?P<bracket>\[)?"
    r"(?P<date>\d{4}(?P<mark>[./-]|년)"
    + _BLANK
    + r"?\d{1,2}(?:[./-]|월)"
    + _BLANK
    + r"?\d{1,2}(?:\.|일)?)"
    r",?" + _BLANK + r"{0,2}(?P<half>오전|오후|上午|下午|午前|午後)" + _BLANK + r"?"
    r"(?P<time>\d{1,2}[:.]\d{2}(?:[:.]\d{2})?)"
    r"(?(bracket)\]" + _BLANK + r"?|" + _BLANK + r"?[-–,]" + _BLANK + r")(?P<rest>.*)"
)
_AFTER_NOON = frozenset({"p", "오후", "下午", "午後"})
_SPEAKER = re.compile(r"(?P<who>[^:\n]{1,100}): ?(?P<text>.*)", re.DOTALL)
# Marks of direction stand around names and before what WhatsApp itself writes.
_MARKS = "\u200e\u200f\u202a\u202c\u2066\u2068\u2069"
# What a message was that is no text: “<Media omitted>” in any language, a file, a place.
_MEDIA = re.compile(
    r"[<‹](?!\s)[^<>‹›\n]{2,240}[>›]"
    r"|(?:[^\W\d_]+ ){1,3}(omitted|weggelassen|omise?|omitid[oa]|omess[oi]|weggelaten)"
    r"|\S{1,200}\.\w{2,5} \([^()]{3,40}\)"
    r"|[^\W\d_]{1,30}(?:[ -][^\W\d_]{1,30}){0,2}: https://(?:maps\.google\.\S{1,300}|maps\.app\.goo\.gl/\S{1,300}"
    r"|www\.google\.\w{2,3}/maps\S{0,300})"
    r"|[^\n]{1,300}: https://foursquare\.com/v/\S{1,100}"
    r"|live location shared|Live-Standort (?:wird )?geteilt|Position en direct partagée"
    r"|ubicación en tiempo real compartida|posizione in tempo reale condivisa"
    r"|localização em tempo real compartilhada|live locatie gedeeld",
    re.IGNORECASE,
)
# “POLL:”, the question, and “OPTION: Monday (2 votes)”, in the words of each language.
_POLL = re.compile(
    r"\u200e?[^\W\d_]{4,14} ?:[^\n]{0,300}\n(?:[^\n]{0,1000}\n){1,20}?"
    r"(?:\u200e?[^\W\d_]{4,14} ?: [^\n]{1,300} \(\d{1,5} ?[^\n()]{1,30}\)(?:\n|$)){1,20}"
)
# Behind its own mark WhatsApp says what hangs on a text.
_ATTACHED = re.compile(r"\u200e<[^<>]{2,40}: ?[^<>]{1,200}>")
_GONE = re.compile(
    r"(This message was deleted|You deleted this message|Diese Nachricht wurde gelöscht"
    r"|Du hast diese Nachricht gelöscht|Ce message a été supprimé|Vous avez supprimé ce message"
    r"|Se eliminó este mensaje|Eliminaste este mensaje|Questo messaggio è stato eliminato"
    r"|Hai eliminato questo messaggio|Dit bericht is verwijderd|Je hebt dit bericht verwijderd"
    r"|Mensagem apagada|Esta mensagem foi apagada|Você apagou esta mensagem"
    r"|Este mensaje fue eliminado|このメッセージは削除されました|삭제된 메시지입니다"
    r"|此消息已被?删除|此訊息已被?刪除)[.。]?",
    re.IGNORECASE,
)
_EDITED = re.compile(
    r"\u200e?<[^<>]{5,60}(edited|bearbeitet|modifié|editó|editad[oa]|modificat[oa]|bewerkt)[^<>]{0,20}>$"
)


def _start(line: str) -> re.Match[str] | None:
    return _START.match(line) or _EAST.match(line)


def looks_like_whatsapp(sample: str) -> bool:
    """Tell an exported chat by its first line and a second message."""
    lines = [line for line in sample.splitlines() if line.strip()]
    if not lines or not _start(lines[0]):
        return False
    starts = [match for line in lines if (match := _start(line))]
    named = [match for match in starts if _SPEAKER.fullmatch(match["rest"])]
    return len(starts) > 1 and len(named) * 2 >= len(starts)


def whatsapp_messages(text: TextIO, sample: str) -> Iterator[Said]:
    """Yield the messages with the numbers of their lines.

    Args:
        sample: The first lines, by which is told whether the day or the month comes first.

    Raises:
        Unreadable: a message has more than 1 MB.
    """
    order = _order([match for line in sample.splitlines() if (match := _start(line))])
    start: re.Match[str] | None = None
    lines: list[str] = []
    number = begun = size = 0
    while line := text.readline(MAX_LINE_CHARACTERS + 1):
        number += 1
        size += len(line)
        if size > _MAX_MESSAGE_CHARACTERS:
            raise Unreadable(
                f"The message that begins in line {begun or number:,} has more than 1 MB; take it "
                "out, then upload the chat again."
            )
        line = line.rstrip("\r\n")
        if match := _start(line):
            if start is not None:
                yield _said(begun, start, lines, order)
            start, lines, begun, size = match, [match["rest"]], number, len(line)
        elif start is not None:
            lines.append(line)
        elif line.strip():
            yield Said(number, "", line, left_out="notice")
    if start is not None:
        yield _said(begun, start, lines, order)


def _said(number: int, start: re.Match[str], lines: list[str], order: str) -> Said:
    when = _when(start, order)
    seconds = when.timestamp() if when else None
    date = when.strftime("%Y-%m-%d %H:%M") if when else f"{start['date']} {start['time']}"
    spoken = _SPEAKER.fullmatch("\n".join(lines))
    if spoken is None:  # “Anna added Ben”
        return Said(number, "", "", seconds, date, "notice")
    who = spoken["who"].strip(_MARKS + " ").removeprefix("~").strip(_MARKS + " \u202f\u00a0")
    text = spoken["text"]
    is_of_program = text.startswith("\u200e")
    plain = text.strip(_MARKS + " \n")
    # What is said beside a picture is said of it.
    is_media = any(_MEDIA.fullmatch(line.strip(_MARKS + " ")) for line in plain.split("\n"))
    if is_media or _POLL.fullmatch(plain) or _ATTACHED.search(text):
        return Said(number, who, "", seconds, date, "not_text")
    if is_of_program or _GONE.fullmatch(plain):
        return Said(number, who, "", seconds, date, "notice")
    return Said(number, who, _EDITED.sub("", text).strip(_MARKS + " \n"), seconds, date)


def _order(starts: Iterable[re.Match[str]]) -> str:
    """Say whether the year, the month or the day comes first; not every date says so itself."""
    month_first = False
    for start in starts:
        first, second, _ = _NUMBER.findall(start["date"])
        if len(first) == 4:
            return "ymd"
        if int(first) > 12 or start["mark"] == ".":
            return "dmy"
        if int(second) > 12:
            return "mdy"
        month_first = month_first or (start["mark"] == "/" and start["half"] is not None)
    return "mdy" if month_first else "dmy"


def _when(start: re.Match[str], order: str) -> datetime.datetime | None:
    parts = dict(zip(order, map(int, _NUMBER.findall(start["date"])), strict=True))
    hour, minute, second = map(int, [*re.split(r"[:.]", start["time"]), "0"][:3])
    if start["half"]:
        hour = hour % 12 + (12 if start["half"].lower() in _AFTER_NOON else 0)
    year = parts["y"] + 2000 if parts["y"] < 100 else parts["y"]
    try:
        return datetime.datetime(
            year, parts["m"], parts["d"], hour, minute, second, tzinfo=datetime.UTC
        )
    except ValueError:
        return None
