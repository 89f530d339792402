"""Rows -> examples: one row each, or several rows of one conversation joined by a key column.

With a key the rows are read twice: first to count how many rows each conversation has, then to put
a conversation together and let go of it once its last row has come. Only counts are held for all.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from app.datasets import continued
from app.datasets.column_names import HARMLESS, plain
from app.datasets.mapping import (
    ColumnRole,
    LeftOut,
    Mapping,
    apply,
    key_of,
    turns_of,
)
from app.datasets.notes import Notes
from app.datasets.turns import Message, Noted

Row = dict[str, Any]


class Made(NamedTuple):
    """What became of a row, or of the rows of a conversation; numbered by the first."""

    number: int
    messages: list[Message] | LeftOut
    row: Row | None  # none where several rows made it


def assemble(
    mapping: Mapping,
    rows: Callable[[], Iterator[tuple[int, Row | LeftOut]]],
    notes: Notes | None = None,
) -> Iterator[Made]:
    """Turn rows into examples' messages.

    Args:
        mapping: What the columns are.
        rows: Opens the rows at their start.
        notes: Counts what is passed over in rows that are used.
    """
    notes = Notes() if notes is None else notes
    unused = [
        column.name
        for column in mapping.columns
        if column.role is ColumnRole.IGNORE and plain(column.name) not in HARMLESS
    ]
    if not mapping.named(ColumnRole.KEY):
        whole = rows()
        if mapping.continued and continued.may_go_on(mapping):
            whole = continued.joined(mapping, whole, notes)
        for number, row in whole:
            yield _alone(mapping, number, row, unused, notes)
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
                yield from _conversation(mapping, waiting.pop(hash(key)), unused, notes)


def _alone(
    mapping: Mapping, number: int, row: Row | LeftOut, unused: list[str], notes: Notes
) -> Made:
    if isinstance(row, LeftOut):
        return Made(number, row, None)
    noted: Noted = set()
    made = apply(mapping, row, noted)
    if isinstance(made, list):
        if unused:
            noted.update(("column", name) for name in unused if _is_filled(row.get(name)))
        if noted:
            notes.add(number, noted)
    return Made(number, made, row)


def _is_filled(value: Any) -> bool:
    return value not in (None, "", [], {})


def _conversation(  # noqa: PLR0912 - a branch for each shape of a turn
    mapping: Mapping, rows: list[tuple[int, Row]], unused: list[str], notes: Notes
) -> Iterator[Made]:
    messages: list[Message] = []
    system: list[str] = []
    broken: dict[int, LeftOut] = {}
    noted_of: dict[int, Noted] = {}
    for number, row in rows:
        noted = noted_of[number] = {("column", n) for n in unused if _is_filled(row.get(n))}
        turns = turns_of(mapping, row, noted)
        if isinstance(turns, LeftOut):
            broken[number] = turns
            continue
        for turn in turns:
            if turn["role"] == "system":
                if turn["content"] not in system:
                    system.append(turn["content"])
            elif messages and messages[-1]["role"] == turn["role"]:
                # Two lines of one speaker are one turn: templates want them to take turns.
                if messages[-1].get("weight") != turn.get("weight"):
                    messages[-1]["weight"] = 0  # and half of a turn cannot be learned
                    noted.add(("half", ""))
                messages[-1]["content"] += f"\n{turn['content']}"
            else:
                messages.append(turn)
    while messages and messages[-1]["role"] != "assistant":
        messages.pop()  # nobody answered what was said last
    is_asked = any(message["role"] == "user" for message in messages)
    answers = [message for message in messages if message["role"] == "assistant"]
    is_learned = any(message.get("weight", 1) for message in answers)
    if broken or not messages or not is_asked or not is_learned:
        # A conversation with a hole in it teaches the wrong thing: none of it is used.
        reason = LeftOut(
            "broken_conversation"
            if broken
            else "no_question_in_conversation"
            if messages and not is_asked
            else "not_learned"
            if messages
            else "no_answer_in_conversation"
        )
        for number, _ in rows:
            yield Made(number, broken.get(number, reason), None)
        return
    for number, noted in noted_of.items():
        if noted:
            notes.add(number, noted)
    if whole := "\n\n".join(system) or mapping.system.strip():
        messages.insert(0, {"role": "system", "content": whole})
    yield Made(rows[0][0], messages, None)
