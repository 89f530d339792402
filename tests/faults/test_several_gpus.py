"""`etude up` on a machine with two GPUs, which a stand-in for nvidia-smi claims there are."""

import os
import signal
from pathlib import Path

import pytest
from sqlalchemy import select

from app.core.models import Attempt, Desired, JobStatus, Worker
from tests.factories import make_dataset_version, make_job
from tests.up import STAND_IN, Etude
from tests.worker.conftest import wait_for

_NVIDIA_SMI = r"""#!/bin/sh
case "$*" in
*--list-gpus*) echo "GPU 0: NVIDIA L4 (UUID: GPU-0)"; echo "GPU 1: NVIDIA L4 (UUID: GPU-1)";;
*--id=1\ *) echo "NVIDIA T400, 22000, 8.9";;
*--id=0,1*) echo "NVIDIA L4, 22000, 8.9"; echo "NVIDIA L4, 21000, 8.9";;
*) echo "NVIDIA L4, 22000, 8.9";;
esac
"""


def nvidia_smi(folder: Path) -> str:
    """Put the program into a folder; returns the PATH on which it is found."""
    programs = folder / "bin"
    programs.mkdir()
    (programs / "nvidia-smi").write_text(_NVIDIA_SMI)
    (programs / "nvidia-smi").chmod(0o755)
    return f"{programs}:{os.environ['PATH']}"


def test_small_jobs_train_side_by_side_and_a_wide_one_on_both(
    tmp_path: Path, all_faults: bool
) -> None:
    if not all_faults:
        pytest.skip("`etude up` with five workers: make faults FAULT_ARGS=--all-faults")
    environment = STAND_IN | {"PATH": nvidia_smi(tmp_path)}
    etude = Etude(tmp_path / "data", environment=environment)
    etude.start()
    try:
        with etude.database() as db:
            version = make_dataset_version(db)
            jobs = [make_job(db, version=version, desired=Desired.PAUSE) for _ in range(4)]
            first, second, wide, last = jobs
            for job in jobs:
                job.name, job.desired = "steps=20 pause=0.05", Desired.RUN
            first.name, wide.needs_devices = "steps=60 pause=0.05", 2
            db.commit()
            wait_for(db, lambda: all(job.status.is_final for job in jobs), seconds=90)
            assert {job.status for job in jobs} == {JobStatus.SUCCEEDED}
            tries = {row.job_id: row for row in db.scalars(select(Attempt))}
            assert len(tries) == len(jobs), "each in one go, and nobody found a device busy"
            workers = {row.id: row.devices for row in db.scalars(select(Worker))}
            assert tries[wide.id].devices == ["cuda:0", "cuda:1"]
            assert tries[first.id].devices != tries[second.id].devices
            ended = {row.job_id: row.ended_at or row.started_at for row in tries.values()}
            assert tries[second.id].started_at < ended[first.id]
            for before, after in ((first, wide), (second, wide), (wide, last)):
                assert ended[before.id] <= tries[after.id].started_at
        held = {name.partition("@")[0]: devices for name, devices in workers.items()}
        assert held == {
            "cpu-0": ["cpu"],
            "gpu-0": ["cuda:0"],
            "gpu-1": ["cuda:1"],
            "gpu-all": ["cuda:0", "cuda:1"],
        }
    finally:
        etude.end(signal.SIGTERM)
