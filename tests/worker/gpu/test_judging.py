"""Judgings by a worker of this process, with a stand-in for the judge: each end says why."""

import random

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session
from tokenizers import Tokenizer

from app.core import db as database
from app.core.models import (
    Arm,
    BaseModel,
    Evaluation,
    EvaluationAnswer,
    Judging,
    JudgingStatus,
    Mark,
    Role,
    User,
)
from app.evaluation import judging, verdict
from tests.factories import make_evaluation, make_user
from tests.worker.answering.asking import a_model, child_pids, journal
from tests.worker.gpu.test_evaluating import ME, during, order, quick
from tests.worker.trainer.conftest import SMOLLM2_SPECIAL, tokenizer_json
from worker.gpu.judging import MAX_NEW_TOKENS, judge_next
from worker.inference.grammar import Grammars

__all__ = ["quick"]  # its settings hold here, too


@pytest.fixture
def judge(db: Session) -> BaseModel:
    return a_model(db, 'echo says={"mark":"right"}', num_parameters=8_000_000_000)


@pytest.fixture
def made(db: Session) -> Evaluation:
    return make_evaluation(db, marks={Arm.TUNED: "rwuu" * 6, Arm.BASE: "wwwu" * 6})


@pytest.fixture
def row(db: Session, made: Evaluation, judge: BaseModel) -> Judging:
    found = judging.request(db, make_user(db, role=Role.MEMBER), made, judge)
    db.commit()
    return found


def judged(db: Session, made: Evaluation) -> list[Mark | None]:
    db.expire_all()
    query = select(EvaluationAnswer.judge_mark).where(
        EvaluationAnswer.evaluation_id == made.id, EvaluationAnswer.mark == Mark.UNSURE
    )
    return list(db.scalars(query))


def test_a_larger_model_marks_what_the_rules_left_open(
    db: Session, row: Judging, made: Evaluation, judge: BaseModel
) -> None:
    assert judge_next(ME)
    assert judged(db, made) == [Mark.RIGHT] * 18
    assert row.status is JudgingStatus.DONE, row.reason
    assert (row.num_judged, row.strikes, row.progress) == (18, 0, None)
    assert verdict.figures_of(made).judge == verdict.Judge(num=18, counting=18)
    assert len([line for line in journal(judge) if " ask " in f" {line}"]) == 18
    assert not judge_next(ME)


def test_a_judge_that_says_nonsense_leaves_the_answers_to_people(
    db: Session, row: Judging, made: Evaluation, judge: BaseModel
) -> None:
    order(judge, "echo")  # it says numbers
    assert judge_next(ME)
    assert judged(db, made) == [Mark.UNSURE] * 18
    assert row.status is JudgingStatus.DONE
    figures = verdict.figures_of(made)
    assert figures.judge == verdict.Judge(num=18, unclear=18)
    assert figures.arms[Arm.TUNED].unsure == 12


def test_an_answer_too_long_for_it_is_no_mark(
    db: Session, row: Judging, made: Evaluation, judge: BaseModel
) -> None:
    order(judge, "echo too_long")
    assert judge_next(ME)
    assert judged(db, made) == [Mark.UNSURE] * 18
    assert row.status is JudgingStatus.DONE


def test_a_child_that_ends_is_started_again_and_then_a_sentence_says_so(
    db: Session, row: Judging, made: Evaluation, judge: BaseModel
) -> None:
    order(judge, "die")
    assert judge_next(ME)
    db.expire_all()
    assert row.status is JudgingStatus.FAILED
    assert "broke off again and again (code -9)" in str(row.reason)
    assert row.finished_at is not None
    assert len(child_pids(judge)) == 3
    assert verdict.figures_of(made).arms[Arm.TUNED].unsure == 12  # the rest of the page stands


def test_a_judge_that_is_gone_is_said(db: Session, row: Judging, judge: BaseModel) -> None:
    order(judge, "refuse")
    assert judge_next(ME)
    db.expire_all()
    assert row.reason == "This model cannot be used; its files are not its own."


def test_one_that_is_stopped_keeps_nothing_more(
    db: Session, row: Judging, made: Evaluation, judge: BaseModel
) -> None:
    order(judge, 'echo wait=30 says={"mark":"right"}')

    def stop() -> None:
        with database.session() as session:
            here = session.get_one(Evaluation, made.id)
            judging.cancel(session, session.get_one(User, here.owner_id), here)
            session.commit()

    thread = during(judge, "ask", stop)
    assert judge_next(ME)
    thread.join()
    assert judged(db, made) == [None] * 18
    assert row.status is JudgingStatus.CANCELLED


def test_data_that_was_deleted_ends_it(db: Session, row: Judging, made: Evaluation) -> None:
    made.version.dataset.deleted_at = made.finished_at
    db.commit()
    assert judge_next(ME)
    db.expire_all()
    assert row.status is JudgingStatus.FAILED
    assert "deleted" in str(row.reason)


@pytest.mark.parametrize("seed", range(6))
def test_whatever_a_judge_would_say_is_one_of_three_marks(seed: int) -> None:
    """A model that says anything at all, one byte a token, held to the schema."""
    tokenizer = Tokenizer.from_str(tokenizer_json())
    end = tokenizer.token_to_id(SMOLLM2_SPECIAL[2])
    assert end is not None
    grammar = Grammars(tokenizer, tokenizer.get_vocab_size(), [end]).of_schema(judging.SCHEMA)
    said: list[int] = []
    while not said or said[-1] != end:
        allowed = [token for token, may in enumerate(grammar.mask()) if may]
        said.append(random.Random(f"{seed} {len(said)}").choice(allowed))
        grammar.accept(said[-1])
        assert len(said) <= MAX_NEW_TOKENS
    assert judging.mark_in(tokenizer.decode(said)) in judging.MARKS
