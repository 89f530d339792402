"""Faults of PostgreSQL and of the way to it: nothing is lost, and nobody takes what is held."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from urllib.parse import quote

import httpx2
import psycopg
import pytest
from sqlalchemy import select

from app.core import processes
from app.core.models import Attempt, JobStatus, Worker
from app.jobs import fence, protocol
from app.ops.embedded import folder
from app.ops.embedded.postgres import Postgres
from tests import http, patience
from tests.faults.conftest import opened
from tests.faults.house import LEASE_AND_GRACE, PACE, House, until_gone
from tests.faults.proxy import proxy
from tests.worker.conftest import is_running
from worker import identity

LONG = f"steps=80 every=10 pause={0.03 * PACE:.3f}"


def plain(house: House) -> str:
    return house.url.replace("+psycopg", "")


def test_f29_f30_a_database_killed_amid_training_loses_no_point(
    house: House, postgres: Postgres
) -> None:
    """Down for longer than a lease: on one machine training goes on, and nobody reaps after."""
    job = house.make_job(f"steps=150 every=10 pause={0.03 * PACE:.3f}")
    house.until_step(job, 12)
    trainer = house.trainer(job)
    spool = house.data_dir / "jobs" / str(job.id) / "attempts" / "1" / "events.jsonl"
    house.db.rollback()
    with away(postgres):
        before = spool.stat().st_size
        time.sleep(LEASE_AND_GRACE + 0.5)
        assert is_running(trainer)
        assert spool.stat().st_size > before
    house.finish(job, attempts=1)


@contextmanager
def away(postgres: Postgres) -> Iterator[None]:
    assert postgres.process is not None
    os.killpg(postgres.process.pid, signal.SIGKILL)
    postgres.process.wait()
    try:
        yield
    finally:
        postgres.start()


class Listener(threading.Thread):
    """A page that follows a job on one connection and never opens a second one."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        super().__init__(daemon=True)
        self.url, self.headers = url, headers
        self.steps: list[int] = []
        self.ended = ""

    def run(self) -> None:
        with (
            suppress(httpx2.TransportError),
            httpx2.stream(
                "GET", self.url, headers=self.headers, timeout=patience.seconds(60)
            ) as answer,
        ):
            kind = ""
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if name == "event":
                    kind = value
                elif name == "data" and kind == "metric" and "loss" in json.loads(value)["values"]:
                    self.steps.append(json.loads(value)["step"])
                elif name == "data" and kind == "end":
                    self.ended = json.loads(value)["status"]

    def wait_for_a_step(self) -> None:
        """Wait until it is connected: a job may be quicker than its page opens."""
        deadline = time.monotonic() + patience.seconds(60)
        while not self.steps:
            assert self.is_alive() and time.monotonic() < deadline
            time.sleep(0.02)


def test_f29_pages_and_programs_are_told_to_come_back_and_open_pages_go_on(
    house: House, postgres: Postgres
) -> None:
    web = house.start_web()
    try:
        job = house.make_job("steps=100 every=20 pause=0.05")
        address = f"/jobs/{job.id}"
        listener = Listener(f"{web.address}{address}/events", web.headers())
        listener.start()
        house.until_step(job, 5)
        listener.wait_for_a_step()
        house.db.rollback()
        page = web.headers() | {"Accept": "text/html"}
        with away(postgres):
            for path in ("/", "/queue", address):
                answer = httpx2.get(web.address + path, headers=page, timeout=patience.seconds(30))
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "5"), path
                assert "The database does not answer at the moment" in answer.text
                assert "Please wait a moment" in answer.text
            # What needs no database answers as ever, and so does a mistyped address.
            assert (
                httpx2.get(web.address + "/healthz", timeout=patience.seconds(5)).status_code == 200
            )
            assert (
                httpx2.get(
                    web.address + "/nothing", headers=page, timeout=patience.seconds(30)
                ).status_code
                == 404
            )
            ready = httpx2.get(web.address + "/readyz", timeout=patience.seconds(30))
            assert (ready.status_code, ready.json()["database"]) == (503, "does not answer")
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            told = (
                httpx2.get(
                    web.address + "/v1/models", headers=web.headers(), timeout=patience.seconds(30)
                ),
                web.post("/v1/fine_tuning/jobs", json={"model": "m", "training_file": "file-x"}),
                web.post(f"{address}/pause", more=form | {"Accept": "text/plain"}),
                http.get(f"{web.address}{address}/events", headers=web.headers()),
            )
            for answer in filter(None, told):
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
                if answer.url.path.startswith("/v1/"):
                    error = answer.json()["error"]
                    assert (error["type"], error["code"]) == ("server_error", "unavailable")
                    assert error["message"].startswith("The database does not answer")
        house.finish(job, attempts=1)
        answer = httpx2.get(web.address + "/queue", headers=page, timeout=patience.seconds(30))
        assert answer.status_code == 200
        listener.join(30)
        assert listener.ended == "succeeded"
        assert listener.steps == list(range(1, 101))
        assert "Traceback" not in (house.folder / "web.log").read_text()
    finally:
        web.end()


def test_f31_connections_cut_amid_their_transactions_double_no_point(house: House) -> None:
    job = house.make_job("steps=120 every=20 pause=0.03")
    house.until_step(job, 2)
    with psycopg.connect(plain(house), autocommit=True) as other:
        num_cut = 0
        while num_cut < 40:
            cut = other.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ).fetchone()
            assert cut is not None
            num_cut += int(cut[0])
            time.sleep(0.05)
    house.finish(job, attempts=1)


def test_f33_connections_used_up_stop_no_job_and_are_told_of(
    house: House, all_faults: bool
) -> None:
    """64 workers with 5 connections each fit; where none is left, pages say so."""
    if not all_faults:
        pytest.skip("400 connections: make faults FAULT_ARGS=--all-faults")
    web = house.start_web()
    page = web.headers() | {"Accept": "text/html"}
    job = house.make_job("steps=200 every=50 pause=0.05")
    house.until_step(job, 2)
    with ExitStack() as held:
        for _ in range(64 * 5 - 5):
            held.enter_context(closing(psycopg.connect(plain(house))))
        assert (
            httpx2.get(web.address + "/", headers=page, timeout=patience.seconds(30)).status_code
            == 200
        )
        web.end()  # a fresh one has none in its pool
        with suppress(psycopg.OperationalError):
            while True:
                held.enter_context(closing(psycopg.connect(plain(house))))
        web.start()
        answer = httpx2.get(web.address + "/", headers=page, timeout=patience.seconds(30))
        assert (answer.status_code, answer.headers.get("retry-after")) == (503, "5")
        house.until_step(job, job.step + 5)
    assert (
        httpx2.get(web.address + "/", headers=page, timeout=patience.seconds(30)).status_code == 200
    )
    web.end()
    house.finish(job, attempts=1)


def test_f34_a_deadlock_is_tried_again(house: House) -> None:
    """Ours is the one that PostgreSQL gives up: the other waits for longer before it looks."""
    job = house.make_job(LONG)
    house.until_step(job, 5)
    with (
        psycopg.connect(plain(house)) as other,
        psycopg.connect(plain(house), autocommit=True) as watching,
    ):
        other.execute("SET deadlock_timeout = '60s'")
        # A flush writes the job's row and then the attempt's; we come the other way round.
        other.execute("SELECT 1 FROM attempt WHERE job_id = %s FOR UPDATE", [job.id])
        waits = (
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
            "AND datname = current_database() AND query ILIKE 'WITH held%'"
        )
        house.wait_for(lambda: watching.execute(waits).fetchone())
        other.execute("SELECT 1 FROM job WHERE id = %s FOR UPDATE", [job.id])
        other.rollback()
    house.finish(job, attempts=1)
    assert "deadlock detected" in house.log()


def test_f36_a_table_locked_for_longer_than_a_lease_takes_no_job_away(house: House) -> None:
    job = house.make_job(LONG)
    house.until_step(job, 5)
    trainer = house.trainer(job)
    with psycopg.connect(plain(house)) as other:
        house.db.rollback()  # it has looked at the table
        other.execute("LOCK TABLE job IN ACCESS EXCLUSIVE MODE")
        time.sleep(LEASE_AND_GRACE + 0.5)
        assert is_running(trainer)
        other.rollback()
    house.finish(job, attempts=1)


def test_f37_a_worker_gives_way_to_a_newer_version(house: House) -> None:
    job = house.make_job(LONG)
    house.until_step(job, 12)
    with psycopg.connect(plain(house), autocommit=True) as other:
        (was,) = other.execute("SELECT version_num FROM alembic_version").fetchone() or ("",)
        other.execute("UPDATE alembic_version SET version_num = 'of a newer Etude'")
        house.wait_for(lambda: job.status is JobStatus.QUEUED)
        assert (job.strikes, job.durable_step >= 12) == (0, True)
        time.sleep(1)
        house.db.refresh(job)
        assert (job.status, job.attempt) == (JobStatus.QUEUED, 1)
        said = house.wait_for(lambda: (house.db.get(Worker, "gpu-0@test") or Worker()).readings)
        assert said["problem"].startswith("A newer Etude runs on this site")
        house.worker.terminate()
        other.execute("UPDATE alembic_version SET version_num = %s", [was])
    house.worker.start()  # in the newer version
    house.finish(job, attempts=2)


def test_f39_a_database_clock_that_jumps_ahead_costs_an_attempt_at_most(house: House) -> None:
    job = house.make_job(LONG)
    house.until_step(job, 12)
    trainer = house.trainer(job)
    deadline = time.monotonic() + patience.seconds(30)
    while job.attempt == 1 and time.monotonic() < deadline:
        house.lapse(job)
        house.db.refresh(job)
        if house.db.scalar(select(Attempt.outcome).where(Attempt.job_id == job.id)):
            break
    until_gone(trainer)
    house.finish(job)
    outcomes = house.db.scalars(
        select(Attempt.outcome).where(Attempt.job_id == job.id).order_by(Attempt.number)
    ).all()
    assert outcomes[0] == "lost"
    assert outcomes[-1] == "succeeded"


def test_f41_a_worker_behind_a_dead_line_stops_before_another_goes_on(
    postgres: Postgres,
) -> None:
    """Half open: what is sent is taken and never answered, so the worker hangs in its question."""
    sockets = folder.socket_folder(postgres.settings, "pg")
    with opened(postgres, with_worker=False) as house, proxy(sockets / ".s.PGSQL.5432") as cable:
        host = quote(str(sockets), safe="")
        far = house.url.replace("@/", f"@127.0.0.1:{cable.port}/").replace(f"?host={host}", "")
        assert far != house.url
        house.worker = house.make_worker(DATABASE_URL=far, ETUDE_FENCE_ON_DB_LOSS="yes")
        house.worker.start()
        job = house.make_job(f"steps=100 every=10 pause={0.05 * PACE:.3f}")
        house.until_step(job, 12)
        trainer = house.trainer(job)
        cable.is_silent = True
        spool = house.data_dir / "jobs" / str(job.id) / "attempts" / "1" / "events.jsonl"
        other = house.make_worker(number=1)
        other.start()
        try:
            house.wait_for(lambda: job.attempt == 2)
            size = spool.stat().st_size
            time.sleep(0.3)
            assert spool.stat().st_size == size, "both train"
            cable.is_silent = False
            cable.hang_up()
            until_gone(trainer, 20)
            house.finish(job, attempts=2)
        finally:
            other.end()


def test_f31_what_was_claimed_and_not_heard_of_is_gone_on_with(house: House) -> None:
    """The answer to a claim's commit is lost; the next look finds the claim and takes it up."""
    started = processes.start_ticks(os.getpid())
    assert started is not None
    me = protocol.WorkerInfo(
        "gpu-5@here", identity.host(), identity.boot_id(), os.getpid(), started, ("cpu",)
    )
    job = house.make_held_job(me, "steps=2 every=1")
    claim = protocol.unheard(house.db, me)
    assert claim == fence.Claim(job.id, 1, me.id, 0)
    house.db.commit()
    assert protocol.is_holding(house.db, me.id)
    assert protocol.unheard(house.db, replace(me, supervisor_started=started + 1)) is None
    protocol.requeue(house.db, claim, outcome="stopped", why="Enough.", strike=False)
    house.db.commit()
    assert protocol.unheard(house.db, me) is None
    assert not protocol.is_holding(house.db, me.id)
    house.finish(job, attempts=2)
