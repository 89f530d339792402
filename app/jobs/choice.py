"""Which job a worker gets: the first in the queue that may go now and that it can train.

`choose` runs within a claim, under the queue's lock. It reads how everyone stands, then the first
fitting job of each department by an index, and locks it: nothing is as long as the queue.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Float,
    Integer,
    Select,
    Text,
    all_,
    bindparam,
    cast,
    exists,
    func,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session, aliased

from app.core import clock
from app.core.models import (
    Attempt,
    BaseModel,
    DatasetVersion,
    Desired,
    Job,
    JobStatus,
    ModelStatus,
    QuarantinedDevice,
    VersionStatus,
    Worker,
    WorkerState,
)
from app.datasets.privacy import reviews
from app.jobs import scheduling, shares
from app.training.plan.machine import DeviceInfo

# A worker that has not been heard of for so long is taken for gone.
WORKER_SILENCE = timedelta(seconds=60)
_EXPECTED = Job.plan["seconds"].as_float()


class _Here(NamedTuple):
    """A worker of a machine, as it last said of itself."""

    id: str
    host: str
    devices: list[str]
    hardware: dict[str, Any] | None
    state: WorkerState
    last_seen: datetime


def _build_here() -> Select[Any]:
    # One statement with how everyone stands, and a row also where a machine has no worker yet.
    host = bindparam("host", type_=Text)
    last_seen = func.extract("epoch", Worker.last_seen)
    worker = func.json_build_array(
        Worker.id, Worker.host, Worker.devices, Worker.hardware, Worker.state, last_seen
    )
    workers = select(func.json_agg(worker)).where(Worker.host == host, Worker.queue == "gpu")
    quarantined = select(func.json_agg(QuarantinedDevice.device)).where(
        QuarantinedDevice.host == host
    )
    return shares.STANDINGS.add_columns(
        workers.scalar_subquery().label("workers"),
        quarantined.scalar_subquery().label("quarantined"),
    )


_HERE = _build_here()
_QUARANTINED = select(QuarantinedDevice.device).where(QuarantinedDevice.host == bindparam("host"))


class Candidate(NamedTuple):
    """A job in the order of the queue: compare them, the smaller goes first."""

    priority: int
    charge: float
    id: int


def choose(
    db: Session, worker_id: str, host: str, devices: tuple[str, ...], *, to_take: bool
) -> int | None:
    """Return the job that a worker is to train, or nothing.

    Args:
        to_take: Lock its row; the caller holds the queue's lock. Who only asks locks nothing: a
            claim would pass over it.
    """
    found = db.execute(_HERE, {"host": host}).one()
    here = {each.id: each for each in map(_here, found.workers or ())}
    me = here.pop(worker_id, None)
    if me is not None and me.state is WorkerState.DRAINING:
        return None
    if not set(devices).isdisjoint(found.quarantined or ()):
        return None
    everyone = shares.read_standings(found)
    mine = offer_of(host, devices, me.hardware if me else None)
    beside = [row for row in here.values() if mine.shares_with(worker_offer(row))]
    snapshot = _Snapshot(db, everyone, to_take)
    active = [worker_offer(row) for row in beside if _is_active(row, everyone.now)]
    first = snapshot.first(mine, wider_than=scheduling.left_to_narrower(mine, active))
    if first is None or not beside:
        return first.id if first else None
    return _beside(snapshot, mine, active, first)


def is_out(db: Session, worker_id: str, host: str, devices: tuple[str, ...]) -> bool:
    """Say whether a worker is to leave the queue: drained, or a device of it quarantined."""
    state = db.scalar(select(Worker.state).where(Worker.id == worker_id))
    return state is WorkerState.DRAINING or _is_quarantined(db, host, devices)


def _here(row: Sequence[Any]) -> _Here:
    worker_id, host, devices, hardware, state, last_seen = row
    seen_at = datetime.fromtimestamp(last_seen, UTC)
    return _Here(worker_id, host, devices, hardware, WorkerState(state), seen_at)


def _is_active(worker: _Here, now: datetime) -> bool:
    is_here: bool = now - worker.last_seen < WORKER_SILENCE
    return is_here and worker.state is WorkerState.ACTIVE


def _is_quarantined(db: Session, host: str, devices: tuple[str, ...]) -> bool:
    return not set(devices).isdisjoint(db.scalars(_QUARANTINED, {"host": host}))


def worker_offer(worker: Worker | _Here) -> scheduling.Offer:
    """Return what a worker has."""
    return offer_of(worker.host, tuple(worker.devices), worker.hardware)


def offer_of(
    host: str, devices: tuple[str, ...], hardware: dict[str, Any] | None
) -> scheduling.Offer:
    """Return what a worker has, by what it last said of its hardware.

    A GPU's free memory was asked when nothing of ours was on it. On a CPU the memory that is free
    comes and goes with other programs, so a job may count on all that the machine has.
    """
    if hardware is None:
        return scheduling.Offer(host, devices)
    info = DeviceInfo.model_validate(hardware)
    all_of_it = info.total_bytes // info.num_devices if info.kind == "cpu" else 0
    return scheduling.Offer(host, devices, max(info.free_bytes, all_of_it))


def waiting() -> list[ColumnElement[bool]]:
    """Say, in a query, that a job waits in the queue and that all it learns from is ready."""

    def is_ready(version_id: Any) -> ColumnElement[bool]:
        version = aliased(DatasetVersion)
        return exists().where(version.id == version_id, version.status == VersionStatus.READY)

    return [
        Job.status == JobStatus.QUEUED,
        Job.desired == Desired.RUN,
        Job.run_after <= clock.NOW,
        is_ready(Job.version_id),
        reviews.settled(Job.version_id, Job.awaits_scan),
        or_(Job.validation_version_id.is_(None), is_ready(Job.validation_version_id)),
        reviews.settled(Job.validation_version_id, Job.awaits_scan),
        exists().where(BaseModel.id == Job.base_model_id, BaseModel.status == ModelStatus.READY),
    ]


class _Snapshot:
    """The queue at one moment."""

    def __init__(self, db: Session, everyone: scheduling.Standings, to_take: bool) -> None:
        self.db, self.everyone, self.to_take = db, everyone, to_take

    def first(
        self, offer: scheduling.Offer, *, wider_than: int = 0, at_most_seconds: float | None = None
    ) -> Candidate | None:
        """Find, and lock, the first job that may go now and that fits what is offered.

        Args:
            wider_than: Only jobs that need more devices than this.
            at_most_seconds: Only jobs that are expected to end by then (scheduling.may_go_ahead).
        """
        closed, people = self.everyone.blocked()
        open_ids = [key for key in self.everyone.departments if key not in closed]
        row = self.db.execute(
            _first_of_each(self.to_take),
            {
                "ids": open_ids,
                "charges": [self.everyone.charge(key) for key in open_ids],
                "people": list(people),
                "num_devices": len(offer.devices),
                "wider_than": wider_than,
                "memory": offer.memory_bytes,
                "at_most": at_most_seconds,
            },
        ).one_or_none()
        return None if row is None else Candidate(*row)


@lru_cache
def _first_of_each(to_take: bool) -> Select[int, float, int]:
    """Build the query once: every worker asks it again and again, under the queue's lock."""
    department = (
        func.unnest(
            bindparam("ids", type_=ARRAY(Integer)), bindparam("charges", type_=ARRAY(Float))
        )
        .table_valued("id", "charge", name="department_charge")
        .render_derived()
    )
    memory = cast(bindparam("memory"), BigInteger)
    at_most = cast(bindparam("at_most"), Float)
    of_each = (
        select(Job.priority, Job.id)
        .where(
            *waiting(),
            Job.department_id == department.c.id,
            Job.owner_id != all_(bindparam("people", type_=ARRAY(Integer))),
            Job.needs_devices <= bindparam("num_devices", type_=Integer),
            Job.needs_devices > bindparam("wider_than", type_=Integer),
            or_(Job.needs_bytes.is_(None), memory.is_(None), Job.needs_bytes <= memory),
            or_(at_most.is_(None), _EXPECTED.between(0, at_most)),
        )
        .order_by(Job.priority, Job.id)
        .limit(1)
    )
    if to_take:
        of_each = of_each.with_for_update(skip_locked=True, of=Job)
    first = of_each.lateral("first")
    return (
        select(first.c.priority, department.c.charge, first.c.id)
        .select_from(department)
        .join(first, true())
        .order_by(first.c.priority, department.c.charge, first.c.id)
        .limit(1)
    )


def _beside(
    snapshot: _Snapshot, mine: scheduling.Offer, others: list[scheduling.Offer], first: Candidate
) -> int | None:
    """Choose for a worker some of whose devices other workers have too."""
    taken = _taken(snapshot.db, mine.host)
    if taken.keys() & set(mine.devices):
        return None
    now = snapshot.everyone.now
    for offer in others:
        if len(offer.devices) < len(mine.devices):
            ahead = snapshot.first(offer)
            if ahead is not None and ahead < first:
                return None  # it begins now on one of ours: that worker is about to take it
        if len(offer.devices) <= len(mine.devices):
            continue
        # A job that only the wider worker can train, in front of ours.
        head = snapshot.first(offer, wider_than=len(mine.devices))
        if head is None or head > first:
            continue
        ends = [taken[device] for device in offer.devices if device in taken]
        if not ends:
            return None  # it can begin now: the wider worker is about to take it
        until_free = (max(ends) - now).total_seconds()
        short = snapshot.first(mine, at_most_seconds=until_free)
        if short is None:
            return None
        first = short
    return first.id


def _taken(db: Session, host: str) -> dict[str, datetime]:
    """Return which devices of a machine jobs have now, and until when by estimate."""
    rows = db.execute(
        select(Attempt.devices, Attempt.started_at, _EXPECTED.label("expected"))
        .join(Job, (Attempt.job_id == Job.id) & (Attempt.number == Job.attempt))
        .where(Job.status == JobStatus.RUNNING, Attempt.host == host, Attempt.ended_at.is_(None))
    )
    return {
        device: row.started_at + timedelta(seconds=row.expected or scheduling.UNKNOWN_SECONDS)
        for row in rows
        for device in row.devices
    }
