"""What an evaluation's page shows of a larger model that marks answers."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.core.models import BaseModel, Evaluation, EvaluationStatus, JudgingStatus
from app.core.sentences import counted
from app.core.status_words import StatusWord
from app.evaluation import judging, verdict, words

_STATUSES = {
    JudgingStatus.WAITING: StatusWord("Waiting", "wait"),
    JudgingStatus.JUDGING: StatusWord("Judging", "live"),
}


@dataclass(frozen=True)
class JudgePart:
    """The form that has answers judged, and what was found."""

    models: list[tuple[str, str]]
    left_open: str  # how many answers the rules left to people; empty: none
    num_all: int
    badge: StatusWord | None  # while it goes on
    progress: str
    share: float | None
    problem: str
    found: str  # in sentences


def judge_part(db: Session, evaluation: Evaluation) -> JudgePart | None:
    """Return what is shown; None where nothing can be judged."""
    if evaluation.status is not EvaluationStatus.DONE:
        return None
    last = judging.newest(db, evaluation)
    models = judging.models(db, evaluation)
    num_all = judging.num_answers(db, evaluation, all_answers=True)
    if not num_all or (last is None and not models):
        return None
    num_open = judging.num_answers(db, evaluation, all_answers=False)
    judge = verdict.figures_of(evaluation).judge
    is_open = last is not None and last.status in judging.OPEN
    done, of = (last.num_judged, last.num_answers or 0) if last is not None else (0, 0)
    return JudgePart(
        models=[(str(one.id), _label(one, evaluation.base_model)) for one in models],
        left_open=counted(
            num_open,
            "The rules left 1 answer to people.",
            "The rules left {n} answers to people.",
        )
        if num_open
        else "",
        num_all=num_all,
        badge=_STATUSES[last.status] if last is not None and is_open else None,
        progress=(
            f"{done:,} of {of:,} answers are judged." if of else "It waits until a machine is free."
        )
        if is_open
        else "",
        share=done / of if of else None,
        problem=(last.reason or "")
        if last is not None and last.status is JudgingStatus.FAILED
        else "",
        found=words.judged(judge, last.base_model.label, last)
        if judge is not None and last is not None and not is_open
        else "",
    )


def _label(model: BaseModel, judged: BaseModel) -> str:
    """Name a judge, and say where it is no larger than what it judges."""
    if (model.num_parameters or 0) > (judged.num_parameters or 0):
        return model.label
    return f"{model.label} (no larger than the model that answered)"
