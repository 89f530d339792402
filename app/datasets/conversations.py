"""Rows -> examples: one row each, or several rows of one conversation joined by a key column.

With a key the rows are read twice: first to count how many rows each conversation has, then to put
a conversation together and let go of it once its last row has come. Only counts are held for all.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from app.datasets.mapping import (
    ColumnRole,
    LeftOut,
    Mapping,
    Message,
    apply,
    key_of,
    turns_of,
)

Row = dict[str, Any]


class Made(NamedTuple):
    """What became of a row, or of the rows of a conversation; numbered by the first."""

    number: int
    messages: list[Message] | LeftOut
    row: Row | None  # none where several rows made it


def assemble(
    mapping: Mapping, rows: Callable[[], Iterator[tuple[int, Row | LeftOut]]]
) -> Iterator[Made]:
    """Turn rows into examples' messages.

    Args:
        rows: Opens the rows at their start.
    """
    if not mapping.named(ColumnRole.KEY):
        for number, row in rows():
            if isinstance(row, LeftOut):
                yield Made(number, row, None)
            else:
                yield Made(number, apply(mapping, row), row)
        return
    # A key's hash stands for it: a million are held for as long as the file is read.
    left = Counter(hash(key_of(mapping, row)) for _, row in rows() if isinstance(row, dict))
    waiting: dict[int, list[tuple[int, Row]]] = {}
    for number, row in rows():
        if isinstance(row, LeftOut):
            yield Made(number, row, None)
        elif (key := key_of(mapping, row)) is None:
            is_blank = all(value in (None, "") for value in row.values())
            yield Made(number, LeftOut("blank" if is_blank else "no_key"), None)
        else:
            waiting.setdefault(hash(key), []).append((number, row))
            left[hash(key)] -= 1
            if left[hash(key)] <= 0:
                yield from _conversation(mapping, waiting.pop(hash(key)))


def _conversation(mapping: Mapping, rows: list[tuple[int, Row]]) -> Iterator[Made]:
    messages: list[Message] = []
    system: list[str] = []
    broken: dict[int, LeftOut] = {}
    for number, row in rows:
        turns = turns_of(mapping, row)
        if isinstance(turns, LeftOut):
            broken[number] = turns
            continue
        for turn in turns:
            if turn["role"] == "system":
                if turn["content"] not in system:
                    system.append(turn["content"])
            elif messages and messages[-1]["role"] == turn["role"]:
                # Two lines of one speaker are one turn: templates want them to take turns.
                messages[-1]["content"] += f"\n{turn['content']}"
            else:
                messages.append(turn)
    while messages and messages[-1]["role"] != "assistant":
        messages.pop()  # nobody answered what was said last
    if broken or not messages:
        # A conversation with a hole in it teaches the wrong thing: none of it is used.
        reason = LeftOut("broken_conversation" if broken else "no_answer_in_conversation")
        for number, _ in rows:
            yield Made(number, broken.get(number, reason), None)
        return
    if whole := "\n\n".join(system) or mapping.system.strip():
        messages.insert(0, {"role": "system", "content": whole})
    yield Made(rows[0][0], messages, None)
