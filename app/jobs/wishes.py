"""What people want of a job in training, and whether its worker is to give it back anyway.

It is asked with each heartbeat that brings something, and by itself where there is none.
"""

from typing import Any, NamedTuple

from sqlalchemy import (
    CTE,
    ColumnElement,
    Exists,
    Row,
    Select,
    SQLColumnExpression,
    Text,
    any_,
    bindparam,
    exists,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from app.core import clock
from app.core.models import Desired, Job, QuarantinedDevice, Worker, WorkerState
from app.jobs import shares
from app.jobs.fence import Claim, Fenced


class Wishes(NamedTuple):
    """What is to become of a job that is being trained."""

    desired: Desired
    # Its worker is drained, a device of it quarantined, or the job's hours are over.
    is_over: bool


def of(db: Session, claimed: Claim, host: str, devices: tuple[str, ...]) -> Wishes:
    """Return what people want of a job.

    Args:
        host: Its worker's machine.
        devices: Those of its worker.

    Raises:
        Fenced: another worker may have the job, or it is gone.
    """
    row = db.execute(
        _WISHES,
        {
            "job_id": claimed.job_id,
            "attempt": claimed.attempt,
            "worker_id": claimed.worker_id,
            "host": host,
            "devices": list(devices),
        },
    ).one_or_none()
    if row is None:
        raise Fenced(f"job {claimed.job_id} is gone")
    return read(row)


def beside(held: CTE, attempt: CTE) -> list[ColumnElement[Any]]:
    """Build the columns that `read` needs, beside what a heartbeat has written.

    Args:
        held: The job's row.
        attempt: That of its attempt: on which machine, and with which devices.
    """
    quarantined = exists().where(
        QuarantinedDevice.host == attempt.c.host,
        attempt.c.devices.has_key(QuarantinedDevice.device),
    )
    hours = shares.hours_of(held.c.department_id, held.c.owner_id)
    return _columns(held.c.desired, held.c.worker_id, quarantined, hours)


def read(row: Row[Any]) -> Wishes:
    """Read what a statement with these columns has found."""
    is_out = row.state is WorkerState.DRAINING or row.is_quarantined
    return Wishes(row.desired, is_out or shares.is_over(row.hours or [], row.now))


def _columns(
    desired: SQLColumnExpression[Any],
    worker_id: ColumnElement[Any],
    quarantined: Exists,
    hours: ColumnElement[Any],
) -> list[ColumnElement[Any]]:
    state = select(Worker.state).where(Worker.id == worker_id).correlate_except(Worker)
    return [
        desired.label("desired"),
        state.scalar_subquery().label("state"),
        quarantined.correlate_except(QuarantinedDevice).label("is_quarantined"),
        hours.label("hours"),
        clock.NOW.label("now"),
    ]


def _build_wishes() -> Select[Any]:
    quarantined = exists().where(
        QuarantinedDevice.host == bindparam("host"),
        QuarantinedDevice.device == any_(bindparam("devices", type_=ARRAY(Text))),
    )
    hours = shares.hours_of(Job.department_id, Job.owner_id)
    worker_id = bindparam("worker_id", type_=Text)
    return select(*_columns(Job.desired, worker_id, quarantined, hours)).where(
        Job.id == bindparam("job_id"), Job.attempt == bindparam("attempt")
    )


# Every supervisor asks it again and again.
_WISHES = _build_wishes()
