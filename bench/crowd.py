"""Who is in the house that `bench.queue` measures: workers, people, and those who only watch.

Simulated workers are real supervisors without a trainer: each claims, writes what a trainer would
have reported, asks what people want, and ends its job. Each is a thread, 16 to a process.
"""

import asyncio
import datetime
import json
import os
import sys
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from bench import processor

PER_PROCESS = 16
NUM_DEPARTMENTS, PEOPLE_EACH = 8, 5
NUM_STEPS = range(10, 21)
PLAN = {"seconds": 30, "tokens_per_second": 100, "peak_bytes": 10**9}
PAGES = ("/", "/queue", "/jobs", "/jobs/1", "/datasets")
LOOK_SECONDS = 0.25


@dataclass(frozen=True)
class Load:
    """How many are in at once, and from when to when (wall clock) they count."""

    workers: int
    streams: int
    lookers: int
    step_seconds: float
    begin_at: float = 0.0  # they come in one by one before that
    end_at: float = 0.0

    @property
    def counts(self) -> bool:
        return self.begin_at <= time.time() < self.end_at


@dataclass
class Spent:
    """Processor milliseconds of one kind of operation: ours, and those of our backends."""

    num: int = 0
    ours: float = 0.0
    backends: float = 0.0


@dataclass
class Meter:
    """Counts what operations cost, by their kind, while a load counts."""

    load: Load
    spent: dict[str, Spent] = field(default_factory=lambda: defaultdict(Spent))
    _now: threading.local = field(default_factory=threading.local)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Follow the backends of all connections of this process."""
        from sqlalchemy import event
        from sqlalchemy.pool import Pool

        event.listen(Pool, "connect", self._connected)
        event.listen(Pool, "checkin", self._given_back)
        try:
            yield
        finally:
            event.remove(Pool, "connect", self._connected)
            event.remove(Pool, "checkin", self._given_back)

    @contextmanager
    def of(self, kind: str, num: int = 1) -> Iterator[None]:
        """Count what this thread does, as so many operations of a kind."""
        self._now.kind, began = kind, time.thread_time()
        try:
            yield
        finally:
            self._now.kind = "other"
            self._add(kind, num, ours=1000 * (time.thread_time() - began))

    def _connected(self, connection: Any, record: Any) -> None:
        record.info["used"] = processor.of_backend(connection.info.backend_pid)

    def _given_back(self, connection: Any, record: Any) -> None:
        if connection is None or connection.closed:
            return
        used = processor.of_backend(connection.info.backend_pid)
        kind = getattr(self._now, "kind", "other")
        self._add(kind, backends=used - record.info.get("used", used))
        record.info["used"] = used

    def _add(self, kind: str, num: int = 0, ours: float = 0.0, backends: float = 0.0) -> None:
        if self.load.counts:
            with self._lock:
                mine = self.spent[kind]
                mine.num += num
                mine.ours += ours
                mine.backends += backends


# --- the queue that they find -----------------------------------------------------------------


def fill(num_jobs: int, num_workers: int) -> list[str]:
    """Make departments, people, data and the line; returns a session of each person."""
    from sqlalchemy import insert, text

    from app.core import db
    from app.core.models import Job, Worker
    from app.people import auth
    from app.training.plan.machine import DeviceInfo
    from tests import factories

    with db.session() as session:
        people = []
        for number in range(NUM_DEPARTMENTS):
            department = factories.make_department(session, f"Department {number}")
            people += [
                factories.make_user(session, department=department) for _ in range(PEOPLE_EACH)
            ]
        versions = {each.id: factories.make_dataset_version(session, user=each) for each in people}
        first = factories.make_job(session, user=people[0], version=versions[people[0].id])
        rows = []
        for number in range(num_jobs - 1):
            owner = people[number * 7 % len(people)]
            rows.append(
                {
                    "department_id": owner.department_id,
                    "owner_id": owner.id,
                    "name": f"Job {number}",
                    "version_id": versions[owner.id].id,
                    "base_model_id": first.base_model_id,
                    "config": first.config,
                    "plan": PLAN,
                    "needs_bytes": PLAN["peak_bytes"],
                }
            )
        session.execute(insert(Job), rows)
        hardware = DeviceInfo(kind="cuda", name="Simulated", free_bytes=24 * 10**9).model_dump()
        for number in range(num_workers):
            session.add(
                Worker(id=f"gpu-{number}@h{number}", queue="gpu", host=f"h{number}", boot_id="b",
                       devices=["cuda:0"], version="0", hardware=hardware)
            )  # fmt: skip
        cookies = [auth.open_session(session, each) for each in people]
        session.commit()
        session.execute(text("ANALYZE"))
        session.commit()
    return cookies


# --- workers ----------------------------------------------------------------------------------


def work(first: int, number: int, come_in: Any, told: Any, answers: Any) -> None:
    """Be some workers, in a process of their own, once told for how long.

    Args:
        come_in: Set when `told` holds the load.
    """
    os.environ["ETUDE_WORKER_ID"] = "bench"  # a thread says by itself who it is
    from worker.gpu import supervisor

    assert supervisor  # read from the disk before anybody is timed
    # True workers share no interpreter: they do not wait for each other's turn in it.
    sys.setswitchinterval(0.0005)
    answers.put("ready")
    come_in.wait()
    load: Load = told.get()
    meter = Meter(load)
    claims: list[float] = []
    ended: list[int] = []
    threads = [
        threading.Thread(target=_worker, args=(first + n, load, meter, claims, ended))
        for n in range(number)
    ]
    with meter.watching():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    answers.put((claims, len(ended), dict(meter.spent)))


def _worker(number: int, load: Load, meter: Meter, claims: list[float], ended: list[int]) -> None:
    from app.core import settings
    from app.jobs import protocol
    from app.ops.embedded.servers import redis_client
    from worker.gpu import supervisor

    me = protocol.WorkerInfo(f"gpu-{number}@h{number}", f"h{number}", "boot", 1, 1, ("cpu",))
    with redis_client(settings.get().redis_url, timeout_seconds=5) as bell:
        # One after the other, so that not all ask in the same moment for ever.
        time.sleep(max(0.0, load.begin_at - time.time()) * number / load.workers)
        # There is always something for the others. Its jobs are over at once, to be free again.
        is_free = number == load.workers - 1
        step_seconds = 0.01 if is_free else load.step_seconds
        while time.time() < load.end_at:
            if is_free and bell.brpop(["etude:gpu"], timeout=1) is None:
                continue
            began = time.perf_counter()
            with meter.of("claim"):
                claim = supervisor._claim(me)
            if load.counts:
                claims.append(1000 * (time.perf_counter() - began))
            if claim is None:
                bell.brpop(["etude:gpu"], timeout=1)
                continue
            _train(me, claim, step_seconds, load.end_at, meter)
            ended.append(claim.job_id)


class _NoTrainer:
    """Stands where a supervisor has its trainer: prints nothing, and ends by itself."""

    def cap_log(self) -> None: ...

    def ask_to_stop(self) -> None: ...

    def kill(self) -> None: ...


def _train(me: Any, claim: Any, step_seconds: float, end_at: float, meter: Meter) -> None:
    from app.core import db
    from app.jobs import protocol
    from worker.gpu.supervisor import Supervisor

    supervisor, trainer = Supervisor(claim), _NoTrainer()
    supervisor.worker = me
    num_steps = NUM_STEPS[claim.job_id % len(NUM_STEPS)]
    for step, events in _events(claim.resume_step, num_steps):
        if time.time() > end_at:
            break
        supervisor.pump._pending += [(step * 100, event) for event in events]
        over_at, num = time.monotonic() + step_seconds, 1
        # One heartbeat: all that is written and asked for a job in the time of one step.
        while (left := over_at - time.monotonic()) > 0:
            with meter.of("heartbeat", num):
                supervisor.pump.flush_if_due(is_last=False)
                supervisor._heed_wishes(trainer)  # type: ignore[arg-type]
            num = 0
            time.sleep(min(LOOK_SECONDS, left))
    measured = {"seconds": 30.0, "tokens_per_second": 100.0, "peak_bytes": 10**9}
    with meter.of("end"):
        supervisor.pump.flush_if_due(is_last=True)
        with db.session() as session:
            protocol.succeed(session, claim, measured=measured)
            session.commit()


def _events(after: int, num_steps: int) -> Iterator[tuple[int, list[Any]]]:
    from app.training.events import CheckpointEvent, EvaluationEvent, PlanEvent, StepEvent

    now = time.time()
    plan = PlanEvent(
        at=now, total_steps=num_steps, num_train=20, num_validation=4, num_truncated=0, plan={}
    )
    for step in range(after + 1, num_steps + 1):
        now = time.time()
        events: list[Any] = [
            StepEvent(at=now, step=step, epoch=step / 5, loss=3 / step, learning_rate=1e-3,
                      grad_norm=1, num_tokens=100, tokens_per_second=100)
        ]  # fmt: skip
        if step == after + 1:
            events.insert(0, plan)
        if step % 5 == 0:
            path = f"checkpoints/step-{step:05d}"
            events.append(EvaluationEvent(at=now, step=step, loss=3 / step, is_best=True))
            events.append(CheckpointEvent(at=now, step=step, path=path, manifest_sha256="0" * 64))
        yield step, events


# --- people -----------------------------------------------------------------------------------


def hint(load: Load, starts: list[float]) -> None:
    """Make a job that goes before all others now and then, and see how soon a worker has it."""
    from sqlalchemy import select

    from app.core import db, wakeup
    from app.core.models import Attempt, User
    from tests import factories

    with db.session() as session:
        owner = session.scalars(select(User).order_by(User.id)).first()
        version = factories.make_dataset_version(session, user=owner)
        while time.time() < load.end_at - 5:
            # First in line: for the worker at the bell, or who has ended a job at this moment.
            job = factories.make_job(
                session, user=owner, version=version, priority=-1, plan=PLAN, needs_bytes=10**9
            )
            made = time.time()
            wakeup.hint("gpu")
            while time.time() < min(load.end_at, made + 60):
                begun = session.scalar(select(Attempt.started_at).where(Attempt.job_id == job.id))
                session.rollback()
                if begun is not None:
                    starts.append(1000 * (begun.timestamp() - made))
                    break
                time.sleep(0.05)
            time.sleep(1)


def look(address: str, cookie: str, load: Load, pages: dict[str, list[float]]) -> None:
    """Go through the pages as somebody does who is in no hurry."""
    number = 0
    while time.time() < load.end_at:
        path = PAGES[number % len(PAGES)]
        took = open_page(address, path, cookie)
        if load.counts and took is not None:
            pages[path].append(took)
        number += 1
        time.sleep(LOOK_SECONDS)


def open_page(address: str, path: str, cookie: str) -> float | None:
    """Fetch a page; gives the milliseconds that it took, or nothing where it did not come."""
    request = urllib.request.Request(address + path, headers={"Cookie": f"etude_session={cookie}"})
    began = time.perf_counter()
    with suppress(OSError), urllib.request.urlopen(request, timeout=60) as answer:
        answer.read()
        return 1000 * (time.perf_counter() - began)
    return None


async def watch(address: str, cookies: list[str], load: Load) -> list[float]:
    """Keep the streams open, each on a job that trains, and take how old each point is."""
    points: list[float] = []
    watchers = [_stream(address, cookies, n, load, points) for n in range(load.streams)]
    await asyncio.gather(*watchers)
    return points


async def _stream(
    address: str, cookies: list[str], number: int, load: Load, points: list[float]
) -> None:
    host, port = address.removeprefix("http://").split(":")
    await asyncio.sleep(max(0.0, load.begin_at - time.time()) * number / load.streams)
    while time.time() < load.end_at:
        found = await asyncio.to_thread(_running, number)
        if found is None:
            await asyncio.sleep(0.5)
            continue
        job_id, person = found
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection(host, int(port))
            request = f"GET /jobs/{job_id}/events HTTP/1.1\r\nHost: {host}:{port}\r\n"
            writer.write(f"{request}Cookie: etude_session={cookies[person]}\r\n\r\n".encode())
            await _read(reader, load, points)
            writer.close()


async def _read(reader: asyncio.StreamReader, load: Load, points: list[float]) -> None:
    event, began = "", time.time()
    while time.time() < load.end_at:
        line = (await asyncio.wait_for(reader.readline(), 30)).decode().strip()
        if line.startswith("event: "):
            event = line[7:]
        elif line.startswith("data: ") and event == "metric":
            at = datetime.datetime.fromisoformat(json.loads(line[6:])["at"]).timestamp()
            # What was there before the page was opened is not live.
            if at > began and load.counts:
                points.append(1000 * (time.time() - at))
        elif line.startswith("data: ") and event == "end":
            return


class _Training:
    """The jobs in training, asked for at most twice a second however many streams want to know."""

    def __init__(self) -> None:
        self.asked_at = 0.0
        self.rows: list[tuple[int, int]] = []
        self.lock = threading.Lock()

    def now(self) -> list[tuple[int, int]]:
        from sqlalchemy import select

        from app.core import db
        from app.core.models import Job, JobStatus

        with self.lock:
            if time.time() - self.asked_at > 0.5:
                with db.session() as session:
                    found = session.execute(
                        select(Job.id, Job.owner_id)
                        .where(Job.status == JobStatus.RUNNING)
                        .order_by(Job.id)
                    )
                    self.rows = [(job_id, owner) for job_id, owner in found]
                self.asked_at = time.time()
            return self.rows


_training = _Training()


def _running(number: int) -> tuple[int, int] | None:
    """Return one of the jobs in training, and who may see it."""
    rows = _training.now()
    if not rows:
        return None
    job_id, owner = rows[number % len(rows)]
    return job_id, owner - 1  # people were made first, in order
