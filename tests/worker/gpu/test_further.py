"""A real worker with the stand-in trainer: a job that starts from what another one made."""

import json
import os
import signal
from pathlib import Path
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.core import storage, wakeup
from app.core.models import (
    Adapter,
    Attempt,
    DatasetVersion,
    Job,
    JobEvent,
    JobStatus,
    PractisedRows,
)
from app.datasets import deletion
from app.jobs import practice, requests, start
from app.training.config import PRESETS
from tests.factories import make_adapter, make_dataset_version, make_job
from tests.worker.conftest import WorkerProcess, trainer_pid, until_final, until_step


def train(db: Session, job: Job) -> Job:
    wakeup.hint("gpu")
    return until_final(db, job)


def ask_for(db: Session, adapter: Adapter, version: DatasetVersion, orders: str) -> Job:
    job = requests.create(
        db,
        adapter.job.owner if adapter.job else make_job(db).owner,
        name=orders,
        version_id=version.id,
        base_model_id=adapter.base_model_id,
        config=PRESETS["quick"].config,
        start_adapter=adapter,
    )
    db.commit()
    return job


def spec(data_dir: Path, job: Job) -> dict[str, Any]:
    said: dict[str, Any] = json.loads((data_dir / "jobs" / str(job.id) / "config.json").read_text())
    return said


def notes(db: Session, job: Job) -> list[str]:
    query = select(JobEvent.message).where(JobEvent.job_id == job.id, JobEvent.kind == "note")
    return list(db.scalars(query.order_by(JobEvent.seq)))


def test_from_one_adapter_to_the_next(
    db: Session, gpu_worker: WorkerProcess, data_dir: Path
) -> None:
    first_job = train(db, make_job(db, name="steps=10"))
    assert first_job.adapter is not None
    assert spec(data_dir, first_job)["start"] is None
    first = first_job.adapter
    version = make_dataset_version(db, num_train=10, num_validation=16)
    job = ask_for(db, first, version, "steps=30 hold=20")
    wakeup.hint("gpu")
    until_step(db, job, 20)
    os.kill(trainer_pid(db, job), signal.SIGKILL)
    until_final(db, job)
    assert (job.status, job.attempt, job.reason) == (JobStatus.SUCCEEDED, 2, None)
    assert spec(data_dir, job)["start"] == {
        "name": "steps=10",
        "dir": str(storage.path(str(first.storage_key))),
        "manifest_sha256": first.manifest_sha256,
    }
    assert job.practised_before == {
        "num_test": 16,
        "num_moved": 10,
        "num_left_out": 0,
        "num_check_moved": 0,
        "is_checked": True,
    }
    # Said once, though there were two attempts.
    assert [note for note in notes(db, job) if "practised" in note] == [
        "10 rows of the test set had been practised by the trained model it starts from, or by one "
        "before that: this job practises them again and is not tested on them."
    ]
    second = job.adapter
    assert second is not None
    assert (second.start_adapter_id, second.lineage) == (first.id, job.lineage)
    kept = {row.adapter_id: len(row.fingerprints) // 8 for row in db.scalars(select(PractisedRows))}
    assert kept == {first.id: 20, second.id: 20}
    card = (storage.path(str(second.storage_key)) / "README.md").read_text()
    assert f"| Started from | steps=10, `{first.public_name}`" in card
    assert "| Examples | 20 to practise, 6 to test |" in card
    assert "| Test set, the adapter it started from | 3.5" in card
    assert "starting model alone" not in card
    with_first = (storage.path(str(first.storage_key)) / "README.md").read_text()
    assert "starting model alone" in with_first
    assert "Started from" not in with_first


def test_checkpoints_of_another_test_set_are_given_up(
    db: Session, gpu_worker: WorkerProcess, data_dir: Path
) -> None:
    first = train(db, make_job(db, name="steps=10")).adapter
    assert first is not None
    version = make_dataset_version(db, num_train=10, num_validation=16)
    job = ask_for(db, first, version, "steps=30 hold=20")
    wakeup.hint("gpu")
    until_step(db, job, 20)
    assert (job.practised_before or {})["num_moved"] == 10
    # As where a machine with another disk and another key goes on, and the data is gone.
    assert first.job is not None
    deletion.delete_dataset(db, first.job.owner, first.job.version.dataset)
    db.execute(delete(PractisedRows))
    db.commit()
    for name in ("examples.arrow", "practised_before.json"):
        (data_dir / "jobs" / str(job.id) / name).unlink()
    os.kill(trainer_pid(db, job), signal.SIGKILL)
    until_final(db, job)
    assert (job.status, job.attempt) == (JobStatus.SUCCEEDED, 2)
    attempts = db.scalars(select(Attempt.resume_step).where(Attempt.job_id == job.id))
    assert list(attempts) == [0, 0]
    assert job.practised_before == {
        "num_test": 16,
        "num_moved": 0,
        "num_left_out": 0,
        "num_check_moved": 0,
        "is_checked": False,
    }
    assert "some of the rows to test on may be among them" in notes(db, job)[-1]


def test_a_job_of_which_nothing_would_be_tested_ends_with_a_sentence(
    db: Session, gpu_worker: WorkerProcess
) -> None:
    adapter = make_adapter(db, name="First")
    version = make_dataset_version(db, num_train=2, num_validation=18)
    # As where the data was still being read when the job was made.
    job = make_job(db, version=version, start_adapter_id=adapter.id, lineage=start.lineage(adapter))
    train(db, job)
    assert (job.status, job.error_code) == (JobStatus.FAILED, "dataset_invalid")
    assert job.reason == practice.too_few("First", 18, 0)


def test_a_job_whose_adapter_is_gone_does_not_begin_without_it(
    db: Session, gpu_worker: WorkerProcess
) -> None:
    adapter = make_adapter(db, name="First")
    job = make_job(db, lineage=start.lineage(adapter))
    train(db, job)
    assert (job.status, job.error_code) == (JobStatus.FAILED, "adapter_gone")
    assert job.reason == "The trained model “First”, from which this job starts, was deleted."
    assert not db.scalars(select(Adapter).where(Adapter.job_id == job.id)).all()
