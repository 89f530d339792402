"""Learning curves: short jobs on 25, 50 and 100 % of the practice rows; would more rows help?

The parts are drawn by rank (app/jobs/practice.py): equal rows stand in one or none, and a larger
part has all of a smaller one. All three jobs check and are tested on the same rows, with the same
settings, and their adapters answer the same test questions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core import audit
from app.core.errors import Conflict, Invalid, NotFound
from app.core.models import (
    Arm,
    BaseModel,
    DatasetVersion,
    Evaluation,
    EvaluationStatus,
    ExampleKind,
    Job,
    JobStatus,
    LearningCurve,
    User,
)
from app.datasets import examples
from app.evaluation import comparing, verdict
from app.evaluation.comparing import Contender
from app.evaluation.statistics import Interval, wilson
from app.evaluation.verdict import Difference, Tally
from app.jobs import practice, requests
from app.training.config import PRESETS, Objective

PERCENTS = (25, 50, 100)
# Of fewer practice rows a quarter teaches next to nothing.
MIN_PRACTICE_ROWS = 40
# Where twice the rows bring at most so much more, as a share of the questions, more are unlikely to
# help; and where a rise has kept at least so much of itself to its second half, it goes on.
_LITTLE, _STILL_RISING = 0.1, 0.25
_PRESET = "quick"


class Outlook(StrEnum):
    """Whether more rows would help, by the rule of `outlook`."""

    LIKELY = "likely"
    UNLIKELY = "unlikely"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Point:
    """One of the jobs, and how many of its adapter's answers are right."""

    percent: int
    job: Job | None  # none: it was deleted
    num_rows: int
    evaluation: Evaluation | None  # that is done, or the newest one
    tally: Tally | None  # none: nothing is counted yet
    between: Interval | None  # of the share that is right, with 95 % certainty

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come of it by itself."""
        if self.tally is not None or self.job is None:
            return True
        if not self.job.status.is_final:
            return False
        is_open = self.evaluation is not None and self.evaluation.status in (
            EvaluationStatus.WAITING,
            EvaluationStatus.EVALUATING,
        )
        return not is_open


def require_usable(
    db: Session, version: DatasetVersion, held_out: DatasetVersion | None = None
) -> None:
    """Refuse data of which no learning curve can be made.

    Args:
        held_out: On which the jobs are tested, all of it; none: on a part of the version itself.

    Raises:
        Invalid: it is too small, or has no right answers.
    """
    sizes = practice.sizes_of(version, held_out)
    if examples.kind(db, version) is ExampleKind.TEXT:
        raise Invalid("Plain text has no right answers, so there is nothing to count.")
    if sizes.practice < MIN_PRACTICE_ROWS:
        raise Invalid(
            f"A learning curve takes at least {MIN_PRACTICE_ROWS} practice rows, and these are "
            f"{sizes.practice}."
        )
    if not sizes.test:
        raise Invalid("This data has no test rows, so there is nothing to count.")


def start(
    db: Session,
    user: User,
    version: DatasetVersion,
    base_model: BaseModel,
    *,
    held_out: DatasetVersion | None = None,
    objective: Objective = "supervised",
) -> LearningCurve:
    """Queue the three short jobs; the caller rings gpu after the commit.

    Args:
        held_out: As for `require_usable`.
        objective: What is learned of pairs of answers.

    Raises:
        Forbidden, NotFound, Invalid, Conflict, TooMany: as for a job; see jobs/requests.py.
        Invalid: the data is too small, or has no right answers.
        Conflict: a curve of this data and model is being made.
    """
    require_usable(db, version, held_out)
    db.refresh(version, with_for_update={"of": DatasetVersion})
    last = newest(db, version)
    if last is not None and last.base_model_id == base_model.id and not is_over(points(db, last)):
        raise Conflict("This is being tried already; wait for it, or cancel its jobs.")
    made = LearningCurve(
        department_id=version.dataset.department_id,
        owner_id=user.id,
        version_id=version.id,
        base_model_id=base_model.id,
    )
    db.add(made)
    db.flush()
    config = PRESETS[_PRESET].settings(base_model.config, objective)
    # The largest comes last: whoever looks early sees the beginning of the curve.
    for percent in PERCENTS:
        requests.create(
            db,
            user,
            name=_name(version, percent),
            version_id=version.id,
            base_model_id=base_model.id,
            config=config,
            validation_version_id=held_out.id if held_out else None,
            rows_percent=percent,
            curve_id=made.id,
        )
    audit.record(db, user, "curve.start", f"learning curve {made.id}", version=version.id)
    return made


def get(db: Session, user: User, curve_id: int) -> LearningCurve:
    """Return a curve.

    Raises:
        NotFound: there is none, or it belongs to another department.
    """
    found = db.get(LearningCurve, curve_id)
    if (
        found is None
        or found.department_id != user.department_id
        or found.version.dataset.deleted_at is not None
    ):
        raise NotFound("There is no such learning curve; its data may have been deleted.")
    return found


def newest(db: Session, version: DatasetVersion) -> LearningCurve | None:
    """Return the newest curve of a version."""
    query = select(LearningCurve).where(LearningCurve.version_id == version.id)
    return db.scalars(query.order_by(LearningCurve.id.desc()).limit(1)).first()


def points(db: Session, curve: LearningCurve) -> list[Point]:
    """Return how far each of its jobs is; where one was tried again, the newest."""
    jobs = {
        job.rows_percent: job
        for job in db.scalars(
            select(Job).where(Job.curve_id == curve.id, Job.binned_at.is_(None)).order_by(Job.id)
        )
    }
    return [_point(db, curve, percent, jobs.get(percent)) for percent in PERCENTS]


def is_over(found: Sequence[Point]) -> bool:
    """Say whether nothing more will come by itself."""
    return all(one.is_over for one in found)


def outlook(db: Session, found: Sequence[Point]) -> Outlook:
    """Say whether more rows would help.

    On the questions that all three answered, with paired 95 % intervals (statistics.py):

    - likely, if all rows do better than a quarter of them, and at least a quarter of that rise came
      with the second half of the rows;
    - unlikely, if all rows bring at most a tenth more than half of them;
    - else, and with fewer than 20 questions, it cannot be told.
    """
    if any(one.tally is None for one in found):
        return Outlook.UNKNOWN
    quarter, half, whole = (
        Contender(one.evaluation, Arm.TUNED) for one in found if one.evaluation is not None
    )
    try:
        than_quarter, num = _gain(db, quarter, whole)
        than_half, num_half = _gain(db, half, whole)
    except Conflict:  # they have no question in common
        return Outlook.UNKNOWN
    if min(num, num_half) < verdict.MIN_ANSWERED:
        return Outlook.UNKNOWN
    return judged(than_quarter, than_half)


def judged(than_quarter: Difference, than_half: Difference) -> Outlook:
    """Apply the rule to how much better all rows do than a quarter, and than half of them."""
    still_rises = than_half.mean >= _STILL_RISING * than_quarter.mean
    if verdict.is_above(than_quarter) and still_rises:
        return Outlook.LIKELY
    return Outlook.UNLIKELY if than_half.high <= _LITTLE else Outlook.UNKNOWN


def _gain(db: Session, fewer: Contender, all_rows: Contender) -> tuple[Difference, int]:
    compared = comparing.compare(db, [fewer, all_rows])
    gain = compared.lines[1].than_first
    assert gain is not None
    return gain, compared.num_common


def _point(db: Session, curve: LearningCurve, percent: int, job: Job | None) -> Point:
    evaluation = _evaluation(db, job) if job is not None else None
    tally = None
    if evaluation is not None and evaluation.status is EvaluationStatus.DONE:
        tally = verdict.figures_of(evaluation).arms.get(Arm.TUNED)
    return Point(
        percent=percent,
        job=job,
        num_rows=_num_rows(db, curve, percent, job),
        evaluation=evaluation,
        tally=tally if tally and tally.num else None,
        between=wilson(tally.right, tally.num) if tally and tally.num else None,
    )


def _num_rows(db: Session, curve: LearningCurve, percent: int, job: Job | None) -> int:
    if job is None:
        return practice.num_of(curve.version.num_train, percent)
    own_tests = job.validation_version_id
    return practice.sizes(job, db.get(DatasetVersion, own_tests) if own_tests else None).practice


def _evaluation(db: Session, job: Job) -> Evaluation | None:
    """Return the evaluation of a job's adapter on its test rows: a done one, else the newest."""
    if job.adapter is None or job.adapter.binned_at or job.status is not JobStatus.SUCCEEDED:
        return None
    is_done = Evaluation.status == EvaluationStatus.DONE
    tested_on = job.validation_version_id or job.version_id
    return db.scalars(
        select(Evaluation)
        .where(Evaluation.adapter_id == job.adapter.id, Evaluation.version_id == tested_on)
        .order_by(is_done.desc(), Evaluation.id.desc())
        .limit(1)
    ).first()


def _name(version: DatasetVersion, percent: int) -> str:
    end = f", {percent}% of the rows"
    return version.dataset.name[: requests.MAX_NAME_LENGTH - len(end)] + end
