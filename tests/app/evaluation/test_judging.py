"""A larger model marks answers: its marks stand apart, and people's count before them."""

import pytest
from sqlalchemy.orm import Session

from app.core import leases
from app.core.errors import Conflict, Forbidden, Invalid
from app.core.leases import JUDGINGS, Lease, LeaseLost
from app.core.models import (
    Arm,
    BaseModel,
    Evaluation,
    EvaluationAnswer,
    JudgingStatus,
    Mark,
    ModelStatus,
    Role,
    User,
)
from app.evaluation import judging, marking, verdict
from app.evaluation.judging import Judged
from tests.factories import make_base_model, make_evaluation, make_user

ME = "gpu-0@here"


@pytest.fixture
def user(db: Session) -> User:
    return make_user(db, role=Role.MEMBER)


@pytest.fixture
def judge(db: Session) -> BaseModel:
    return make_base_model(db, name="house/judge", num_parameters=8_000_000_000)


@pytest.fixture
def made(db: Session) -> Evaluation:
    return make_evaluation(db, marks={Arm.TUNED: "rwuu" * 6, Arm.BASE: "wwwu" * 6})


def claim(db: Session) -> Lease:
    lease = leases.claim(db, JUDGINGS, ME)
    assert lease is not None
    judging.begin(db, lease, "llama.cpp")
    db.commit()
    return lease


def judge_all(db: Session, said: str) -> None:
    """Judge what waits, a letter for each answer over and over: right, partly, wrong, unsure."""
    lease, num = claim(db), 0
    while answers := judging.next_answers(db, lease):
        marks = [
            {mark.value[0]: mark for mark in Mark}[said[(num + n) % len(said)]]
            for n in range(len(answers))
        ]
        num += len(answers)
        judged = [Judged(one, mark) for one, mark in zip(answers, marks, strict=True)]
        judging.keep(db, lease, judged, 1, {})
        db.commit()
    judging.finish(db, lease)
    db.commit()


def answer(db: Session, made: Evaluation, position: int) -> EvaluationAnswer:
    return db.get_one(EvaluationAnswer, (made.id, position, Arm.TUNED), populate_existing=True)


def test_only_what_the_rules_left_open_is_judged(
    db: Session, user: User, made: Evaluation, judge: BaseModel
) -> None:
    row = judging.request(db, user, made, judge)
    db.commit()
    judge_all(db, "r")
    db.refresh(row)
    assert (row.status, row.num_answers, row.num_judged) == (JudgingStatus.DONE, 18, 18)
    figures = verdict.figures_of(made)
    assert figures.arms[Arm.TUNED] == verdict.Tally(right=18, wrong=6)
    assert figures.arms[Arm.BASE] == verdict.Tally(right=6, wrong=18)
    assert figures.judge == verdict.Judge(num=18, counting=18)
    assert (answer(db, made, 2).mark, answer(db, made, 2).judge_mark) == (Mark.UNSURE, Mark.RIGHT)
    assert answer(db, made, 1).judge_mark is None


def test_where_the_rules_decided_theirs_counts_unless_it_was_chosen(
    db: Session, user: User, made: Evaluation, judge: BaseModel
) -> None:
    judging.request(db, user, made, judge, all_answers=True)
    db.commit()
    judge_all(db, "p")
    figures = verdict.figures_of(made)
    assert figures.arms[Arm.TUNED] == verdict.Tally(right=6, partly=12, wrong=6)
    assert figures.judge == verdict.Judge(num=48, counting=18)
    judging.request(db, user, made, judge, overrules=True)
    db.commit()
    judge_all(db, "p")
    assert verdict.figures_of(made).arms[Arm.TUNED] == verdict.Tally(partly=24)


def test_a_persons_mark_counts_and_agreement_is_counted(
    db: Session, user: User, made: Evaluation, judge: BaseModel
) -> None:
    for position, mark in ((2, "right"), (3, "right"), (6, "wrong")):
        marking.set_mark(db, user, made, position, Arm.TUNED, mark)
    judging.request(db, user, made, judge)
    db.commit()
    judge_all(db, "r")
    figures = verdict.figures_of(made)
    assert figures.arms[Arm.TUNED] == verdict.Tally(right=17, wrong=7)
    assert figures.judge == verdict.Judge(num=18, counting=15, compared=3, agreed=2)
    # And the other way round: a mark given afterwards.
    marking.set_mark(db, user, made, 7, Arm.TUNED, "partly")
    figures = verdict.figures_of(made)
    assert figures.judge == verdict.Judge(num=18, counting=14, compared=4, agreed=2)
    row = marking.set_mark(db, user, made, 7, Arm.TUNED, marking.RULES)
    assert row.mark is Mark.RIGHT  # the judge's counts again


def test_replies_that_are_no_mark_leave_the_answer_open(
    db: Session, user: User, made: Evaluation, judge: BaseModel
) -> None:
    judging.request(db, user, made, judge)
    db.commit()
    judge_all(db, "u")
    figures = verdict.figures_of(made)
    assert figures.arms[Arm.TUNED].unsure == 12
    assert figures.judge == verdict.Judge(num=18, unclear=18)


@pytest.mark.parametrize(
    ("said", "mark"),
    [
        ('{"mark": "right"}', Mark.RIGHT),
        (' {"mark": "partly"}\n', Mark.PARTLY),
        ('{"mark": "unsure"}', Mark.UNSURE),
        ('{"mark": "splendid"}', Mark.UNSURE),
        ('{"mark": ["right"]}', Mark.UNSURE),
        ('["right"]', Mark.UNSURE),
        ("right", Mark.UNSURE),
        ('{"mark": "rig', Mark.UNSURE),
        ("", Mark.UNSURE),
        ("7", Mark.UNSURE),
    ],
)
def test_what_is_read_as_a_mark(said: str, mark: Mark) -> None:
    assert judging.mark_in(said) is mark


def test_a_new_judge_takes_the_earlier_ones_marks_away(
    db: Session, user: User, made: Evaluation, judge: BaseModel
) -> None:
    judging.request(db, user, made, judge, overrules=True)
    db.commit()
    judge_all(db, "r")
    judging.request(db, user, made, judge)
    db.commit()
    judge_all(db, "w")
    figures = verdict.figures_of(made)
    assert figures.arms[Arm.TUNED] == verdict.Tally(right=6, wrong=18)
    assert figures.judge == verdict.Judge(num=18, counting=18)


def test_what_was_judged_counts_when_it_is_stopped_or_fails(
    db: Session, user: User, made: Evaluation, judge: BaseModel
) -> None:
    judging.request(db, user, made, judge)
    db.commit()
    lease = claim(db)
    first = judging.next_answers(db, lease)
    # What the verdict is about comes first.
    assert [one.arm for one in first] == [Arm.TUNED] * 12 + [Arm.BASE] * 4
    judging.keep(db, lease, [Judged(one, Mark.WRONG) for one in first], 1, {})
    db.commit()
    judging.cancel(db, user, made)
    db.commit()
    assert verdict.figures_of(made).arms[Arm.TUNED] == verdict.Tally(right=6, wrong=18)
    with pytest.raises(LeaseLost):
        judging.next_answers(db, lease)
    row = judging.request(db, user, made, judge)
    db.commit()
    lease = claim(db)
    judging.keep(
        db, lease, [Judged(one, Mark.RIGHT) for one in judging.next_answers(db, lease)], 1, {}
    )
    leases.release(db, lease, JudgingStatus.FAILED, reason="It broke off.")
    judging.given_up(db, [row.id])
    db.commit()
    assert verdict.figures_of(made).arms[Arm.TUNED] == verdict.Tally(right=18, wrong=6)
    assert row.finished_at is not None


def test_when_the_time_is_over_the_rest_stays_open(
    db: Session, user: User, made: Evaluation, judge: BaseModel
) -> None:
    judging.request(db, user, made, judge)
    db.commit()
    lease = claim(db)
    judged = [Judged(one, Mark.RIGHT) for one in judging.next_answers(db, lease)]
    judging.keep(db, lease, judged, judging.BUDGET_SECONDS, {})
    assert judging.next_answers(db, lease) == []
    judging.finish(db, lease)
    assert verdict.figures_of(made).arms[Arm.BASE].unsure == 2


def test_what_a_judge_reads(db: Session, user: User, made: Evaluation, judge: BaseModel) -> None:
    judging.request(db, user, made, judge)
    db.commit()
    (turn,) = judging.next_answers(db, claim(db))[0].messages
    for words in ("What is rule 22?", "Rule 22 says: wash your hands.", "tuned says 2"):
        assert words in turn["content"]
    assert turn["role"] == "user"  # some templates know no other


def test_who_may_judge_and_what(
    db: Session, user: User, made: Evaluation, judge: BaseModel
) -> None:
    smaller = make_base_model(db, name="house/small", num_parameters=1_000)
    make_base_model(db, name="house/away", status=ModelStatus.FAILED)
    assert judging.models(db, made) == [judge, smaller]
    with pytest.raises(Forbidden):
        judging.request(db, make_user(db, role=Role.VIEWER), made, judge)
    with pytest.raises(Invalid, match="does not judge itself"):
        judging.request(db, user, made, made.base_model)
    settled = make_evaluation(db, marks={Arm.TUNED: "r" * 20, Arm.BASE: "w" * 20})
    with pytest.raises(Conflict, match="nothing to judge"):
        judging.request(db, user, settled, judge)
    judging.request(db, user, made, judge)
    with pytest.raises(Conflict, match="already"):
        judging.request(db, user, made, judge)
    db.delete(made.adapter)
    db.commit()  # it dies with its evaluation
    assert leases.claim(db, JUDGINGS, ME) is None
