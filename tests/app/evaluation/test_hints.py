"""What would help, worked out from what went wrong."""

import pytest
from sqlalchemy.orm import Session

from app.core.models import Arm, Evaluation, Example, Finding, Severity, Standing
from app.datasets import nearest
from app.evaluation import hints
from app.evaluation.hints import Help
from tests.factories import make_adapter, make_dataset_version, make_evaluation, make_job


def evaluation(db: Session, tuned: str, test: list[str], practice: list[str]) -> Evaluation:
    version = make_dataset_version(db, num_train=len(practice), num_validation=len(test))
    rows = db.query(Example).filter_by(version_id=version.id).order_by(Example.index)
    for row, question in zip(rows, practice + test, strict=True):
        row.messages = [{"role": "user", "content": question}, *row.messages[1:]]
    db.commit()
    marks = {Arm.TUNED: tuned, Arm.BASE: "w" * len(tuned)}
    adapter = make_adapter(db, job=make_job(db, version=version))
    return make_evaluation(db, adapter=adapter, marks=marks)


TOPICS = (
    [f"Where is the parking place {number}?" for number in range(4)]
    + [f"When does the kitchen open on day {number}?" for number in range(8)]
    + [f"Who looks after lost things {number}?" for number in range(12)]
)
PRACTICE = [question.replace("?", ", please?") for question in TOPICS[4:]] + ["May I park?"]


def test_a_topic_that_goes_wrong_is_named_with_its_rows(db: Session) -> None:
    made = evaluation(db, "w" * 4 + "r" * 20, TOPICS, PRACTICE)
    found = {hint.kind: hint for hint in hints.of(db, made)}
    topic = found[Help.TOPIC]
    assert topic.about in ("parking", "place")
    assert "4 of 4 questions with this word are not right, and 0 practice rows" in topic.sentence
    assert hints.not_right(db, made, topic.about) == TOPICS[:4]
    # What no practice row is like is said, too.
    assert "like no practice row" in found[Help.UNSEEN].sentence


def test_of_a_large_version_it_is_kept_which_questions_no_row_is_like(
    db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = evaluation(db, "w" * 4 + "r" * 20, TOPICS, PRACTICE)
    [said] = [hint.sentence for hint in hints.of(db, made) if hint.kind is Help.UNSEEN]
    monkeypatch.setattr(nearest, "_MAX_INDEXED", 1)
    assert Help.UNSEEN not in {hint.kind for hint in hints.of(db, made)}  # a page has no time
    looked_at = []
    hints.look(db, made, lambda: looked_at.append(1))
    assert len(looked_at) == 24
    db.commit()
    monkeypatch.setattr(nearest, "find", None)  # it is not looked for again
    hints.look(db, made, lambda: looked_at.append(1))
    assert [hint.sentence for hint in hints.of(db, made) if hint.kind is Help.UNSEEN] == [said]
    assert len(looked_at) == 24


def test_what_a_person_put_right_needs_no_help(db: Session) -> None:
    made = evaluation(db, "r" * 24, TOPICS, PRACTICE)
    kinds = {hint.kind for hint in hints.of(db, made)}
    assert not kinds & {Help.TOPIC, Help.UNSEEN, Help.ERRORS}
    made.standing = Standing.TOO_FEW
    assert hints.of(db, made) == []


def test_rows_that_contradict_each_other_come_first(db: Session) -> None:
    made = evaluation(db, "w" * 24, TOPICS, PRACTICE)
    db.add(
        Finding(
            version_id=made.version_id,
            kind="conflict",
            severity=Severity.WARN,
            count=2,
            rows=b"",
            detail={},
        )
    )
    db.commit()
    first = hints.of(db, made)[0]
    assert first.kind is Help.CONFLICTS
    assert first.sentence == "2 rows of your data contradict each other."


def test_longer_training_where_not_even_practice_is_known(db: Session) -> None:
    adapter = make_adapter(db)
    for letter, is_helped in (("r", False), ("w", True)):
        made = make_evaluation(db, adapter=adapter, practised=letter * 20)
        kinds = {hint.kind for hint in hints.of(db, made)}
        assert (Help.LONGER in kinds) is is_helped
