"""What is told to those who watch a job: numbered sentences, and the bell that wakes them."""

from typing import Literal

from sqlalchemy import Select, Text, bindparam, func, insert, select, update
from sqlalchemy.orm import Session

from app.core import clock
from app.core.models import Job, JobEvent, Json

CHANNEL = "etude"
Level = Literal["info", "warn", "error"]


def _build_say() -> Select[int, None]:
    number = (
        update(Job)
        .where(Job.id == bindparam("job_id"))
        .values(event_seq=Job.event_seq + 1)
        .returning(Job.id, Job.event_seq)
        .cte("number")
    )
    names = ("level", "kind", "message", "data")
    columns = [bindparam(name, type_=getattr(JobEvent, name).type) for name in names]
    line = select(number.c.id, number.c.event_seq, clock.NOW, *columns)
    added = insert(JobEvent).from_select(["job_id", "seq", "at", *names], line).cte("added")
    bell = func.pg_notify(CHANNEL, bindparam("topic", type_=Text))
    return select(number.c.event_seq, bell).add_cte(added)


# One statement, built once: a claim says something while it holds the queue.
_SAY = _build_say()


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
    db.flush()
    told = {"job_id": job_id, "level": level, "kind": kind, "message": message, "data": data}
    db.execute(_SAY, told | {"topic": topic(job_id)}).one()


def wake(db: Session, job_id: int) -> None:
    """Ring for the event streams of a job, at commit."""
    db.execute(select(func.pg_notify(CHANNEL, topic(job_id))))


def topic(job_id: int) -> str:
    """Return what the streams of a job wait for."""
    return f"job:{job_id}"
