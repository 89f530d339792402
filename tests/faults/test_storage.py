"""Faults of disks and files."""

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import pytest
import torch
from safetensors.torch import save_file
from sqlalchemy import select

from app.core import settings
from app.core.errors import Conflict
from app.core.models import (
    Adapter,
    Attempt,
    BaseModel,
    Checkpoint,
    Example,
    JobStatus,
)
from app.datasets import deletion
from app.jobs import metrics, requests
from app.ops.embedded.postgres import Postgres
from app.training.config import TrainConfig
from app.training.manifests import verify_manifest, write_manifest
from tests import databases, http, patience
from tests.faults.conftest import opened
from tests.faults.house import House
from tests.small_disk import fill, small_disk
from tests.worker.conftest import is_running
from tests.worker.trainer.conftest import tiny_model  # noqa: F401 - a fixture
from worker.gpu import endings


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let a folder be read only for whoever opens a file in it from now on."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "--bind", str(folder), str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("nobody may mount here")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_data_directory_that_cannot_be_written_costs_no_strike(house: House) -> None:
    with read_only(house.data_dir / "jobs"):
        job = house.make_job()
        house.wait_for(lambda: job.attempt == 1 and job.status is JobStatus.QUEUED)
        first = house.db.scalars(select(Attempt).where(Attempt.job_id == job.id)).one()
        assert (first.outcome, job.strikes) == ("disk_error", 0)
        assert job.run_after > job.created_at
    job.run_after = job.created_at
    house.db.commit()
    house.finish(job)
    assert job.attempt == 2


def test_f35_a_full_disk_of_the_database_stops_no_training_and_is_told_of(tmp_path: Path) -> None:
    """Nothing is done about it but to make room: no SQL, no restart."""
    place = Path(tempfile.mkdtemp(prefix="etude-d"))  # sockets have short names
    place.chmod(0o711)
    with small_disk(place, "200m") as disk:
        disk.chmod(0o711)
        server = Postgres(settings.load(data_dir=disk), {"fsync": "off"})
        server.start()
        try:
            databases.fill_template(server)
            with opened(server) as house:
                _fill_the_database(house, disk)
        finally:
            server.stop()
    place.rmdir()


def _fill_the_database(house: House, disk: Path) -> None:
    web = house.start_web()
    job = house.make_job("steps=140 every=20 pause=0.05")
    house.until_step(job, 12)
    trainer, page = house.trainer(job), f"/jobs/{job.id}"
    try:
        with suppress(OSError):  # the server takes some of it meanwhile
            fill(disk)
        answer = None
        for number in range(300):  # until no page of any table has room
            answer = web.post(f"{page}/rename", data={"name": f"steps=140 every=20 {number:0100}"})
            if answer is not None and answer.status_code != 303:
                break
        assert answer is not None
        assert answer.status_code == 507, answer.text
        assert "The database's disk is full, so nothing can be saved" in answer.text
        shown = httpx2.get(web.address + page, headers=web.headers(), timeout=patience.seconds(30))
        assert shown.status_code == 200  # what is there can be read
        house.wait_for(lambda: "No space left on device" in house.log())
        assert is_running(trainer)
    finally:
        (disk / "ballast").unlink()
    house.finish(job, attempts=1)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")  # PEFT's own
def test_f51_a_whole_checkpoint_that_cannot_be_loaded_makes_way_for_the_one_before(
    postgres: Postgres,
    tiny_model: Path,  # noqa: F811
    all_faults: bool,
) -> None:
    """With the real trainer: by row and by manifest all is well, and the moments are another's."""
    if not all_faults:
        pytest.skip("the real trainer loads three times: make faults FAULT_ARGS=--all-faults")
    with opened(postgres, with_worker=False, ETUDE_TRAINER_MODULE="worker.trainer") as house:
        models = house.data_dir / "models"
        models.mkdir()
        (models / "tiny").symlink_to(tiny_model)
        model = house.db.scalars(select(BaseModel)).one()
        model.manifest_sha256 = verify_manifest(tiny_model)
        # Long enough that a busy machine has the first checkpoint in the table well before the end.
        config = TrainConfig(num_epochs=50, batch_size=1, num_evaluations=20, lora_rank=4)
        job = house.make_job()
        job.config = config.model_dump(mode="json")
        house.db.commit()
        house.worker.start()
        house.wait_for(lambda: job.durable_step >= 8, seconds=120)
        house.worker.terminate()
        house.db.expire_all()
        stopped_at = job.durable_step
        newest = house.db.scalars(select(Checkpoint).order_by(Checkpoint.step.desc())).first()
        assert newest is not None
        assert newest.step == stopped_at
        folder = house.data_dir / "jobs" / str(job.id) / newest.path
        save_file({"moment": torch.zeros(3)}, folder / "optimizer.safetensors")
        (folder / "MANIFEST.json").unlink()
        newest.manifest_sha256 = write_manifest(folder, step=stopped_at)
        house.db.commit()
        house.worker.start()
        house.until_over(job, 120)
        assert (job.status, job.strikes) == (JobStatus.SUCCEEDED, 0), (job.reason, job.log_tail)
        tries = house.db.scalars(select(Attempt).order_by(Attempt.number)).all()
        assert [row.outcome for row in tries] == ["stopped", "checkpoint_unusable", "succeeded"]
        assert 0 < tries[2].resume_step < tries[1].resume_step == stopped_at
        curve = metrics.series(house.db, job.id)["loss"]
        assert [step for step, _ in curve] == list(range(1, (job.total_steps or 0) + 1))


def test_f53_a_job_that_would_fill_the_disk_does_not_begin(postgres: Postgres) -> None:
    with opened(postgres, with_worker=False) as house:
        room = shutil.disk_usage(house.data_dir).free
        house.worker = house.make_worker(ETUDE_DISK_RESERVE_BYTES=str(2 * room))
        house.worker.start()
        job = house.make_job()
        house.wait_for(lambda: job.attempt == 1 and job.status is JobStatus.QUEUED)
        outcome = house.db.scalars(select(Attempt.outcome)).one()
        assert (outcome, job.strikes) == ("disk_full", 0)
        assert not (house.data_dir / "jobs" / str(job.id) / "examples.arrow").exists()
        requests.cancel(house.db, house.user, job)
        house.db.commit()
    said = endings.no_room(3_000_000_000, 1_200_000_000).why
    assert said.startswith("It needs 3,000 MB of free disk space and there are 1,200 MB;")


def test_f56_f57_a_download_is_whole_resumes_and_survives_a_deletion(house: House) -> None:
    job = house.make_job()
    house.finish(job)
    made = house.db.scalars(select(Adapter).where(Adapter.job_id == job.id)).one()
    web = house.start_web()
    assert made.archive_file is not None
    address = f"{web.address}/v1/files/{made.archive_file.public_id}/content"
    headers = web.headers()
    whole = http.get(address, headers=headers)
    assert whole.status_code == 200
    half = len(whole.content) // 2
    rest = http.get(address, headers=headers | {"Range": f"bytes={half}-"})
    assert rest.status_code == 206
    assert whole.content[:half] + rest.content == whole.content
    # Thousands of pieces that overlap: refused or answered, and at once.
    many = ",".join(f"0-{n}" for n in range(4000))
    abused = httpx2.get(
        address, headers=headers | {"Range": f"bytes={many}"}, timeout=patience.seconds(5)
    )
    assert abused.status_code in (200, 206, 400, 416, 431)
    assert len(abused.content) <= 2 * len(whole.content)

    # Deleted while others take it: each has all of it, or nothing.
    answers: list[httpx2.Response] = []
    barrier = threading.Barrier(5)

    def take() -> None:
        barrier.wait()
        for _ in range(5):
            answers.append(http.get(address, headers=headers))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    barrier.wait()
    answer = web.post(f"/adapters/{made.id}/delete")
    assert answer is not None
    for thread in threads:
        thread.join()
    for found in answers:
        assert found.status_code in (200, 404)
        if found.status_code == 200:
            assert found.content == whole.content
    assert http.get(address, headers=headers).status_code == 404


def test_f58_data_of_a_job_that_is_not_over_cannot_be_deleted(house: House) -> None:
    job = house.make_job("steps=60 every=10 pause=0.03")
    house.until_step(job, 3)
    with pytest.raises(Conflict, match="needs this dataset"):
        deletion.delete_dataset(house.db, house.user, house.version.dataset)
    house.db.rollback()
    requests.cancel(house.db, house.user, job)
    house.db.commit()
    assert house.until_over(job).status is JobStatus.CANCELLED
    deletion.delete_dataset(house.db, house.user, house.version.dataset)
    assert house.db.scalars(select(Example)).first() is None
    house.db.rollback()  # the data serves the tests beside
