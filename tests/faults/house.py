"""A house to break things in: database, broker, data directory and worker of its own.

Its constants are short, so that leases run out while one looks; the trainer is the stand-in. What
must be true afterwards, whatever was broken, is `check`.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import count, pairwise
from pathlib import Path
from typing import Any, Literal, TypeVar

import httpx2
import psycopg
from sqlalchemy import func, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.base_models import copies
from app.core import db as database
from app.core import settings, wakeup
from app.core.models import (
    Adapter,
    Attempt,
    BaseModel,
    Checkpoint,
    Desired,
    Job,
    JobStatus,
    Metric,
)
from app.jobs import metrics, protocol
from app.ops.embedded.postgres import Postgres
from app.ops.embedded.valkey import Valkey
from app.people import auth
from app.training import manifests
from tests import patience, warm
from tests.factories import make_base_model, make_dataset_version, make_user
from tests.factories import make_job as factory_job
from tests.worker.answering.asking import STAND_IN, AnswerProcess
from tests.worker.conftest import ROOT, WorkerProcess, is_running, supervisor_pid, trainer_pid
from tests.worker.stand_in_trainer import loss_at
from worker import identity

T = TypeVar("T")
_number = count(1)
# What a lease allows must be enough for a slow machine to renew it.
PACE = patience.factor()
CONSTANTS = STAND_IN | {
    "ETUDE_TRAINER_MODULE": "tests.worker.stand_in_trainer",
    "ETUDE_EXPORT_MODULE": "tests.worker.stand_in_exporter",
    "ETUDE_HEARTBEAT_SECONDS": "0.2",
    "ETUDE_SELF_FENCE_SECONDS": f"{PACE:.2f}",
    "ETUDE_LEASE_SECONDS": f"{1.5 * PACE:.2f}",
    "ETUDE_REAP_GRACE_SECONDS": "0.2",
    "ETUDE_REAPER_PATIENCE_SECONDS": f"{0.5 * PACE:.2f}",
    "ETUDE_SWEEP_SECONDS": "0.2",
    "ETUDE_WATCH_SECONDS": "0.1",
    "ETUDE_METRICS_FLUSH_SECONDS": "0.05",
    "ETUDE_RETRY_BACKOFF_SECONDS": "0",
    "ETUDE_DRAIN_SECONDS": f"{5 * PACE:.2f}",
    "ETUDE_STALL_SECONDS": f"{4 * PACE:.2f}",
    "ETUDE_DISK_RESERVE_BYTES": "0",
    # A crowded machine may strike by itself; giving up has tests of its own.
    "ETUDE_MAX_STRIKES": "50",
    # What is evaluated, and when, has tests of its own (test_evaluating.py).
    "ETUDE_EVALUATE_AFTER_TRAINING": "false",
}
# When a lease that nobody renews is certainly over.
LEASE_AND_GRACE = 1.5 * PACE + 0.2


class House:
    """All of it; `start` and `end`, or as a context."""

    def __init__(self, postgres: Postgres, folder: Path, **environment: str) -> None:
        self.postgres = postgres
        self.folder = folder
        self.data_dir = folder / "var"
        self.failpoints = folder / "failpoints"
        self.name = f"h{os.getpid()}_{next(_number)}"
        self.url = postgres.url.replace("@/etude?", f"@/{self.name}?")
        self.broker = Valkey(settings.load(data_dir=folder / "broker"), "+config +flushall +client")
        self.environment = CONSTANTS | {
            "ETUDE_FAILPOINTS": str(self.failpoints),
            "ETUDE_DATA_DIR": str(self.data_dir),
            "DATABASE_URL": postgres.app_url.replace("@/etude?", f"@/{self.name}?"),
            "DATABASE_OWNER_URL": self.url,
            **environment,
        }
        self.worker = self.make_worker()
        self.cpu_worker: WorkerProcess | None = None
        self.web: Web | None = None
        self.answerer: AnswerProcess | None = None

    def make_worker(self, number: int = 0, **environment: str) -> WorkerProcess:
        name = {"ETUDE_WORKER_ID": f"gpu-{number}@test"}
        return WorkerProcess("gpu", self.folder, environment=self.environment | name | environment)

    def start(self, with_worker: bool = True) -> None:
        self.data_dir.mkdir(parents=True)
        self.failpoints.mkdir()
        server = self.postgres.url.replace("@/etude?", "@/postgres?")
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {self.name} TEMPLATE template1 STRATEGY file_copy")
        self.broker.start()
        self.environment["REDIS_URL"] = self.broker.url
        self.worker = self.make_worker()
        self.engine = database.make_engine(self.url)
        self.db = Session(self.engine, expire_on_commit=False)
        self.user = make_user(self.db)
        self.version = make_dataset_version(self.db, user=self.user, num_train=2, num_validation=1)
        make_base_model(self.db)
        if with_worker:
            self.worker.start()

    def end(self) -> None:
        self.worker.end()
        if self.cpu_worker is not None:
            self.cpu_worker.end()
        if self.answerer is not None:
            self.answerer.end()
        if self.web is not None:
            self.web.end()
        self.db.invalidate()  # a test may have ended the server under its connection
        self.engine.dispose()
        self.broker.stop()
        server = self.postgres.url.replace("@/etude?", "@/postgres?")
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {self.name} WITH (FORCE)")

    # --- jobs

    def make_job(self, orders: str = "steps=6 every=2 pause=0.02", ring: bool = True) -> Job:
        job = factory_job(self.db, user=self.user, version=self.version, desired=Desired.PAUSE)
        # The worker would take it with another's name.
        job.name, job.desired = orders, Desired.RUN
        self.db.commit()
        if ring:
            self.ring()
        return job

    def make_held_job(self, holder: protocol.WorkerInfo, orders: str) -> Job:
        """A job in the hands of another worker from the first moment on."""
        job = factory_job(self.db, user=self.user, version=self.version, desired=Desired.PAUSE)
        job.name, job.desired = orders, Desired.RUN
        self.db.flush()
        claim = protocol.claim(self.db, holder)
        assert claim is not None
        assert claim.job_id == job.id
        self.db.commit()
        self.db.refresh(job)
        return job

    def lapse(self, job: Job) -> None:
        """Let a lease have run out long ago, as after a jump of the database's clock."""
        past = func.clock_timestamp() - timedelta(hours=1)
        self.db.execute(update(Job).where(Job.id == job.id).values(lease_until=past))
        self.db.commit()

    def ring(self, queue: Literal["gpu", "cpu"] = "gpu") -> bool:
        return wakeup.ring(self.broker.url, queue)

    def wait_for(self, look: Callable[[], T | None], seconds: float = 60) -> T:
        """Look, in a fresh transaction each time, until there is something to see."""
        deadline = time.monotonic() + patience.seconds(seconds)
        while True:
            with suppress(OperationalError):  # the database itself may be away
                self.db.rollback()
                self.db.expire_all()
                found = look()
                if found:
                    return found
            assert time.monotonic() < deadline, f"it did not happen in time\n{self.log()}"
            try:
                time.sleep(0.03)
            except BaseException:  # the whole test's limit: what it waited for would not be known
                print(self.log())
                raise

    def until_over(self, job: Job, seconds: float = 60) -> Job:
        self.wait_for(lambda: job.status.is_final, seconds)
        return job

    def until_step(self, job: Job, step: int) -> None:
        self.wait_for(lambda: job.step >= step)

    def finish(self, job: Job, attempts: int | None = None) -> None:
        """Wait for a job's success, and look that nothing was lost or doubled on the way."""
        self.until_over(job)
        assert job.status is JobStatus.SUCCEEDED, (job.reason, job.log_tail, self.log())
        self.check(job)
        if attempts is not None:
            assert job.attempt == attempts, self.log()

    def check(self, job: Job) -> None:
        """What must be true of a job that is over, whatever has happened to it."""
        words = dict((word + "=1").split("=")[:2] for word in job.name.split())
        tries = self.db.scalars(
            select(Attempt).where(Attempt.job_id == job.id).order_by(Attempt.number)
        ).all()
        assert [a.number for a in tries] == list(range(1, job.attempt + 1))
        assert all(a.ended_at is not None for a in tries)
        for one, other in pairwise(tries):
            assert one.ended_at is not None
            assert one.ended_at <= other.started_at
        assert (job.worker_id, job.lease_until) == (None, None)
        made = self.db.scalars(select(Adapter).where(Adapter.job_id == job.id)).all()
        if job.status is not JobStatus.SUCCEEDED:
            assert made == []
            return
        assert len(made) == 1
        stored = self.data_dir / "storage" / str(made[0].storage_key)
        assert manifests.verify_manifest(stored) == made[0].manifest_sha256
        steps, every = int(words.get("steps", 20)), int(words.get("every", 10))
        curves = metrics.series(self.db, job.id)
        assert curves["loss"] == [(step, loss_at(step)) for step in range(1, steps + 1)]
        asked = range(0, steps + 1, every)
        assert curves["validation_loss"] == [(step, loss_at(step) + 0.5) for step in asked]
        told = select(Metric.seq).where(Metric.job_id == job.id, Metric.name == "loss")
        numbers = self.db.scalars(told.order_by(Metric.step)).all()
        assert numbers == sorted(set(numbers))
        kept = self.db.scalars(select(Checkpoint.step).where(Checkpoint.job_id == job.id)).all()
        assert len(kept) == len(set(kept))
        said = self.db.scalar(
            select(func.count()).where(Job.id == job.id, Job.event_seq >= len(numbers))
        )
        assert said == 1

    def check_nothing_runs(self) -> None:
        self.db.rollback()
        left = self.db.scalars(select(Job.id).where(Job.status == JobStatus.RUNNING)).all()
        assert left == []

    # --- a storage that machines share

    def share_the_model(self) -> None:
        """Put the starting model where machines fetch it; no worker may have begun."""
        model = self.db.scalars(select(BaseModel)).one()
        source = self.folder / "tiny"
        source.mkdir()
        (source / "model.safetensors").write_bytes(b"weights" * 1000)
        model.manifest_sha256 = manifests.write_manifest(source)
        model.size_bytes = 7000
        self.db.commit()
        program = (
            "import sys; from pathlib import Path; from app.core import storage\n"
            "storage.share_folder(sys.argv[1], Path(sys.argv[2]))"
        )
        self.run(program, copies.key(str(model.manifest_sha256)), str(source))

    def run(self, program: str, *words: str) -> None:
        """Run something of ours with this house's settings."""
        command = [sys.executable, "-c", program, *words]
        subprocess.run(command, cwd=ROOT, check=True, env=os.environ | self.environment)

    # --- processes

    def child(self, job: Job) -> int:
        """The supervisor: the pool's child."""
        return self.wait_for(lambda: supervisor_pid(self.db, job))

    def trainer(self, job: Job) -> int:
        return self.wait_for(lambda: trainer_pid(self.db, job))

    def log(self) -> str:
        lines = self.worker.log.read_text(errors="replace") if self.worker.log.exists() else ""
        return lines[-6000:]

    def spool_size(self, job: Job) -> int:
        attempt = self.data_dir / "jobs" / str(job.id) / "attempts" / str(job.attempt)
        return (attempt / "events.jsonl").stat().st_size

    def start_cpu_worker(self) -> WorkerProcess:
        """Start the worker that does what takes no GPU; the one that is there stays."""
        if self.cpu_worker is None:
            name = {"ETUDE_WORKER_ID": "cpu-0@test"}
            self.cpu_worker = WorkerProcess("cpu", self.folder, environment=self.environment | name)
            self.cpu_worker.start()
        return self.cpu_worker

    def start_answering(self) -> AnswerProcess:
        """Start the process that answers; one that was there is gone before."""
        if self.answerer is not None:
            self.answerer.end()
        self.answerer = AnswerProcess(self.db, self.folder, **self.environment)
        self.answerer.start()
        return self.answerer

    def start_web(self) -> "Web":
        self.web = Web(self)
        self.web.start()
        return self.web


class Web:
    """A web process of a house."""

    def __init__(self, house: House) -> None:
        self.house = house
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.address = f"http://127.0.0.1:{self.port}"
        self.token = auth.create_token(house.db, house.user, "tests")
        self.cookie = auth.open_session(house.db, house.user)
        house.db.commit()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "uvicorn", "app.main:create_app", "--factory"]
        command += ["--port", str(self.port), "--log-level", "warning"]
        with (self.house.folder / "web.log").open("ab") as log:
            self.process = warm.Popen(
                command, env=os.environ | self.house.environment, cwd=ROOT, stdout=log, stderr=log
            )
        deadline = time.monotonic() + patience.seconds(60)
        while time.monotonic() < deadline:
            with suppress(httpx2.TransportError):
                if (
                    httpx2.get(f"{self.address}/healthz", timeout=patience.seconds(5)).status_code
                    == 200
                ):
                    return
            time.sleep(0.05)
        raise AssertionError("the web did not start")

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def headers(self) -> dict[str, str]:
        """A signed-in browser's, and a program's."""
        return {
            "Cookie": f"{auth.COOKIE}={self.cookie}",
            "Authorization": f"Bearer {self.token}",
            "Sec-Fetch-Site": "same-origin",
        }

    def post(
        self, path: str, more: dict[str, str] | None = None, **sent: Any
    ) -> httpx2.Response | None:
        """Send something; where the process is dead, start it again and return nothing."""
        assert self.process is not None
        headers = self.headers() | (more or {})
        try:
            return httpx2.post(
                f"{self.address}{path}", headers=headers, timeout=patience.seconds(60), **sent
            )
        except httpx2.TransportError as error:
            log = (self.house.folder / "web.log").read_text(errors="replace")
            assert not isinstance(error, httpx2.TimeoutException), log[-3000:]
            self.process.wait(patience.seconds(10))
            self.start()
            return None

    def submit(self, key: str) -> str:
        """Submit a job as a program does that tries again; returns its public id."""
        body = {"model": "house/tiny", "training_file": self.house.version.file.public_id}
        for _ in range(3):
            answer = self.post("/v1/fine_tuning/jobs", json=body, more={"Idempotency-Key": key})
            if answer is not None and answer.status_code == 200:
                return str(answer.json()["id"])
        raise AssertionError(answer and answer.text)


def dead_worker() -> protocol.WorkerInfo:
    """A worker of this very machine whose process is no more."""
    here = socket.gethostname()
    return protocol.WorkerInfo("gpu-8@test", here, identity.boot_id(), 2**22 + 7, 1, ("cpu",))


def distant_worker() -> protocol.WorkerInfo:
    return protocol.WorkerInfo("gpu-9@elsewhere", "elsewhere", "boot", 17, 1, ("cpu",))


def until_gone(pid: int, seconds: float = 10) -> None:
    deadline = time.monotonic() + patience.seconds(seconds)
    while is_running(pid):
        assert time.monotonic() < deadline, "it goes on"
        time.sleep(0.02)


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Freeze processes, as a machine that sleeps or is overloaded does."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
