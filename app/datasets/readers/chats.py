"""Chats between people -> rows that are one turn each: who speaks, what, and in which conversation.

Messengers hand out one endless thread; a long pause in it begins a new conversation. Who of the
speakers is the assistant, a person says.
"""

import datetime
from collections.abc import Iterator
from typing import Any, NamedTuple

from app.datasets.mapping import LeftOut

COLUMNS = ["conversation", "speaker", "text", "date"]
DEFAULT_PAUSE_MINUTES = 240
MIN_PAUSE_MINUTES, MAX_PAUSE_MINUTES = 1, 60 * 24 * 30

Row = dict[str, Any]


class Said(NamedTuple):
    """A message; `number` is its line or place."""

    number: int
    speaker: str
    text: str
    seconds: float | None = None  # since any beginning
    date: str = ""  # as a person reads it
    left_out: str = ""  # a key of mapping.LEFT_OUT
    thread: str = ""  # said of the message itself, beside which pauses count


class Conversations:
    """Tells conversations apart by their threads, and within them by pauses."""

    def __init__(self, pause_minutes: int) -> None:
        self.pause_seconds = pause_minutes * 60
        self.last: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def of(self, thread: str, seconds: float | None) -> str:
        """Return the name of the conversation that a message belongs to."""
        last = self.last.get(thread)
        is_new = thread not in self.counts
        if seconds is not None:
            # What comes before the last one is of the same time: clocks and exports differ.
            is_new = is_new or (last is not None and seconds - last > self.pause_seconds)
            self.last[thread] = max(seconds, last) if last is not None else seconds
        self.counts[thread] = self.counts.get(thread, 0) + is_new
        return f"{thread} · {self.counts[thread]}" if thread else str(self.counts[thread])


def rows(said: Iterator[Said], pause_minutes: int) -> Iterator[tuple[int, Row | LeftOut]]:
    """Turn messages into rows; what is none of a person is left out by its reason."""
    conversations = Conversations(pause_minutes)
    for each in said:
        # A picture goes on with a conversation as a text does.
        conversation = conversations.of(each.thread, each.seconds)
        if each.left_out:
            yield each.number, LeftOut(each.left_out)
        else:
            yield (
                each.number,
                {
                    "conversation": conversation,
                    "speaker": each.speaker,
                    "text": each.text,
                    "date": each.date,
                },
            )


def seconds_of(text: Any) -> float | None:
    """Read a time as ISO 8601 or as seconds since 1970; none where it is neither."""
    if isinstance(text, int | float):
        return float(text)
    if not isinstance(text, str) or not text.strip():
        return None
    try:
        return float(text)
    except ValueError:
        pass
    try:
        when = datetime.datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=datetime.UTC)
    return when.timestamp()
