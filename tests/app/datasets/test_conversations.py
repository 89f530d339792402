"""Several rows that form one conversation."""

from typing import Any

import pytest

from app.core.errors import Invalid
from app.core.models import ExampleKind
from app.datasets.conversations import assemble
from app.datasets.mapping import LEFT_OUT, LeftOut, Mapping
from app.datasets.notes import Notes, sentences
from app.datasets.proposals import propose
from app.datasets.readers.inspections import Inspection

TURNS = Mapping.model_validate(
    {"columns": {"ticket": "key", "who": "speaker", "said": "text", "rule": "system"}}
)
TAKING_TURNS = Mapping.model_validate({"columns": {"c": "key", "q": "question", "a": "answer"}})


def made(mapping: Mapping, rows: list[dict[str, Any]]) -> list[tuple[int, Any]]:
    numbered = [(number, row) for number, row in enumerate(rows, start=2)]
    return [
        (number, what.reason if isinstance(what, LeftOut) else [tuple(m.values()) for m in what])
        for number, what, _ in assemble(mapping, lambda: iter(numbered))
    ]


def say(ticket: object, who: str, said: str, **more: Any) -> dict[str, Any]:
    return {"ticket": ticket, "who": who, "said": said, **more}


def test_rows_of_a_key_become_one_conversation_in_the_files_order() -> None:
    assert TURNS.kind is ExampleKind.CHAT
    rows = [
        say(1, "Customer", "Hi"),
        say(2, "user", "Where?"),
        say(1, "Customer", "Are you there?"),
        say(1, "Agent", "Yes.", rule="Be kind."),
        say(2, "assistant", "There."),
        say(2, "user", "Thanks"),  # nobody answers it
    ]
    first = [("system", "Be kind."), ("user", "Hi\nAre you there?"), ("assistant", "Yes.")]
    second = [("user", "Where?"), ("assistant", "There.")]
    assert made(TURNS, rows) == [(2, first), (3, second)]


def test_questions_and_answers_take_turns() -> None:
    rows = [
        {"c": "x", "q": "One?", "a": "1"},
        {"c": "x", "q": "Two?", "a": ""},
        {"c": "x", "q": "", "a": "2"},
    ]
    turns = [("user", "One?"), ("assistant", "1"), ("user", "Two?"), ("assistant", "2")]
    fixed = TAKING_TURNS.model_copy(update={"system": "Be brief."})
    assert made(fixed, rows) == [(2, [("system", "Be brief."), *turns])]


def test_who_answers_may_be_chosen_by_name() -> None:
    rows = [say(1, "Frau Berg", "Wo?"), say(1, "Pforte ", "Da."), say(1, "System", "Sei nett.")]
    assert [reason for _, reason in made(TURNS, rows)] == [
        "unknown_speaker",
        "unknown_speaker",
        "broken_conversation",
    ]
    chosen = TURNS.model_copy(update={"answers_by": "pforte"})
    assert made(chosen, rows) == [
        (2, [("system", "Sei nett."), ("user", "Wo?"), ("assistant", "Da.")])
    ]


def test_rows_that_belong_to_no_conversation() -> None:
    rows = [
        say("", "user", "Hi"),
        {"ticket": None, "who": "", "said": ""},
        say(3, "user", "Nobody there?"),
        say({"a": 1}, "user", "Hi"),
        say(4, "user", "Hi\0"),
        say(4, "agent", "Yes."),
    ]
    assert made(TURNS, rows) == [
        (2, "no_key"),
        (3, "blank"),
        (4, "no_answer_in_conversation"),
        (5, "no_key"),
        (6, "bad_characters"),
        (7, "broken_conversation"),
    ]
    assert {"no_key", "no_answer_in_conversation", "broken_conversation"} < LEFT_OUT.keys()


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"a": "speaker", "b": "text"}, "to which conversation a row belongs"),
        ({"a": "key", "b": "text"}, "either question and answer columns, or one that says who"),
        ({"a": "key", "b": "messages"}, "either question and answer columns"),
        ({"a": "key", "b": "question"}, "which column has the answer"),
    ],
)
def test_mappings_that_cannot_be(roles: dict[str, str], message: str) -> None:
    with pytest.raises(Invalid, match=message) as caught:
        Mapping.model_validate({"columns": roles}).check(["a", "b"])
    assert caught.value.field == "columns"


def inspection(rows: list[dict[str, Any]]) -> Inspection:
    return Inspection.model_validate(
        {
            "format": "csv",
            "place": "line",
            "columns": list(rows[0]),
            "num_rows": len(rows),
            "preview": [{"number": n, "values": row} for n, row in enumerate(rows, start=2)],
        }
    )


def test_conversations_are_proposed_where_a_key_repeats() -> None:
    rows = [
        {"ticket_id": "7", "sender": "customer", "message": "Hi"},
        {"ticket_id": "7", "sender": "agent", "message": "Hello"},
    ]
    proposal = propose(inspection(rows))
    assert proposal.mapping.column_roles == {
        "ticket_id": "key",
        "sender": "speaker",
        "message": "text",
    }
    assert not proposal.is_sure
    assert "Rows with the same “ticket_id” seem to be one conversation" in proposal.why
    pairs = [{"case": "1", "question": "A?", "answer": "B"}] * 2
    assert propose(inspection(pairs)).mapping.column_roles["case"] == "key"
    # An id of its own in each row says nothing about conversations.
    single = [{"case": str(n), "question": "A?", "answer": "B"} for n in range(3)]
    assert propose(inspection(single)).mapping.column_roles["case"] == "ignore"


def test_a_row_of_a_conversation_may_not_be_learned() -> None:
    columns = {"t": "key", "who": "speaker", "said": "text", "train": "weight"}
    mapping = Mapping.model_validate({"columns": columns})

    def turns(*said: tuple[str, str, Any]) -> list[dict[str, Any]]:
        return [{"t": 1, "who": who, "said": text, "train": flag} for who, text, flag in said]

    rows = turns(("user", "A?", 0), ("bot", "WRONG", 0), ("user", "B?", 1), ("bot", "5 mg", 1))
    expected = [("user", "A?"), ("assistant", "WRONG", 0), ("user", "B?"), ("assistant", "5 mg")]
    assert made(mapping, rows) == [(2, expected)]
    # Of a turn half of which is not to be learned, nothing is; then nothing is left.
    rows = turns(("user", "A?", ""), ("bot", "WRONG", "0"), ("bot", "5 mg", "1"))
    assert made(mapping, rows) == [(2, "not_learned"), (3, "not_learned"), (4, "not_learned")]
    notes = Notes()
    rows += turns(("user", "B?", ""), ("bot", "6 mg", ""))
    numbered = list(enumerate(rows, start=2))
    [only] = list(assemble(mapping, lambda: iter(numbered), notes))
    assert isinstance(only.messages, list)
    assert [turn.get("weight", 1) for turn in only.messages] == [1, 0, 1, 1]
    assert sentences(notes.found, "line") == [
        "1 row is one turn together with an answer that is not to be learned, or is that answer. "
        "Nothing of the turn is learned (line 4)."
    ]


def test_a_question_with_its_answer_in_a_conversation_may_not_be_learned() -> None:
    mapping = Mapping.model_validate(
        {"columns": {"c": "key", "q": "question", "a": "answer", "weight": "weight"}}
    )
    rows = [
        {"c": 1, "q": "One?", "a": "WRONG", "weight": "0"},
        {"c": 1, "q": "Two?", "a": "2", "weight": "1"},
        {"c": 2, "q": "Three?", "a": "WRONG", "weight": "0"},
    ]
    turns = [("user", "One?"), ("assistant", "WRONG", 0), ("user", "Two?"), ("assistant", "2")]
    assert made(mapping, rows) == [(2, turns), (4, "not_learned")]


@pytest.mark.parametrize(
    "columns", [("conversation_id", "role", "message"), ("conversation_id", "question", "answer")]
)
def test_what_says_which_rows_are_learned_is_proposed_in_conversations_too(
    columns: tuple[str, str, str],
) -> None:
    rows = [
        dict(zip((*columns, "train"), ("c1", who, "B", "0"), strict=True))
        for who in ("user", "assistant")
    ]
    proposal = propose(inspection(rows))
    assert proposal.mapping.column_roles["train"] == "weight"
    assert "“train” says which rows are learned: 0 means not." in proposal.why
