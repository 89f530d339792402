"""Rows that a person writes become practice rows of the next version."""

import pytest
from sqlalchemy.orm import Session

from app.core.errors import Forbidden, Invalid
from app.core.models import Example, ExampleKind, Role, Split
from app.datasets import adding, examples
from tests.factories import make_dataset_version, make_user


def test_rows_are_practised_in_the_next_version(db: Session) -> None:
    version = make_dataset_version(db)
    for row in db.query(Example).filter_by(version_id=version.id):
        row.messages = [{"role": "system", "content": "You are kind."}, *row.messages]
    db.commit()
    user = make_user(db)
    rows = [("Where?\r\n", " Here. "), ("", ""), ("When?\0", "At 7.")]
    made = adding.add(db, user, version, rows)
    db.commit()
    assert (made.number, made.num_train, made.num_validation) == (2, 22, 4)
    last = examples.page(db, made, Split.TRAIN, offset=20)
    assert [row.messages for row in last] == [
        [
            {"role": "system", "content": "You are kind."},
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
        for question, answer in (("Where?", "Here."), ("When?", "At 7."))
    ]
    assert version.num_train == 20


@pytest.mark.parametrize(
    ("rows", "sentence", "field"),
    [
        ([], "at least one question", "question-0"),
        ([("", " ")], "at least one question", "question-0"),
        ([("Where?", "")], "Write the answer, too.", "answer-0"),
        ([("", ""), ("", "Here.")], "Write the question, too.", "question-1"),
        ([("x" * 20_001, "y")], "at most 20,000 letters", "question-0"),
        # A test question, but for case and space, is never practised.
        ([("what is  RULE 22?", "Wash.")], "stands in the test set", "question-0"),
    ],
)
def test_what_is_refused(
    db: Session, rows: list[tuple[str, str]], sentence: str, field: str
) -> None:
    version, user = make_dataset_version(db), make_user(db)
    with pytest.raises(Invalid, match=sentence) as refused:
        adding.add(db, user, version, rows)
    assert refused.value.field == field


def test_who_may_not_and_where_not(db: Session) -> None:
    viewer, text = make_user(db, role=Role.VIEWER), make_dataset_version(db, kind=ExampleKind.TEXT)
    with pytest.raises(Forbidden):
        adding.add(db, viewer, make_dataset_version(db), [("a", "b")])
    with pytest.raises(Invalid, match="questions and answers"):
        adding.add(db, make_user(db), text, [("a", "b")])
