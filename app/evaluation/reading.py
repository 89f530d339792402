"""Evaluations as people read them: found, listed, and each answer beside the right one."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, ScalarSelect, and_, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from app.core import bins
from app.core.db import read_once
from app.core.errors import NotFound
from app.core.models import (
    Adapter,
    Arm,
    Dataset,
    DatasetVersion,
    Evaluation,
    EvaluationAnswer,
    EvaluationQuestion,
    EvaluationStatus,
    Mark,
    Part,
    User,
)
from app.datasets import examples, versions
from app.evaluation import answered, arms
from app.evaluation.answered import MARK, select_answers

# Questions of ours stand at places below 0.
BEFORE_ALL = -(2**31)
# So many questions are looked at for hints; a page is not to take long.
FIRST_ROWS = 200


@dataclass(frozen=True)
class Asked:
    """An example as it is asked: what stands before its last answer, and that answer."""

    before: list[dict[str, Any]]
    reference: dict[str, Any]

    @property
    def question(self) -> str:
        """The last thing that a person says before the answer."""
        said = [turn for turn in self.before if turn["role"] in ("user", "text")]
        return _text(said[-1]) if said else ""

    @property
    def answer(self) -> str:
        """What the data answers; of a call what is called."""
        return arms.words_of(self.reference)


_NOTHING = Asked([], {"role": "assistant", "content": ""})


@dataclass(frozen=True)
class Row:
    """One answer, its question and what the data says."""

    answer: EvaluationAnswer
    question: EvaluationQuestion
    asked: Asked

    @property
    def mark(self) -> Mark:
        """The mark that counts."""
        return answered.mark_of(self.answer)


def get(db: Session, user: User, evaluation_id: int) -> Evaluation:
    """Return one evaluation.

    Raises:
        NotFound: there is none, or it belongs to another department.
    """
    row = db.get(Evaluation, evaluation_id, populate_existing=True)
    if row is None or row.department_id != user.department_id:
        raise NotFound("There is no such evaluation; its data may have been deleted.")
    if row.adapter is not None and row.adapter.binned_at is not None:
        raise bins.in_the_bin(row.adapter.name)
    return row


def by_public_id(db: Session, user: User, public_id: str) -> Evaluation:
    """Return one evaluation by the name that programs know.

    Raises:
        NotFound: there is none, or it belongs to another department.
    """
    row = db.scalars(
        select(Evaluation).where(
            Evaluation.public_id == public_id,
            Evaluation.department_id == user.department_id,
            is_kept(),
        )
    ).one_or_none()
    if row is None:
        raise NotFound(f"There is no evaluation {public_id!r}.", field="evaluation_id")
    return row


def is_kept() -> ColumnElement[bool]:
    """Select the evaluations whose adapter, if they have one, is not in the bin."""
    in_bin = select(Adapter.id).where(Adapter.binned_at.is_not(None))
    return or_(Evaluation.adapter_id.is_(None), Evaluation.adapter_id.not_in(in_bin))


@read_once
def of_adapter(db: Session, adapter_id: int) -> Evaluation | None:
    """Return the evaluation that an adapter is judged by: the newest done one, else the newest.

    What has no weights is judged by any that tried it with the same starting model and rows.
    """
    is_done = Evaluation.status == EvaluationStatus.DONE
    return db.scalars(
        select(Evaluation)
        .where(_judges(db, adapter_id))
        .order_by(is_done.desc(), Evaluation.id.desc())
        .limit(1)
    ).first()


@cache
def judged_by(adapter_id: InstrumentedAttribute[int]) -> ScalarSelect[int]:
    """Select the same of adapters that have weights, beside each of them in a query."""
    each = aliased(Evaluation)  # the query around it may be about evaluations itself
    is_done = each.status == EvaluationStatus.DONE
    return (
        select(each.id)
        .where(each.adapter_id == adapter_id)
        .order_by(is_done.desc(), each.id.desc())
        .limit(1)
        .scalar_subquery()
    )


def of_adapters(db: Session, adapter_ids: Sequence[int]) -> dict[int, Evaluation]:
    """Return the newest done evaluation of each adapter that has one, by the adapter's number."""
    newest = (
        select(func.max(Evaluation.id))
        .where(Evaluation.adapter_id.in_(adapter_ids), Evaluation.status == EvaluationStatus.DONE)
        .group_by(Evaluation.adapter_id)
    )
    found = db.scalars(select(Evaluation).where(Evaluation.id.in_(newest)))
    return {row.adapter_id: row for row in found if row.adapter_id is not None}


@read_once
def untrained(db: Session, version: DatasetVersion) -> Evaluation | None:
    """Return the newest check without training of a version."""
    query = select(Evaluation).where(
        Evaluation.version_id == version.id, Evaluation.adapter_id.is_(None)
    )
    return db.scalars(query.order_by(Evaluation.id.desc()).limit(1)).first()


def _judges(db: Session, adapter_id: int) -> ColumnElement[bool]:
    adapter = db.get(Adapter, adapter_id)
    if adapter is None or adapter.has_weights:
        return Evaluation.adapter_id == adapter_id
    return and_(
        Evaluation.practice_version_id == adapter.lookup_version_id,
        Evaluation.base_model_id == adapter.base_model_id,
        Evaluation.arms.contains([arm_of(adapter).value]),
    )


def arm_of(adapter: Adapter) -> Arm:
    """Return as which arm an adapter answers in its evaluation."""
    if adapter.has_weights:
        return Arm.TUNED
    return Arm.LOOKUP if adapter.is_lookup else Arm.BASE


def going_on(db: Session, adapter_id: int) -> Evaluation | None:
    """Return an adapter's evaluation that waits or is at work, if there is one."""
    return db.scalars(
        select(Evaluation)
        .where(
            Evaluation.adapter_id == adapter_id,
            Evaluation.status.in_((EvaluationStatus.WAITING, EvaluationStatus.EVALUATING)),
        )
        .order_by(Evaluation.id.desc())
        .limit(1)
    ).first()


def list_of(db: Session, adapter_id: int, limit: int = 100) -> list[Evaluation]:
    """Return an adapter's evaluations, the newest first."""
    query = select(Evaluation).where(_judges(db, adapter_id))
    return list(db.scalars(query.order_by(Evaluation.id.desc()).limit(limit)))


def may_read_rows(db: Session, user: User, evaluation: Evaluation) -> bool:
    """Say whether a person may see questions and answers, and not the counts alone."""
    try:
        versions.get_version(db, user, evaluation.version_id)
    except NotFound:
        return False
    return True


def rows_may_be_read_in(department_id: int | BindParameter[int]) -> ColumnElement[bool]:
    """Say of evaluations in a query whether people of a department may see their rows."""
    return Evaluation.version.has(
        DatasetVersion.dataset.has(
            and_(Dataset.department_id == department_id, Dataset.deleted_at.is_(None))
        )
    )


def rows(
    db: Session,
    evaluation: Evaluation,
    arm: Arm,
    *,
    part: Part = Part.TEST,
    marks: Sequence[Mark] = (),
    after: int = BEFORE_ALL,
    limit: int = 20,
) -> list[Row]:
    """Return the answers of one arm in the order of their questions.

    Args:
        marks: Only those that have one of these marks; none: all.
        after: The position behind which they begin.
    """
    query = (
        select_answers(evaluation, arm=arm, part=part)
        .where(EvaluationAnswer.position > after)
        .order_by(EvaluationAnswer.position)
        .limit(limit)
    )
    if marks:
        query = query.where(MARK.in_(marks))
    return with_examples(db, evaluation, [(row[0], row[1]) for row in db.execute(query)])


@read_once
def first_rows(db: Session, evaluation: Evaluation, arm: Arm) -> list[Row]:
    """Return one arm's answers to the first test questions, at most `FIRST_ROWS` of them."""
    return rows(db, evaluation, arm, limit=FIRST_ROWS)


def first_of_each(
    db: Session, evaluation: Evaluation, arm: Arm, marks: Sequence[Mark], limit: int
) -> list[Row]:
    """Return the first answers to test questions with each of these marks, mark by mark."""
    among = first_rows(db, evaluation, arm)
    if len(among) < FIRST_ROWS:  # that is all of them
        return [
            row for mark in marks for row in [each for each in among if each.mark is mark][:limit]
        ]
    found = [
        (row[0], row[1])
        for mark in marks
        for row in db.execute(
            select_answers(evaluation, arm=arm, part=Part.TEST)
            .where(mark == MARK)
            .order_by(EvaluationAnswer.position)
            .limit(limit)
        )
    ]
    return with_examples(db, evaluation, found)


def by_question(
    db: Session, evaluation: Evaluation, *, after: int = BEFORE_ALL, limit: int = 100
) -> list[list[Row]]:
    """Return the next questions behind a position, each with the answers of all arms."""
    positions = (
        select(EvaluationQuestion.position)
        .where(
            EvaluationQuestion.evaluation_id == evaluation.id,
            EvaluationQuestion.position > after,
            EvaluationQuestion.position.in_(
                select(EvaluationAnswer.position).where(
                    EvaluationAnswer.evaluation_id == evaluation.id
                )
            ),
        )
        .order_by(EvaluationQuestion.position)
        .limit(limit)
    )
    wanted = db.scalars(positions).all()
    query = (
        select_answers(evaluation)
        .where(EvaluationAnswer.position.in_(wanted))
        .order_by(EvaluationAnswer.position)
    )
    found: dict[int, list[Row]] = {}
    for row in with_examples(db, evaluation, [(row[0], row[1]) for row in db.execute(query)]):
        found.setdefault(row.question.position, []).append(row)
    return list(found.values())


def row_at(db: Session, evaluation: Evaluation, position: int, arm: Arm) -> Row:
    """Return one answer.

    Raises:
        NotFound: there is none.
    """
    found = db.execute(
        select_answers(evaluation, arm=arm).where(EvaluationAnswer.position == position)
    ).all()
    if not found:
        raise NotFound("There is no such answer.")
    (row,) = with_examples(db, evaluation, [(found[0][0], found[0][1])])
    return row


def num_rows(
    db: Session, evaluation: Evaluation, arm: Arm, part: Part, marks: Sequence[Mark]
) -> int:
    """Count the answers that `rows` would return in all."""
    query = select_answers(evaluation, arm=arm, part=part)
    if marks:
        query = query.where(MARK.in_(marks))
    return db.scalars(select(func.count()).select_from(query.subquery())).one()


def asked_of(messages: Sequence[dict[str, Any]]) -> Asked:
    """Return how an example is asked: the turns before its last answer, and that answer."""
    turn = arms.last_turn(messages)
    return Asked(turn.before, turn.reference) if turn is not None else _NOTHING


def with_examples(
    db: Session,
    evaluation: Evaluation,
    found: Sequence[tuple[EvaluationAnswer, EvaluationQuestion]],
) -> list[Row]:
    """Return answers and their questions with the examples that these are of."""
    known: dict[tuple[int, int], Asked] = {}
    both = [evaluation.version, evaluation.practice_version]
    for version in {each.id: each for each in both if each is not None}.values():
        indices = [
            question.index
            for _, question in found
            if question.index is not None and version_of(evaluation, question) is version
        ]
        for example in examples.at(db, version, indices) if indices else ():
            known[version.id, example.index] = asked_of(example.messages)
    return [
        Row(answer, question, _asked(evaluation, question, known)) for answer, question in found
    ]


def version_of(evaluation: Evaluation, question: EvaluationQuestion) -> DatasetVersion:
    """Return the version that a question's row belongs to."""
    if question.part is Part.PRACTICE and evaluation.practice_version is not None:
        return evaluation.practice_version
    return evaluation.version


def _asked(
    evaluation: Evaluation, question: EvaluationQuestion, known: dict[tuple[int, int], Asked]
) -> Asked:
    if question.index is not None:
        version = version_of(evaluation, question)
        found = known.get((version.id, question.index))
        return found or _NOTHING
    reference = {"role": "assistant", "content": question.reference or ""}
    return Asked(list(question.messages or []), reference)


def _text(turn: dict[str, Any]) -> str:
    content = turn.get("content")
    return content if isinstance(content, str) else ""
