"""Blind votes: nobody sees who said what, each person counts once a question."""

import pytest
from sqlalchemy import func
from sqlalchemy.orm import Session

from app.core.errors import Conflict, Forbidden, Invalid, NotFound
from app.core.models import Arm, Choice, EvaluationAnswer, Role, User, Vote, VoteRound
from app.evaluation import agreement, comparing, votes
from app.evaluation.votes import Ballot
from tests.factories import make_department, make_evaluation, make_user


def test_alpha_is_as_published() -> None:
    """Krippendorff (2011), section C: four observers, twelve units, gaps; nominal 0.743."""
    units = [
        "111",
        "2232",
        "3333",
        "3333",
        "2222",
        "1234",
        "4444",
        "1121",
        "2222",
        "555",
        "11",
        "3",
    ]
    assert agreement.nominal_alpha(units) == pytest.approx(0.743, abs=5e-4)


def test_alpha_where_nobody_can_say() -> None:
    assert agreement.nominal_alpha([]) is None
    assert agreement.nominal_alpha(["1", "2"]) is None
    assert agreement.nominal_alpha(["11", "11"]) is None
    assert agreement.nominal_alpha(["12", "12", "12"]) == pytest.approx(-2 / 3, abs=0.2)


@pytest.fixture
def of(db: Session) -> VoteRound:
    made = make_evaluation(db)
    assert made.adapter is not None
    contenders = {one.arm: one for one in comparing.contenders(db, made.version)}
    owner = db.get_one(User, made.owner_id)
    started = votes.start(db, owner, contenders[Arm.TUNED], contenders[Arm.BASE])
    db.commit()
    return started


def ballot(db: Session, user: User, of: VoteRound) -> Ballot:
    found = votes.next_ballot(db, user, of)
    assert found is not None
    return found


def test_sides_change_and_a_vote_names_who_was_meant(db: Session, of: VoteRound) -> None:
    sides = set()
    people = [make_user(db, role=Role.VIEWER) for _ in range(3)]
    for person in people:
        while (asked := votes.next_ballot(db, person, of)) is not None:
            assert "tuned" in asked.left or "tuned" in asked.right
            is_left = asked.left.startswith("tuned")
            sides.add(is_left)
            votes.vote(db, person, of, asked.number, "left" if is_left else "right")
        db.commit()
    assert sides == {True, False}
    found = votes.result(db, of)
    assert (found.num_people, found.num_votes) == (3, 3 * votes.NUM_QUESTIONS)
    assert found.counts[Choice.FIRST] == found.num_votes
    assert found.first_share == 1
    assert found.alpha is None  # all the same: chance alone cannot be told apart


def test_a_second_thought_counts_once(db: Session, of: VoteRound) -> None:
    person = make_user(db)
    asked = ballot(db, person, of)
    votes.vote(db, person, of, asked.number, "both", "fine\0")
    votes.vote(db, person, of, asked.number, "neither", "both are rude")
    db.commit()
    (kept,) = db.query(Vote).all()
    assert (kept.choice, kept.why) == (Choice.NEITHER, "both are rude")
    assert ballot(db, person, of).number != asked.number


def test_what_is_refused(db: Session, of: VoteRound) -> None:
    person = make_user(db)
    for wrong in ("", "first", "LEFT"):
        with pytest.raises(Invalid):
            votes.vote(db, person, of, 0, wrong)
    with pytest.raises(Invalid):
        votes.vote(db, person, of, 0, "both", "x" * 2001)
    with pytest.raises(NotFound):
        votes.vote(db, person, of, 99, "both")
    with pytest.raises(NotFound):
        votes.get(db, make_user(db, department=make_department(db)), of.id)
    with pytest.raises(Forbidden):
        votes.close(db, make_user(db, role=Role.VIEWER), of)
    votes.close(db, person, of)
    with pytest.raises(Conflict):
        votes.vote(db, person, of, 0, "both")


def test_nothing_to_choose_between(db: Session) -> None:
    made = make_evaluation(db)
    for answer in db.query(EvaluationAnswer).filter_by(evaluation_id=made.id):
        answer.text = "The same."
    db.commit()
    contenders = {one.arm: one for one in comparing.contenders(db, made.version)}
    owner = db.get_one(User, made.owner_id)
    with pytest.raises(Invalid, match="nothing to choose between"):
        votes.start(db, owner, contenders[Arm.TUNED], contenders[Arm.BASE])
    with pytest.raises(Invalid, match="Choose two"):
        votes.start(db, owner, contenders[Arm.TUNED], contenders[Arm.TUNED])


def test_who_has_questions_left_is_asked(db: Session, of: VoteRound) -> None:
    person = make_user(db, role=Role.VIEWER)
    assert votes.open_rounds(db, person) == [of]
    data = of.first_evaluation.version.dataset
    data.deleted_at = func.now()
    assert votes.open_rounds(db, person) == []
    data.deleted_at = None
    while (asked := votes.next_ballot(db, person, of)) is not None:
        votes.vote(db, person, of, asked.number, "both")
    assert votes.open_rounds(db, person) == []
    assert votes.open_rounds(db, make_user(db, department=make_department(db))) == []
