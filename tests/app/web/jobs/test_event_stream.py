"""The event stream over a real connection: a real server process, a real PostgreSQL."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import httpx2
import psycopg
import pytest
from sqlalchemy.orm import Session

from app.core.models import Job, JobStatus, User, WebSession
from app.jobs import metrics, stream
from app.ops.embedded.postgres import Postgres
from app.people import auth
from app.training.events import EvaluationEvent, StepEvent
from tests import http, patience, warm
from tests.conftest import own_database
from tests.factories import make_department, make_job, make_user

Event = dict[str, str]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_web(port: int) -> subprocess.Popen[bytes]:
    """Start a web process and wait until it answers."""
    process = warm.Popen(
        [
            *(sys.executable, "-m", "uvicorn", "app.main:create_app", "--factory"),
            *("--port", str(port), "--log-level", "warning"),
        ],
        env={**os.environ, "ETUDE_STREAM_CHECK_SECONDS": "0.5"},
    )
    deadline = time.monotonic() + patience.seconds(60)
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return process
        assert process.poll() is None, "the web process did not start"
        assert time.monotonic() < deadline, "the web process does not answer"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def house(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One database and one web process for the whole file; returns the database's address."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ETUDE_DATA_DIR", str(tmp_path_factory.mktemp("events") / "var"))
        with own_database(postgres, patch) as url:
            yield url


@pytest.fixture
def database_url(house: str) -> str:
    return house


@pytest.fixture(scope="module")
def web(house: str) -> Iterator[str]:
    port = free_port()
    process = start_web(port)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(patience.seconds(20))


@pytest.fixture
def job(db: Session) -> Job:
    return make_running(db, make_user(db))


def make_running(db: Session, user: User) -> Job:
    return make_job(
        db,
        user=user,
        status=JobStatus.RUNNING,
        attempt=1,
        worker_id="gpu-0@here",
        lease_until=datetime.now(UTC) + timedelta(hours=1),
    )


def report(db: Session, job: Job, first: int, last: int) -> None:
    """Write what a trainer says about these steps, as its supervisor does: one step a commit."""
    for step in range(first, last + 1):
        event = StepEvent(
            at=time.time(),
            step=step,
            epoch=step / 10,
            loss=2 - step / 100,
            learning_rate=1e-4,
            grad_norm=1,
            num_tokens=100,
            tokens_per_second=500,
        )
        metrics.ingest(db, job.id, 1, [event], step)
        db.commit()


def cookie(db: Session, user: User) -> dict[str, str]:
    secret = auth.open_session(db, user)
    db.commit()
    return {"Cookie": f"{auth.COOKIE}={secret}"}


def listen(
    url: str, headers: dict[str, str], is_enough: Callable[[list[Event]], bool]
) -> list[Event]:
    """Read events until there are enough of them, or the server ends the stream."""
    found: list[Event] = []
    event: Event = {}
    with httpx2.stream("GET", url, headers=headers, timeout=patience.seconds(20)) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-accel-buffering"] == "no"
        for line in answer.iter_lines():
            if line:
                name, _, value = line.partition(": ")
                event[name] = value
            elif event:
                found.append(event)
                event = {}
                if is_enough(found):
                    break
    return found


def steps(events: list[Event]) -> list[int]:
    return [json.loads(e["data"])["step"] for e in events if e.get("event") == "metric"]


def test_replays_everything_and_goes_on_live(db: Session, web: str, job: Job) -> None:
    report(db, job, 1, 5)
    headers = cookie(db, job.owner)
    came_at: list[float] = []

    def is_enough(events: list[Event]) -> bool:
        num_steps = len(steps(events))
        if num_steps - 5 == len(came_at):
            came_at.append(time.monotonic())
            if num_steps < 9:
                report(db, job, num_steps + 1, num_steps + 1)
        return num_steps == 9

    events = listen(f"{web}/jobs/{job.id}/events", headers, is_enough)
    assert steps(events) == list(range(1, 10))
    ids = [int(event["id"]) for event in events if "id" in event]
    assert ids == sorted(set(ids))
    # Woken by PostgreSQL, not by the fallback: that looks every two seconds, so what is said right
    # after a look waits for all of them, each time.
    assert min(after - before for before, after in pairwise(came_at)) < 1.5


def test_a_reconnect_leaves_no_gap_and_doubles_nothing(db: Session, web: str, job: Job) -> None:
    report(db, job, 1, 20)
    headers = cookie(db, job.owner)
    address = f"{web}/jobs/{job.id}/events"
    first = listen(address, headers, lambda events: len(steps(events)) == 7)
    last_id = [event["id"] for event in first if "id" in event][-1]
    report(db, job, 21, 25)
    # A browser that reconnects by itself repeats the address: its header must win over ?after=.
    second = listen(
        f"{address}?after=1",
        {**headers, "Last-Event-ID": last_id},
        lambda events: len(steps(events)) == 18,
    )
    assert steps(first) + steps(second) == list(range(1, 26))


def test_after_skips_what_the_page_has(db: Session, web: str, job: Job) -> None:
    report(db, job, 1, 4)
    events = listen(
        f"{web}/jobs/{job.id}/events?after=3", cookie(db, job.owner), lambda e: bool(steps(e))
    )
    assert steps(events) == [4]


def test_a_taken_up_attempt_rewinds_the_curve(db: Session, web: str, job: Job) -> None:
    report(db, job, 1, 3)
    stream.say(db, job.id, "resumed", "Going on from step 2.", data={"step": 2})
    db.commit()
    events = listen(
        f"{web}/jobs/{job.id}/events",
        cookie(db, job.owner),
        lambda found: found[-1].get("event") == "rewind",
    )
    assert json.loads(events[-1]["data"])["step"] == 2


def test_ends_with_the_job_after_the_last_point(db: Session, web: str, job: Job) -> None:
    report(db, job, 1, 3)
    evaluation = EvaluationEvent(at=time.time(), step=3, loss=1.5, is_best=True)
    metrics.ingest(db, job.id, 1, [evaluation], 4)
    db.commit()
    headers = cookie(db, job.owner)

    def is_enough(events: list[Event]) -> bool:
        if len(steps(events)) == 4 and events[-1].get("event") == "job":
            job.status, job.worker_id, job.lease_until = JobStatus.SUCCEEDED, None, None
            db.flush()
            stream.wake(db, job.id)
            db.commit()
        return False  # the server has to end it

    events = listen(f"{web}/jobs/{job.id}/events", headers, is_enough)
    assert events[-1]["event"] == "end"
    point = next(json.loads(e["data"]) for e in events if e.get("id") == "4")
    assert point["values"] == {"validation_loss": 1.5}
    assert "1.500" in point["note"]["message"]
    assert json.loads(events[-1]["data"]) == {"status": "succeeded"}
    assert json.loads(events[-2]["data"])["texts"]["status"] == "Finished"


def test_strangers_and_nobody_are_refused(db: Session, web: str, job: Job) -> None:
    stranger = make_user(db, department=make_department(db))
    address = f"{web}/jobs/{job.id}/events"
    assert http.get(address, headers=cookie(db, stranger)).status_code == 404
    assert http.get(address).status_code == 401


def test_signing_out_cuts_the_stream_off(db: Session, web: str, job: Job) -> None:
    report(db, job, 1, 1)
    headers = cookie(db, job.owner)

    def is_enough(events: list[Event]) -> bool:
        if steps(events) == [1]:
            db.query(WebSession).delete()
            # Something has to happen for the stream to look up before its heartbeat.
            time.sleep(0.6)
            report(db, job, 2, 2)
        return False

    events = listen(f"{web}/jobs/{job.id}/events", headers, is_enough)
    assert steps(events) == [1]


def test_streams_survive_a_lost_connection_to_the_database(
    db: Session, web: str, job: Job, database_url: str
) -> None:
    headers = cookie(db, job.owner)
    report(db, job, 1, 1)
    is_cut = False

    def is_enough(events: list[Event]) -> bool:
        nonlocal is_cut
        if steps(events) == [1] and not is_cut:
            is_cut = True
            with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as other:
                cut = other.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE application_name = 'etude-streams' AND datname = current_database()"
                ).fetchall()
            assert cut == [(True,)]
            report(db, job, 2, 4)
        return len(steps(events)) == 4

    assert steps(listen(f"{web}/jobs/{job.id}/events", headers, is_enough)) == [1, 2, 3, 4]


def test_the_web_process_stops_promptly_with_open_streams(db: Session, job: Job) -> None:
    port = free_port()
    process = start_web(port)
    report(db, job, 1, 1)
    address = f"http://127.0.0.1:{port}/jobs/{job.id}/events"
    with httpx2.stream(
        "GET", address, headers=cookie(db, job.owner), timeout=patience.seconds(20)
    ) as answer:
        lines = answer.iter_lines()
        next(line for line in lines if line.startswith("event: metric"))
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        rest = list(lines)
        assert time.monotonic() - began < patience.seconds(5)
        assert not any(line.startswith("event: end") for line in rest)
    assert process.wait(patience.seconds(10)) in (0, -signal.SIGTERM)
