"""Several models on one test set."""

import pytest
from sqlalchemy.orm import Session

from app.core.errors import Conflict, Invalid
from app.core.models import Adapter, Arm, EvaluationQuestion
from app.evaluation import comparing
from app.evaluation.verdict import Tally
from tests.factories import make_adapter, make_dataset_version, make_evaluation, make_job


def two(db: Session) -> tuple[Adapter, Adapter]:
    version = make_dataset_version(db, num_validation=24)
    first, second = (make_adapter(db, job=make_job(db, version=version)) for _ in range(2))
    return first, second


def test_those_who_answered_are_there_once(db: Session) -> None:
    first, second = two(db)
    old = make_evaluation(db, adapter=first)
    new = make_evaluation(db, adapter=first)
    other = make_evaluation(db, adapter=second)
    assert first.job is not None
    found = comparing.contenders(db, first.job.version)
    assert [(one.arm, one.evaluation.id) for one in found] == [
        (Arm.TUNED, other.id),
        (Arm.TUNED, new.id),
        (Arm.LOOKUP, other.id),  # of the same starting model on the same questions
        (Arm.BASE, other.id),
    ]
    with pytest.raises(Invalid, match="choose again"):
        comparing.chosen(db, first.job.version, [f"{old.id}-tuned"])


def test_only_questions_that_all_answered_count(db: Session) -> None:
    """The second practised four of them, so they were not asked of it."""
    first, second = two(db)
    one = make_evaluation(db, adapter=first, marks={Arm.TUNED: "r" * 20 + "w" * 4})
    other = make_evaluation(db, adapter=second, marks={Arm.TUNED: "w" * 10 + "r" * 10})
    assert first.job is not None
    keys = [f"{one.id}-tuned", f"{other.id}-tuned"]
    found = comparing.compare(db, comparing.chosen(db, first.job.version, keys))
    assert found.num_common == 20
    assert [line.tally for line in found.lines] == [Tally(right=20), Tally(right=10, wrong=10)]
    assert [line.num_left_out for line in found.lines] == [4, 0]
    than_first = found.lines[1].than_first
    assert found.lines[0].than_first is None
    assert than_first is not None
    assert (than_first.mean, than_first.high < 0) == (-0.5, True)


def test_nothing_in_common_is_said(db: Session) -> None:
    first, second = two(db)
    made = [
        make_evaluation(db, adapter=adapter, marks={Arm.TUNED: letters})
        for adapter, letters in ((first, "r" * 4), (second, "r" * 4))
    ]
    for row in db.query(EvaluationQuestion).filter_by(evaluation_id=made[1].id):
        row.index = (row.index or 0) + 10
    db.commit()
    assert first.job is not None
    with pytest.raises(Conflict, match="no test question in common"):
        comparing.compare(db, comparing.contenders(db, first.job.version))


def test_the_adapter_before_is_of_the_same_data(db: Session) -> None:
    first, second = two(db)
    make_adapter(db, job=make_job(db, version=make_dataset_version(db)))
    assert comparing.earlier(db, make_evaluation(db, adapter=second)) is first
    assert comparing.earlier(db, make_evaluation(db, adapter=first)) is None
