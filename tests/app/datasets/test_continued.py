"""Rows that have an answer alone: joined to the answer above, or left out and said."""

from pathlib import Path
from typing import Any

import pytest

from app.datasets.continued import Below
from app.datasets.conversations import assemble
from app.datasets.mapping import LeftOut, Mapping
from app.datasets.notes import Notes
from app.datasets.proposals import propose
from app.datasets.readers.inspections import ReadAs
from app.datasets.readers.reading import inspect

MAPPING = Mapping(columns={"question": "question", "answer": "answer"}, continued=True)


def made(rows: list[dict[str, Any] | LeftOut], mapping: Mapping = MAPPING) -> tuple[Any, Any]:
    """Return what each row becomes, by its number, and how many were joined."""
    notes = Notes()
    found = {
        number: result.reason if isinstance(result, LeftOut) else result[-1]["content"]
        for number, result, _ in assemble(mapping, lambda: enumerate(rows, start=1), notes)
    }
    return found, {note.kind: note.count for note in notes.found}


def row(question: str, answer: str, **others: str) -> dict[str, Any]:
    return {"question": question, "answer": answer} | others


def propose_of(folder: Path, *lines: str, **read_as: Any) -> Any:
    path = folder / "file.csv"
    path.write_text("\n".join(["No;Question;Answer;Topic", *lines]) + "\n")
    chosen = ReadAs(**read_as)
    return propose(inspect(path, chosen, lambda rows: None), chosen)


def test_rows_with_an_answer_alone_are_joined_to_the_answer_above() -> None:
    rows = [row("Fever?", "First: drink."), row("", "Second: rest."), row(" ", "Third: call.")]
    rows += [row("Cough?", "Tea.")]
    assert made([*rows]) == (
        {1: "First: drink.\nSecond: rest.\nThird: call.", 4: "Tea."},
        {"continued": 2},
    )
    left_out, notes = made([*rows], MAPPING.model_copy(update={"continued": False}))
    assert left_out == {1: "First: drink.", 2: "empty_question", 3: "empty_question", 4: "Tea."}
    assert not notes


def test_a_question_may_stand_above_its_answer() -> None:
    assert made([row("Fever?", ""), row("", "Drink.")]) == ({1: "Drink."}, {"continued": 1})


def test_what_follows_a_row_that_was_left_out_is_no_part_of_the_row_before_it() -> None:
    found, _ = made(
        [row("", "lost"), row("a?", "one"), LeftOut("hidden"), row("", ""), row("", "two"),
         LeftOut("too_many_cells"), row("", "whose?")]
    )  # fmt: skip
    assert found == {
        1: "empty_question", 2: "one\ntwo", 3: "hidden", 4: "blank", 6: "too_many_cells",
        7: "empty_question",
    }  # fmt: skip


def test_a_row_that_says_something_else_besides_is_not_joined() -> None:
    found, _ = made(
        [row("a?", "one", topic="x"), row("", "two", topic="x"), row("", "other", topic="y")]
    )
    assert found == {1: "one\ntwo", 3: "empty_question"}


def test_an_answer_without_an_end_is_left_out_whole() -> None:
    found, _ = made([row("a?", "one"), *(row("", "more") for _ in range(1001)), row("b?", "two")])
    assert (found[1], found[1002], found[1003]) == ("broken_row", "broken_row", "two")


def test_joining_is_proposed_where_most_answers_go_on_and_offered_where_some_do(
    tmp_path: Path,
) -> None:
    most = propose_of(tmp_path, "1;a?;one;x", "2;;two;x", "3;b?;one;y", "4;;two;", "5;c?;all;y")
    assert most.mapping.continued
    assert not most.is_sure
    assert "2 rows have an answer alone (first in line 3)." in most.why
    assert "they are joined to it" in most.why
    full = [f"{n};q{n}?;a{n};" for n in range(5, 12)]
    some = propose_of(tmp_path, "1;a?;one;x", "2;;two;x", *full)
    assert not some.mapping.continued
    assert not some.is_sure
    assert "1 row has an answer alone (line 3). If it goes on" in some.why
    assert propose_of(tmp_path, "1;a?;one;x", *full).is_sure


@pytest.mark.parametrize("chosen", [True, False])
def test_what_a_person_says_of_such_rows_counts(tmp_path: Path, chosen: bool) -> None:
    lines = ("1;a?;one;x", "2;;two;x", "3;b?;three;x")
    proposal = propose_of(tmp_path, *lines, continued=chosen)
    assert (proposal.mapping.continued, proposal.is_sure) == (chosen, True)


def test_only_rows_with_one_new_cell_below_others_count() -> None:
    below = Below()
    rows: list[dict[str, Any] | LeftOut] = [
        row("", "before all"), row("a?", "one"), row(" ", "two"), row("", "three"),
        row("b?", ""), row("", "four"), LeftOut("header_again"), row("", "five"),
    ]  # fmt: skip
    for number, each in enumerate(rows):
        below.see(number, each)
    assert below.found["answer"].model_dump() == {"rows": 3, "above": 2, "first": 2}
