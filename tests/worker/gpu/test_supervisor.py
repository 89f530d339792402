"""A real Celery worker, its supervisor and a stand-in trainer: what goes well, and what breaks."""

import errno
import json
import os
import signal
import time
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest
import redis
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core import storage, wakeup
from app.core.models import (
    Adapter,
    Attempt,
    Checkpoint,
    Desired,
    Evaluation,
    EvaluationStatus,
    Job,
    JobStatus,
    Metric,
    Notice,
    Worker,
)
from app.jobs import metrics, plans, requests
from app.ops.embedded.postgres import Postgres
from tests import patience
from tests.factories import make_job as factory_job
from tests.small_disk import fill, small_disk
from tests.worker.conftest import (
    WorkerProcess,
    is_running,
    supervisor_pid,
    trainer_pid,
    until_final,
    until_step,
    wait_for,
    waiting_trainer,
)
from tests.worker.stand_in_trainer import loss_at
from worker.gpu import endings
from worker.gpu.capped_log import HALF_BYTES

# Longer than the test: it stands still until it is stopped or killed.
LONG = "steps=60 hold=30"


def make_job(db: Session, orders: str) -> Job:
    job = factory_job(db)
    job.name = orders
    db.commit()
    return job


def assert_unbroken(db: Session, job: Job, steps: int, every: int = 10) -> None:
    """Every step once, with the value that an unbroken job has."""
    curves = metrics.series(db, job.id)
    assert curves["loss"] == [(step, loss_at(step)) for step in range(1, steps + 1)]
    asked = range(0, steps + 1, every)
    assert curves["validation_loss"] == [(step, loss_at(step) + 0.5) for step in asked]
    told = select(Metric.seq).where(Metric.name == "loss").order_by(Metric.step)
    numbers = db.scalars(told).all()
    assert numbers == sorted(set(numbers))
    assert db.scalar(select(func.count()).select_from(Adapter)) == 1


def test_an_evaluation_that_fails_fails_no_job_and_keeps_none_waiting(
    db: Session, quick: None, tmp_path: Path
) -> None:
    """The model of this house has no files: its words cannot be read."""
    worker = WorkerProcess("gpu", tmp_path, environment={"ETUDE_EVALUATE_AFTER_TRAINING": "true"})
    first, second = make_job(db, "steps=20"), make_job(db, "steps=20")
    worker.start()
    try:
        wakeup.hint("gpu")
        for job in (first, second):
            until_final(db, job)
            assert (job.status, job.reason) == (JobStatus.SUCCEEDED, None)
        wait_for(db, lambda: len(db.scalars(select(Notice)).all()) == 2)
    finally:
        worker.end()
    rows = db.scalars(select(Evaluation).order_by(Evaluation.id)).all()
    assert [row.adapter and row.adapter.job_id for row in rows] == [first.id, second.id]
    for row in rows:
        assert (row.status, row.follows_job) == (EvaluationStatus.FAILED, True)
        assert "cannot be asked" in str(row.reason)
    # Before the next claim, not once the queue is empty.
    began = db.scalars(select(Attempt.started_at).where(Attempt.job_id == second.id)).one()
    assert rows[0].finished_at is not None
    assert rows[0].finished_at <= began


def test_a_hint_trains_the_job_and_publishes_its_adapter(
    db: Session, gpu_worker: WorkerProcess, data_dir: Path
) -> None:
    job = make_job(db, "steps=20")
    wakeup.hint("gpu")
    until_final(db, job)
    assert (job.status, job.reason) == (JobStatus.SUCCEEDED, None)
    assert_unbroken(db, job, 20)
    assert (job.step, job.total_steps, job.durable_step) == (20, 20, 20)
    assert job.trained_tokens == 20 * 100
    assert job.measured is not None
    assert job.measured["tokens_per_second"] == 20 * 100 / 1.0
    assert (job.measured["peak_bytes"], job.measured["save_seconds"]) == (1000, 0.25)
    whole = {"is_base_cut": False, "is_tuned_cut": False}
    assert job.samples == [{"question": "q", "reference": "r", "base": "b", "tuned": "t", **whole}]
    assert db.scalars(select(Checkpoint.step).order_by(Checkpoint.step)).all() == [10, 20]

    adapter = db.scalars(select(Adapter)).one()
    assert adapter.archive_file is not None
    with zipfile.ZipFile(storage.path(adapter.archive_file.storage_key)) as pack:
        manifest = json.loads(pack.read("MANIFEST.json"))
        assert set(pack.namelist()) == {*manifest["files"], "MANIFEST.json"}
        assert "README.md" in manifest["files"]
        assert b"house/tiny" in pack.read("README.md")
    assert adapter.metrics_file is not None
    table = storage.path(adapter.metrics_file.storage_key).read_text().splitlines()
    assert table[0] == "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"
    assert table[1] == "0,,,3.50000,"
    assert len(table) == 22


def test_the_trainer_sees_the_examples_and_no_secret(
    db: Session, gpu_worker: WorkerProcess, data_dir: Path
) -> None:
    job = make_job(db, "steps=1 every=1")
    until_final(db, job)
    folder = data_dir / "jobs" / str(job.id)
    with pa.ipc.open_file(folder / "examples.arrow") as reader:
        rows = reader.read_all().to_pylist()
    assert len(rows) == 24
    assert rows[0]["split"] == "train"
    assert json.loads(rows[3]["messages"])[0] == {"role": "user", "content": "What is rule 3?"}
    seen = json.loads((folder / "environment.json").read_text())
    assert "DATABASE_URL" in os.environ
    seen.pop("ETUDE_WALLS", None)
    assert not [name for name in seen if name.startswith(("DATABASE", "REDIS", "ETUDE"))]
    assert seen["HF_HUB_OFFLINE"] == "1"
    config = json.loads((folder / "config.json").read_text())
    assert config["config"] == job.config


def test_a_trainer_waits_for_its_job_and_may_be_killed_waiting(
    db: Session, gpu_worker: WorkerProcess
) -> None:
    killed = wait_for(db, lambda: waiting_trainer(gpu_worker))
    os.kill(killed, signal.SIGKILL)
    first = make_job(db, "steps=3")
    wakeup.hint("gpu")
    assert until_final(db, first).status is JobStatus.SUCCEEDED
    waiting = wait_for(db, lambda: waiting_trainer(gpu_worker))
    job = make_job(db, "steps=200 pause=0.05")
    wakeup.hint("gpu")
    until_step(db, job, 1)
    assert trainer_pid(db, job) == waiting
    gpu_worker.kill()
    wait_for(db, lambda: not is_running(waiting))


def test_jobs_run_one_after_another_without_a_hint(db: Session, gpu_worker: WorkerProcess) -> None:
    several = [make_job(db, "steps=10 pause=0.02") for _ in range(3)]
    for job in several:
        until_final(db, job)
    spans = db.execute(
        select(Attempt.started_at, Attempt.ended_at).order_by(Attempt.started_at)
    ).all()
    assert len(spans) == 3
    assert all(spans[i].ended_at <= spans[i + 1].started_at for i in range(2))


def test_many_hints_train_a_job_once(db: Session, gpu_worker: WorkerProcess) -> None:
    job = make_job(db, "steps=20 pause=0.01")
    for _ in range(100):
        assert wakeup.hint("gpu")
    until_final(db, job)
    assert job.attempt == 1
    wait_for(db, lambda: redis.from_url(_plain(os.environ["REDIS_URL"])).llen("etude:gpu") == 0, 60)
    assert db.scalar(select(func.count()).select_from(Attempt)) == 1


def test_a_flushed_broker_loses_no_job(db: Session, quick: None, tmp_path: Path) -> None:
    job = make_job(db, "steps=5 every=5")
    wakeup.hint("gpu")
    with redis.from_url(_plain(os.environ["REDIS_URL"])) as broker:
        for key in broker.scan_iter():
            broker.delete(key)
    worker = WorkerProcess("gpu", tmp_path)
    worker.start()
    try:
        assert until_final(db, job).status is JobStatus.SUCCEEDED
    finally:
        worker.end()


@pytest.mark.parametrize(
    "victim",
    ["trainer", *(pytest.param(n, marks=pytest.mark.long) for n in ("pool child", "celery main"))],
)
def test_a_kill_costs_nothing_but_time(victim: str, db: Session, gpu_worker: WorkerProcess) -> None:
    job = make_job(db, LONG)
    until_step(db, job, 25)
    trainer = trainer_pid(db, job)
    child = supervisor_pid(db, job)
    killed_at = time.monotonic()
    if victim == "trainer":
        os.kill(trainer, signal.SIGKILL)
    elif victim == "pool child":
        os.kill(child, signal.SIGKILL)
    else:
        gpu_worker.kill()
        gpu_worker.start()
    _until_ended(trainer, seconds=5)
    wait_for(db, lambda: job.attempt == 2)  # its status: it may be over before we look
    # Seconds, where the machine does nothing else.
    assert time.monotonic() - killed_at < patience.seconds(30)
    until_final(db, job)
    assert (job.status, job.attempt) == (JobStatus.SUCCEEDED, 2)
    assert_unbroken(db, job, 60)
    resumed_at = db.scalars(select(Attempt.resume_step).where(Attempt.number == 2)).one()
    assert resumed_at >= 20


def test_cancel_frees_the_machine_within_seconds(db: Session, gpu_worker: WorkerProcess) -> None:
    job = make_job(db, f"{LONG} deaf")
    until_step(db, job, 3)
    trainer = trainer_pid(db, job)
    requests.cancel(db, job.owner, job)
    db.commit()
    until_final(db, job, seconds=15)
    assert job.status is JobStatus.CANCELLED
    assert not is_running(trainer)
    assert db.scalar(select(func.count()).select_from(Adapter)) == 0


def test_pause_saves_the_place_and_resume_goes_on(db: Session, gpu_worker: WorkerProcess) -> None:
    job = make_job(db, LONG)
    until_step(db, job, 13)
    requests.pause(db, job.owner, job)
    db.commit()
    wait_for(db, lambda: job.status is JobStatus.QUEUED)
    assert job.durable_step >= 13
    assert (job.desired, job.strikes) == (Desired.PAUSE, 0)
    time.sleep(1)
    db.refresh(job)
    assert job.status is JobStatus.QUEUED
    requests.resume(db, job.owner, job)
    db.commit()
    assert until_final(db, job).status is JobStatus.SUCCEEDED
    assert [step for step, _ in metrics.series(db, job.id)["loss"]] == list(range(1, 61))


def test_a_stopped_worker_saves_the_place_and_the_next_goes_on(
    db: Session, gpu_worker: WorkerProcess
) -> None:
    job = make_job(db, LONG)
    until_step(db, job, 13)
    assert gpu_worker.terminate(seconds=10) == 0
    db.refresh(job)
    assert (job.status, job.strikes) == (JobStatus.QUEUED, 0)
    assert job.durable_step >= 13
    gpu_worker.start()
    assert until_final(db, job).status is JobStatus.SUCCEEDED


def test_a_trainer_that_will_not_stop_is_killed(db: Session, gpu_worker: WorkerProcess) -> None:
    job = make_job(db, f"{LONG} deaf")
    until_step(db, job, 13)
    assert gpu_worker.terminate(seconds=20) == 0
    db.refresh(job)
    assert (job.status, job.strikes) == (JobStatus.QUEUED, 0)
    assert db.scalars(select(Attempt.exit_code)).one() == -signal.SIGKILL


def test_a_deterministic_end_fails_with_its_sentence(
    db: Session, gpu_worker: WorkerProcess
) -> None:
    job = make_job(db, "steps=20 exit=12 at=5 say")
    until_final(db, job)
    assert (job.status, job.attempt) == (JobStatus.FAILED, 1)
    assert (job.error_code, job.reason) == ("out_of_memory", "Choose a smaller model.")


def test_a_trainer_that_always_crashes_fails_after_three_strikes(
    db: Session, gpu_worker: WorkerProcess
) -> None:
    job = make_job(db, "steps=20 crash=5")
    until_final(db, job)
    assert (job.status, job.attempt, job.strikes) == (JobStatus.FAILED, 3, 3)
    assert job.reason is not None and "SIGSEGV" in job.reason
    assert job.log_tail is not None and "a trainer that crashes" in job.log_tail
    other = make_job(db, "steps=5 every=5")
    assert until_final(db, other).status is JobStatus.SUCCEEDED


def test_a_figure_that_is_no_number_fails_at_once_and_reaches_no_column(
    db: Session, gpu_worker: WorkerProcess
) -> None:
    job = until_final(db, make_job(db, "steps=20 every=5 nan=7"))
    assert (job.status, job.attempt, job.error_code) == (JobStatus.FAILED, 1, "loss_not_finite")
    assert job.reason is not None and "smaller learning rate" in job.reason


def test_a_log_without_end_takes_little_of_the_disk_while_its_trainer_goes_on(
    db: Session, gpu_worker: WorkerProcess, data_dir: Path
) -> None:
    job = make_job(db, "steps=20 flood=5 hold=6")
    log = data_dir / f"jobs/{job.id}/attempts/1/log.txt"
    wait_for(db, lambda: log.exists() and log.stat().st_size >= 24 * 1024**2)
    wait_for(db, lambda: log.stat().st_blocks * 512 < 2 * HALF_BYTES + 4 * 1024**2)
    assert (job.attempt, job.status) == (1, JobStatus.RUNNING)


def test_a_stall_is_ended(
    db: Session, quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_STALL_SECONDS", "1")
    monkeypatch.setenv("ETUDE_MAX_STRIKES", "1")
    worker = WorkerProcess("gpu", tmp_path)
    worker.start()
    try:
        job = until_final(db, make_job(db, "steps=20 hang=5"))
    finally:
        worker.end()
    assert job.error_code == "stalled"


@pytest.mark.parametrize(
    "orders",
    [
        "linger babble",
        *(pytest.param(n, marks=pytest.mark.long) for n in ("after=70", "linger pickle")),
    ],
)
def test_a_whole_result_is_published_however_its_process_ends(
    db: Session, quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, orders: str
) -> None:
    monkeypatch.setenv("ETUDE_EXIT_SECONDS", "1")
    monkeypatch.setenv("ETUDE_STALL_SECONDS", f"{patience.seconds(60):.0f}")
    monkeypatch.setenv("ETUDE_MAX_STRIKES", "1")
    worker = WorkerProcess("gpu", tmp_path)
    worker.start()
    try:
        job = until_final(db, make_job(db, f"steps=10 every=5 {orders}"))
    finally:
        worker.end()
    if "pickle" in orders:  # verified all the same
        assert (job.status, job.attempt) == (JobStatus.FAILED, 1)
        assert job.reason is not None and "incomplete" in job.reason
    else:
        assert (job.status, job.attempt, job.strikes) == (JobStatus.SUCCEEDED, 1, 0)
        assert job.adapter is not None


@pytest.mark.parametrize(
    ("orders", "outcome"),
    [
        ("pickle", "not_published"),
        pytest.param("garble=3", "garbled", marks=pytest.mark.long),
    ],
)
def test_what_breaks_the_contract_is_not_taken(
    orders: str,
    outcome: str,
    db: Session,
    quick: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ETUDE_MAX_STRIKES", "1")
    worker = WorkerProcess("gpu", tmp_path)
    worker.start()
    try:
        job = until_final(db, make_job(db, f"steps=5 {orders}"))
    finally:
        worker.end()
    assert (job.status, job.error_code) == (JobStatus.FAILED, outcome)
    assert db.scalar(select(func.count()).select_from(Adapter)) == 0


def test_a_damaged_checkpoint_is_passed_over(
    db: Session, gpu_worker: WorkerProcess, data_dir: Path
) -> None:
    job = make_job(db, LONG)
    wait_for(db, lambda: job.durable_step >= 20)
    requests.pause(db, job.owner, job)
    db.commit()
    wait_for(db, lambda: job.status is JobStatus.QUEUED)
    for step in db.scalars(select(Checkpoint.step).where(Checkpoint.step > 10)):
        state = data_dir / f"jobs/{job.id}/checkpoints/step-{step:05d}/state.json"
        state.write_text('{"step": 7}')
    requests.resume(db, job.owner, job)
    db.commit()
    until_final(db, job)
    assert_unbroken(db, job, 60)
    assert db.scalars(select(Attempt.resume_step).where(Attempt.number == 2)).one() == 10


def test_a_full_disk_costs_no_strike(
    db: Session, quick: None, data_dir: Path, tmp_path: Path
) -> None:
    """Neither where the examples are written nor where the adapter is kept."""
    worker = WorkerProcess("gpu", tmp_path)
    with small_disk(data_dir / "jobs") as disk:
        ballast = fill(disk)
        worker.start()
        try:
            job = make_job(db, "steps=3 every=1")
            wait_for(db, lambda: job.attempt == 1 and job.status is JobStatus.QUEUED)
            said = db.scalars(select(Attempt.outcome)).one()
            assert (said, job.strikes, job.run_after > job.created_at) == ("disk_full", 0, True)
            ballast.unlink()
            job.run_after = job.created_at
            db.commit()
            assert until_final(db, job).status is JobStatus.SUCCEEDED
        finally:
            worker.end()
    assert endings.not_published(OSError(errno.ENOSPC, "No space left")) is endings.DISK_FULL
    assert not endings.not_published(OSError(errno.EROFS, "Read-only file system")).strike
    assert endings.not_published(OSError(errno.ENOTDIR, "Not a directory")).strike


def test_a_worker_says_that_it_lives_and_what_it_has(
    db: Session, gpu_worker: WorkerProcess
) -> None:
    row = wait_for(db, lambda: db.get(Worker, "gpu-0@test"))
    first = row.last_seen
    wait_for(db, lambda: row.last_seen > first)
    assert (row.queue, row.devices) == ("gpu", ["cpu"])
    (found,) = plans.devices(db)
    assert found.kind == "cpu"
    assert found.free_bytes > 0


def test_a_database_that_goes_away_costs_no_point(
    db: Session, gpu_worker: WorkerProcess, postgres: Postgres
) -> None:
    job = make_job(db, "steps=100 pause=0.05")
    until_step(db, job, 10)
    db.rollback()
    postgres.stop()
    time.sleep(2)
    postgres.start()
    until_final(db, job)
    assert (job.status, job.attempt) == (JobStatus.SUCCEEDED, 1)
    assert_unbroken(db, job, 100)


def test_a_worker_cut_off_from_another_machines_database_stops_its_trainer(
    db: Session,
    quick: None,
    tmp_path: Path,
    postgres: Postgres,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ETUDE_FENCE_ON_DB_LOSS", "yes")
    worker = WorkerProcess("gpu", tmp_path)
    worker.start()
    try:
        job = make_job(db, f"steps=100 pause={patience.seconds(0.1):.2f}")
        until_step(db, job, 12)
        trainer = trainer_pid(db, job)
        db.rollback()
        postgres.stop()
        try:
            _until_ended(trainer, seconds=15)
        finally:
            postgres.start()
        until_final(db, job)
        assert (job.status, job.attempt) == (JobStatus.SUCCEEDED, 2)
        assert_unbroken(db, job, 100)
    finally:
        worker.end()


def _until_ended(pid: int, seconds: float) -> None:
    deadline = time.monotonic() + patience.seconds(seconds)
    while is_running(pid):
        assert time.monotonic() < deadline, "the trainer goes on"
        time.sleep(0.05)


def _plain(url: str) -> str:
    return url.replace("redis+socket", "unix").replace("?virtual_host=0", "")
