"""The queue: what trains, what waits, and the machines that do it."""

from datetime import UTC, datetime

from fastapi import APIRouter, Response
from sqlalchemy import select

from app import progress
from app.auth import CurrentUser
from app.db import Db
from app.models import Job, JobStatus, Role, User, Worker
from app.render import page

router = APIRouter(prefix="/queue")


@router.get("")
def show(db: Db, user: CurrentUser) -> Response:
    """Show the line and the workers; other departments' jobs are counted, not named."""
    live = list(
        db.scalars(
            select(Job)
            .where(Job.status.in_((JobStatus.RUNNING, JobStatus.QUEUED)))
            .order_by(Job.priority, Job.id)
        )
    )
    running = [job for job in live if job.status is JobStatus.RUNNING]
    waiting = [job for job in live if job.status is JobStatus.QUEUED]
    since = datetime.now(UTC) - progress.WORKER_SILENCE
    return page(
        "queue/show.html",
        user,
        running=[(job, progress.figures(db, job)) for job in running if _may_see(user, job)],
        waiting=[
            (place, job, progress.figures(db, job))
            for place, job in enumerate(waiting, start=1)
            if _may_see(user, job)
        ],
        num_other_running=sum(not _may_see(user, job) for job in running),
        num_other_waiting=sum(not _may_see(user, job) for job in waiting),
        workers=list(db.scalars(select(Worker).order_by(Worker.queue.desc(), Worker.id))),
        since=since,
        names={job.worker_id: job for job in running if _may_see(user, job)},
        busy={job.worker_id for job in running},
    )


def _may_see(user: User, job: Job) -> bool:
    return user.role is Role.ADMIN or job.department_id == user.department_id
