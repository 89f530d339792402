"""Rows that are looked up: alike by words, in any language, the same each time."""

from sqlalchemy.orm import Session

from app.core.models import Example, Split
from app.evaluation.retrieval import PracticeRows, row_of
from tests.factories import make_dataset_version

QUESTIONS = [
    "When may I visit my husband?",
    "Wie oft wird das Blut abgenommen?",
    "Where do I park my car?",
    "Πότε είναι το επισκεπτήριο;",
    "When is the ward open for visits of children?",
]


def rows(questions: list[str]) -> PracticeRows:
    return PracticeRows(iter(enumerate(questions)), len(questions))


def test_the_most_alike_come_first_in_any_language() -> None:
    index = rows(QUESTIONS)
    assert index.nearest("When may children visit?", 4)[0] in (0, 4)
    assert index.nearest("WIE OFT nimmt man Blut ab?", 1) == [1]
    assert index.nearest("Πότε μπορώ να έρθω;", 4) == [3]
    assert index.nearest("Bilirubin?", 4) == []  # no word in common
    assert index.nearest("", 4) == []


def test_of_equals_the_first_counts_each_time() -> None:
    index = rows(["Where is soap?"] * 5)
    assert index.nearest("Where is soap?", 3) == [0, 1, 2]


def test_without_rows_nothing_is_found() -> None:
    assert rows([]).nearest("Where is soap?", 4) == []
    assert rows(["", "…"]).nearest("Where is soap?", 4) == []


def test_only_practice_rows_are_looked_through(db: Session) -> None:
    version = make_dataset_version(db, num_train=3, num_validation=3)
    index = PracticeRows.read(db, version)
    assert index.nearest("What is rule 5?", 9) == [0, 1, 2]  # 5 is a test row
    assert index.note == ""
    example = db.get(Example, (version.id, 1))
    assert example is not None
    assert row_of(example.messages) == ("What is rule 1?", "Rule 1 says: wash your hands.")


def test_where_more_is_practised_more_is_looked_through(db: Session) -> None:
    version = make_dataset_version(db, num_train=3, num_validation=2, num_test=2)
    index = PracticeRows.read(db, version, {Split.TRAIN, Split.TEST})
    assert sorted(index.nearest("What is a rule?", 9)) == [0, 1, 2, 5, 6]


def test_of_a_large_version_a_sample_is_looked_through_and_said(db: Session) -> None:
    version = make_dataset_version(db, num_train=20, num_validation=1)
    index = PracticeRows.read(db, version, max_rows=8)
    found = index.nearest("What is a rule?", 20)
    assert len(found) == 8
    assert found == PracticeRows.read(db, version, max_rows=8).nearest("What is a rule?", 20)
    assert index.note == ("Looked up among 8 of 20 practice rows, which were drawn at random.")
