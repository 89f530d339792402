"""Answers beside their questions, as all who show or count them select them, and their marks."""

from typing import Any

from sqlalchemy import Select, and_, case, func, select

from app.core.models import Arm, Evaluation, EvaluationAnswer, EvaluationQuestion, Mark, Part

# In SQL the same as `mark_of`.
MARK: Any = func.coalesce(
    EvaluationAnswer.person_mark,
    case((EvaluationAnswer.judge_counts, EvaluationAnswer.judge_mark)),
    EvaluationAnswer.mark,
)


def mark_of(answer: EvaluationAnswer) -> Mark:
    """Return the mark that counts: a person's, else a judge's that is to count, else the rules'."""
    if answer.person_mark is not None:
        return answer.person_mark
    if answer.judge_counts and answer.judge_mark is not None:
        return answer.judge_mark
    return answer.mark


def select_answers(
    evaluation: Evaluation,
    *columns: Any,
    arm: Arm | None = None,
    part: Part | None = None,
) -> Select[Any]:
    """Select columns of answers and of their questions.

    Args:
        columns: None: the whole answer, and the whole question.
        arm: Only its answers.
        part: Only answers to its questions.
    """
    query = (
        select(*(columns or (EvaluationAnswer, EvaluationQuestion)))
        .select_from(EvaluationAnswer)
        .join(
            EvaluationQuestion,
            and_(
                EvaluationQuestion.evaluation_id == EvaluationAnswer.evaluation_id,
                EvaluationQuestion.position == EvaluationAnswer.position,
            ),
        )
        .where(EvaluationAnswer.evaluation_id == evaluation.id)
    )
    if arm is not None:
        query = query.where(EvaluationAnswer.arm == arm)
    if part is not None:
        query = query.where(EvaluationQuestion.part == part)
    return query
