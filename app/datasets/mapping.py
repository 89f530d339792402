"""Columns -> messages: what each column is, and one row turned into an example's messages."""

import json
from collections.abc import Iterator
from enum import StrEnum
from functools import cached_property
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator

from app.core.errors import Invalid
from app.core.kinds import ExampleKind

MAX_SYSTEM_LENGTH = 8000
# What becomes of hidden rows and columns of a sheet, and of the blank cells below merged ones.
Hidden = Literal["leave_out", "take_in"]
Merged = Literal["fill", "leave_blank"]
MAX_SPEAKER_LENGTH = 200

# Why rows became no examples, of one and of {n}; DatasetVersion.left_out counts by these keys.
LEFT_OUT = {
    "blank": ("1 row is blank", "{n} rows are blank"),
    "empty_question": ("1 row has no question", "{n} rows have no question"),
    "empty_answer": ("1 row has no answer", "{n} rows have no answer"),
    "empty_worse": ("1 row has no worse answer", "{n} rows have no worse answer"),
    "same_answers": (
        "1 row has the same text as better and as worse answer",
        "{n} rows have the same text as better and as worse answer",
    ),
    "other_turns": (
        "1 row has a better and a worse conversation that differ before the last answer",
        "{n} rows have a better and a worse conversation that differ before the last answer",
    ),
    "empty_text": ("1 row has no text", "{n} rows have no text"),
    "nested": (
        "1 row has a list or an object where text is expected",
        "{n} rows have a list or an object where text is expected",
    ),
    "bad_messages": (
        "1 row has no list of turns, each with a role and a content",
        "{n} rows have no list of turns, each with a role and a content",
    ),
    "bad_history": (
        "1 row has earlier turns that are not pairs of question and answer",
        "{n} rows have earlier turns that are not pairs of question and answer",
    ),
    "unknown_role": (
        "1 row has a turn by someone other than system, user, assistant or tool",
        "{n} rows have a turn by someone other than system, user, assistant or tool",
    ),
    "tools": (
        "1 row calls tools in a way that cannot be read; OpenAI's `tools` and `tool_calls` can",
        "{n} rows call tools in a way that cannot be read; OpenAI's `tools` and `tool_calls` can",
    ),
    "not_text": (
        "1 row has a picture or a sound; only text can be learned",
        "{n} rows have a picture or a sound; only text can be learned",
    ),
    "too_many_cells": (
        "1 row has more cells than there are columns",
        "{n} rows have more cells than there are columns",
    ),
    "hidden": (
        "1 row is hidden or filtered out in its sheet",
        "{n} rows are hidden or filtered out in their sheet",
    ),
    "header_again": (
        "1 row repeats the column names",
        "{n} rows repeat the column names",
    ),
    "hint": (
        "1 row only says what to write in the columns",
        "{n} rows only say what to write in the columns",
    ),
    "options": (
        "1 question has options and does not say which is right",
        "{n} questions have options and do not say which is right",
    ),
    "total": (
        "1 row at the end is a total",
        "{n} rows at the end are totals",
    ),
    "no_key": (
        "1 row has no name or number for the conversation",
        "{n} rows have no name or number for the conversation",
    ),
    "unknown_speaker": (
        "1 row has an unknown speaker; choose who gives the answers",
        "{n} rows have an unknown speaker; choose who gives the answers",
    ),
    "broken_conversation": (
        "1 row has another row in the same conversation that cannot be used",
        "{n} rows have another row in the same conversation that cannot be used",
    ),
    "no_answer_in_conversation": (
        "1 row has no answer in the whole conversation",
        "{n} rows have no answer in the whole conversation",
    ),
    "bad_characters": (
        "1 row has characters that are not text (NUL or half a character)",
        "{n} rows have characters that are not text (NUL or half a character)",
    ),
}


class ColumnRole(StrEnum):
    """What a column is to an example; several question or answer columns are joined in order."""

    SYSTEM = "system"
    QUESTION = "question"
    ANSWER = "answer"
    BETTER = "better"
    WORSE = "worse"
    MESSAGES = "messages"
    TOOLS = "tools"
    TEXT = "text"
    # What was asked and answered before the question: Alpaca's list of pairs, or turns.
    HISTORY = "history"
    # Of rows that are one turn each: which conversation, and who speaks.
    KEY = "key"
    SPEAKER = "speaker"
    # Of a form: the column's name is the question, and its cells answer it.
    ANSWER_TO_NAME = "answer_to_name"
    IGNORE = "ignore"


class Column(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    role: ColumnRole


class Mapping(BaseModel):
    """How rows become messages; may be written as `Mapping(columns={"Frage": "question", …})`."""

    model_config = ConfigDict(extra="forbid")

    # A list, since JSONB forgets the order of keys.
    columns: list[Column]
    # Said before each example whose row has no system message of its own.
    system: str = Field(default="", max_length=MAX_SYSTEM_LENGTH)
    # Where a column says who speaks: whose turns are learned. Blank: the usual words for it.
    answers_by: str = Field(default="", max_length=MAX_SPEAKER_LENGTH)
    # How the file was read: the row with the column names (0: none), hidden rows, merged cells.
    header_row: int | None = None
    hidden: Hidden | None = None
    merged: Merged | None = None

    @field_validator("columns", mode="before")
    @classmethod
    def _from_roles(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return [{"name": name, "role": role} for name, role in value.items()]
        return value

    @property
    def roles(self) -> dict[str, ColumnRole]:
        return {column.name: column.role for column in self.columns}

    def named(self, role: ColumnRole) -> list[str]:
        """The columns with this role, in the file's order."""
        return self._by_role.get(role.value, [])

    # Both are asked several times a row; a mapping's columns never change. By the roles' words:
    # an enum's hash is worked out in Python each time.
    @cached_property
    def _by_role(self) -> dict[str, list[str]]:
        by_role: dict[str, list[str]] = {}
        for column in self.columns:
            by_role.setdefault(column.role.value, []).append(column.name)
        return by_role

    @cached_property
    def kind(self) -> ExampleKind:
        if self.named(ColumnRole.BETTER):
            return ExampleKind.PREFERENCE
        if any(map(self.named, (ColumnRole.MESSAGES, ColumnRole.KEY, ColumnRole.HISTORY))):
            return ExampleKind.CHAT
        if len(self.named(ColumnRole.ANSWER_TO_NAME)) > 1:
            return ExampleKind.CHAT
        return ExampleKind.TEXT if self.named(ColumnRole.TEXT) else ExampleKind.PAIR

    def check(self, columns: list[str]) -> None:
        """Refuse a mapping that could make no example of a file with these columns.

        Raises:
            Invalid: with the field `columns`.
        """
        unknown = [column.name for column in self.columns if column.name not in columns]
        if unknown:
            raise Invalid(f"The file has no column “{unknown[0]}”.", field="columns")
        questions, answers, messages, texts, better, worse = (
            len(self.named(role))
            for role in (
                ColumnRole.QUESTION,
                ColumnRole.ANSWER,
                ColumnRole.MESSAGES,
                ColumnRole.TEXT,
                ColumnRole.BETTER,
                ColumnRole.WORSE,
            )
        )
        keys, speakers = self.named(ColumnRole.KEY), self.named(ColumnRole.SPEAKER)
        histories = len(self.named(ColumnRole.HISTORY))
        if histories > 1 or (histories and (keys or not (questions and answers))):
            raise Invalid(
                "One column may have the earlier turns, beside a column with the question and one "
                "with the answer; set the others to “ignore”.",
                field="columns",
            )
        if better or worse:
            if not (better == worse == 1) or answers or messages or texts or keys or speakers:
                raise Invalid(
                    "Choose one column for the better answer and one for the worse, beside the "
                    "question; set the others to “ignore”.",
                    field="columns",
                )
            return
        if self.named(ColumnRole.ANSWER_TO_NAME):
            if any((questions, answers, messages, texts, keys, speakers)):
                raise Invalid(
                    "Where a column’s name is the question, no other column can have questions, "
                    "answers, messages or text; set those to “ignore”.",
                    field="columns",
                )
            return
        ways = [bool(questions or answers), bool(messages), bool(texts)]
        self._check_turns(bool(keys), len(speakers), bool(messages), bool(texts))
        if sum(ways) > 1 or messages > 1 or (texts > 1 and not speakers):
            raise Invalid(
                "Choose one way: question and answer columns, or one column of messages, "
                "or one column of text; set the others to “ignore”.",
                field="columns",
            )
        if not any(ways):
            raise Invalid(
                "Choose which column has the question and which has the answer.", field="columns"
            )
        if ways[0] and not (questions and answers):
            missing = "answer" if questions else "question"
            raise Invalid(f"Choose which column has the {missing}.", field="columns")

    def _check_turns(self, key: bool, num_speakers: int, messages: bool, texts: bool) -> None:
        if not key and not num_speakers:
            return
        if not key:
            raise Invalid(
                "Choose which column says to which conversation a row belongs; without one, set "
                "the speaker to “ignore”.",
                field="columns",
            )
        if messages or num_speakers > 1 or texts != bool(num_speakers):
            raise Invalid(
                "Rows that form conversations need a column that says which conversation, and "
                "either question and answer columns, or one that says who speaks and one with the "
                "text.",
                field="columns",
            )


class LeftOut(NamedTuple):
    """This row becomes no example; `reason` is a key of LEFT_OUT."""

    reason: str


Message = dict[str, Any]
# How other programs call the three speakers.
_SPEAKERS = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
}
# How exports of help desks and consultations call them, where a column says who speaks.
_ROLES_OF_PEOPLE = _SPEAKERS | {
    "ai": "assistant",
    "customer": "user",
    "client": "user",
    "patient": "user",
    "student": "user",
    "pupil": "user",
    "visitor": "user",
    "question": "user",
    "agent": "assistant",
    "support": "assistant",
    "answer": "assistant",
    "nurse": "assistant",
    "doctor": "assistant",
    "teacher": "assistant",
}
_TOOLS = frozenset({"tool", "function", "ipython", "observation"})


class _No(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def apply(mapping: Mapping, row: dict[str, Any]) -> list[Message] | LeftOut:
    """Turn one row into an example's messages, or say why it becomes none."""
    try:
        messages = _messages(mapping, row)
        tools = tools_of(mapping, row)
        # PostgreSQL's JSON takes neither, and no tokenizer means anything by them.
        is_plain = tools is None and all(len(message) == 2 for message in messages)
        joined = "".join(
            [message["content"] for message in messages]
            if is_plain
            else _strings([messages, tools])
        )
        if "\0" in joined or not _is_unicode(joined):
            return LeftOut("bad_characters")
    except _No as no:
        return LeftOut(no.reason)
    return messages


def tools_of(mapping: Mapping, row: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Return what the model is told that it may call, as OpenAI writes it; its older form, too.

    Of a row that `apply` takes; of others it may raise.
    """
    names = mapping.named(ColumnRole.TOOLS)
    if not names and mapping.kind is not ExampleKind.PREFERENCE:
        return None
    cells = [row.get(name) for name in names]
    if mapping.kind is ExampleKind.PREFERENCE:
        asked = [_parsed(row.get(name)) for name in mapping.named(ColumnRole.QUESTION)]
        cells += [value.get("tools") for value in asked if isinstance(value, dict)]
    tools = [_tool(tool) for cell in cells for tool in _list(_parsed(cell) or [], "tools")]
    return tools or None


def _tool(value: Any) -> dict[str, Any]:
    tool = value if isinstance(value, dict) else {}
    tool = tool if "function" in tool else {"type": "function", "function": tool}
    function = tool["function"]
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise _No("tools")
    return tool


def key_of(mapping: Mapping, row: dict[str, Any]) -> tuple[str, ...] | None:
    """Return which conversation a row belongs to, if it says so."""
    try:
        key = tuple(_text(row.get(name)).strip() for name in mapping.named(ColumnRole.KEY))
    except _No:
        return None
    return key if all(key) else None


def turns_of(mapping: Mapping, row: dict[str, Any]) -> list[Message] | LeftOut:
    """Return what a row adds to its conversation: a system message and turns, or none of it."""
    try:
        turns: list[Message] = []
        if system := _joined(row, mapping.named(ColumnRole.SYSTEM)):
            turns.append({"role": "system", "content": system})
        speakers = mapping.named(ColumnRole.SPEAKER)
        if not speakers:
            for role, column in (("user", ColumnRole.QUESTION), ("assistant", ColumnRole.ANSWER)):
                if text := _joined(row, mapping.named(column)):
                    turns.append({"role": role, "content": text})
        elif text := _joined(row, mapping.named(ColumnRole.TEXT)):
            speaker = _text(row.get(speakers[0])).strip().casefold()
            role = _role_of(speaker, mapping.answers_by.strip().casefold())
            turns.append({"role": role, "content": text})
    except _No as no:
        return LeftOut(no.reason)
    return turns if is_text(turns) else LeftOut("bad_characters")


def _role_of(speaker: str, answers_by: str) -> str:
    known = _ROLES_OF_PEOPLE.get(speaker)
    if answers_by:
        return "assistant" if speaker == answers_by else "system" if known == "system" else "user"
    if known is None:
        raise _No("unknown_speaker")
    return known


def is_text(messages: list[Message]) -> bool:
    """Say whether PostgreSQL's JSON can hold them; no tokenizer means anything by the rest."""
    joined = "".join(message["content"] for message in messages)
    return "\0" not in joined and _is_unicode(joined)


def _messages(mapping: Mapping, row: dict[str, Any]) -> list[Message]:
    if not any(row.values()) and all(value is None or value == "" for value in row.values()):
        raise _No("blank")
    match mapping.kind:
        case ExampleKind.TEXT:
            text = _joined(row, mapping.named(ColumnRole.TEXT))
            if not text:
                raise _No("empty_text")
            return [{"role": "text", "content": text}]
        case ExampleKind.CHAT if columns := mapping.named(ColumnRole.MESSAGES):
            messages = _turns(row.get(columns[0]))
            _require_answer(messages)
        case ExampleKind.PREFERENCE:
            messages = _preference(mapping, row)
        case _:
            messages = [*_earlier(mapping, row), *_pair(mapping, row)]
    if messages[0]["role"] != "system":
        system = _joined(row, mapping.named(ColumnRole.SYSTEM)) or mapping.system.strip()
        if system:
            messages.insert(0, {"role": "system", "content": system})
    return messages


def _pair(mapping: Mapping, row: dict[str, Any]) -> list[Message]:
    if names := mapping.named(ColumnRole.ANSWER_TO_NAME):
        turns: list[Message] = []
        for name in names:
            if answer := _joined(row, [name]):
                turns.append({"role": "user", "content": name})
                turns.append({"role": "assistant", "content": answer})
        if not turns:
            raise _No("empty_answer")
        return turns
    question = _joined(row, mapping.named(ColumnRole.QUESTION))
    answer = _joined(row, mapping.named(ColumnRole.ANSWER))
    if not question:
        raise _No("empty_question")
    if not answer:
        raise _No("empty_answer")
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _earlier(mapping: Mapping, row: dict[str, Any]) -> list[Message]:
    columns = mapping.named(ColumnRole.HISTORY)
    return _earlier_turns(row.get(columns[0])) if columns else []


def holds_earlier_turns(value: Any) -> bool:
    """Tell turns that went before a question from, say, a patient's history."""
    try:
        return bool(_earlier_turns(value))
    except _No:
        return False


def _earlier_turns(value: Any) -> list[Message]:
    value = _parsed(value)
    if value in (None, []) or (isinstance(value, str) and not value.strip()):
        return []
    if _are_turns(value):
        return _turns(value)
    turns: list[Message] = []
    for pair in _list(value, "bad_history"):
        if not (isinstance(pair, list) and len(pair) == 2):
            raise _No("bad_history")
        question, answer = (_text(text).strip() for text in pair)
        if not (question and answer):
            raise _No("bad_history")
        turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return turns


def _joined(row: dict[str, Any], names: list[str]) -> str:
    if len(names) == 1:  # nearly always
        return _text(row.get(names[0])).strip()
    return "\n\n".join(filter(None, (_text(row.get(name)).strip() for name in names)))


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    raise _No("nested")


def _preference(mapping: Mapping, row: dict[str, Any]) -> list[Message]:
    """Make a chat whose last answer is the better one, with the worse beside it."""
    asked: list[Message] = []
    questions = mapping.named(ColumnRole.QUESTION)
    for name in questions:
        value = _parsed(row.get(name))
        if isinstance(value, dict):  # OpenAI's `input`
            value = value.get("messages")
        if _are_turns(value):
            asked += _turns(value)
    if not asked and (text := _joined(row, questions)):
        asked = [{"role": "user", "content": text}]
    better, worse = (
        _answered(asked, row.get(mapping.named(role)[0]), reason)
        for role, reason in (
            (ColumnRole.BETTER, "empty_answer"),
            (ColumnRole.WORSE, "empty_worse"),
        )
    )
    if better[:-1] != worse[:-1]:
        raise _No("other_turns")
    if not any(message["role"] == "user" for message in better):
        raise _No("empty_question")
    good, bad = better[-1], worse[-1]
    if good.get("tool_calls") or bad.get("tool_calls"):
        raise _No("tools")
    if good["content"] == bad["content"]:
        raise _No("same_answers")
    good.pop("weight", None)
    return [*better[:-1], {**good, "rejected": bad["content"]}]


def _answered(asked: list[Message], value: Any, reason: str) -> list[Message]:
    """Return a whole conversation that ends with an answer: a text, its turn, or all turns."""
    if not _are_turns(_parsed(value)):
        text = _text(value).strip()
        if not text:
            raise _No(reason)
        turns: list[Message] = [{"role": "assistant", "content": text}]
    else:
        turns = _turns(value)
    if turns[-1]["role"] != "assistant":
        raise _No(reason)
    return [*asked, *turns] if turns[0]["role"] == "assistant" else turns


def _are_turns(value: Any) -> bool:
    """Tell turns from a text that only looks like a list, such as the answer “[1, 2]”."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(turn, dict) and {"role", "from"} & turn.keys() for turn in value)
    )


def _turns(value: Any) -> list[Message]:
    turns = _list(_parsed(value), "bad_messages")
    if not turns:
        raise _No("bad_messages")
    return [_turn(turn) for turn in turns]


def _require_answer(messages: list[Message]) -> None:
    answers = [message for message in messages if message["role"] == "assistant"]
    if not any(message.get("weight", 1) for message in answers):
        raise _No("empty_answer")


def _parsed(value: Any) -> Any:
    """Read JSON in a cell of a table; what is none stays as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _list(value: Any, reason: str) -> list[Any]:
    if not isinstance(value, list):
        raise _No(reason)
    return value


def _turn(turn: Any) -> Message:
    if not isinstance(turn, dict):
        raise _No("bad_messages")
    speaker = turn.get("role", turn.get("from"))
    if not isinstance(speaker, str):
        raise _No("bad_messages")
    content = turn.get("content", turn.get("value"))
    if speaker in _TOOLS:
        kept = {
            key: turn[key] for key in ("tool_call_id", "name") if isinstance(turn.get(key), str)
        }
        return {"role": "tool", "content": _content(content), **kept}
    if speaker == "function_call":  # ShareGPT's: a turn that is a call
        calls, content, role = _calls([{"function": _parsed(content)}]), "", "assistant"
    elif speaker in _SPEAKERS:
        role = _SPEAKERS[speaker]
        single = turn.get("function_call")  # OpenAI's older form
        calls = _calls(turn.get("tool_calls") or ([{"function": single}] if single else []))
    else:
        raise _No("unknown_role")
    content = _content(content)
    if calls and role != "assistant":
        raise _No("tools")
    if not content.strip() and role != "system" and not calls:
        raise _No("empty_answer" if role == "assistant" else "empty_question")
    message: Message = {"role": role, "content": content}
    if calls:
        message["tool_calls"] = calls
    # OpenAI's: 0 means that this answer is read but not learned.
    if role == "assistant" and "weight" in turn and turn["weight"] in (0, 1):
        message["weight"] = int(turn["weight"])
    return message


def _calls(value: Any) -> list[dict[str, Any]]:
    """Read calls of tools; arguments become JSON in a string, as OpenAI has them."""
    calls = []
    for call in _list(value, "tools"):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise _No("tools")
        arguments = _parsed(function.get("arguments") or {})
        if not isinstance(arguments, dict):
            raise _No("tools")
        made: dict[str, Any] = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
        text = json.dumps(arguments, ensure_ascii=False)
        calls.append(
            made | {"type": "function", "function": {"name": function["name"], "arguments": text}}
        )
    return calls


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from (*_strings(key), *_strings(one))
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one)


def _content(value: Any) -> str:
    if isinstance(value, list):
        parts = [part for part in value if isinstance(part, dict)]
        if len(parts) < len(value) or any(part.get("type") != "text" for part in parts):
            raise _No("not_text")
        return "".join(_text(part.get("text")) for part in parts)
    return _text(value)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
