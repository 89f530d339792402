"""The negative control: a gpu worker without fence, locks and self-fence. Never part of Etude.

    python -m bench.chaos.unfenced

Started in the place of `etude worker gpu`. What keeps two attempts of one job apart is taken out of
the running process here, and the chaos run's trainer looks for no lock beside `NO_LOCKS`. A checker
that finds nothing wrong with this worker's history finds nothing.
"""

import os
import sys
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.models import Job, JobStatus
from app.jobs import fence, metrics
from worker.celery_app import app
from worker.gpu import hold, supervisor

__all__ = ["app"]  # what `celery --app` looks for


def _whoever(job_id: int, _attempt: int) -> list[Any]:
    return [Job.id == job_id, Job.status == JobStatus.RUNNING]


_write = fence.write


def _write_as_whoever(
    db: Session, job_id: int, attempt: int, values: Any, _worker_id: str | None = None
) -> Any:
    return _write(db, job_id, attempt, values)


_ingest = metrics.ingest


def _ingest_as_whoever(
    db: Session,
    job_id: int,
    attempt: int,
    events: Any,
    spool_offset: int,
    _worker_id: str | None = None,
) -> Any:
    return _ingest(db, job_id, attempt, events, spool_offset)


def _ask(self: supervisor.Supervisor, session: Session) -> None:
    self.pump.desired = session.scalars(
        select(Job.desired).where(Job.id == self.claim.job_id)
    ).one()


def _never_lost(_self: hold.JobHold) -> bool:
    return False


def _leave_alone(_job_id: int) -> None:
    pass


fence.mine = _whoever
fence.write = _write_as_whoever
metrics._INGEST = metrics._build_ingest()  # with that fence
metrics.ingest = _ingest_as_whoever
supervisor.Supervisor._ask = _ask
hold.JobHold.may_be_lost = _never_lost
supervisor.kill_leftovers = _leave_alone

if __name__ == "__main__":
    arguments = [sys.executable, "-m", "celery", "--app", "bench.chaos.unfenced", "worker"]
    me = os.environ["ETUDE_WORKER_ID"]
    arguments += ["--queues", f"gpu,{me}", "--hostname", me]
    arguments += ["--pool", "prefork", "--concurrency", "1", "--loglevel", "INFO"]
    arguments += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    os.execv(sys.executable, arguments)
