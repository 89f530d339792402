"""Columns -> messages: what each column is, and one row turned into an example's messages."""

import json
from enum import StrEnum
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator

from app.errors import Invalid
from app.models import ExampleKind

MAX_SYSTEM_LENGTH = 8000

# Why a row became no example, after "3 rows": said on pages and kept in DatasetVersion.left_out.
LEFT_OUT = {
    "blank": "are blank",
    "empty_question": "have no question",
    "empty_answer": "have no answer",
    "empty_text": "have no text",
    "nested": "hold a list or an object where a text belongs",
    "bad_messages": "have no list of turns with a role and a content each",
    "unknown_role": "have a turn by somebody other than system, user or assistant",
    "tools": "call tools, which cannot be taught yet",
    "not_text": "hold a picture or a sound; only text can be learned",
    "too_many_cells": "have more cells than there are columns",
    "bad_characters": "hold characters that are no text (NUL or half a character)",
}


class ColumnRole(StrEnum):
    """What a column is to an example; several question or answer columns are joined in order."""

    SYSTEM = "system"
    QUESTION = "question"
    ANSWER = "answer"
    MESSAGES = "messages"
    TEXT = "text"
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
        return [column.name for column in self.columns if column.role is role]

    @property
    def kind(self) -> ExampleKind:
        if self.named(ColumnRole.MESSAGES):
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
        questions, answers, messages, texts = (
            len(self.named(role))
            for role in (
                ColumnRole.QUESTION,
                ColumnRole.ANSWER,
                ColumnRole.MESSAGES,
                ColumnRole.TEXT,
            )
        )
        ways = [bool(questions or answers), bool(messages), bool(texts)]
        if sum(ways) > 1 or messages > 1 or texts > 1:
            raise Invalid(
                "Choose one way: question and answer columns, or one column of messages, "
                "or one column of text; set the others to “ignore”.",
                field="columns",
            )
        if not any(ways):
            raise Invalid(
                "Choose which column holds the question and which the answer.", field="columns"
            )
        if ways[0] and not (questions and answers):
            missing = "answer" if questions else "question"
            raise Invalid(f"Choose which column holds the {missing}.", field="columns")


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
_TOOLS = frozenset({"tool", "function", "ipython", "observation", "function_call"})


class _No(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def apply(mapping: Mapping, row: dict[str, Any]) -> list[Message] | LeftOut:
    """Turn one row into an example's messages, or say why it becomes none."""
    try:
        messages = _messages(mapping, row)
        # PostgreSQL's JSON takes neither, and no tokenizer means anything by them.
        joined = "".join(message["content"] for message in messages)
        if "\0" in joined or not _is_unicode(joined):
            return LeftOut("bad_characters")
    except _No as no:
        return LeftOut(no.reason)
    return messages


def _messages(mapping: Mapping, row: dict[str, Any]) -> list[Message]:
    if all(value is None or value == "" for value in row.values()):
        raise _No("blank")
    match mapping.kind:
        case ExampleKind.TEXT:
            text = _joined(row, mapping.named(ColumnRole.TEXT))
            if not text:
                raise _No("empty_text")
            return [{"role": "text", "content": text}]
        case ExampleKind.CHAT:
            messages = _turns(row, mapping.named(ColumnRole.MESSAGES)[0])
        case ExampleKind.PAIR:
            question = _joined(row, mapping.named(ColumnRole.QUESTION))
            answer = _joined(row, mapping.named(ColumnRole.ANSWER))
            if not question:
                raise _No("empty_question")
            if not answer:
                raise _No("empty_answer")
            messages = [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]
    if messages[0]["role"] != "system":
        system = _joined(row, mapping.named(ColumnRole.SYSTEM)) or mapping.system.strip()
        if system:
            messages.insert(0, {"role": "system", "content": system})
    return messages


def _joined(row: dict[str, Any], names: list[str]) -> str:
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


def _turns(row: dict[str, Any], name: str) -> list[Message]:
    turns = row.get(name)
    if isinstance(turns, str):  # JSON in a cell of a table
        try:
            turns = json.loads(turns)
        except (ValueError, RecursionError):
            raise _No("bad_messages") from None
    if not isinstance(turns, list) or not turns:
        raise _No("bad_messages")
    if row.get("tools") or row.get("functions"):
        raise _No("tools")
    messages = [_turn(turn) for turn in turns]
    answers = [message for message in messages if message["role"] == "assistant"]
    if not any(message.get("weight", 1) for message in answers):
        raise _No("empty_answer")
    return messages


def _turn(turn: Any) -> Message:
    if not isinstance(turn, dict):
        raise _No("bad_messages")
    speaker = turn.get("role", turn.get("from"))
    if not isinstance(speaker, str):
        raise _No("bad_messages")
    if speaker in _TOOLS or turn.get("tool_calls") or turn.get("function_call"):
        raise _No("tools")
    if speaker not in _SPEAKERS:
        raise _No("unknown_role")
    role = _SPEAKERS[speaker]
    content = _content(turn.get("content", turn.get("value")))
    if not content.strip() and role != "system":
        raise _No("empty_answer" if role == "assistant" else "empty_question")
    message: Message = {"role": role, "content": content}
    # OpenAI's: 0 means that this answer is read but not learned.
    if role == "assistant" and "weight" in turn and turn["weight"] in (0, 1):
        message["weight"] = int(turn["weight"])
    return message


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
