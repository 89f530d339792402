"""Columns -> messages: what each column is, and one row turned into an example's messages."""

from collections.abc import Iterator
from enum import StrEnum
from functools import cached_property
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator

from app.core.errors import Invalid
from app.core.kinds import ExampleKind
from app.datasets import written_out
from app.datasets.turns import (
    SPEAKERS,
    Message,
    No,
    Noted,
    TurnRole,
    all_settled,
    are_turns,
    is_seen,
    list_of,
    parsed,
    plain_word,
    read_turns,
    row_is_learned,
    said_in_parts,
    seen_letters,
    text_of,
)

MAX_SYSTEM_LENGTH = 8000
# What becomes of hidden rows and columns of a sheet, and of the blank cells below merged ones.
Hidden = Literal["leave_out", "take_in"]
Merged = Literal["fill", "leave_blank"]
# How numbers of a workbook are written: 12,500.5, 12.500,5, 12 500,5 or 12’500.5.
Separators = Literal["english", "german", "french", "swiss"]
# What stands below a question of a quiz: nothing, its options, or its options with letters.
Options = Literal["leave_out", "list", "letters"]
MAX_SPEAKER_LENGTH = 200
MAX_WORDS = 100
# Written by programs where a person wrote nothing. In a place for more text they are no text.
PLACEHOLDERS = frozenset(
    [
        *("nan", "none", "null", "n/a", "#n/a", "na", "<na>", "nil", "undefined", "<noinput>"),
        *("[]", "{}", "-", "--", "\u2013", "\u2014", ".", "not specified", "nicht angegeben"),
        *("keine angabe", "k. a.", "k.a.", "ohne angabe", "non renseigné", "no especificado"),
        *("non specificato", "niet opgegeven", "not applicable", "empty"),
    ]
)
_MAX_PLACEHOLDER = 20

# Why rows became no examples, of “1 …” and of {n}; DatasetVersion.left_out counts by these keys.
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
        "1 row has a list, an object or bytes where text is expected",
        "{n} rows have a list, an object or bytes where text is expected",
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
        "1 row calls tools in a way that cannot be read; OpenAI's “tools” and “tool_calls” can",
        "{n} rows call tools in a way that cannot be read; OpenAI's “tools” and “tool_calls” can",
    ),
    "not_text": (
        "1 row has a picture or a sound; only text can be learned",
        "{n} rows have a picture or a sound; only text can be learned",
    ),
    "bad_content": (
        "1 row has a turn whose content is neither text nor parts with text",
        "{n} rows have a turn whose content is neither text nor parts with text",
    ),
    "not_learned": (
        "1 row says that it is not to be learned",
        "{n} rows say that they are not to be learned",
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
    "broken_row": (
        "1 row may be a part of a text with a line break",
        "{n} rows may be parts of texts with line breaks",
    ),
    "hint": (
        "1 row only says what to write in the columns",
        "{n} rows only say what to write in the columns",
    ),
    "options": (
        "1 question has options and does not say which is right",
        "{n} questions have options and do not say which is right",
    ),
    "no_right_answer": (
        "1 question has no right answer in the file",
        "{n} questions have no right answer in the file",
    ),
    "question_kind": (
        "1 question is of a kind that cannot be read as text, such as dragging or several gaps",
        "{n} questions are of kinds that cannot be read as text, such as dragging or several gaps",
    ),
    "broken_question": (
        "1 question has braces that do not close",
        "{n} questions have braces that do not close",
    ),
    "notice": (
        "1 row is a notice of the program, which nobody said",
        "{n} rows are notices of the program, which nobody said",
    ),
    "no_speaker": (
        "1 row does not say who speaks",
        "{n} rows do not say who speaks",
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
    "no_question_in_conversation": (
        "1 row is in a conversation in which nobody asks anything",
        "{n} rows are in conversations in which nobody asks anything",
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
    # Whether the row is learned: 0 means that it is not.
    WEIGHT = "weight"
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
    # How the file was read: the row with the column names (0: none), hidden rows, merged cells
    # and how numbers are written.
    header_row: int | None = None
    hidden: Hidden | None = None
    merged: Merged | None = None
    separators: Separators | None = None
    # How the options of a quiz are shown, and how long a pause begins a new conversation.
    options: Options | None = None
    pause_minutes: int | None = None
    # The same of single files of a ZIP, where they were chosen: {"a.gift": {"options": "letters"}}.
    files: dict[str, dict[str, Any]] = {}
    # What words for roles mean, in turns, and whose words stand in the column that says who speaks;
    # before those that are known.
    roles: dict[str, TurnRole] = Field(default={}, max_length=MAX_WORDS)
    speakers: dict[str, TurnRole] = Field(default={}, max_length=MAX_WORDS)
    # Words such as “nan” are meant where more text could be.
    placeholders: bool = False
    # Rows of a table that have an answer alone go on with the answer above.
    continued: bool = False

    @field_validator("roles", "speakers")
    @classmethod
    def _plain(cls, value: dict[str, TurnRole]) -> dict[str, TurnRole]:
        return {plain_word(word): role for word, role in value.items()}

    @field_validator("columns", mode="before")
    @classmethod
    def _from_roles(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return [{"name": name, "role": role} for name, role in value.items()]
        return value

    @property
    def column_roles(self) -> dict[str, ColumnRole]:
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
        if sum(ways) > 1 or (texts > 1 and not speakers):
            raise Invalid(
                "Choose one way: question and answer columns, or columns of messages, "
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
    """This row becomes no example; `reason` is a key of LEFT_OUT, and `word` what was met."""

    reason: str
    word: str = ""


# How exports of help desks and consultations call who speaks, beside the words for roles.
_ROLES_OF_PEOPLE = {
    word: role
    for role, words in (
        (TurnRole.USER, "customer client patient student pupil visitor question"),
        (TurnRole.ASSISTANT, "agent support answer nurse doctor teacher"),
    )
    for word in words.split()
}
# Words for people whose turns are learned unless somebody says otherwise.
ANSWERING = frozenset(
    word for word, role in (SPEAKERS | _ROLES_OF_PEOPLE).items() if role is TurnRole.ASSISTANT
)


def apply(
    mapping: Mapping, row: dict[str, Any], noted: Noted | None = None
) -> list[Message] | LeftOut:
    """Turn one row into an example's messages, or say why it becomes none.

    Args:
        mapping: What the columns are.
        row: Its cells.
        noted: Gets what is passed over in a row that is used.
    """
    noted = set() if noted is None else noted
    try:
        messages = _messages(mapping, row, noted)
        tools = tools_of(mapping, row)
        # PostgreSQL's JSON takes neither, and no tokenizer means anything by them.
        is_plain = tools is None and all(len(message) == 2 for message in messages)
        texts = (
            [message["content"] for message in messages]
            if is_plain
            else list(_strings([messages, tools]))
        )
        joined = "".join(texts)
        is_latin = _is_latin(joined)
        if "\0" in joined or not (is_latin or _is_unicode(joined)):
            return LeftOut("bad_characters")
    except No as no:
        return LeftOut(no.reason, no.word)
    written_out.note(texts, joined, noted)
    return messages if is_latin and "\r" not in joined else all_settled(messages)


def tools_of(mapping: Mapping, row: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Return what the model is told that it may call, as OpenAI writes it; its older form, too.

    Of a row that `apply` takes; of others it may raise.
    """
    names = mapping.named(ColumnRole.TOOLS)
    if not names and mapping.kind is not ExampleKind.PREFERENCE:
        return None
    cells = [row.get(name) for name in names]
    if mapping.kind is ExampleKind.PREFERENCE:
        asked = [parsed(row.get(name)) for name in mapping.named(ColumnRole.QUESTION)]
        cells += [value.get("tools") for value in asked if isinstance(value, dict)]
    tools = [_tool(tool) for cell in cells for tool in list_of(parsed(cell) or [], "tools")]
    return all_settled(tools) or None


def _tool(value: Any) -> dict[str, Any]:
    tool = value if isinstance(value, dict) else {}
    tool = tool if "function" in tool else {"type": "function", "function": tool}
    function = tool["function"]
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise No("tools")
    return tool


def key_of(mapping: Mapping, row: dict[str, Any]) -> tuple[str, ...] | None:
    """Return which conversation a row belongs to, if it says so."""
    try:
        key = tuple(text_of(row.get(name)).strip() for name in mapping.named(ColumnRole.KEY))
    except No:
        return None
    return key if all(key) else None


def turns_of(
    mapping: Mapping, row: dict[str, Any], noted: Noted | None = None
) -> list[Message] | LeftOut:
    """Return what a row adds to its conversation: a system message and turns, or none of it.

    An answer whose row says that it is not to be learned weighs 0: it stays, since what follows
    answers to it.
    """
    noted = set() if noted is None else noted
    try:
        turns: list[Message] = []
        is_learned = _is_learned(mapping, row, noted)
        if system := _more(row, mapping.named(ColumnRole.SYSTEM), mapping, noted):
            turns.append({"role": "system", "content": system})
        speakers = mapping.named(ColumnRole.SPEAKER)
        if not speakers:
            for role, column in (("user", ColumnRole.QUESTION), ("assistant", ColumnRole.ANSWER)):
                if is_seen(text := _said(row, mapping.named(column), mapping, noted)):
                    turns.append({"role": role, "content": text})
        elif is_seen(text := _said(row, mapping.named(ColumnRole.TEXT), mapping, noted)):
            role = _role_of(plain_word(text_of(row.get(speakers[0]))), mapping)
            turns.append({"role": role.value, "content": text})
    except No as no:
        return LeftOut(no.reason, no.word)
    for turn in turns:
        if turn["role"] == "assistant" and not is_learned:
            turn["weight"] = 0
    if not is_text(turns):
        return LeftOut("bad_characters")
    written_out.note(
        [turn["content"] for turn in turns], "".join(turn["content"] for turn in turns), noted
    )
    settled: list[Message] = all_settled(turns)
    return settled


def _role_of(speaker: str, mapping: Mapping) -> TurnRole:
    if speaker in mapping.speakers:
        return mapping.speakers[speaker]
    known = SPEAKERS.get(speaker) or _ROLES_OF_PEOPLE.get(speaker)
    if answers_by := plain_word(mapping.answers_by):
        if speaker == answers_by:
            return TurnRole.ASSISTANT
        return TurnRole.SYSTEM if known is TurnRole.SYSTEM else TurnRole.USER
    if known is None or known is TurnRole.TOOL:
        raise No("unknown_speaker", speaker)
    return known


def knows_speaker(word: str) -> bool:
    """Say whether it is plain what a word in a column that says who speaks means."""
    plain = plain_word(word)
    return plain in _ROLES_OF_PEOPLE or SPEAKERS.get(plain, TurnRole.TOOL) is not TurnRole.TOOL


def is_text(messages: list[Message]) -> bool:
    """Say whether PostgreSQL's JSON can hold them; no tokenizer means anything by the rest."""
    joined = "".join(message["content"] for message in messages)
    return "\0" not in joined and _is_unicode(joined)


def _messages(mapping: Mapping, row: dict[str, Any], noted: Noted) -> list[Message]:
    if not any(row.values()) and all(value is None or value == "" for value in row.values()):
        raise No("blank")
    if not _is_learned(mapping, row, noted):
        raise No("not_learned")
    match mapping.kind:
        case ExampleKind.TEXT:
            text = _said(row, mapping.named(ColumnRole.TEXT), mapping, noted)
            if not is_seen(text):
                raise No("empty_text")
            return [{"role": "text", "content": text}]
        case ExampleKind.CHAT if columns := mapping.named(ColumnRole.MESSAGES):
            messages = read_turns(_conversation(row, columns, noted), mapping.roles, noted)
            _require_answer(messages)
        case ExampleKind.PREFERENCE:
            messages = _preference(mapping, row, noted)
        case _:
            messages = [*_earlier(mapping, row, noted), *_pair(mapping, row, noted)]
    columns = mapping.named(ColumnRole.SYSTEM)
    system = _more(row, columns, mapping, noted) if columns else ""
    if messages[0]["role"] != "system":
        if system := system or mapping.system.strip():
            messages.insert(0, {"role": "system", "content": system})
    elif system and system != messages[0]["content"].strip():
        messages[0]["content"] = f"{system}\n\n{messages[0]['content']}"
    return messages


def _conversation(row: dict[str, Any], columns: list[str], noted: Noted) -> Any:
    """Return the first conversation of a row; files may call them now one thing, now another."""
    filled = [name for name in columns if row.get(name) not in (None, "", [])]
    noted.update(("column", name) for name in filled[1:])
    return row.get(filled[0] if filled else columns[0])


def _is_learned(mapping: Mapping, row: dict[str, Any], noted: Noted) -> bool:
    flags = mapping.named(ColumnRole.WEIGHT)
    return all(row_is_learned(row.get(name), name, noted) for name in flags)


def _pair(mapping: Mapping, row: dict[str, Any], noted: Noted) -> list[Message]:
    if names := mapping.named(ColumnRole.ANSWER_TO_NAME):
        turns: list[Message] = []
        for name in names:
            answer = _said(row, [name], mapping, noted)
            if is_seen(answer):
                turns.append({"role": "user", "content": name})
                turns.append({"role": "assistant", "content": answer})
        if not turns:
            raise No("empty_answer")
        return turns
    question = _said(row, mapping.named(ColumnRole.QUESTION), mapping, noted)
    answer = _said(row, mapping.named(ColumnRole.ANSWER), mapping, noted)
    if not is_seen(question):
        raise No("empty_question")
    if not is_seen(answer):
        raise No("empty_answer")
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _said(row: dict[str, Any], names: list[str], mapping: Mapping, noted: Noted) -> str:
    """Join the columns of a text, all but one of which may stay blank."""
    if len(names) != 1:
        return _more(row, names, mapping, noted)
    text = _text_of(row, names[0], mapping, noted)
    _count_alone(text, mapping, noted)
    return text


def _text_of(row: dict[str, Any], name: str, mapping: Mapping, noted: Noted) -> str:
    """Return what a cell says; of a list of right answers the first, as quizzes do."""
    value = row.get(name)
    if type(value) is str:  # nearly always
        return value.strip()
    if isinstance(value, list) and name in mapping.named(ColumnRole.ANSWER):
        texts = [text for each in value if is_seen(text := text_of(each).strip())]
        if len(texts) > 1:
            noted.add(("alternative", ""))
        return texts[0] if texts else ""
    if isinstance(value, list | dict) and name in mapping.named(ColumnRole.SYSTEM):
        return said_in_parts(value).strip()
    return text_of(value).strip()


def _count_alone(text: str, mapping: Mapping, noted: Noted) -> None:
    """Note a text that is nothing but a word for nothing: “None” may be what was meant."""
    if _is_placeholder(text) and not mapping.placeholders:
        noted.add(("placeholder_alone", text))


def _earlier(mapping: Mapping, row: dict[str, Any], noted: Noted) -> list[Message]:
    columns = mapping.named(ColumnRole.HISTORY)
    value = row.get(columns[0]) if columns else None
    if isinstance(value, str) and _stands_for_nothing(value, mapping, noted):
        return []
    return _earlier_turns(value, mapping.roles, noted) if columns else []


def _more(row: dict[str, Any], names: list[str], mapping: Mapping, noted: Noted) -> str:
    """Join columns that may be blank, without the words that programs write there instead."""
    texts = [_text_of(row, name, mapping, noted) for name in names]
    return "\n\n".join(
        text for text in texts if text and not _stands_for_nothing(text, mapping, noted)
    )


def _stands_for_nothing(text: str, mapping: Mapping, noted: Noted) -> bool:
    if mapping.placeholders or not _is_placeholder(text):
        return False
    noted.add(("placeholder", text.strip()))
    return True


def _is_placeholder(text: str) -> bool:
    if len(text) > 2 * _MAX_PLACEHOLDER:
        return False
    word = seen_letters(text).casefold()
    plain = word.strip("<>()[]. ")
    return len(word) <= _MAX_PLACEHOLDER and (word in PLACEHOLDERS or plain in PLACEHOLDERS)


def holds_earlier_turns(value: Any) -> bool:
    """Tell turns that went before a question from, say, a patient's history."""
    try:
        return bool(_earlier_turns(value, {}, set()))
    except No:
        return False


def _earlier_turns(value: Any, roles: dict[str, TurnRole], noted: Noted) -> list[Message]:
    value = parsed(value)
    if value in (None, []) or (isinstance(value, str) and not value.strip()):
        return []
    if are_turns(value):
        return read_turns(value, roles, noted)
    turns: list[Message] = []
    for pair in list_of(value, "bad_history"):
        if not (isinstance(pair, list) and len(pair) == 2):
            raise No("bad_history")
        question, answer = (text_of(text).strip() for text in pair)
        if not (question and answer):
            raise No("bad_history")
        turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return turns


def _preference(mapping: Mapping, row: dict[str, Any], noted: Noted) -> list[Message]:
    """Make a chat whose last answer is the better one, with the worse beside it."""
    asked: list[Message] = []
    questions = mapping.named(ColumnRole.QUESTION)
    for name in questions:
        value = parsed(row.get(name))
        if isinstance(value, dict):  # OpenAI's `input`
            value = value.get("messages")
        if are_turns(value):
            asked += read_turns(value, mapping.roles, noted)
    if not asked and is_seen(text := _said(row, questions, mapping, noted)):
        asked = [{"role": "user", "content": text}]
    better, worse = (
        _answered(asked, row.get(mapping.named(role)[0]), reason, mapping, noted)
        for role, reason in (
            (ColumnRole.BETTER, "empty_answer"),
            (ColumnRole.WORSE, "empty_worse"),
        )
    )
    if better[:-1] != worse[:-1]:
        raise No("other_turns")
    if not any(message["role"] == "user" for message in better):
        raise No("empty_question")
    good, bad = better[-1], worse[-1]
    if good.get("tool_calls") or bad.get("tool_calls"):
        raise No("tools")
    if good["content"] == bad["content"]:
        raise No("same_answers")
    good.pop("weight", None)
    return [*better[:-1], {**good, "rejected": bad["content"]}]


def _answered(
    asked: list[Message], value: Any, reason: str, mapping: Mapping, noted: Noted
) -> list[Message]:
    """Return a whole conversation that ends with an answer: a text, its turn, or all turns."""
    if not are_turns(parsed(value)):
        text = text_of(value).strip()
        if not is_seen(text):
            raise No(reason)
        _count_alone(text, mapping, noted)
        turns: list[Message] = [{"role": "assistant", "content": text}]
    else:
        turns = read_turns(value, mapping.roles, noted)
    if turns[-1]["role"] != "assistant":
        raise No(reason)
    return [*asked, *turns] if turns[0]["role"] == "assistant" else turns


def _require_answer(messages: list[Message]) -> None:
    answers = [message for message in messages if message["role"] == "assistant"]
    if not answers:
        raise No("empty_answer")
    if not any(message.get("weight", 1) for message in answers):
        raise No("not_learned")


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from (*_strings(key), *_strings(one))
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one)


def _is_latin(text: str) -> bool:
    """Say whether all letters are of those whose one form is the composed one; quick to ask."""
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
