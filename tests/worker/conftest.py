"""Real workers for tests: `etude worker gpu` with short timings and the stand-in trainer."""

import mmap
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core import settings
from app.core.models import Attempt, Job
from app.ops.up import worker_command
from tests import patience, warm
from worker import identity

ROOT = Path(__file__).parents[2]
T = TypeVar("T")


def wait_for(db: Session, look: Callable[[], T | None], seconds: float = 30) -> T:
    """Look, in a fresh transaction each time, until there is something to see."""
    deadline = time.monotonic() + patience.seconds(seconds)
    while True:
        db.rollback()
        db.expire_all()
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def until_final(db: Session, job: Job, seconds: float = 60) -> Job:
    wait_for(db, lambda: job.status.is_final, seconds)
    return job


def until_step(db: Session, job: Job, step: int) -> None:
    wait_for(db, lambda: job.step >= step)


def supervisor_pid(db: Session, job: Job) -> int:
    return db.scalars(
        select(Attempt.supervisor_pid).where(Attempt.job_id == job.id, Attempt.ended_at.is_(None))
    ).one()


def trainer_pid(db: Session, job: Job) -> int:
    """The trainer is the supervisor's only child."""
    children = Path(f"/proc/{supervisor_pid(db, job)}/task").glob("*/children")
    return next(int(pid) for path in children for pid in path.read_text().split())


def waiting_trainer(worker: "WorkerProcess") -> int | None:
    """The trainer that the worker's pool child keeps for the next job."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if b"stand_in_trainer" not in path.read_bytes():
                continue
            pid = int(path.parent.name)
            if parent(parent(pid)) == worker.pid and is_running(pid):
                return pid
    return None


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


@pytest.fixture(autouse=True)
def _not_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test asks this very process to do is no matter of the next test."""
    monkeypatch.setattr(identity, "_ending", mmap.mmap(-1, 1))


class WorkerProcess:
    """One Celery worker, started as `etude up` starts it."""

    def __init__(
        self,
        queue: str,
        folder: Path,
        device: str = "cpu",
        environment: dict[str, str] | None = None,
        command: tuple[str, ...] = (),
    ) -> None:
        """`environment` goes over our own, `command` before the worker's (e.g. faketime)."""
        self.queue = queue
        # A job's end is the end of what most tests are about.
        own = {"ETUDE_EVALUATE_AFTER_TRAINING": "false", "ETUDE_DEVICE": device}
        self.environment = own | {"ETUDE_WORKER_ID": f"{queue}-0@test"} | (environment or {})
        self.command = command
        self.log = folder / f"worker-{queue}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = warm.Popen(
                [*self.command, *worker_command(self.queue, self.environment["ETUDE_WORKER_ID"])],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=os.environ | self.environment,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """Kill the main process alone, as an out-of-memory killer might."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def terminate(self, seconds: float = 30) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(patience.seconds(seconds))

    def end(self) -> None:
        if self.process is not None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                return
            self.process.wait()


@pytest.fixture
def quick(
    database_url: str, broker: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Timings short enough to wait for, and the stand-in for the trainer."""
    # What a lease allows must be enough for a slow machine to renew it.
    for name, value in {
        "ETUDE_TRAINER_MODULE": "tests.worker.stand_in_trainer",
        "PYTHONPATH": str(ROOT),
        "ETUDE_HEARTBEAT_SECONDS": "0.5",
        "ETUDE_SELF_FENCE_SECONDS": f"{patience.seconds(3):.2f}",
        "ETUDE_LEASE_SECONDS": f"{patience.seconds(4):.2f}",
        "ETUDE_REAP_GRACE_SECONDS": "0.5",
        "ETUDE_REAPER_PATIENCE_SECONDS": f"{patience.seconds(1):.2f}",
        "ETUDE_SWEEP_SECONDS": "0.5",
        "ETUDE_WATCH_SECONDS": "0.2",
        "ETUDE_RETRY_BACKOFF_SECONDS": "0",
        "ETUDE_DRAIN_SECONDS": f"{patience.seconds(5):.2f}",
        "ETUDE_DISK_RESERVE_BYTES": "0",
    }.items():
        monkeypatch.setenv(name, value)
    settings.get.cache_clear()
    data_dir.mkdir(parents=True, exist_ok=True)
    yield
    settings.get.cache_clear()


@pytest.fixture
def gpu_worker(quick: None, tmp_path: Path) -> Iterator[WorkerProcess]:
    worker = WorkerProcess("gpu", tmp_path)
    worker.start()
    yield worker
    worker.end()
