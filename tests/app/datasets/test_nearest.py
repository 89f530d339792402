"""The example whose question is most like what somebody asks."""

import csv
from typing import Any

import pytest
from sqlalchemy.orm import Session

from app.core.models import DatasetVersion, Example, ExampleKind, Split
from app.datasets import nearest
from tests.app.web.pages import EXAMPLES
from tests.factories import make_dataset_version

with (EXAMPLES / "clinic-faq.csv").open(encoding="utf-8", newline="") as _file:
    QUESTIONS = [row[0] for row in list(csv.reader(_file))[1:]]


def version_of(db: Session, questions: list[str]) -> DatasetVersion:
    version = make_dataset_version(db, num_train=0, num_validation=0)
    version.num_train = len(questions)
    for index, question in enumerate(questions):
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": "You help with coffee, buses and scans."},
            {"role": "user", "content": question},
            {"role": "assistant", "content": "A bus with coffee takes you to the scan."},
        ]
        db.add(
            Example(
                version_id=version.id,
                index=index,
                split=Split.TRAIN,
                kind=ExampleKind.PAIR,
                messages=messages,
            )
        )
    db.commit()
    return version


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("When may I come to have my blood taken?", "When can I come to have blood taken?"),
        ("WHICH BUSES ARE STOPPING NEAR IT?", "Which buses stop near the clinic?"),  # other endings
        ("Who painted the Mona Lisa?", None),
        ("What is 12 times 17?", None),
        ("???", None),
        ("", None),
    ],
)
def test_the_question_with_the_rarest_common_words_is_nearest(
    db: Session, asked: str, found: str | None
) -> None:
    index = nearest.find(db, version_of(db, QUESTIONS), asked)
    assert (None if index is None else QUESTIONS[index]) == found


def test_each_question_is_nearest_to_itself(db: Session) -> None:
    version = version_of(db, [*QUESTIONS, *QUESTIONS[:5]])
    for index in (0, 1, 50, 200):  # of equals the first
        assert nearest.find(db, version, QUESTIONS[index]) == index


def test_test_questions_are_not_among_them(db: Session) -> None:
    version = version_of(db, QUESTIONS)
    db.get_one(Example, (version.id, 50)).split = Split.VALIDATION
    db.commit()
    assert nearest.find(db, version, QUESTIONS[50]) != 50


def test_versions_are_not_mixed_up(db: Session) -> None:
    first, second = version_of(db, QUESTIONS), version_of(db, QUESTIONS[::-1])
    assert nearest.find(db, first, QUESTIONS[1]) == 1
    assert nearest.find(db, second, QUESTIONS[1]) == len(QUESTIONS) - 2
    assert nearest.find(db, first, QUESTIONS[1]) == 1


def test_the_first_question_and_its_answer_are_read_from_a_conversation() -> None:
    turns = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Where?"},
        {"role": "assistant", "content": "There."},
        {"role": "user", "content": "When?"},
        {"role": "assistant", "content": "Then."},
    ]
    assert nearest.question_of(turns) == ("Where?", "There.")
    assert nearest.question_of(turns[:2]) == ("Where?", "")
    assert nearest.question_of([{"role": "text", "content": "x"}]) == ("", "")
