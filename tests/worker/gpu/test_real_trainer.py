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
from app.core.models import Adapter, Attempt, JobStatus
from app.jobs import metrics
from app.training import isolation
from app.training.config import TrainConfig
from app.training.manifests import verify_manifest
from tests.factories import make_base_model, make_job
from tests.worker.conftest import WorkerProcess, trainer_pid, until_final, wait_for
from tests.worker.trainer.conftest import tiny_model  # noqa: F401 - a fixture


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
        job = make_job(db, base_model=model, config=config)
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
    curves = metrics.series(db, job.id)
    assert [step for step, _ in curves["loss"]] == list(range(1, 151))
    assert curves["loss"][-1][1] < curves["loss"][0][1]
    assert curves["validation_loss"][0][0] == 0

    adapter = db.scalars(select(Adapter)).one()
    assert adapter.metrics["validation_loss_after"] < adapter.metrics["validation_loss_before"]
    assert len(adapter.samples) == 3
    taken = adapters.archive(db, job.owner, adapter)
    with zipfile.ZipFile(storage.path(taken.storage_key)) as pack:
        pack.extractall(tmp_path / "taken")
    assert verify_manifest(tmp_path / "taken") == adapter.manifest_sha256
    tuned = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tiny_model), str(tmp_path / "taken")
    )
    assert any("lora_B" in name and bool(w.any()) for name, w in tuned.named_parameters())
