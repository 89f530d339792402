"""No field of a turn is dropped unsaid: what other programs write becomes ours, or is counted."""

import json
from typing import Any

import pytest

from app.datasets.conversations import assemble
from app.datasets.mapping import LeftOut, Mapping, apply, tools_of
from app.datasets.notes import Notes, sentences
from app.datasets.turns import Noted, are_turns, is_seen, unknown_roles

CHAT = Mapping.model_validate({"columns": {"m": "messages"}})
JOINED = Mapping.model_validate(
    {"columns": {"s": "system", "q": "question", "more": "question", "a": "answer"}}
)


def turn(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def made(*turns: Any, mapping: Mapping = CHAT) -> tuple[Any, Noted]:
    noted: Noted = set()
    return apply(mapping, {"m": list(turns)}, noted), noted


HI, YES = turn("user", "Hi"), turn("assistant", "Yes")


@pytest.mark.parametrize(
    ("asks", "answers"),
    [
        ("User", "ASSISTANT"),
        (" user ", "Bot"),
        ("Human", "AI"),
        ("用户", "助手"),
        ("NUTZER", "gpt"),
    ],
)
def test_roles_in_other_spellings(asks: str, answers: str) -> None:
    assert made(turn(asks, "Hi"), turn(answers, "Yes")) == ([HI, YES], set())


def test_an_unknown_role_is_named_and_a_person_says_what_it_means() -> None:
    turns = [turn("Student", "Hi"), turn("Teacher", "Yes")]
    assert made(*turns)[0] == LeftOut("unknown_role", "student")
    assert list(unknown_roles(turns)) == ["student", "teacher"]
    roles = {"STUDENT": "user", " teacher": "assistant"}
    mapping = Mapping.model_validate({"columns": {"m": "messages"}, "roles": roles})
    kept = Mapping.model_validate_json(mapping.model_dump_json())
    assert made(*turns, mapping=kept) == ([HI, YES], set())


def test_a_person_says_who_speaks_in_a_column() -> None:
    columns = {"id": "key", "who": "speaker", "said": "text"}
    rows = [{"id": 1, "who": "Ann", "said": "Hi"}, {"id": 1, "who": "Bea", "said": "Yes"}]

    def read(mapping: Mapping) -> list[Any]:
        return [one.messages for one in assemble(mapping, lambda: enumerate(rows, 1))]

    unsaid = read(Mapping.model_validate({"columns": columns}))
    assert unsaid[0] == LeftOut("unknown_speaker", "ann")
    speakers = {"Ann": "user", "Bea": "assistant"}
    assert read(Mapping.model_validate({"columns": columns, "speakers": speakers})) == [[HI, YES]]


@pytest.mark.parametrize(
    "content",
    [
        {"text": "Hi"},
        {"parts": ["Hi"]},
        {"message": {"content": "Hi"}},
        {"content": {"type": "text", "text": "Hi"}},
        {"content": [{"type": "input_text", "text": "H"}, {"type": "output_text", "text": "i"}]},
        {"content": [{"type": "text", "text": {"value": "Hi", "annotations": []}}]},
        {"content": [{"type": "text", "text": "Hi"}, {"type": "refusal", "refusal": ""}]},
        {"content": ["Hi"]},
        {"content": "Hi", "text": "Hi", "id": "7", "timestamp": 12},
    ],
)
def test_text_in_other_places(content: dict[str, Any]) -> None:
    assert made({"role": "user", **content}, YES) == ([HI, YES], set())


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ({"type": "image_url", "image_url": {"url": "data:,"}}, "not_text"),
        ({"type": "input_audio", "input_audio": {}}, "not_text"),
        ({"image": "a.png"}, "not_text"),
        ({"type": "tool_use", "name": "look"}, "tools"),
        ({"type": "weather", "degrees": 7}, "bad_content"),
        (7, "bad_content"),
    ],
)
def test_only_pictures_and_sounds_are_called_so(part: Any, reason: str) -> None:
    found = made(turn("user", [{"type": "text", "text": "Hi"}, part]), YES)[0]
    assert isinstance(found, LeftOut)
    assert found.reason == reason


@pytest.mark.parametrize(
    "turns",
    [
        [{"type": "human", "content": "Hi"}, {"type": "ai", "content": "Yes"}],
        [
            {"type": "human", "data": {"content": "Hi"}},
            {"type": "ai", "data": {"content": [{"type": "text", "text": "Yes"}]}},
        ],
    ],
)
def test_turns_of_langchain_say_by_their_type_who_speaks(turns: list[Any]) -> None:
    assert made(*turns) == ([HI, YES], set())
    assert are_turns(turns)
    assert not are_turns([{"type": "function", "function": {"name": "f"}}])
    call = {"type": "ai", "content": "", "tool_calls": [{"name": "f", "args": {"a": 1}, "id": "1"}]}
    messages, _ = made(HI, call, {"type": "tool", "content": "ok", "tool_call_id": "1"}, YES)
    function = {"name": "f", "arguments": '{"a": 1}'}
    assert messages[1]["tool_calls"] == [{"id": "1", "type": "function", "function": function}]


def test_cells_that_are_lists_of_answers_or_have_parts() -> None:
    noted: Noted = set()
    row = {"q": "Dose?", "a": ["5 mg"]}
    assert apply(PLAIN, row, noted) == [turn("user", "Dose?"), turn("assistant", "5 mg")]
    assert noted == set()
    assert apply(PLAIN, {**row, "a": ["", "5 mg", 6]}, noted) == apply(PLAIN, row)
    assert noted == {("alternative", "")}
    assert apply(PLAIN, {**row, "a": []}) == LeftOut("empty_answer")
    assert apply(PLAIN, {**row, "a": [["x"]]}) == LeftOut("nested")
    assert apply(PLAIN, {**row, "q": ["x", "y"]}) == LeftOut("nested")
    parts = [{"type": "text", "text": "Be"}, {"type": "text", "text": " kind."}]
    assert apply(PLAIN, {**row, "a": parts}) == LeftOut("nested")
    told = Mapping.model_validate({"columns": {"s": "system", "m": "messages"}})
    assert apply(told, {"s": parts, "m": [HI, YES]}) == [turn("system", "Be kind."), HI, YES]
    picture = [{"type": "image", "source": "x"}]
    assert apply(told, {"s": picture, "m": [HI, YES]}) == LeftOut("not_text")


def test_a_part_that_is_a_thought_is_no_answer() -> None:
    parts = [{"text": "50 mg, perhaps", "thought": True}, {"text": "5 mg", "thought": False}]
    messages, noted = made(HI, {"role": "model", "parts": parts})
    assert messages[1] == turn("assistant", "5 mg", reasoning_content="50 mg, perhaps")
    assert noted == {("reasoning", "")}


def test_a_call_in_a_turn_of_its_own_obeys_its_flag_and_names_its_fields() -> None:
    call = {"from": "function_call", "value": '{"name": "f", "arguments": {}}'}
    turns = [HI, {**call, "weight": 0, "mood": "sure"}, turn("tool", "ok"), YES]
    messages, noted = made(*turns)
    assert messages[1]["weight"] == 0
    assert noted == {("turn_key", "mood")}
    called = {"name": "f", "arguments": "{}"}
    expected = [{"type": "function", "function": called}]
    assert made(HI, call, YES)[0][1] == turn("assistant", "", tool_calls=expected)
    assert made(HI, {"from": "function_call", "value": ""}, YES)[0] == LeftOut("tools")


@pytest.mark.parametrize("flag", ["weight", "train", "trainable", "loss", "mask"])
@pytest.mark.parametrize("value", [0, 0.0, "0", False, "false", "No"])
def test_flags_that_say_no_are_obeyed(flag: str, value: Any) -> None:
    messages, noted = made(HI, turn("assistant", "Wrong", **{flag: value}), HI, YES)
    assert messages == [HI, turn("assistant", "Wrong", weight=0), HI, YES]
    assert not noted
    assert made(HI, turn("assistant", "Wrong", **{flag: value}))[0] == LeftOut("not_learned")


def test_other_flags_are_learned_and_counted() -> None:
    assert made(HI, turn("assistant", "Yes", weight=0.5))[1] == {("fraction", "weight=0.5")}
    assert made(HI, turn("assistant", "Yes", train="maybe"))[1] == {("flag", "train=maybe")}
    assert made(HI, turn("assistant", "Yes", train=True, loss=1)) == ([HI, YES], set())
    # A row's own flag, where a person or the columns' names say that it is one.
    mapping = Mapping.model_validate({"columns": {"q": "question", "a": "answer", "w": "weight"}})
    assert apply(mapping, {"q": "Hi", "a": "Yes", "w": "0"}) == LeftOut("not_learned")
    assert apply(mapping, {"q": "Hi", "a": "Yes", "w": ""}) == [HI, YES]


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_is_kept_beside_the_answer(key: str) -> None:
    messages, noted = made(HI, turn("assistant", "Yes", **{key: "I look."}))
    assert messages == [HI, turn("assistant", "Yes", reasoning_content="I look.")]
    assert noted == {("reasoning", "")}
    typed = [{"type": "thinking", "thinking": "I look."}, {"type": "text", "text": "Yes"}]
    assert made(HI, turn("assistant", typed))[0] == messages


def test_unknown_fields_are_named() -> None:
    odd = turn("assistant", "Yes", mood="kind", sources=[], name="Bea")
    assert made(HI, odd) == ([HI, YES], {("turn_key", "mood"), ("turn_key", "name")})
    both = {"role": "user", "content": "Hi", "text": "Ho"}
    assert made(both, YES)[1] == {("turn_key", "text")}


def test_a_system_text_beside_the_turns_is_told() -> None:
    mapping = Mapping.model_validate({"columns": {"m": "messages", "s": "system"}})
    row = {"s": "Be brief.", "m": [HI, YES]}
    assert apply(mapping, row) == [turn("system", "Be brief."), HI, YES]
    row = {"s": "Be brief.", "m": [turn("system", "Be kind."), HI, YES]}
    assert apply(mapping, row) == [turn("system", "Be brief.\n\nBe kind."), HI, YES]


@pytest.mark.parametrize("word", ["nan", "None", "NULL", "N/A", "<noinput>", "[]", "-", "{}", "."])
def test_words_that_stand_for_nothing_are_not_joined_on(word: str) -> None:
    row = {"s": word, "q": "Hi", "more": word, "a": "Yes"}
    noted: Noted = set()
    assert apply(JOINED, row, noted) == [HI, YES]
    assert noted == {("placeholder", word)}
    meant = JOINED.model_copy(update={"placeholders": True})
    assert apply(meant, row) == [turn("system", word), turn("user", f"Hi\n\n{word}"), YES]
    # Where a text has to be, the word is one: “N/A” may be the right answer.
    assert apply(JOINED, row | {"a": word}) == [HI, turn("assistant", word)]


ANSWERS = Mapping.model_validate({"columns": {"q": "question", "a": "answer", "b": "answer"}})
PLAIN = Mapping.model_validate({"columns": {"q": "question", "a": "answer"}})


@pytest.mark.parametrize("word", ["nan", "N/A", "null\u200b", "NaN.", "(none)", "<empty>", "[]"])
def test_a_word_for_nothing_is_joined_to_no_answer_and_counted_where_it_stands_alone(
    word: str,
) -> None:
    noted: Noted = set()
    given = {"q": "Dose?", "a": "5 mg", "b": word}
    assert apply(ANSWERS, given, noted)[-1] == turn("assistant", "5 mg")
    assert noted == {("placeholder", word)}
    assert apply(ANSWERS, given | {"a": word})[0] == "empty_answer"
    for alone in ({"q": "Dose?", "a": word}, {"q": word, "a": "5 mg"}):
        noted.clear()
        made_of = apply(PLAIN, alone, noted)
        assert isinstance(made_of, list)
        assert [each["content"] for each in made_of] == list(alone.values())
        assert noted == {("placeholder_alone", word)}
        meant = PLAIN.model_copy(update={"placeholders": True})
        noted.clear()
        assert (apply(meant, alone, noted), noted) == (made_of, set())


def test_words_for_nothing_in_conversations_and_pairs_of_answers() -> None:
    notes = Notes()
    columns = {"k": "key", "q": "question", "a": "answer", "b": "answer"}
    rows = [{"k": 1, "q": "null", "a": "5 mg", "b": "nan"}]
    mapping = Mapping.model_validate({"columns": columns})
    [only] = list(assemble(mapping, lambda: enumerate(rows, 1), notes))
    assert only.messages == [turn("user", "null"), turn("assistant", "5 mg")]
    assert sentences(notes.found, "row") == [
        "1 row has a word that stands for nothing (“nan”) where more text could be. It was not "
        "added; if it is meant, say so beside the columns (row 1).",
        "1 row has nothing but a word that may stand for nothing (“null”) as question or answer. "
        "It is learned; leave the row out of the file if nothing was meant (row 1).",
    ]
    pair = Mapping.model_validate({"columns": {"q": "question", "b": "better", "w": "worse"}})
    noted: Noted = set()
    apply(pair, {"q": "Dose?", "b": "5 mg", "w": "nan"}, noted)
    assert noted == {("placeholder_alone", "nan")}


@pytest.mark.parametrize(
    "text",
    ["", "\u200b", "\u2060 \ufeff", "\u3164", "\u2800", "<br>", "&nbsp;", "****", " \u00ad\n"],
)
def test_what_cannot_be_seen_is_no_text(text: str) -> None:
    assert not is_seen(text)
    assert made(HI, turn("assistant", text))[0] == LeftOut("empty_answer")


@pytest.mark.parametrize(
    "text", ["*", "<b>", "3\ufe0f\u20e3", "a\u200bb", "−", "…" + "\u200b" * 300]
)
def test_what_can_be_seen_is(text: str) -> None:
    assert is_seen(text)


def test_letters_are_composed_and_lines_end_as_everywhere() -> None:
    arguments = json.dumps({"ro\u0308om": "u\u0308\r\n"})
    call = {"id": "c", "function": {"name": "look", "arguments": arguments}}
    turns = [turn("user", "Tu\u0308r?\r\nWo?\r"), turn("assistant", "", tool_calls=[call])]
    messages = made(*turns, turn("tool", "u\u0308"), turn("assistant", "Gru\u0308n"))[0]
    assert messages[0] == turn("user", "Tür?\nWo?\n")
    assert json.loads(messages[1]["tool_calls"][0]["function"]["arguments"]) == {"röom": "ü\n"}
    assert (messages[2]["content"], messages[3]["content"]) == ("ü", "Grün")
    tools = [{"name": "look", "description": "Tu\u0308r"}]
    mapping = Mapping.model_validate({"columns": {"m": "messages", "t": "tools"}})
    found = tools_of(mapping, {"t": tools})
    assert found is not None
    assert found[0]["function"]["description"] == "Tür"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYes<|im_end|>", "template"),
        ("<s>[INST] Hi [/INST] Yes</s>", "template"),
        ("Below is one.\n### Instruction:\nHi\n### Response:\nYes", "template"),
        ("A turn ends with <|im_end|> there.", "control"),
        ("a < b and c > d, [see] ### Notes", ""),
    ],
)
def test_templates_written_out_are_told_from_words_in_a_text(text: str, kind: str) -> None:
    noted: Noted = set()
    apply(Mapping.model_validate({"columns": {"t": "text"}}), {"t": text}, noted)
    assert {found for found, _ in noted} == ({kind} if kind else set())


def test_all_of_it_is_said_with_counts_and_rows() -> None:
    rows = [
        {"m": [HI, turn("assistant", "Yes", mood=str(number), tone=1)], "topic": "x", "id": 7}
        for number in range(12)
    ]
    columns = {"m": "messages", "topic": "ignore", "id": "ignore"}
    notes = Notes()
    mapping = Mapping.model_validate({"columns": columns})
    assert len(list(assemble(mapping, lambda: enumerate(rows, 1), notes))) == 12
    assert sentences(notes.found, "line") == [
        "12 rows have text in columns that are not used: “topic” (lines 1, 2, 3, 4, 5, …).",
        "12 rows have turns with fields that are not used: “mood” 12×, “tone” 12× "
        "(lines 1, 2, 3, 4, 5, …).",
    ]


def test_words_that_the_database_cannot_hold_are_made_fit() -> None:
    messages, noted = made(HI, turn("assistant", "Yes", **{"a\0\ud83d" + "b" * 99: 1}))
    assert messages == [HI, YES]
    ((_, word),) = noted
    word.encode()
    assert "\0" not in word
    assert len(word) == 60
    found = made(turn("x\0\ud83d", "Hi"), YES)[0]
    assert isinstance(found, LeftOut)
    found.word.encode()
    assert "\0" not in found.word
