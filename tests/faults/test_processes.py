"""Faults of processes and of the machine (docs/reliability.md has the whole list)."""

import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.core import processes
from app.core.models import (
    Attempt,
    Job,
    JobStatus,
    Notice,
    QuarantinedDevice,
    Role,
    Worker,
)
from app.jobs import fence, protocol, requests
from app.machines import devices
from app.ops.embedded.postgres import Postgres
from app.training import failpoints
from tests import patience
from tests.factories import make_job, make_user
from tests.faults.conftest import opened
from tests.faults.house import (
    LEASE_AND_GRACE,
    PACE,
    House,
    distant_worker,
    stopped,
    until_gone,
)
from tests.ops.test_up import job_of, wait_until
from tests.up import STAND_IN, Etude, still_there
from tests.worker.conftest import is_running

LONG = f"steps=80 every=10 pause={0.05 * PACE:.3f}"
CGROUPS = Path("/sys/fs/cgroup/memory")


def test_f04_what_an_earlier_boot_held_is_taken_back_at_once(house: House) -> None:
    """The process id lives again, but the machine has been started since."""
    started = processes.start_ticks(os.getpid())
    assert started is not None
    before = protocol.WorkerInfo(
        "gpu-7@test", socket.gethostname(), "an earlier boot", os.getpid(), started, ("cpu",)
    )
    job = house.make_held_job(before, "steps=6 every=2")
    house.finish(job, attempts=2)
    first = house.db.scalars(select(Attempt).where(Attempt.job_id == job.id)).first()
    assert first is not None
    assert first.outcome == "worker_died"


def test_f04_etude_goes_on_by_itself_after_a_power_cut(tmp_path: Path) -> None:
    """Everything killed at once amid training; `etude up` again, and nobody does anything else."""
    etude = Etude(tmp_path / "data", environment=STAND_IN)
    etude.start()
    with etude.database() as db:
        job = make_job(db)
        job.name = "steps=120 every=20 hold=60"
        db.commit()
    wait_until(lambda: job_of(etude, job.id).step > 30)
    family = etude.processes()
    assert etude.process is not None
    for pid in (etude.process.pid, *family):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    etude.process.wait()
    assert still_there(family, 15) == {}
    etude.start()
    wait_until(lambda: job_of(etude, job.id).status is JobStatus.SUCCEEDED, seconds=90)
    with etude.database() as db:
        tries = db.scalars(select(Attempt).order_by(Attempt.number)).all()
        assert [(a.number, a.outcome) for a in tries] == [(1, "worker_died"), (2, "succeeded")]
        assert tries[1].resume_step >= 20
    assert etude.end(signal.SIGTERM) == 0


def test_f06_a_frozen_supervisor_stops_its_trainer_and_is_fenced(house: House) -> None:
    job = house.make_job(LONG)
    house.until_step(job, 12)
    child, trainer = house.child(job), house.trainer(job)
    with stopped(child):
        size = until_still(house, job)
        time.sleep(0.5)
        assert house.spool_size(job) == size, "a step after the deadline"
        # Another machine takes it back.
        house.lapse(job)
        assert protocol.reap(house.db) == [job.id]
        house.db.commit()
    until_gone(trainer)
    house.finish(job, attempts=2)
    assert "event=job.fenced" in house.log()


def test_f06_a_supervisor_that_stands_still_amid_a_transaction_lets_go_of_its_job(
    house: House,
) -> None:
    """It has locked the job's row: nobody could take the job back, pause or cancel it."""
    job = house.make_job(LONG)
    house.until_step(job, 5)
    failpoints.arm(house.failpoints, "flush.before_commit", f"delay:{8 * PACE}")
    house.wait_for(lambda: failpoints.has_struck(house.failpoints, "flush.before_commit"))
    began = time.monotonic()
    house.lapse(job)  # waits for the row
    assert time.monotonic() - began < 6 * PACE
    house.finish(job, attempts=2)
    (house.failpoints / "flush.before_commit.struck").unlink()


def until_still(house: House, job: Job) -> int:
    """Wait until the trainer makes no step for half a second; returns how much it had said."""
    deadline = time.monotonic() + patience.seconds(20)
    while True:
        size = house.spool_size(job)
        time.sleep(0.5)
        if house.spool_size(job) == size:
            return size
        assert time.monotonic() < deadline, "the trainer goes on without its supervisor"


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGTERM, id="SIGTERM"),
        pytest.param(signal.SIGQUIT, id="SIGQUIT", marks=pytest.mark.long),
    ],
)
def test_f07_f11_a_signal_during_the_claims_commit_strands_no_job(
    house: House, number: signal.Signals
) -> None:
    failpoints.arm(house.failpoints, "claim.before_commit", "delay:1")
    job = house.make_job()
    house.wait_for(lambda: failpoints.has_struck(house.failpoints, "claim.before_commit"))
    assert house.worker.process is not None
    house.worker.process.send_signal(number)
    house.worker.process.wait(patience.seconds(30))
    (house.failpoints / "claim.before_commit.struck").unlink()
    house.worker.start()
    house.finish(job)


def test_f14_a_trainer_killed_for_memory_costs_a_strike_and_nothing_else(house: House) -> None:
    """The kernel's own killer, by a limit on the trainer alone."""
    limit = CGROUPS / f"etude-test-{os.getpid()}"
    try:
        limit.mkdir()
        (limit / "memory.limit_in_bytes").write_text(str(256 * 1024**2))
    except OSError:
        pytest.skip("nobody may limit memory here")
    try:
        job = house.make_job(f"steps=40 every=10 pause={0.03 * PACE:.3f} hoard=25 attempts=1")
        house.until_step(job, 12)
        child, trainer = house.child(job), house.trainer(job)
        (limit / "cgroup.procs").write_text(str(trainer))
        until_gone(trainer, 30)
        assert is_running(child)
        house.finish(job, attempts=2)
        first = house.db.scalars(
            select(Attempt).where(Attempt.job_id == job.id).order_by(Attempt.number)
        ).first()
        assert first is not None
        assert (first.outcome, first.exit_code) == ("trainer_lost", -signal.SIGKILL)
        assert job.attempt == 2
    finally:
        limit.rmdir()


def test_f16_a_trainer_that_nobody_can_kill_takes_its_device_out_of_use(
    postgres: Postgres, all_faults: bool
) -> None:
    """Frozen by the kernel, it stays in state D, and no signal reaches it."""
    if not all_faults:
        pytest.skip("a worker waits ten seconds for a death: make faults FAULT_ARGS=--all-faults")
    ice = Path(f"/sys/fs/cgroup/freezer/etude-test-{os.getpid()}")
    try:
        ice.mkdir()
    except OSError:
        pytest.skip("nobody may freeze a process here")
    try:
        with opened(postgres) as house:
            admin = make_user(house.db, role=Role.ADMIN)
            job = house.make_job(LONG)
            house.until_step(job, 12)
            trainer = house.trainer(job)
            (ice / "cgroup.procs").write_text(str(trainer))
            (ice / "freezer.state").write_text("FROZEN")
            house.wait_for(lambda: house.db.scalars(select(QuarantinedDevice)).first())
            house.db.refresh(job)
            assert (job.status, job.strikes) == (JobStatus.QUEUED, 0)
            assert house.db.scalars(select(Attempt.outcome)).one() == "unkillable"
            row = house.db.scalars(select(QuarantinedDevice)).one()
            assert row.reason.startswith(f"A trainer on it cannot be ended (process {trainer}).")
            told = select(Notice.title).where(Notice.user_id == admin.id)
            assert house.db.scalars(told).one() == f"cpu of {row.host} was taken out of use"
            assert is_running(trainer)
            (ice / "freezer.state").write_text("THAWED")
            until_gone(trainer)
            devices.release(house.db, admin, house.db.get_one(Worker, "gpu-0@test"), "cpu")
            house.db.commit()
            house.finish(job, attempts=2)
    finally:
        (ice / "freezer.state").write_text("THAWED")
        until_empty(ice)
        ice.rmdir()


def until_empty(group: Path) -> None:
    wait_until(lambda: not (group / "cgroup.procs").read_text(), seconds=20)


def test_f18_many_reapers_at_once_take_a_job_back_once(house: House) -> None:
    held = [house.make_held_job(distant_worker(), "steps=2 every=1") for _ in range(3)]
    ids = [job.id for job in held]
    past = func.clock_timestamp() - timedelta(hours=1)
    barrier = threading.Barrier(6)

    def reap(_: int) -> list[int]:
        with Session(house.engine) as session:
            barrier.wait()
            found = protocol.reap(session)
            session.commit()
            return found

    with ThreadPoolExecutor(6) as pool:
        asked = pool.map(reap, range(6))
        house.db.execute(update(Job).where(Job.id.in_(ids)).values(lease_until=past))
        house.db.commit()
        list(asked)
    for job in held:
        house.finish(job, attempts=2)


def test_f38_a_wall_clock_that_jumps_a_day_moves_no_lease(postgres: Postgres) -> None:
    """Forwards and backwards, amid training, for the worker alone."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler for the false clock")
    with opened(postgres, with_worker=False) as house:
        clock, library = house.folder / "clock", house.folder / "clock.so"
        source = Path(__file__).with_name("clock.c")
        command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
        subprocess.run(command, check=True)
        clock.write_text("0")
        house.worker = house.make_worker(LD_PRELOAD=str(library), FALSE_CLOCK=str(clock))
        house.worker.start()
        job = house.make_job(f"steps=100 every=10 pause={0.03 * PACE:.3f}")
        house.until_step(job, 5)
        clock.write_text("86400")
        house.until_step(job, 40)
        clock.write_text("-86400")
        house.finish(job, attempts=1)
        days = set(re.findall(r"timestamp=(20\d\d-\d\d-\d\d)T", house.log()))
        assert len(days) > 1, "the clock did not jump"


def test_f40_a_machine_that_slept_past_its_lease_goes_on(house: House) -> None:
    job = house.make_job(LONG)
    house.until_step(job, 12)
    with stopped(house.child(job), house.trainer(job), house.worker.pid):
        time.sleep(LEASE_AND_GRACE + 1)
    house.finish(job, attempts=1)


def test_f43_an_overloaded_machine_is_no_reason_to_stop(house: House, all_faults: bool) -> None:
    if not all_faults:
        pytest.skip("takes the machine from others: make faults FAULT_ARGS=--all-faults")
    job = house.make_job(LONG)
    house.until_step(job, 5)
    program = "while True: pass"
    hogs = [os.spawnlp(os.P_NOWAIT, "python3", "python3", "-c", program) for _ in range(8)]
    try:
        time.sleep(5)
    finally:
        for pid in hogs:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    house.finish(job)


def test_f47_a_stuck_trainer_says_where_before_it_is_killed(house: House) -> None:
    job = house.make_job("steps=8 every=2 hang=5 attempts=1")
    house.finish(job, attempts=2)
    outcome = house.db.scalars(
        select(Attempt.outcome).where(Attempt.job_id == job.id, Attempt.number == 1)
    ).one()
    assert outcome == "stalled"
    assert job.log_tail is not None
    assert "most recent call first" in job.log_tail
    assert "in misbehave" in job.log_tail


def test_f49_a_device_in_other_hands_is_waited_for_with_a_reason(
    postgres: Postgres, all_faults: bool
) -> None:
    if not all_faults:
        pytest.skip("a worker waits ten seconds for a device: make faults FAULT_ARGS=--all-faults")
    with opened(postgres, with_worker=False) as house:
        lock = house.data_dir / "run" / "gpu-0@test.lock"
        lock.parent.mkdir(parents=True)
        with lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            house.worker.start()
            job = house.make_job()
            house.wait_for(lambda: job.attempt == 1 and job.status is JobStatus.QUEUED)
        assert job.strikes == 0
        outcome = house.db.scalars(select(Attempt.outcome)).one()
        assert outcome == "device_busy"
        job.run_after = job.created_at
        house.db.commit()
        house.finish(job, attempts=2)


def test_an_orphan_that_no_signal_reached_makes_way(house: House) -> None:
    """A frozen trainer outlives its supervisor and holds the device; its job is cancelled."""
    job = house.make_job(LONG)
    house.until_step(job, 5)
    trainer, child = house.trainer(job), house.child(job)
    with stopped(trainer):
        requests.cancel(house.db, house.user, job)
        house.db.commit()
        os.kill(child, signal.SIGKILL)
        other = house.make_job()
        house.finish(other)
        assert not is_running(trainer)
    house.until_over(job)


def test_f32_a_strange_holder_of_the_same_number_is_fenced(house: House) -> None:
    """A database put back to an earlier moment gives an attempt's number out again."""
    job = house.make_held_job(distant_worker(), "steps=2 every=1")
    claim = fence.Claim(job.id, job.attempt, "gpu-3@yesterday", 0)
    for write in (fence.heartbeat, protocol.cancelled):
        with pytest.raises(fence.Fenced):
            write(house.db, claim)
        house.db.rollback()
    assert not protocol.held_on(house.db, claim)
    assert protocol.held_on(house.db, replace(claim, worker_id=distant_worker().id))
    house.lapse(job)
    house.finish(job, attempts=2)
