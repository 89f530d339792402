"""Machines and their devices: who uses them, how they are, and what administrators do with them.

A worker that is drained, or has a device in quarantine, gets no job and gives back the one it has,
with its place saved. Both stay so over restarts, until an administrator says otherwise. A GPU that
certainly cannot train is put in quarantine by its worker (`take_out`).
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import BaseModel, Field
from sqlalchemy import distinct, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app import notices
from app.core import audit, clock
from app.core.errors import Conflict, Invalid, NotFound
from app.core.models import (
    Attempt,
    AuditEvent,
    QuarantinedDevice,
    Role,
    User,
    Worker,
    WorkerState,
)
from app.people.auth import require_role

MAX_REASON_LENGTH = 200
# Messages of the driver after which a GPU works no more until it, or its machine, is started again
# (docs.nvidia.com/deploy/xid-errors). Most others tell of the program that ran, not of the card.
FATAL_XIDS = {
    48: "memory that cannot be corrected",
    62: "its own controller has halted",
    64: "memory that could not be replaced",
    74: "its link to other GPUs failed",
    79: "it has fallen off the bus",
    95: "memory errors beyond one program",
    119: "its own processor does not answer",
    120: "its own processor has failed",
    140: "memory that cannot be corrected",
}
_ERRORS_COUNT_FOR = timedelta(hours=24)


class DeviceReading(BaseModel):
    """One device as its worker saw it last; None: the device does not say."""

    device: str  # as the worker names it: "cuda:0", "cpu"
    kind: Literal["cpu", "cuda"]
    name: str = ""
    uuid: str = ""
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    utilization_percent: float | None = None  # of a GPU; of a CPU, how many of its cores are busy
    num_cores: int | None = None
    load: float | None = None  # processes that run or wait, over the last minute
    temperature_celsius: int | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    # Errors since the driver was loaded that memory could not mend; None: it has no such memory.
    ecc_errors: int | None = None
    # The driver's last critical message (Xid) since this worker began to listen, and when it came.
    xid: int | None = None
    xid_at: float | None = None

    @property
    def is_unhealthy(self) -> bool:
        return bool(self.ecc_errors or self.xid)


class Readings(BaseModel):
    """What Worker.readings holds."""

    devices: list[DeviceReading] = Field(default_factory=list)
    problem: str = ""  # why a GPU could not be asked
    has_left: bool = False  # the worker was told to end, and did: nobody needs to look after it


def get_worker(db: Session, admin: User, worker_id: str) -> Worker:
    """Return one worker.

    Raises:
        Forbidden: it is not an administrator who asks.
        NotFound: there is none.
    """
    require_role(admin, Role.ADMIN)
    worker = db.get(Worker, worker_id)
    if worker is None:
        raise NotFound("There is no such worker; it may have a new name.")
    return worker


def leave(db: Session, worker_id: str) -> None:
    """Note that a worker has ended because it was told to; its next start takes that back."""
    gone = Readings(has_left=True).model_dump()
    db.execute(update(Worker).where(Worker.id == worker_id).values(readings=gone))


def has_left(worker: Worker) -> bool:
    """Say whether a worker ended because it was told to."""
    return bool((worker.readings or {}).get("has_left"))


def drain(db: Session, admin: User, worker: Worker) -> None:
    """Keep a worker free: it gets no job, and gives back the one it has with its place saved."""
    _set_state(db, admin, worker, WorkerState.DRAINING, "worker.drain")


def activate(db: Session, admin: User, worker: Worker) -> None:
    """Let a drained worker take jobs again; the caller rings the queue after the commit."""
    _set_state(db, admin, worker, WorkerState.ACTIVE, "worker.activate")


def of_host(db: Session, admin: User, host: str) -> list[Worker]:
    """Return the workers of one machine.

    Raises:
        Forbidden: it is not an administrator who asks.
        NotFound: there are none.
    """
    require_role(admin, Role.ADMIN)
    workers = list(db.scalars(select(Worker).where(Worker.host == host).order_by(Worker.id)))
    if not workers:
        raise NotFound("There is no such machine.")
    return workers


def quarantine(db: Session, admin: User, worker: Worker, device: str, reason: str) -> None:
    """Take a device out of use, whichever worker has it; what trains on it goes on elsewhere.

    Raises:
        NotFound: the worker has no such device.
        Invalid: there is no reason.
        Conflict: it is in quarantine already.
    """
    require_role(admin, Role.ADMIN)
    _known(worker, device)
    reason = " ".join(reason.split())
    if not reason:
        raise Invalid("Say why, for people who find it out of use.", field="reason")
    if len(reason) > MAX_REASON_LENGTH:
        raise Invalid(f"Use at most {MAX_REASON_LENGTH} characters for the reason.", field="reason")
    if not _put_in(db, admin, worker.host, device, reason, worker.id):
        raise Conflict("This device is already in quarantine.")


def take_out(db: Session, worker_id: str, host: str, device: str, why: str) -> bool:
    """Put a device in quarantine without a person; says whether it was not in it already."""
    reason = f"{why} Restart the machine and check the card before you put it back in use."
    return _put_in(db, None, host, device, reason, worker_id)


def after_device_error(db: Session, worker_id: str, host: str, devices: Sequence[str]) -> None:
    """Take a GPU out of use that has failed under two jobs in a day.

    One job alone may itself be what makes a GPU fail, wherever it goes. Of several GPUs nobody can
    say which it was.
    """
    if len(devices) != 1 or devices[0] == "cpu":
        return
    since = clock.NOW - _ERRORS_COUNT_FOR
    released = select(func.max(AuditEvent.at)).where(
        AuditEvent.action == "device.release", AuditEvent.subject == f"{devices[0]} of {host}"
    )
    failed = select(func.count(distinct(Attempt.job_id))).where(
        Attempt.host == host,
        Attempt.devices == list(devices),
        Attempt.outcome == "device_error",
        Attempt.ended_at > func.greatest(since, released.scalar_subquery()),
    )
    if db.scalars(failed).one() >= 2:
        take_out(db, worker_id, host, devices[0], "Two jobs failed on it within a day.")


def release(db: Session, admin: User, worker: Worker, device: str) -> None:
    """Put a device back in use; the caller rings the queue after the commit.

    Raises:
        NotFound: the worker has no such device.
        Conflict: it is not in quarantine.
    """
    require_role(admin, Role.ADMIN)
    _known(worker, device)
    row = db.get(QuarantinedDevice, (worker.host, device))
    if row is None:
        raise Conflict("This device is not in quarantine.")
    days = (datetime.now(UTC) - row.at).total_seconds() / 86400
    db.delete(row)
    db.flush()
    audit.record(db, admin, "device.release", f"{device} of {worker.host}", days=round(days, 2))


def quarantined(db: Session) -> dict[tuple[str, str], QuarantinedDevice]:
    """Return the devices out of use, by machine and name."""
    return {(row.host, row.device): row for row in db.scalars(select(QuarantinedDevice))}


def _put_in(
    db: Session, admin: User | None, host: str, device: str, reason: str, worker_id: str
) -> bool:
    new = (
        insert(QuarantinedDevice)
        .values(host=host, device=device, reason=reason, by_id=admin.id if admin else None)
        .on_conflict_do_nothing()
        .returning(QuarantinedDevice.device)
    )
    if db.scalar(new) is None:
        return False
    audit.record(db, admin, "device.quarantine", f"{device} of {host}", reason=reason)
    occasion = f"quarantine {host} {device} {datetime.now(UTC).isoformat()}"
    sentence = f"{device} of {host} was taken out of use"
    notices.machine_unhealthy(db, occasion, sentence, worker=worker_id, problem="quarantined")
    return True


def _set_state(db: Session, admin: User, worker: Worker, state: WorkerState, action: str) -> None:
    require_role(admin, Role.ADMIN)
    if worker.state is state:
        return  # pressed twice
    worker.state = state
    db.flush()
    audit.record(db, admin, action, f"worker {worker.id}")


def _known(worker: Worker, device: str) -> None:
    if device not in worker.devices:
        raise NotFound(f"{worker.id} has no such device.")
