"""People mark answers, and the figures follow."""

import pytest
from sqlalchemy.orm import Session

from app.core.errors import Conflict, Forbidden, Invalid, NotFound
from app.core.models import Arm, AuditEvent, EvaluationStatus, Mark, Role, Standing
from app.evaluation import marking, verdict
from tests.factories import make_evaluation, make_user


def test_a_persons_mark_counts_before_the_rules(db: Session) -> None:
    made = make_evaluation(db, marks={Arm.TUNED: "u" * 20, Arm.BASE: "w" * 20})
    user = make_user(db, role=Role.MEMBER)
    before = made.standing
    for position in range(20):
        marking.set_mark(db, user, made, position, Arm.TUNED, "right")
    db.commit()
    figures = verdict.figures_of(made)
    assert figures.arms[Arm.TUNED] == verdict.Tally(right=20)
    assert figures.num_by_people == 20
    assert (before, made.standing) == (Standing.NO_BETTER, Standing.BETTER)


def test_a_mark_can_be_taken_back(db: Session) -> None:
    made = make_evaluation(db)
    user, before = make_user(db, role=Role.MEMBER), made.figures
    row = marking.set_mark(db, user, made, 0, Arm.TUNED, "wrong")
    assert row.mark is Mark.WRONG
    assert made.figures != before
    row = marking.set_mark(db, user, made, 0, Arm.TUNED, marking.RULES)
    assert row.mark is Mark.RIGHT
    assert made.figures == before
    db.commit()
    told = [event.detail for event in db.query(AuditEvent).filter_by(action="evaluation.mark")]
    assert [each["mark"] for each in told] == ["wrong", "rules"]


def test_a_mark_of_a_person_takes_the_rules_reason_away(db: Session) -> None:
    """It gets “times” wrong no more, once a person has said that it does not."""
    made = make_evaluation(db, marks={Arm.TUNED: "w" + "r" * 19, Arm.BASE: "w" * 20})
    assert verdict.figures_of(made).errors == [("time", 1)]
    marking.set_mark(db, make_user(db, role=Role.MEMBER), made, 0, Arm.TUNED, "right")
    assert verdict.figures_of(made).errors == []


def test_who_may_not_mark(db: Session) -> None:
    made = make_evaluation(db)
    with pytest.raises(Forbidden):
        marking.set_mark(db, make_user(db, role=Role.VIEWER), made, 0, Arm.TUNED, "right")
    member = make_user(db, role=Role.MEMBER)
    with pytest.raises(NotFound):
        marking.set_mark(db, member, made, 999, Arm.TUNED, "right")
    for wanted in ("", "unsure", "excellent"):
        with pytest.raises(Invalid):
            marking.set_mark(db, member, made, 0, Arm.TUNED, wanted)


def test_no_mark_amid_the_answering(db: Session) -> None:
    """The worker counts at its end; a mark before that would count half of it."""
    made = make_evaluation(db, status=EvaluationStatus.WAITING)
    with pytest.raises(Conflict):
        marking.set_mark(db, make_user(db, role=Role.MEMBER), made, 0, Arm.TUNED, "right")
