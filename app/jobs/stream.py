"""What is told to those who watch a job: numbered sentences, and the bell that wakes them."""

from typing import Literal

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.models import Job, JobEvent, Json

CHANNEL = "etude"
Level = Literal["info", "warn", "error"]


def say(
    db: Session,
    job_id: int,
    kind: str,
    message: str,
    *,
    level: Level = "info",
    data: Json | None = None,
) -> None:
    """Add one sentence to a job's stream.

    The number is drawn under the job's row lock, so numbers become visible in their order.
    """
    seq = db.scalars(
        update(Job)
        .where(Job.id == job_id)
        .values(event_seq=Job.event_seq + 1)
        .returning(Job.event_seq)
        .execution_options(synchronize_session=False)
    ).one()
    db.add(
        JobEvent(
            job_id=job_id,
            seq=seq,
            at=func.clock_timestamp(),
            level=level,
            kind=kind,
            message=message,
            data=data,
        )
    )
    db.flush()
    wake(db, job_id)


def wake(db: Session, job_id: int) -> None:
    """Ring for the event streams of a job, at commit."""
    db.execute(select(func.pg_notify(CHANNEL, f"job:{job_id}")))
