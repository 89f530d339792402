"""Several models on one test set: only questions that all of them answered, and none practised."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, lazyload

from app.core.db import read_once
from app.core.errors import Conflict, Invalid
from app.core.models import (
    Adapter,
    Arm,
    DatasetVersion,
    Evaluation,
    EvaluationAnswer,
    EvaluationQuestion,
    EvaluationStatus,
    Job,
    Mark,
    Part,
)
from app.evaluation import reading, verdict, words
from app.evaluation.answered import MARK, select_answers
from app.evaluation.verdict import Difference, Tally

MAX_COMPARED = 8


@dataclass(frozen=True)
class Contender:
    """Somebody who answered a version's test questions: an arm of an evaluation."""

    evaluation: Evaluation
    arm: Arm

    @property
    def key(self) -> str:
        return f"{self.evaluation.id}-{self.arm.value}"

    @property
    def label(self) -> str:
        adapter = self.evaluation.adapter
        if self.arm is Arm.NEAREST:
            return words.ARMS[Arm.NEAREST]
        if self.arm in (Arm.TUNED, Arm.TUNED_LOOKUP):
            name = f"“{adapter.name}”" if adapter is not None else ""
            return name if self.arm is Arm.TUNED else f"{name}, looking it up"
        base = self.evaluation.base_model.label
        return base if self.arm is Arm.BASE else f"{base}, looking it up"


@dataclass(frozen=True)
class Line:
    """One contender on the common questions, and by how much it does better than the first."""

    contender: Contender
    tally: Tally
    than_first: Difference | None  # none: it is the first
    num_left_out: int  # of its own questions, because another did not answer them


@dataclass(frozen=True)
class Comparison:
    lines: list[Line]
    num_common: int


@read_once
def contenders(db: Session, version: DatasetVersion) -> list[Contender]:
    """Return who has answered a version's test questions, each by its newest evaluation."""
    done = db.scalars(
        select(Evaluation)
        .where(
            Evaluation.version_id == version.id,
            Evaluation.status == EvaluationStatus.DONE,
            Evaluation.num_answered > 0,
            reading.is_kept(),
        )
        .order_by(Evaluation.id.desc())
    ).all()
    found: dict[tuple[object, ...], Contender] = {}
    for evaluation in done:
        for name in evaluation.arms:
            arm = Arm(name)
            tuned = arm in (Arm.TUNED, Arm.TUNED_LOOKUP)
            key: tuple[object, ...] = (arm, evaluation.adapter_id if tuned else None)
            if not tuned and arm is not Arm.NEAREST:
                key = (arm, evaluation.base_model_id)
            found.setdefault(key, Contender(evaluation, arm))
    order = list(words.ARMS)
    return sorted(found.values(), key=lambda one: (order.index(one.arm), -one.evaluation.id))


def chosen(db: Session, version: DatasetVersion, keys: Sequence[str]) -> list[Contender]:
    """Return the contenders that are named, in that order.

    Raises:
        Invalid: one is not there, or there are too many.
    """
    if len(keys) > MAX_COMPARED:
        raise Invalid(f"Compare at most {MAX_COMPARED} at once.", field="who")
    known = {one.key: one for one in contenders(db, version)}
    missing = [key for key in keys if key not in known]
    if missing:
        raise Invalid("One of these was evaluated anew or deleted; choose again.", field="who")
    return [known[key] for key in dict.fromkeys(keys)]


def compare(db: Session, who: Sequence[Contender]) -> Comparison:
    """Count each contender's marks on the questions that all of them answered.

    A row that one of them practised was never asked of that one, so it is not among them.

    Raises:
        Conflict: there is no such question.
    """
    marks = [_marks(db, one) for one in who]
    common = set.intersection(*(set(each) for each in marks)) if marks else set()
    if who and not common:
        raise Conflict(
            "These have no test question in common: what one practised is left out for all of them."
        )
    order = sorted(common)
    first = [verdict.WORTH[marks[0][index][0]] for index in order] if marks else []
    groups = [marks[0][index][1] for index in order] if marks else []
    lines = []
    for number, (one, own) in enumerate(zip(who, marks, strict=True)):
        counts = Counter(own[index][0] for index in order)
        tally = Tally(**{mark.value: count for mark, count in counts.items()})
        than_first = None
        if number:
            mine = [verdict.WORTH[own[index][0]] for index in order]
            than_first = verdict.difference(mine, first, groups)
        lines.append(Line(one, tally, than_first, len(own) - len(common)))
    return Comparison(lines, len(common))


def earlier(db: Session, evaluation: Evaluation) -> Adapter | None:
    """Return the newest earlier adapter of the same data, to compare an adapter with."""
    adapter = evaluation.adapter
    if adapter is None or adapter.job is None:
        return None
    return db.scalars(
        select(Adapter)
        .join(Job, Job.id == Adapter.job_id)
        .join(DatasetVersion, DatasetVersion.id == Job.version_id)
        .where(
            DatasetVersion.dataset_id == adapter.job.version.dataset_id,
            Adapter.id < adapter.id,
            Job.curve_id.is_(None),  # a point of a learning curve is no try at a model
            Adapter.department_id == adapter.department_id,
            Adapter.binned_at.is_(None),
        )
        .options(lazyload("*"))
        .order_by(Adapter.id.desc())
        .limit(1)
    ).first()


def answers(db: Session, one: Contender) -> dict[int, tuple[int, str]]:
    """Return a contender's test answers by their examples: position and words."""
    rows = db.execute(_of_contender(one, EvaluationAnswer.position, EvaluationAnswer.text))
    return {index: (position, text) for index, position, text in rows}


def _marks(db: Session, one: Contender) -> dict[int, tuple[Mark, int]]:
    rows = db.execute(_of_contender(one, MARK, EvaluationQuestion.group))
    return {index: (Mark(found), group) for index, found, group in rows}


def _of_contender(one: Contender, *columns: Any) -> Select[Any]:
    """Select columns of a contender's test answers, behind the index of each example."""
    query = select_answers(
        one.evaluation, EvaluationQuestion.index, *columns, arm=one.arm, part=Part.TEST
    )
    return query.where(EvaluationQuestion.index.is_not(None))
