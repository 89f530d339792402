"""Fingerprints of rows: what counts as the same row, what is kept, and under which key."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from app.datasets import practised
from app.datasets.practised import Collector, Practised


@pytest.fixture(autouse=True)
def site(data_dir: Path) -> None:
    """A site with a key of its own."""


def chat(question: str, answer: str, **more: Any) -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer, **more},
    ]


def rows(*talks: list[dict[str, Any]]) -> Practised:
    collector = Collector()
    for talk in talks:
        collector.add(talk)
    return collector.rows()


def test_a_row_is_known_again_as_the_split_of_a_version_would_know_it() -> None:
    found = rows(chat("Where is room 7?", "Upstairs."))
    assert chat("where  is ROOM 7?", "Upstairs.\n") in found
    assert [
        {"role": "system", "content": "Be kind."},
        *chat("Where is room 7?", "Upstairs."),
    ] in found
    assert chat("Where is room 7?", "Downstairs.") not in found
    assert chat("Where is room 8?", "Upstairs.") not in found
    assert [{"role": "text", "content": "Where is room 7?"}] not in found


def test_the_better_answer_of_a_pair_is_a_row_and_its_question_one_for_other_pairs() -> None:
    pair = chat("Who?", "Me.", rejected="You.")
    assert pair in rows(chat("Who?", "Me."))
    assert pair not in rows(chat("Who?", "You."))
    assert chat("Who?", "Me.") in rows(pair)
    assert chat("Who?", "They.", rejected="We.") in rows(pair)
    assert chat("Who?", "They.") not in rows(pair)


def test_what_is_kept_is_eight_bytes_a_row_and_reads_back() -> None:
    talks = [chat(f"Question {number}?", "Yes.") for number in range(500)]
    found = rows(*talks, *talks)
    stored = found.to_bytes()
    assert (len(found), len(stored)) == (500, 4000)
    again = Practised.from_bytes(stored, practised.key())
    assert all(talk in again for talk in talks)
    assert chat("Question 500?", "Yes.") not in again
    both = again.with_those_of(rows(chat("Question 500?", "Yes."), talks[0]))
    assert (len(both), chat("Question 500?", "Yes.") in both) == (501, True)
    assert chat("x", "y") not in Practised.from_bytes(b"", practised.key())


def test_another_site_cannot_tell_a_row_by_it(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, db: Session
) -> None:
    key = practised.key()
    assert key == practised.key()
    (data_dir / "secrets" / "row-fingerprints").unlink()
    other = practised.key()
    assert practised.key_id(key) != practised.key_id(other)
    assert key.decode() not in practised.key_id(key)
    here = Practised.from_bytes(rows(chat("Who?", "Me.")).to_bytes(), key)
    assert chat("Who?", "Me.") not in here
