"""A real worker in the line: the end of its hours, maintenance, and what its devices say."""

from datetime import time, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core import clock, settings, wakeup
from app.core.models import (
    Attempt,
    Desired,
    Job,
    JobStatus,
    QueueRule,
    Role,
    Worker,
)
from app.jobs import metrics, protocol, queue_view
from app.machines import devices
from app.machines.devices import Readings
from tests.factories import make_department, make_job, make_user
from tests.worker.conftest import WorkerProcess, until_final, until_step, wait_for


def closed_now(db: Session) -> tuple[time, time]:
    """Hours that begin in some hours."""
    now = clock.read(db).astimezone(settings.get().zone())
    opens, closes = (now + timedelta(hours=2)).time(), (now + timedelta(hours=4)).time()
    return opens, closes


def waits(job: Job, step: int) -> bool:
    return job.status is JobStatus.QUEUED and job.durable_step >= step


def test_a_job_gives_way_keeps_its_place_and_goes_on(
    db: Session, gpu_worker: WorkerProcess
) -> None:
    admin = make_user(db, role=Role.ADMIN)
    night = make_user(db, department=make_department(db))
    job = make_job(db, user=night)
    other = make_job(db, user=night, version=job.version)
    job.name, other.name = "steps=90 hold=20,40,60", "steps=3"
    db.commit()
    wakeup.hint("gpu")

    # Its hours end: it saves its place, and nothing of its department begins.
    until_step(db, job, 5)
    rule = QueueRule(department_id=night.department_id)
    rule.opens, rule.closes = closed_now(db)
    db.add(rule)
    db.commit()
    wait_for(db, lambda: waits(job, 5))
    assert (job.desired, job.strikes) == (Desired.RUN, 0)
    assert queue_view.outlook(db).why(job.id).startswith("Its department may train only between")
    assert not protocol.has_claimable(
        db, protocol.WorkerInfo("gpu-0@test", "x", "b", 1, 1, ("cpu",))
    )
    at = job.durable_step
    db.delete(rule)
    db.commit()
    wakeup.hint("gpu")
    until_step(db, job, at + 5)  # the other one, which came later, waits behind it still
    assert (job.attempt, other.status) == (2, JobStatus.QUEUED)

    # Its worker is kept free, and stays so over a restart.
    worker = db.get_one(Worker, "gpu-0@test")
    devices.drain(db, admin, worker)
    db.commit()
    wait_for(db, lambda: waits(job, at + 5))
    gpu_worker.terminate()
    before = worker.last_seen
    gpu_worker.start()
    wait_for(db, lambda: worker.last_seen > before)
    assert worker.state.value == "draining"
    assert job.status is JobStatus.QUEUED
    devices.activate(db, admin, worker)
    db.commit()
    at = job.durable_step
    until_step(db, job, at + 5)

    # Its device is ill.
    devices.quarantine(db, admin, worker, "cpu", "It grows too hot.")
    db.commit()
    wait_for(db, lambda: waits(job, at + 5))
    devices.release(db, admin, worker, "cpu")
    db.commit()
    assert until_final(db, job).status is JobStatus.SUCCEEDED
    assert until_final(db, other).status is JobStatus.SUCCEEDED
    assert [step for step, _ in metrics.series(db, job.id)["loss"]] == list(range(1, 91))
    outcomes = db.scalars(
        select(Attempt.outcome).where(Attempt.job_id == job.id).order_by(Attempt.number)
    ).all()
    assert outcomes == ["stopped", "stopped", "stopped", "succeeded"]

    readings = Readings.model_validate(db.get_one(Worker, "gpu-0@test").readings)
    (cpu,) = readings.devices
    assert (cpu.device, cpu.kind, readings.problem) == ("cpu", "cpu", "")
    assert cpu.num_cores and cpu.memory_total_bytes and cpu.memory_used_bytes
    assert 0 < cpu.memory_used_bytes < cpu.memory_total_bytes
