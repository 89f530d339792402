"""Three hosts that share a database, a broker and a storage: cut off, back, lost, clocks apart.

Minutes are seconds here: a lease and its grace take about two on a quick machine, and partitions
last several times as long.
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest
from sqlalchemy import select

from app.core.models import Attempt, Job
from app.ops.embedded.postgres import Postgres
from tests.faults import hosts
from tests.faults.hosts import Host, Site
from tests.faults.house import LEASE_AND_GRACE, PACE, until_gone

LONG = f"steps=60 every=10 pause={0.04 * PACE:.3f}"
LONGER = f"steps=400 every=10 pause={0.04 * PACE:.3f}"  # until the slowest of three has begun


@lru_cache
def why_not() -> str:
    return hosts.why_not() if os.geteuid() == 0 else "only root makes networks"


@pytest.fixture(params=["folder", pytest.param("bucket", marks=pytest.mark.long)])
def site(request: pytest.FixtureRequest, postgres: Postgres) -> Iterator[Site]:
    if reason := why_not():
        pytest.skip(reason)
    place = Path(tempfile.mkdtemp(prefix="etude-n"))
    try:
        with hosts.opened(postgres, place, request.param) as made:
            yield made
    finally:
        shutil.rmtree(place, ignore_errors=True)


def attempts_of(site: Site, job: Job) -> list[Attempt]:
    site.db.expire_all()
    found = select(Attempt).where(Attempt.job_id == job.id).order_by(Attempt.number)
    return list(site.db.scalars(found))


def until_copied(site: Site, job: Job, step: int) -> None:
    """Wait until the checkpoint of a step is surely where all hosts find it."""
    saved = f"checkpoints/step-{step:05d}"
    site.wait_for(lambda: f"event=checkpoint.copied job={job.id} path={saved}" in site.log())


def add_hosts(site: Site, num: int = 3) -> None:
    """Have hosts there; all of them before a job begins, which else is over before the slowest."""
    for _ in range(num):
        site.add_host()


def test_a_host_that_is_cut_off_stops_before_another_takes_over(site: Site) -> None:
    add_hosts(site)
    job = site.make_job(LONG)
    until_copied(site, job, 20)
    first, trainer = site.on(job), site.trainer(job)
    events = first.data_dir / "jobs" / str(job.id) / "attempts" / "1" / "events.jsonl"
    first.cut()
    began_at = time.monotonic()
    site.wait_for(lambda: job.attempt == 2)
    told = events.stat().st_size
    assert time.monotonic() - began_at >= LEASE_AND_GRACE - 1.5 * PACE
    second = site.on(job)
    assert second is not first
    resumed = attempts_of(site, job)[1].resume_step
    assert resumed >= 10, "it began anew"

    # Its supervisor may still wait for an answer (TCP does, for seconds); a trainer that nobody
    # has told to go on holds still from then on, and ends by itself.
    until_gone(trainer, 20)
    assert events.stat().st_size == told, "both train"
    time.sleep(3 * LEASE_AND_GRACE)  # "minutes", in which the first may not come back by itself
    first.mend()
    site.finish(job, attempts=2)
    assert attempts_of(site, job)[1].worker_id == f"gpu-0@{second.name}"

    # It is a worker like the others again.
    for host in site.hosts:
        if host is not first:
            host.lose()
    again = site.make_job("steps=6 every=2 pause=0.02")
    site.finish(again)
    assert attempts_of(site, again)[-1].worker_id == f"gpu-0@{first.name}"


@pytest.mark.long
def test_a_host_that_is_lost_costs_its_job_the_steps_since_a_checkpoint(site: Site) -> None:
    add_hosts(site)
    job = site.make_job(LONG)
    until_copied(site, job, 20)
    site.on(job).lose()
    site.finish(job, attempts=2)
    lost, taken = attempts_of(site, job)
    assert lost.outcome == "lost"
    assert taken.resume_step >= 10
    assert taken.worker_id != lost.worker_id


@pytest.fixture
def clock(tmp_path: Path) -> Path:
    """The library that moves a process's wall clock."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to make a false clock with")
    library, source = tmp_path / "clock.so", Path(__file__).with_name("clock.c")
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return library


def add_with_clock(site: Site, library: Path, seconds: int) -> Host:
    moved = site.folder / f"clock-{len(site.hosts)}"
    moved.write_text(str(seconds))
    return site.add_host(LD_PRELOAD=str(library), FALSE_CLOCK=str(moved))


def test_clocks_a_minute_apart_take_no_job_away_and_hold_none(site: Site, clock: Path) -> None:
    for seconds in (60, -60, 0):
        add_with_clock(site, clock, seconds)
    jobs = [site.make_job(LONGER) for _ in range(3)]
    for job in jobs:
        site.until_step(job, 25)
    assert {site.on(job).name for job in jobs} == {host.name for host in site.hosts}
    early = next(job for job in jobs if site.on(job) is site.hosts[0])
    trainer = site.trainer(early)
    site.hosts[0].cut()  # its clock is early: by its own, nobody else's lease could be over
    for job in jobs:
        site.finish(job)
    until_gone(trainer, 20)
    assert sorted(job.attempt for job in jobs) == [1, 1, 2]


@pytest.mark.long
def test_a_host_that_is_cut_off_while_it_publishes_publishes_once(site: Site) -> None:
    first = site.add_host()
    job = site.make_job("steps=30 every=10 pause=0.02")
    site.until_step(job, 25)
    first.cut()
    add_hosts(site, 2)
    site.wait_for(lambda: job.attempt == 2 or job.status.is_final)
    first.mend()
    site.finish(job)
    ends = [attempt.outcome for attempt in attempts_of(site, job)]
    assert ends.count("succeeded") == 1
