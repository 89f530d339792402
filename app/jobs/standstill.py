"""Workers that stand still: they are free, a job waits that they could train, and nothing happens.

A worker that misses its hints starts afresh by itself (ETUDE_DEAF_SECONDS). What is found here has
waited for twice as long: whatever it is, somebody has to look. It is judged by the tables alone,
since a worker that is in error about itself could not say so.
"""

from datetime import datetime, timedelta
from functools import cache

from sqlalchemy import Select, exists, func, select
from sqlalchemy.orm import Session

from app.core import clock, settings
from app.core.models import (
    Attempt,
    Desired,
    Evaluation,
    Job,
    JobStatus,
    Judging,
    OutboundCount,
    Worker,
    WorkerState,
)
from app.core.sentences import counted, listed
from app.jobs import protocol


def is_overdue(waits_since: datetime | None, now: datetime) -> bool:
    """Say whether a job has waited for so long that a worker that is free stands still."""
    return waits_since is not None and now - waits_since > _patience(settings.get().deaf_seconds)


def standing_still(db: Session) -> list[str]:
    """Return the names of the workers that take no job although they could."""
    chosen = settings.get()
    has_waited, free = _questions(chosen.deaf_seconds, chosen.lease_seconds)
    if not db.scalar(has_waited):
        return []
    return [worker.id for worker in db.scalars(free) if protocol.has_claimable(db, worker)]


def _patience(deaf_seconds: float) -> timedelta:
    return timedelta(seconds=2 * deaf_seconds)


@cache  # the queue's page asks them all the time, and to put them together takes longer
def _questions(deaf_seconds: float, lease_seconds: float) -> tuple[Select[bool], Select[Worker]]:
    """Ask whether a job has waited for long, and who is free and hears nothing."""
    since = clock.NOW - _patience(deaf_seconds)
    has_waited = exists().where(
        Job.status == JobStatus.QUEUED, Job.desired == Desired.RUN, Job.run_after < since
    )
    free = select(Worker).where(
        Worker.queue == "gpu",
        Worker.state == WorkerState.ACTIVE,
        Worker.last_seen > clock.NOW - timedelta(seconds=lease_seconds),
        ~func.coalesce(Worker.readings["has_left"].as_boolean(), False),  # it was told to end
        *(~exists().where(table.worker_id == Worker.id) for table in (Job, Evaluation, Judging)),
        # Between two jobs, and after its start, each is free for a moment.
        ~exists().where(Attempt.worker_id == Worker.id, Attempt.ended_at > since),
        ~exists().where(OutboundCount.process == Worker.id, OutboundCount.started_at > since),
    )
    return select(has_waited), free.order_by(Worker.id)


def in_words(names: list[str]) -> str:
    """Say in a sentence which workers take nothing."""
    return counted(
        len(names),
        "Jobs wait, but {workers} is free and takes none.",
        "Jobs wait, but {workers} are free and take none.",
        workers=listed(names),
    )
