"""Rows become messages, or a reason why not."""

import json
from typing import Any

import pytest

from app.core.errors import Invalid
from app.core.models import ExampleKind
from app.datasets import examples
from app.datasets.mapping import LEFT_OUT, LeftOut, Mapping, apply, tools_of
from app.datasets.readers.reader import rank

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


def test_earlier_turns_go_before_the_question() -> None:
    columns = {"system": "system", "q": "question", "h": "history", "a": "answer"}
    mapping = Mapping.model_validate({"columns": columns})
    mapping.check(list(columns))
    pairs = [["Hi", "Hello"], ["How?", "Well"]]
    row = {"q": "And you?", "a": "Too.", "h": pairs, "system": "Be kind."}
    earlier = [
        turn("user", "Hi"), turn("assistant", "Hello"),
        turn("user", "How?"), turn("assistant", "Well"),
    ]  # fmt: skip
    talk = [*earlier, turn("user", "And you?"), turn("assistant", "Too.")]
    assert apply(mapping, row) == [turn("system", "Be kind."), *talk]
    assert apply(mapping, row | {"h": json.dumps(pairs)}) == [turn("system", "Be kind."), *talk]
    assert apply(mapping, row | {"h": earlier}) == [turn("system", "Be kind."), *talk]
    nothings: list[Any] = [[], "", "  ", None]
    for nothing in nothings:
        assert apply(mapping, row | {"h": nothing, "system": None}) == talk[4:]
    for bad in (["Hi"], [["Hi", ""]], [["a", "b", "c"]], "Asthma", {"a": "b"}):
        assert apply(mapping, row | {"h": bad}) == LeftOut("bad_history")
    for roles in ({"t": "text", "h": "history"}, {"m": "messages", "h": "history"},
                  columns | {"k": "key"}, columns | {"h2": "history"}):  # fmt: skip
        with pytest.raises(Invalid, match="earlier turns"):
            Mapping.model_validate({"columns": roles}).check(list(roles))


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
    assert apply(CHAT, {"m": talk[:2]}) == LeftOut("not_learned")


def test_text() -> None:
    assert TEXT.kind is ExampleKind.TEXT
    assert apply(TEXT, {"t": "Once upon a time"}) == [turn("text", "Once upon a time")]


USER = turn("user", "Hi")
LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"room": 3}'}}
BROKEN_CALL = {"id": "c1", "function": {"name": "look", "arguments": "{room"}}
CALLS = Mapping.model_validate({"columns": {"m": "messages", "t": "tools"}})
PREFER = Mapping.model_validate({"columns": {"p": "question", "c": "better", "r": "worse"}})
GOOD, BAD = turn("assistant", "Good"), turn("assistant", "Bad")


def test_tools_are_kept_as_openai_writes_them() -> None:
    answer = turn("tool", "Nobody", tool_call_id="c1")
    talk = [USER, turn("assistant", None, tool_calls=[CALL]), answer, turn("assistant", "Empty.")]
    row = {"m": talk, "t": [LOOK]}
    assert apply(CALLS, row) == [
        USER,
        turn("assistant", "", tool_calls=[CALL]),
        answer,
        turn("assistant", "Empty."),
    ]
    assert tools_of(CALLS, row) == [LOOK]
    assert tools_of(CALLS, row | {"t": json.dumps([LOOK])}) == [LOOK]  # a cell of a table
    assert tools_of(CALLS, row | {"t": None}) is None


def test_older_and_other_ways_to_call_are_brought_into_that_form() -> None:
    called = [{"type": "function", "function": CALL["function"]}]
    expected = [USER, turn("assistant", "", tool_calls=called), turn("tool", "Nobody", name="look")]
    expected.append(turn("assistant", "Empty."))
    older = turn("assistant", None, function_call=CALL["function"])
    talk = [USER, older, turn("function", "Nobody", name="look"), turn("assistant", "Empty.")]
    assert apply(CALLS, {"m": talk}) == expected
    assert tools_of(CALLS, {"t": [LOOK["function"]]}) == [LOOK]
    sharegpt = [
        {"from": "human", "value": "Hi"},
        {"from": "function_call", "value": '{"name": "look", "arguments": {"room": 3}}'},
        {"from": "observation", "value": "Nobody"},
        {"from": "gpt", "value": "Empty."},
    ]
    assert apply(CALLS, {"m": sharegpt}) == [*expected[:2], turn("tool", "Nobody"), expected[3]]


def test_pairs_are_a_chat_with_the_worse_answer_beside_the_better() -> None:
    assert PREFER.kind is ExampleKind.PREFERENCE
    expected = [USER, GOOD | {"rejected": "Bad"}]
    rows: list[dict[str, Any]] = [
        {"p": "Hi", "c": "Good", "r": "Bad"},
        {"p": [USER], "c": [GOOD], "r": [BAD]},
        {"p": "Hi", "c": [USER, GOOD], "r": [USER, BAD]},
        {"c": [USER, GOOD], "r": [USER, BAD]},
        {"c": json.dumps([USER, GOOD]), "r": json.dumps([USER, BAD])},
        {"p": {"messages": [USER]}, "c": [GOOD], "r": [BAD]},  # OpenAI's
    ]
    assert [apply(PREFER, row) for row in rows] == [expected] * len(rows)
    assert tools_of(PREFER, {"p": {"messages": [USER], "tools": [LOOK]}}) == [LOOK]
    lists = apply(PREFER, {"p": "Count.", "c": "[1, 2]", "r": "[2, 1]"})
    assert lists == [turn("user", "Count."), turn("assistant", "[1, 2]", rejected="[2, 1]")]


def test_all_pairs_of_a_question_stand_on_the_same_side() -> None:
    one, other = ([USER, turn("assistant", good, rejected="Bad")] for good in ("Good", "Also good"))
    assert rank(one, 0) == rank(other, 0) != rank([turn("user", "Ho"), one[1]], 0)


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
        (CHAT, {"m": [turn("user", "", tool_calls=[CALL]), turn("assistant", "x")]}, "tools"),
        (CALLS, {"m": [USER, turn("assistant", "42")], "t": [{"type": "function"}]}, "tools"),
        (CALLS, {"m": [USER, turn("assistant", "42")], "t": "look"}, "tools"),
        (
            CALLS,
            {"m": [USER, turn("assistant", "42")], "t": [LOOK | {"x": "\0"}]},
            "bad_characters",
        ),
        (CHAT, {"m": [USER, turn("assistant", "", tool_calls=[BROKEN_CALL])]}, "tools"),
        (PREFER, {"p": "Hi", "c": "Good", "r": ""}, "empty_worse"),
        (PREFER, {"p": "Hi", "c": " ", "r": "Bad"}, "empty_answer"),
        (PREFER, {"p": "", "c": "Good", "r": "Bad"}, "empty_question"),
        (PREFER, {"p": "Hi", "c": "Same", "r": "Same "}, "same_answers"),
        (PREFER, {"p": "Hi", "c": "Good", "r": "B\0d"}, "bad_characters"),
        (PREFER, {"c": [USER, GOOD], "r": [turn("user", "Ho"), BAD]}, "other_turns"),
        (PREFER, {"c": [USER], "r": [USER, BAD]}, "empty_answer"),
        (PREFER, {"p": "Hi", "c": [turn("assistant", "", tool_calls=[CALL])], "r": "Bad"}, "tools"),
        (CHAT, {"m": [turn("user", [{"type": "image_url"}]), turn("assistant", "x")]}, "not_text"),
    ],
)
def test_rows_that_become_no_example(mapping: Mapping, row: dict[str, Any], reason: str) -> None:
    left_out = apply(mapping, row)
    assert isinstance(left_out, LeftOut)
    assert left_out.reason == reason
    assert reason in LEFT_OUT


def test_a_row_that_is_left_out_is_said_beside_itself() -> None:
    for reason in LEFT_OUT:
        assert examples.this_row(LeftOut(reason)).startswith(("this row ", "this question "))
    said = examples.this_row(LeftOut("unknown_role", "teacher"))
    assert said.endswith("user, assistant or tool: “teacher”")


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"q": "ignore"}, "which column has the question and which has the answer"),
        ({"q": "question"}, "which column has the answer"),
        ({"a": "answer"}, "which column has the question"),
        ({"q": "question", "a": "text"}, "Choose one way"),
        ({"q": "messages", "a": "text"}, "Choose one way"),
        ({"q": "question", "zzz": "answer"}, "no column “zzz”"),
        ({"q": "question", "a": "better"}, "one column for the better answer and one for"),
        ({"q": "worse", "a": "worse"}, "one column for the better answer and one for"),
    ],
)
def test_mappings_that_cannot_be(roles: dict[str, str], message: str) -> None:
    mapping = Mapping.model_validate({"columns": roles})
    with pytest.raises(Invalid, match=message) as caught:
        mapping.check(["q", "a"])
    assert caught.value.field == "columns"
