"""Jobs that people deleted and may have back: into the bin, out of it, and gone for good."""

from sqlalchemy import Select, select
from sqlalchemy import delete as sql_delete
from sqlalchemy.orm import Session, selectinload

from app.core import audit, bins, clock
from app.core.errors import NotFound
from app.core.models import Job, User
from app.jobs import requests, states
from app.jobs.rights import require_control


def put(db: Session, user: User, job: Job) -> None:
    """Put a job that is over into the bin, with its curve, log and checkpoints; its adapter stays.

    Raises:
        Forbidden: it is not theirs to decide.
        Conflict: the job is not over.
    """
    require_control(user, job, "delete")
    db.refresh(job, with_for_update={"of": Job})
    states.require(job, "delete")
    if job.binned_at is not None:
        return  # asked for twice
    job.binned_at, job.binned_by_id = clock.NOW, user.id
    db.flush()
    audit.record(db, user, "job.bin", f"job {job.id}")


def restore(db: Session, user: User, job: Job) -> None:
    """Take a job out of the bin, as it was.

    Raises:
        Forbidden: it is not theirs to decide.
    """
    require_control(user, job, "restore")
    db.refresh(job, with_for_update={"of": Job})
    if job.binned_at is None:
        return  # asked for twice
    job.binned_at = job.binned_by_id = None
    db.flush()
    audit.record(db, user, "job.restore", f"job {job.id}")


def erase(db: Session, user: User, job: Job) -> None:
    """Erase a job that is in the bin, for good.

    Raises:
        Forbidden: it is not theirs to decide.
        NotFound: it was restored meanwhile.
    """
    require_control(user, job, "delete")
    db.refresh(job, with_for_update={"of": Job})
    if job.binned_at is None:
        raise _not_there()
    requests.erase(db, user, job)


def visible(user: User) -> Select[Job]:
    """Select the jobs in the bin that a person may see: those of the department."""
    return select(Job).where(Job.department_id == user.department_id, Job.binned_at.is_not(None))


def get(db: Session, user: User, job_id: int) -> Job:
    """Return one job that is in the bin.

    Raises:
        NotFound: it is not there, or belongs to another department.
    """
    job = db.scalars(visible(user).where(Job.id == job_id)).one_or_none()
    if job is None:
        raise _not_there()
    return job


def list_of(db: Session, user: User, limit: int) -> list[Job]:
    """Return the jobs in the bin, those that were deleted last first."""
    query = visible(user).options(*requests.BARE, selectinload(Job.owner))
    return list(db.scalars(query.order_by(Job.binned_at.desc(), Job.id.desc()).limit(limit)))


def erase_old(db: Session) -> int:
    """Erase the jobs that have been in the bin for their time; the caller commits.

    Their folders go once no row names them (`sweep.clean`).
    """
    due = select(Job.id).where(bins.is_over(Job)).with_for_update(skip_locked=True, of=Job)
    ids = list(db.scalars(due))
    if ids:
        db.execute(sql_delete(Job).where(Job.id.in_(ids)))
    for job_id in ids:
        audit.record(db, None, "job.delete", f"job {job_id}", why="bin")
    return len(ids)


def _not_there() -> NotFound:
    return NotFound("This job is no longer in the bin; it was restored, or erased for good.")
