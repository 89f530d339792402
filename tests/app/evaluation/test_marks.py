"""Answers are right, partly right, wrong, or for a person to check."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from app.core.models import Mark
from app.evaluation.marks import mark, mark_example
from app.evaluation.marks.facts.fact import Kind
from app.evaluation.marks.facts.reader import facts_of
from app.evaluation.marks.normalise import tokenise
from app.evaluation.marks.words import LANGUAGES, language_of
from app.evaluation.words import ERRORS

PAIRS = Path(__file__).parent / "rule_pairs.txt"


class Pair(NamedTuple):
    language: str
    kind: str
    question: str
    reference: str
    answer: str
    mark: str


def _pairs() -> list[Pair]:
    lines = PAIRS.read_text(encoding="utf-8").splitlines()
    rows = [line.replace("| |", "|  |").split(" | ") for line in lines if line[:1] not in ("", "#")]
    return [Pair(*(cell.strip().replace("\\n", "\n") for cell in row)) for row in rows]


@pytest.mark.parametrize("language", [*LANGUAGES, "it", "pl"])
def test_pairs_are_marked_as_people_mark_them(language: str) -> None:
    """A mark with ~ is left to people; a>b says where the rules are known to be wrong."""
    differing = []
    for pair in _pairs():
        if pair.language != language:
            continue
        given = mark(pair.question, pair.reference, pair.answer)
        expected = "unsure" if pair.mark[0] == "~" else pair.mark.rpartition(">")[2]
        if given.mark.value != expected:
            differing.append((pair.answer, pair.mark, given.mark.value, given.why))
    assert differing == []


def test_no_pair_that_is_not_right_is_called_right() -> None:
    lesser = [pair for pair in _pairs() if not pair.mark.lstrip("~").startswith("right")]
    called = [p for p in lesser if mark(p.question, p.reference, p.answer).mark == Mark.RIGHT]
    assert len(lesser) > 300
    assert called == []


@pytest.mark.parametrize(
    "pair", _pairs()[::3], ids=lambda pair: f"{pair.language}-{pair.answer[:20]}"
)
def test_a_reference_is_right_in_any_dress(pair: Pair) -> None:
    """The same answer, in capitals, with other spaces, with and without its full stop."""
    assert mark(pair.question, pair.reference, pair.reference).mark == Mark.RIGHT
    if pair.kind in ("json", "call", "choice"):
        return
    spaced = f"  {pair.reference.replace(' ', '  ')} "
    stripped = pair.reference.rstrip(".")
    for dressed in (spaced, stripped, f"{stripped}.", pair.reference.replace("'", "’")):
        assert mark(pair.question, pair.reference, dressed).mark == Mark.RIGHT, dressed


@pytest.mark.parametrize(
    "pair", _pairs()[::2], ids=lambda pair: f"{pair.language}-{pair.answer[:20]}"
)
def test_a_changed_figure_is_never_right(pair: Pair) -> None:
    for found in re.finditer(r"\d", pair.reference):
        digit = str((int(found[0]) + 3) % 10)
        changed = pair.reference[: found.start()] + digit + pair.reference[found.end() :]
        if pair.kind == "math" and found.start() < pair.reference.index("####"):
            continue  # of a worked solution the result counts
        assert mark(pair.question, pair.reference, changed).mark != Mark.RIGHT, changed


@pytest.mark.parametrize(
    "pair", _pairs()[::4], ids=lambda pair: f"{pair.language}-{pair.answer[:20]}"
)
def test_case_and_a_full_stop_do_not_change_a_mark(pair: Pair) -> None:
    if pair.kind in ("json", "call") or not pair.answer:
        return
    plain = mark(pair.question, pair.reference, pair.answer).mark
    assert mark(pair.question, pair.reference, f" {pair.answer}\n").mark == plain


@pytest.mark.parametrize("text", ["", "   ", "…", "?!", "\u200b"])
def test_no_answer_is_wrong(text: str) -> None:
    marked = mark("When?", "At 7", text)
    assert (marked.mark, marked.why) == (Mark.WRONG, "there is no answer")


def test_without_a_reference_a_person_decides() -> None:
    assert mark("When?", "", "At 7").mark == Mark.UNSURE


def test_an_answer_that_was_cut_is_not_right() -> None:
    assert mark("When?", "At 7 pm.", "At 19:00.").mark == Mark.RIGHT
    assert mark("When?", "At 7 pm.", "At 19:00.", was_cut=True).mark == Mark.PARTLY


def test_reasons_are_plain_words() -> None:
    assert mark("How much?", "5 mg", "50 mg").why == "the amount differs: 50 mg, not 5 mg"
    assert mark("May I go?", "Yes", "No.").why == "says no where the answer is yes"
    assert mark("When does it open?", "At 7:00", "Soon enough").why == "the time is missing"


@pytest.mark.parametrize(
    ("question", "reference", "answer", "about"),
    [
        ("When does it open?", "At 7:00", "At 8:00", "time"),
        ("How long does it take?", "30 minutes", "40 minutes", "time"),
        ("On which day?", "On Monday", "On Friday", "date"),
        ("When does term start?", "4 September", "5 September", "date"),
        ("How much may I take?", "5 mg", "50 mg", "dose"),
        ("How much may I take?", "5 mg", "5 ml", "unit"),
        ("How many beds are there?", "24", "42", "number"),
        ("Which room is it?", "Room 4", "Room 5", "place"),
        ("Who signs?", "Anna Weber", "Anna Becker", "name"),
        ("May I smoke?", "No.", "Yes.", "yes_no"),
        ("What about the wound?", "Keep it dry.", "Do not keep it dry.", "negation"),
        ("When do I eat?", "After the tablet", "Before the tablet", "opposite"),
        ("Who tells whom?", "The nurse tells the cook.", "The cook tells the nurse.", "order"),
        ("Which symptoms?", "Fever, cough and a rash", "Fever and cough", "list"),
        ("Which symptoms?", "Fever and cough", "Fever, cough and a rash", "added"),
        ("What are the steps?", "1. Wet\n2. Soap\n3. Rinse", "1. Wet\n2. Rinse", "missing"),
        ("Which?\nA) Liver\nB) Heart", "B", "A", "choice"),
        ("As JSON?", '{"a": 1}', '{"a": 2}', "json"),
        ("Call it.", '<tool_call>{"name": "book", "arguments": {}}</tool_call>', "Done.", "call"),
    ],
)  # fmt: skip
def test_a_mark_says_what_it_is_about(
    question: str, reference: str, answer: str, about: str
) -> None:
    marked = mark(question, reference, answer)
    assert marked.mark != Mark.RIGHT
    assert (marked.about, marked.about in ERRORS) == (about, True), marked


def test_what_a_mark_is_about_has_a_name() -> None:
    given = [mark(pair.question, pair.reference, pair.answer) for pair in _pairs()]
    assert {marked.about for marked in given} <= {"", *ERRORS}
    assert all(not marked.about for marked in given if marked.mark == Mark.RIGHT)
    lesser = [m for m in given if m.mark in (Mark.WRONG, Mark.PARTLY)]
    assert sum(bool(marked.about) for marked in lesser) > 0.85 * len(lesser)


def test_a_reason_points_to_its_place() -> None:
    marked = mark("How much?", "Take 5 mg.", "Take 50 mg.")
    assert [("Take 5 mg."[a:b], "Take 50 mg."[c:d])
            for (a, b), (c, d) in zip(marked.in_reference, marked.in_answer, strict=True)
            ] == [("5 mg", "50 mg")]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "text", "kind", "value"),
    [
        ("en", "half past seven", Kind.TIME, 450),
        ("en", "7 p.m.", Kind.TIME, 1140),
        ("de", "halb acht", Kind.TIME, 450),
        ("de", "7 Uhr abends", Kind.TIME, 1140),
        ("fr", "19 h 30", Kind.TIME, 1170),
        ("es", "a las ocho menos cuarto", Kind.TIME, 465),
        ("nl", "kwart over zeven", Kind.TIME, 435),
        ("en", "one hour and 30 minutes", Kind.DURATION, 90),
        ("de", "anderthalb Stunden", Kind.DURATION, 90),
        ("fr", "une demi-heure", Kind.DURATION, 30),
        ("es", "media hora", Kind.DURATION, 30),
        ("nl", "een half uur", Kind.DURATION, 30),
        ("en", "1,250", Kind.NUMBER, 1250),
        ("de", "1.250", Kind.NUMBER, 1250),
        ("fr", "1 250", Kind.NUMBER, 1250),
        ("fr", "quatre-vingt-dix-sept", Kind.NUMBER, 97),
        ("de", "zweihundertfünfundzwanzig", Kind.NUMBER, 225),
        ("nl", "zevenenveertig", Kind.NUMBER, 47),
        ("es", "treinta y dos", Kind.NUMBER, 32),
        ("en", "every other day", Kind.RATE, 0.5),
        ("de", "alle acht Stunden", Kind.RATE, 3),
        ("fr", "un jour sur deux", Kind.RATE, 0.5),
        ("es", "dos veces al día", Kind.RATE, 2),
        ("nl", "om de dag", Kind.RATE, 0.5),
    ],
)
def test_facts_are_read_in_five_languages(code: str, text: str, kind: Kind, value: float) -> None:
    (fact,) = facts_of(tokenise(text), language_of(code))
    assert (fact.kind, float(fact.low)) == (kind, value)


def test_the_last_turn_of_a_chat_is_marked() -> None:
    before = [
        {"role": "user", "content": "Is there a café?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "When does it open?"},
    ]
    reference = {"role": "assistant", "content": "At 7 am."}
    assert mark_example(before, reference, "It opens at 7:00 in the morning.").mark == Mark.RIGHT
    assert mark_example(before, reference, "At 8 am.").mark == Mark.WRONG


def test_calls_of_tools_are_marked_by_name_and_arguments() -> None:
    reference = {
        "role": "assistant",
        "tool_calls": [{"function": {"name": "book", "arguments": '{"room": 4, "day": "Monday"}'}}],
    }
    before = [{"role": "user", "content": "Book room 4 on Monday."}]
    tools = [{"type": "function", "function": {"name": "book"}}]

    def given(text: str) -> Mark:
        return mark_example(before, reference, text, tools).mark

    assert (
        given('<tool_call>{"name": "book", "arguments": {"day": "monday", "room": 4}}</tool_call>')
        == "right"
    )
    assert given('{"name": "book", "parameters": {"room": 4, "day": "Monday"}}') == "right"
    assert given('<tool_call>{"name": "book", "arguments": {"room": 4}}</tool_call>') == "partly"
    assert (
        given('<tool_call>{"name": "book", "arguments": {"room": 5, "day": "Monday"}}</tool_call>')
        == "wrong"
    )
    assert given("I have booked it.") == "wrong"


HOSTILE = {
    "digits": "1" * 100_000,
    "times": "1:" * 50_000,
    "fractions": "1/2" * 33_000,
    "dashes": "1-" * 50_000,
    "items": "- a\n" * 25_000,
    "commas": "a, " * 33_000,
    "braces": '{"a":' * 20_000,
    "calls": "<tool_call>" * 9_000,
    "words": "the doctor calls the nurse before 5 mg at 7 pm " * 2_200,
    "marks": "e\u0301\u200b" * 30_000,
    "surrogates": "\ud800" * 1_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_costs_little_and_is_not_right(name: str) -> None:
    """Read linearly and cut: without bounds these take minutes."""
    started = time.process_time()
    assert mark("When?", "At 7 pm on Monday", HOSTILE[name]).mark != Mark.RIGHT
    mark("Which steps?", HOSTILE[name], HOSTILE[name][:-1])
    assert time.process_time() - started < 60


def test_the_command_marks_lines_and_goes_on_after_a_broken_one() -> None:
    lines = [
        {"question": "When?", "reference": "At 7 pm", "answer": "19:00"},
        {"question": "Wie viel?", "reference": "½ Tablette", "answer": "zwei Tabletten"},
        {"question": "When?", "reference": 7, "answer": "19:00"},
    ]
    sent = "\n".join([json.dumps(lines[0]), "{", json.dumps(lines[1]), "[]", json.dumps(lines[2])])
    result = subprocess.run([sys.executable, "-m", "app.evaluation.marks"], input=sent + "\n",
                            capture_output=True, text=True, check=True)  # fmt: skip
    given = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row.get("mark", "error") for row in given] == [
        "right",
        "error",
        "wrong",
        "error",
        "error",
    ]
    assert all(row.keys() in ({"mark", "why"}, {"error"}) for row in given)


def test_each_line_is_answered_before_the_next_one_comes() -> None:
    with subprocess.Popen([sys.executable, "-m", "app.evaluation.marks"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as child:  # fmt: skip
        assert child.stdin is not None
        assert child.stdout is not None
        for answer, expected in (("5 mg", "right"), ("6 mg", "wrong")):
            row = {"question": "How much?", "reference": "5 mg", "answer": answer}
            child.stdin.write(json.dumps(row) + "\n")
            child.stdin.flush()
            assert json.loads(child.stdout.readline())["mark"] == expected
