"""A worker that has several devices: what it claims, locks, tells its trainer and kills."""

import json
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core import settings
from app.core.models import Attempt, Worker
from tests.factories import make_job
from tests.worker.conftest import WorkerProcess, is_running, until_final, wait_for
from worker import identity
from worker.gpu import trainer_process


def be(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setenv("ETUDE_DEVICE", device)
    monkeypatch.setenv("ETUDE_WORKER_ID", f"gpu-{device}@test")


def test_a_job_gets_all_devices_of_its_worker(db: Session, quick: None, tmp_path: Path) -> None:
    worker = WorkerProcess("gpu", tmp_path, device="cpu,cpu")
    worker.start()
    try:
        job = make_job(db)
        job.name = "steps=10"
        db.commit()
        until_final(db, job)
        row = wait_for(db, lambda: db.get(Worker, "gpu-0@test"))
    finally:
        worker.end()
    assert db.scalars(select(Attempt.devices)).one() == ["cpu", "cpu"]
    folder = settings.get().jobs_dir / str(job.id)
    spec = json.loads((folder / "config.json").read_text())
    assert (spec["device"], spec["num_devices"]) == ("cpu", 2)
    assert row.devices == ["cpu", "cpu"]
    assert row.hardware is not None
    assert row.hardware["num_devices"] == 2


def test_the_trainer_sees_its_gpus_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    be(monkeypatch, "cuda:0, cuda:2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b,GPU-c")
    assert identity.devices() == ("cuda:0", "cuda:2")
    monkeypatch.setenv("CC", "clang")
    environment = trainer_process.environment()
    assert environment["CUDA_VISIBLE_DEVICES"] == "GPU-a,GPU-c"
    # What compiles kernels there, and where they are kept.
    assert environment["CC"] == "clang"
    assert environment["TRITON_CACHE_DIR"] == str(settings.get().cache_dir / "triton")
    assert trainer_process.trainer_device() == "cuda:0"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert trainer_process.environment()["CUDA_VISIBLE_DEVICES"] == "0,2"


def test_the_least_of_several_gpus_counts() -> None:
    said = "NVIDIA H100, 80000, 9.0\nNVIDIA H100, 70000, 9.0\nTesla T4, 75000, 7.5\n"
    found = identity.read_hardware(said, num_cores=8)
    assert (found.kind, found.name, found.num_devices) == ("cuda", "NVIDIA H100", 3)
    assert found.free_bytes == 70000 * 1024**2
    assert not found.has_bfloat16


def test_a_worker_without_its_driver_is_seen_all_the_same(
    db: Session, quick: None, tmp_path: Path
) -> None:
    worker = WorkerProcess("gpu", tmp_path, device="cuda:0", environment={"PATH": str(tmp_path)})
    worker.start()
    try:
        row = wait_for(db, lambda: db.get(Worker, "gpu-0@test"))
    finally:
        worker.end()
    assert row.hardware is None
    assert row.readings is not None
    assert row.readings["problem"].endswith("driver does not answer.")


@pytest.fixture
def waiting(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trainer that starts a process as torchrun does, in a session of its own, and waits."""
    child = tmp_path / "child"
    program = "import os, sys, time\n"
    program += "open(sys.argv[1], 'w').write(str(os.getpid()))\ntime.sleep(100)\n"
    (tmp_path / "stand_in_launcher.py").write_text(
        "import subprocess, sys, time\n"
        f"arguments = [sys.executable, '-c', {program!r}, {str(child)!r}]\n"
        "subprocess.Popen(arguments, start_new_session=True)\ntime.sleep(100)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("ETUDE_TRAINER_MODULE", "stand_in_launcher")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    settings.get.cache_clear()
    return child


def test_no_gpu_is_given_out_twice_and_a_kill_reaches_every_process(
    waiting: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    be(monkeypatch, "cuda:0,cuda:1")
    runner = trainer_process.Runner()
    try:
        runner.lock(0)
        for taken in ("cuda:1", "cuda:2,cuda:1"):
            be(monkeypatch, taken)
            waiting_too = trainer_process.Runner()  # beside it, without the device
            with pytest.raises(trainer_process.DeviceBusy):
                waiting_too.lock(0)
            assert not waiting_too.is_waiting()
        be(monkeypatch, "cuda:2")  # what was only half of a wish is free again
        free = trainer_process.Runner()
        free.lock(0)
        free.close()
        while not (waiting.exists() and waiting.read_text()):
            assert runner.is_waiting()
        (child,) = identity.children(runner.process.pid)
        assert is_running(child)
    finally:
        runner.close()
    assert not is_running(child)
    be(monkeypatch, "cuda:0,cuda:1")
    after = trainer_process.Runner()
    after.lock(0)
    after.close()
