"""Moving waiting jobs forward and back in the queue; administrators only."""

from collections.abc import Callable

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core import audit
from app.core.models import Job, JobStatus, Role, User
from app.jobs import states
from app.jobs.stream import say
from app.people.auth import require_role


def raise_(db: Session, admin: User, job: Job) -> None:
    """Let a job go before all of the same priority.

    Raises:
        Forbidden: it is not an administrator who asks.
        Conflict: the job is not in the queue.
    """
    _move(
        db,
        admin,
        job,
        "raise",
        lambda priority: priority - 1,
        "{who} moved it forward in the queue.",
    )


def lower(db: Session, admin: User, job: Job) -> None:
    """Let a job go after all of the same priority.

    Raises:
        Forbidden: it is not an administrator who asks.
        Conflict: the job is not in the queue.
    """
    _move(
        db, admin, job, "lower", lambda priority: priority + 1, "{who} moved it back in the queue."
    )


def to_top(db: Session, admin: User, job: Job) -> None:
    """Let a job go before all others that wait now.

    Raises:
        Forbidden: it is not an administrator who asks.
        Conflict: the job is not in the queue.
    """
    require_role(admin, Role.ADMIN)
    others = (Job.status == JobStatus.QUEUED, Job.id != job.id)
    first = db.scalar(select(func.min(Job.priority)).where(*others))
    before_all = 0 if first is None else first - 1
    _move(
        db,
        admin,
        job,
        "top",
        lambda priority: min(priority, before_all),
        "{who} moved it to the top of the queue.",
    )


def _move(
    db: Session,
    admin: User,
    job: Job,
    operation: str,
    to: Callable[[int], int],
    sentence: str,
) -> None:
    require_role(admin, Role.ADMIN)
    db.refresh(job, with_for_update={"of": Job})
    states.require(job, "move")
    before, job.priority = job.priority, to(job.priority)
    db.flush()
    say(db, job.id, "status", sentence.format(who=admin.name or admin.email))
    audit.record(db, admin, f"job.{operation}", f"job {job.id}", before=before, after=job.priority)
    db.refresh(job)
