"""Workers as containers start them: a name and a host each, and what a removed one held."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core import settings, wakeup, worker_names
from app.core.models import Worker
from app.machines import devices
from app.ops.doors import processes
from tests import patience
from tests.factories import make_job
from tests.worker.conftest import ROOT, until_step, wait_for
from worker import identity
from worker.gpu import hold

Start = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def start(quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """`etude worker gpu` on a machine called compose; nothing lapses while a test lasts."""
    monkeypatch.setenv("ETUDE_MACHINE", "compose")
    monkeypatch.setenv("ETUDE_DEVICE", "cpu")
    monkeypatch.setenv("ETUDE_LEASE_SECONDS", "1000")
    monkeypatch.setenv("ETUDE_EVALUATE_AFTER_TRAINING", "false")
    monkeypatch.setenv("ETUDE_BEAT_FILE", str(tmp_path / "beat"))
    monkeypatch.delenv("ETUDE_WORKER_ID", raising=False)
    settings.get.cache_clear()
    started = []

    def begin() -> "subprocess.Popen[bytes]":
        with (tmp_path / "workers.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "app.cli", "worker", "gpu"],
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        started.append(process)
        return process

    yield begin
    for process in started:
        remove(process)


def remove(process: "subprocess.Popen[bytes]") -> None:
    """End all of its processes at once, as when a container is removed."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def registered(db: Session) -> dict[str, str]:
    return {row.id: row.host for row in db.execute(select(Worker.id, Worker.host))}


def seen(db: Session, name: str) -> datetime:
    return db.scalars(select(Worker.last_seen).where(Worker.id == name)).one()


@pytest.mark.timeout(300)
def test_a_removed_ones_job_is_taken_over_at_once_and_its_name_too(
    db: Session, start: Start, tmp_path: Path
) -> None:
    job = make_job(db)
    job.name = "steps=400 hold=20,60,100,140,180"
    db.commit()
    first = start()
    wait_for(db, lambda: registered(db) == {"gpu-0@compose": "compose-gpu-0"}, 60)
    wakeup.hint("gpu")
    until_step(db, job, 3)
    assert job.worker_id == "gpu-0@compose"
    start()
    both = {"gpu-0@compose": "compose-gpu-0", "gpu-1@compose": "compose-gpu-1"}
    wait_for(db, lambda: registered(db) == both, 60)
    wait_for(db, (tmp_path / "beat").exists)
    assert job.attempt == 1, "the other one lives, and proves it"

    remove(first)
    wait_for(db, lambda: job.worker_id == "gpu-1@compose" and job.attempt == 2, 60)

    before = seen(db, "gpu-0@compose")
    third = start()  # in the place of the first
    wait_for(db, lambda: seen(db, "gpu-0@compose") > before, 60)
    assert registered(db) == both
    third.send_signal(signal.SIGTERM)
    third.wait(patience.seconds(60))
    db.rollback()
    gone = db.get_one(Worker, "gpu-0@compose", populate_existing=True)
    assert devices.has_left(gone)
    assert list(settings.get().run_dir.glob("*.drain")) == []


def test_a_name_that_is_taken_is_refused_in_a_sentence(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker_names.take("gpu-0@compose", wait_seconds=0)
    monkeypatch.setenv("ETUDE_WORKER_ID", "gpu-0@compose")
    monkeypatch.setattr(processes, "_NAME_SECONDS", 0.0)
    with pytest.raises(SystemExit, match="Another worker of this data directory is called gpu-0"):
        processes._bear_name("gpu")


def test_without_a_gpu_the_name_of_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(SystemExit, match="no GPU is visible here"):
        processes._gpu_of(0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert processes._gpu_of(1) == "cuda:1"
    with pytest.raises(SystemExit, match="this machine has 2 GPUs"):
        processes._gpu_of(2)


def test_a_worker_fears_others_only_where_there_are_some(
    db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings.get()
    named = chosen.model_copy(update={"database_url": "postgresql://etude_app@postgres/etude"})
    db.add(Worker(id="gpu-0@compose", queue="gpu", host="compose-gpu-0", devices=["cpu"],
                  version="1", boot_id=identity.boot_id()))  # fmt: skip
    db.commit()
    assert not hold.must_fence(named), "all that train are on this machine"
    db.add(Worker(id="gpu-0@ward", queue="gpu", host="ward-gpu-0", devices=["cpu"],
                  version="1", boot_id="another"))  # fmt: skip
    db.commit()
    assert hold.must_fence(named)
    local = chosen.model_copy(update={"database_url": "postgresql:///etude?host=/run/pg"})
    assert not hold.must_fence(local)
    assert hold.must_fence(local.model_copy(update={"fence_on_db_loss": "yes"}))
