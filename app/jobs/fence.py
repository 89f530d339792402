"""The attempt number as a fence: every write of a worker to its job goes through here.

Each is `WHERE id AND attempt AND status = 'running'`; one that finds no row raises Fenced: another
worker may have the job by now, so stop and write nothing more. Only the database's clock decides
(`clock_timestamp()`: now() stands still in a transaction).
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, update
from sqlalchemy.orm import Session

from app.core import clock, settings
from app.core.models import Attempt, Desired, Job, JobStatus, Json


@dataclass(frozen=True)
class Claim:
    """One worker's hold on one job."""

    job_id: int
    attempt: int
    worker_id: str
    resume_step: int
    # By the database's clock; tells two attempts of one number apart.
    started_at: datetime | None = field(default=None, compare=False)

    def is_of(self, attempt: Attempt) -> bool:
        """Say whether it is the hold of an attempt."""
        mine = self.job_id, self.attempt, self.worker_id, self.started_at
        return mine == (attempt.job_id, attempt.number, attempt.worker_id, attempt.started_at)


class Fenced(Exception):
    """The job was reaped, or another worker has it: kill the trainer and write nothing more."""


def heartbeat(db: Session, claimed: Claim) -> Desired:
    """Hold on for another lease time; returns what people want of the job.

    Raises:
        Fenced: another worker may have the job.
    """
    return hold(db, claimed.job_id, claimed.attempt, claimed.worker_id)


def hold(
    db: Session, job_id: int, attempt: int, worker_id: str | None = None, **values: Any
) -> Desired:
    """Renew the lease and write other columns with it, under the fence and the row's lock.

    Args:
        worker_id: Who means to hold it. Attempt numbers come again where the database was put back
            to an earlier moment; then the name tells two holders apart.

    Raises:
        Fenced: another worker may have the job.
    """
    return write(db, job_id, attempt, {"lease_until": until(), **values}, worker_id)


def mine(
    job_id: int | ColumnElement[int], attempt: int | ColumnElement[int]
) -> list[ColumnElement[bool]]:
    """Say, in a query, that an attempt still holds its job."""
    return [Job.id == job_id, Job.attempt == attempt, Job.status == JobStatus.RUNNING]


def write(
    db: Session, job_id: int, attempt: int, values: Json, worker_id: str | None = None
) -> Desired:
    """Write columns of a job that an attempt still holds; returns what people want of it.

    Raises:
        Fenced: another worker may have the job.
    """
    by = [Job.worker_id == worker_id] if worker_id is not None else []
    desired = db.scalars(
        update(Job)
        .where(*mine(job_id, attempt), *by)
        .values({"attempt": attempt, **values})
        .returning(Job.desired)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if desired is None:
        raise Fenced(f"job {job_id}, attempt {attempt}")
    return desired


def until() -> ColumnElement[Any]:
    """Say, in a query, when a lease that is renewed now runs out."""
    return clock.NOW + lease()


def lease() -> timedelta:
    """Return for how long a job is held by one heartbeat."""
    return timedelta(seconds=settings.get().lease_seconds)
