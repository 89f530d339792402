"""Faults of GPUs, which a stand-in for the driver and for nvidia-smi claims there are."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from app.core.models import (
    Attempt,
    Job,
    JobEvent,
    JobStatus,
    Notice,
    QuarantinedDevice,
    Role,
    Worker,
)
from app.machines import devices as machines
from app.ops.embedded.postgres import Postgres
from tests.factories import make_user
from tests.faults.conftest import opened
from tests.faults.house import House
from tests.faults.test_several_gpus import nvidia_smi

DRIVER = Path(__file__).parents[1] / "worker" / "gpu" / "nvml_stand_in.c"


@pytest.fixture
def gpus(postgres: Postgres, tmp_path: Path) -> Iterator[House]:
    """A house of two GPUs; the first falls off the bus when the file `falls` appears."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler for the stand-in driver")
    library = tmp_path / "libnvidia-ml.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, DRIVER], check=True)
    path = nvidia_smi(tmp_path)
    driver = {"PATH": path, "LD_LIBRARY_PATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": "0,1"}
    with opened(postgres, with_worker=False, **driver) as house:
        house.environment["NVML_FALLS"] = str(house.folder / "falls")
        yield house


def out_of_use(house: House) -> list[QuarantinedDevice]:
    house.db.rollback()
    return list(house.db.scalars(select(QuarantinedDevice)))


def devices(house: House, job: Job) -> list[str]:
    rows = house.db.scalars(
        select(Attempt).where(Attempt.job_id == job.id).order_by(Attempt.number)
    )
    return [f"{row.devices[0]} {row.outcome}" for row in rows]


def test_f48_f50_a_gpu_that_fails_is_taken_out_of_use_and_the_others_go_on(gpus: House) -> None:
    house = gpus
    admin = make_user(house.db, role=Role.ADMIN)
    first = house.worker = house.make_worker(ETUDE_DEVICE="cuda:0")
    second = house.make_worker(number=1, ETUDE_DEVICE="cuda:1")
    first.start()
    try:
        job = house.make_job("steps=100 every=10 hold=50")
        house.until_step(job, 12)
        (house.folder / "falls").touch()
        house.wait_for(lambda: out_of_use(house))
        house.wait_for(lambda: job.status is JobStatus.QUEUED)
        assert job.strikes == 0
        (row,) = out_of_use(house)
        assert (row.device, row.by_id) == ("cuda:0", None)
        assert row.reason.startswith("The driver reported Xid 79: it has fallen off the bus.")
        told = house.db.scalars(select(Notice.title).where(Notice.user_id == admin.id)).all()
        assert told == [f"cuda:0 of {row.host} was taken out of use"]
        second.start()
        house.finish(job, attempts=2)
        said = house.db.scalars(select(JobEvent.message).where(JobEvent.job_id == job.id)).all()
        assert any(
            line.startswith("It continues on NVIDIA T400 instead of NVIDIA L4.") for line in said
        )
        assert devices(house, job) == ["cuda:0 stopped", "cuda:1 succeeded"]
        second.terminate()

        # Back in use it stays so, as long as it does not fail again; and one job alone that ends
        # with an error of the GPU, however often, takes no GPU out of use.
        worker = house.db.get_one(Worker, "gpu-0@test")
        machines.release(house.db, admin, worker, "cuda:0")
        house.db.commit()
        one = house.make_job("steps=6 every=2 exit=74 at=3 attempts=2")
        house.finish(one, attempts=3)
        assert out_of_use(house) == []
        other = house.make_job("steps=6 every=2 exit=74 at=3 attempts=1")
        house.wait_for(lambda: out_of_use(house))
        (row,) = out_of_use(house)
        assert row.reason.startswith("Two jobs failed on it within a day.")
        house.db.refresh(other)
        assert other.status is JobStatus.QUEUED
        second.start()
        house.finish(other, attempts=2)
        assert devices(house, other) == ["cuda:0 device_error", "cuda:1 succeeded"]
    finally:
        second.end()
