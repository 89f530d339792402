"""Releasing an adapter to colleagues: one that is not ready asks for a reason, which is shown."""

from sqlalchemy.orm import Session

from app.adapters import sharing
from app.core.errors import Invalid
from app.core.models import Adapter, EvaluationStatus, Standing, User
from app.evaluation import reading, verdict, words


def objection(db: Session, adapter: Adapter) -> str:
    """Say why an adapter is not ready for colleagues; empty where it is ready for a trial."""
    evaluation = reading.of_adapter(db, adapter.id)
    if evaluation is None or evaluation.status is not EvaluationStatus.DONE:
        return "Nobody has counted yet how many of its answers are right."
    arm = reading.arm_of(adapter)
    stands = words.standing(evaluation, arm)
    if stands is None or verdict.standing_as(evaluation, arm) is Standing.READY_FOR_TRIAL:
        return ""
    return stands.sentence


def release(
    db: Session,
    user: User,
    adapter: Adapter,
    *,
    purpose: str,
    limits: str,
    reason: str,
    asks_per_day: int,
    keeps_questions: bool,
) -> None:
    """Let colleagues who may only look ask an adapter, too.

    Args:
        reason: Why it is released although it is not ready; everybody who asks it reads that.

    Raises:
        Forbidden: the person does not decide.
        Invalid: a text is missing or too long, or the limit is out of range.
    """
    sharing.require_sharing(user, adapter)
    why_not = objection(db, adapter)
    if why_not and not reason.strip():
        raise Invalid(
            f"{why_not} Say why it may be released all the same; everybody who asks it reads that.",
            field="reason",
        )
    sharing.release(
        db,
        user,
        adapter,
        purpose=purpose,
        limits=limits,
        reason=reason if why_not else "",
        asks_per_day=asks_per_day,
        keeps_questions=keeps_questions,
    )
