"""Rows become messages, or a reason why not."""

import json
from typing import Any

import pytest

from app.datasets.mapping import LEFT_OUT, LeftOut, Mapping, apply
from app.errors import Invalid
from app.models import ExampleKind

PAIR = Mapping.model_validate({"columns": {"q": "question", "a": "answer", "s": "system"}})
CHAT = Mapping.model_validate({"columns": {"m": "messages"}, "system": "Be kind."})
TEXT = Mapping.model_validate({"columns": {"t": "text"}})


def turn(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def test_pairs() -> None:
    assert PAIR.kind is ExampleKind.PAIR
    assert apply(PAIR, {"q": " Where? ", "a": "There\n"}) == [
        turn("user", "Where?"),
        turn("assistant", "There"),
    ]
    assert apply(PAIR, {"q": 7, "a": True, "s": "Be brief."}) == [
        turn("system", "Be brief."),
        turn("user", "7"),
        turn("assistant", "true"),
    ]


def test_several_question_columns_are_joined_in_order_even_after_the_database() -> None:
    mapping = Mapping.model_validate(
        {"columns": {"instruction": "question", "input": "question", "out": "answer"}}
    )
    kept = Mapping.model_validate_json(json.dumps(json.loads(mapping.model_dump_json())))
    row = {"out": "5", "input": "2 + 3", "instruction": "Add."}
    assert apply(kept, row) == [turn("user", "Add.\n\n2 + 3"), turn("assistant", "5")]
    assert apply(kept, row | {"input": ""}) == [turn("user", "Add."), turn("assistant", "5")]


def test_the_fixed_system_message_yields_to_the_rows_own() -> None:
    talk = [turn("user", "Hi"), turn("assistant", "Hello")]
    assert apply(CHAT, {"m": talk}) == [turn("system", "Be kind."), *talk]
    own = [turn("developer", "Be curt."), *talk]
    assert apply(CHAT, {"m": own}) == [turn("system", "Be curt."), *talk]


def test_other_programs_conversations() -> None:
    sharegpt = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
    expected = [turn("system", "Be kind."), turn("user", "Hi"), turn("assistant", "Hello")]
    assert apply(CHAT, {"m": sharegpt}) == expected
    assert apply(CHAT, {"m": json.dumps(sharegpt)}) == expected
    parts = [turn("user", [{"type": "text", "text": "Hi"}]), turn("assistant", "Hello")]
    assert apply(CHAT, {"m": parts}) == expected


def test_weights_are_kept() -> None:
    talk = [
        turn("user", "A"),
        turn("assistant", "B", weight=0),
        turn("user", "C"),
        turn("assistant", "D", weight=1),
    ]
    assert apply(CHAT, {"m": talk})[1:] == talk
    assert apply(CHAT, {"m": talk[:2]}) == LeftOut("empty_answer")


def test_text() -> None:
    assert TEXT.kind is ExampleKind.TEXT
    assert apply(TEXT, {"t": "Once upon a time"}) == [turn("text", "Once upon a time")]


USER = turn("user", "Hi")


@pytest.mark.parametrize(
    ("mapping", "row", "reason"),
    [
        (PAIR, {"q": "", "a": None}, "blank"),
        (PAIR, {"q": " ", "a": "There"}, "empty_question"),
        (PAIR, {"q": "Where?", "a": "\n"}, "empty_answer"),
        (PAIR, {"q": "Where?", "a": {"text": "There"}}, "nested"),
        (PAIR, {"q": "Where?", "a": "The\0re"}, "bad_characters"),
        (PAIR, {"q": "Where?", "a": "half \ud83d"}, "bad_characters"),
        (TEXT, {"t": " ", "u": 1}, "empty_text"),
        (CHAT, {"m": "hello"}, "bad_messages"),
        (CHAT, {"m": [], "n": 1}, "bad_messages"),
        (CHAT, {"m": ["hello"]}, "bad_messages"),
        (CHAT, {"m": "[" * 100_000}, "bad_messages"),
        (CHAT, {"m": [{"content": "Hi"}]}, "bad_messages"),
        (CHAT, {"m": [USER]}, "empty_answer"),
        (CHAT, {"m": [USER, turn("assistant", "")]}, "empty_answer"),
        (CHAT, {"m": [turn("user", None), turn("assistant", "Hello")]}, "empty_question"),
        (CHAT, {"m": [USER, turn("narrator", "He said")]}, "unknown_role"),
        (CHAT, {"m": [USER, turn("assistant", None, tool_calls=[{"id": 1}])]}, "tools"),
        (CHAT, {"m": [USER, turn("tool", "42"), turn("assistant", "42")]}, "tools"),
        (CHAT, {"m": [USER, turn("assistant", "42")], "tools": [{"type": "function"}]}, "tools"),
        (CHAT, {"m": [turn("user", [{"type": "image_url"}]), turn("assistant", "x")]}, "not_text"),
    ],
)
def test_rows_that_become_no_example(mapping: Mapping, row: dict[str, Any], reason: str) -> None:
    assert apply(mapping, row) == LeftOut(reason)
    assert reason in LEFT_OUT


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"q": "ignore"}, "which column holds the question and which the answer"),
        ({"q": "question"}, "which column holds the answer"),
        ({"a": "answer"}, "which column holds the question"),
        ({"q": "question", "a": "text"}, "Choose one way"),
        ({"q": "messages", "a": "messages"}, "Choose one way"),
        ({"q": "question", "zzz": "answer"}, "no column “zzz”"),
    ],
)
def test_mappings_that_cannot_be(roles: dict[str, str], message: str) -> None:
    mapping = Mapping.model_validate({"columns": roles})
    with pytest.raises(Invalid, match=message) as caught:
        mapping.check(["q", "a"])
    assert caught.value.field == "columns"
