"""The chaos run's exports: what its stand-in makes is known again, and less than that is seen."""

import hashlib
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from app.adapters import exports, registry
from app.core import settings, storage
from app.core.models import ExportForm, ExportStatus, JobStatus
from bench.chaos import collect, exporter
from tests.factories import make_adapter, make_base_model, make_dataset_version, make_job, make_user
from worker.cpu import exporting


@pytest.mark.timeout(120)
def test_an_export_of_the_stand_in_tells_which_adapter_it_was_made_of(
    db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_WORKER_ID", "cpu-0@test")
    monkeypatch.setenv("ETUDE_DISK_RESERVE_BYTES", "0")
    monkeypatch.setenv("ETUDE_EXPORT_MODULE", "bench.chaos.exporter")
    settings.get.cache_clear()
    (settings.get().models_dir / "tiny").mkdir(parents=True)
    user = make_user(db)
    model = make_base_model(db, num_parameters=1000)
    version = make_dataset_version(db, user=user, num_train=20, num_validation=4)
    job = make_job(db, user=user, version=version, base_model=model, status=JobStatus.SUCCEEDED)
    adapter = make_adapter(db, job=job)
    row = exports.request(db, user, adapter, ExportForm.MERGED)
    db.commit()
    assert exporting.export_next("cpu-0@test")
    db.refresh(row)
    assert row.status is ExportStatus.READY, row.reason
    path, folder = storage.path(str(row.storage_key)), registry.folder(adapter)
    made = list(exporter.weights(folder, "merged", row.quantization.value))
    assert hashlib.sha256(path.read_bytes()).hexdigest() == row.sha256
    assert collect._is_right(path, made)
    assert not collect._is_right(path, list(exporter.weights(folder, "gguf", "f16")))
    (folder / "adapter_model.safetensors").write_bytes(b"of another job")
    assert not collect._is_right(path, list(exporter.weights(folder, "merged", "bf16")))
    path.write_bytes(path.read_bytes()[:-1000])
    assert not collect._is_right(path, made)
    assert not collect._is_right(Path("nowhere"), made)
