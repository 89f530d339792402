"""The real worker with the real trainer on a tiny random model: kill it, and take the zip home."""

import os
import signal
import zipfile
from pathlib import Path

import pytest
from peft import PeftModel
from sqlalchemy import select
from sqlalchemy.orm import Session
from transformers import AutoModelForCausalLM

from app.adapters import registry as adapters
from app.core import settings, storage
from app.core.models import Adapter, Attempt, JobEvent, JobStatus
from app.jobs import metrics, progress, requests
from app.training import isolation
from app.training.config import TrainConfig
from app.training.manifests import verify_manifest
from tests.factories import make_base_model, make_dataset_version, make_job
from tests.worker.conftest import WorkerProcess, trainer_pid, until_final, wait_for
from tests.worker.trainer.conftest import tiny_model  # noqa: F401 - a fixture
from worker.gpu import spool


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")  # PEFT's own
def test_a_killed_trainer_goes_on_and_its_adapter_loads_in_plain_peft(
    db: Session,
    quick: None,
    tmp_path: Path,
    tiny_model: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ETUDE_TRAINER_MODULE", "worker.trainer")
    models_dir = settings.get().models_dir
    models_dir.mkdir(parents=True)
    (models_dir / "tiny").symlink_to(tiny_model)
    model = make_base_model(db)
    model.manifest_sha256 = verify_manifest(tiny_model)
    db.commit()
    config = TrainConfig(
        num_epochs=15, batch_size=2, num_evaluations=10, learning_rate=5e-3, lora_rank=4
    )
    worker = WorkerProcess("gpu", tmp_path)
    worker.start()
    try:
        version = make_dataset_version(db, num_train=20, num_validation=4, num_test=6)
        job = make_job(db, base_model=model, config=config, version=version)
        wait_for(db, lambda: job.durable_step >= 15, seconds=120)
        pid = trainer_pid(db, job)
        networks = {Path(f"/proc/{who}/ns/net").readlink() for who in ("self", pid)}
        assert len(networks) == (2 if isolation.can_leave_network() else 1)
        os.kill(pid, signal.SIGKILL)
        until_final(db, job, seconds=150)
    finally:
        worker.end()
    assert (job.status, job.attempt, job.reason) == (JobStatus.SUCCEEDED, 2, None), job.log_tail
    assert job.total_steps == 150
    # What is measured is what is predicted: the machine's time for the job, both attempts.
    both = db.scalars(select(Attempt).where(Attempt.job_id == job.id)).all()
    spent = sum((a.ended_at - a.started_at).total_seconds() for a in both if a.ended_at)
    assert len(both) == 2
    assert job.measured is not None
    assert job.measured["seconds"] == pytest.approx(spent, abs=2)
    assert 0 < job.measured["save_seconds"] < spent
    # Alone on its machine it would hardly have been slower.
    assert job.measured["plain_tokens_per_second"] > 0.9 * job.measured["tokens_per_second"]
    curves = metrics.series(db, job.id)
    assert [step for step, _ in curves["loss"]] == list(range(1, 151))
    assert curves["loss"][-1][1] < curves["loss"][0][1]
    assert curves["validation_loss"][0][0] == 0

    adapter = db.scalars(select(Adapter)).one()
    assert adapter.metrics["validation_loss_after"] < adapter.metrics["validation_loss_before"]
    # Of those that check: no test row was ever here, whatever was written.
    assert [one["question"] for one in adapter.samples] == [
        f"What is rule {index}?" for index in (20, 21, 22)
    ]
    files = [path for path in spool.job_dir(job.id).rglob("*") if path.is_file()]
    for index in range(24, 30):
        said = f"rule {index}?".encode()
        assert not [path for path in files if said in path.read_bytes()]
    assert adapter.metrics["is_chosen"]
    card = (adapters.folder(adapter) / "README.md").read_text()
    assert "| Examples | 20 to practise, 4 to check, 6 to test |" in card
    log = {event.message for event in db.scalars(select(JobEvent).order_by(JobEvent.seq))}
    assert "Planned: 150 steps over 20 examples, checked on 4." in log
    assert any(said.startswith("Loss on the check questions after step 15") for said in log)
    taken = adapters.archive(db, job.owner, adapter)
    with zipfile.ZipFile(storage.path(taken.storage_key)) as pack:
        pack.extractall(tmp_path / "taken")
    assert verify_manifest(tmp_path / "taken") == adapter.manifest_sha256
    tuned = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tiny_model), str(tmp_path / "taken")
    )
    assert any("lora_B" in name and bool(w.any()) for name, w in tuned.named_parameters())


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")  # PEFT's own
def test_an_adapter_is_trained_further_from_where_it_ended(
    db: Session,
    quick: None,
    tmp_path: Path,
    tiny_model: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ETUDE_TRAINER_MODULE", "worker.trainer")
    models_dir = settings.get().models_dir
    models_dir.mkdir(parents=True)
    (models_dir / "tiny").symlink_to(tiny_model)
    model = make_base_model(db)
    model.manifest_sha256 = verify_manifest(tiny_model)
    db.commit()
    config = TrainConfig(
        num_epochs=2, batch_size=4, num_evaluations=2, learning_rate=5e-3, lora_rank=4
    )
    worker = WorkerProcess("gpu", tmp_path)
    worker.start()
    try:
        first = until_final(db, make_job(db, base_model=model, config=config), seconds=120)
        assert first.adapter is not None, first.reason
        job = requests.create(
            db,
            first.owner,
            name="Further",
            version_id=first.version_id,
            base_model_id=model.id,
            config=config,
            start_adapter=first.adapter,
        )
        db.commit()
        until_final(db, job, seconds=120)
    finally:
        worker.end()
    assert (job.status, job.reason) == (JobStatus.SUCCEEDED, None), job.log_tail
    assert job.adapter is not None
    now, then = job.adapter.metrics, first.adapter.metrics
    assert now["validation_loss_before"] == then["validation_loss_after"]
    assert now["validation_loss_after"] < now["validation_loss_before"]
    assert [one["base"] for one in job.adapter.samples] == [
        one["tuned"] for one in first.adapter.samples
    ]


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")  # PEFT's own
def test_with_no_rows_that_check_the_adapter_of_the_last_step_is_kept(
    db: Session,
    quick: None,
    tmp_path: Path,
    tiny_model: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ETUDE_TRAINER_MODULE", "worker.trainer")
    models_dir = settings.get().models_dir
    models_dir.mkdir(parents=True)
    (models_dir / "tiny").symlink_to(tiny_model)
    model = make_base_model(db)
    model.manifest_sha256 = verify_manifest(tiny_model)
    version = make_dataset_version(db, num_train=20, num_validation=0, num_test=4)
    config = TrainConfig(num_epochs=2, batch_size=4, num_evaluations=2, early_stopping_patience=1)
    worker = WorkerProcess("gpu", tmp_path)
    worker.start()
    try:
        job = make_job(db, base_model=model, config=config, version=version)
        until_final(db, job, seconds=120)
    finally:
        worker.end()
    assert (job.status, job.reason) == (JobStatus.SUCCEEDED, None), job.log_tail
    assert job.adapter is not None
    assert (job.adapter.metrics["best_step"], job.adapter.metrics["is_chosen"]) == (10, False)
    assert job.adapter.samples == []
    log = " ".join(event.message for event in db.scalars(select(JobEvent).order_by(JobEvent.seq)))
    assert "Planned: 10 steps over 20 examples. " in log
    assert "There is no check set" in log
    assert "what it has learned at the last step is kept" in log
    assert "best so far" not in log
    sentence = progress.figures(db, job)["texts"]["sentence"]
    assert "so what it had learned at the last step was kept." in sentence
