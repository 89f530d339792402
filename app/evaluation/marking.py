"""What people say of an answer: it counts before the rules, and the figures follow at once."""

from sqlalchemy.orm import Session

from app.core import audit, clock
from app.core.errors import Conflict, Forbidden, Invalid
from app.core.models import Arm, Evaluation, EvaluationStatus, Mark, User
from app.evaluation import reading, verdict
from app.evaluation.reading import Row
from app.people.auth import can_edit

RULES = "rules"  # in place of a mark: what the rules said counts again


def set_mark(
    db: Session, user: User, evaluation: Evaluation, position: int, arm: Arm, wanted: str
) -> Row:
    """Mark an answer, or with `RULES` take a mark back; the caller commits.

    Raises:
        Forbidden: the person may only look.
        NotFound: there is no such answer, or the person may not read the data.
        Invalid: it is no mark.
        Conflict: the evaluation is not done.
    """
    if not can_edit(user):
        raise Forbidden("You can look at answers, but not mark them.")
    if not reading.may_read_rows(db, user, evaluation):
        raise Forbidden("You may not read the data that these questions come from.")
    if wanted not in (RULES, Mark.RIGHT, Mark.PARTLY, Mark.WRONG):
        raise Invalid("Mark an answer as right, partly right or wrong.", field="mark")
    # Two people may mark at once: the counts are of both marks.
    db.refresh(evaluation, with_for_update={"of": Evaluation})
    if evaluation.status is not EvaluationStatus.DONE:
        raise Conflict("Answers can be marked once all of them are there.")
    row = reading.row_at(db, evaluation, position, arm)
    answer = row.answer
    answer.person_mark = None if wanted == RULES else Mark(wanted)
    answer.marked_by_id = None if wanted == RULES else user.id
    answer.marked_at = None if wanted == RULES else clock.read(db)
    db.flush()
    verdict.count(db, evaluation)
    audit.record(
        db,
        user,
        "evaluation.mark",
        f"evaluation {evaluation.id}",
        position=position,
        arm=arm.value,
        mark=wanted,
    )
    return row
