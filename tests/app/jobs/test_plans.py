"""What a job is expected to take: by what its machine does besides, and by what like jobs took."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.orm import Session

from app.core.models import Attempt, BaseModel, Job, JobStatus, Worker
from app.jobs import plans
from app.training.config import TrainConfig
from app.training.plan.choose import Plan
from app.training.plan.machine import DeviceInfo
from tests.app.datasets.test_lengths import byte_model
from tests.factories import make_base_model, make_dataset_version, make_job

LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 320,
    "num_attention_heads": 4, "intermediate_size": 128,
}  # fmt: skip


@pytest.fixture
def model(db: Session) -> BaseModel:
    made = byte_model(db)
    made.config, made.num_parameters = LLAMA, 150_000
    db.flush()
    return made


@pytest.fixture
def worker(db: Session) -> Worker:
    info = DeviceInfo(name="a CPU", free_bytes=2**40, num_cores=2, layer_rate=1e9)
    made = Worker(id="gpu-0@here", queue="gpu", host="here", boot_id="b", devices=["cpu"],
                  version="1", hardware=info.model_dump())  # fmt: skip
    db.add(made)
    db.flush()
    return made


def load(worker: Worker, load: float) -> None:
    worker.readings = {"devices": [{"device": "cpu", "kind": "cpu", "load": load}]}


def predicted(db: Session, model: BaseModel) -> Plan:
    db.flush()
    found = plans.predict(db, make_dataset_version(db), model, TrainConfig())
    assert found is not None
    return found


def test_other_work_counts_and_a_jobs_own_trainer_does_not(
    db: Session, model: BaseModel, worker: Worker
) -> None:
    alone = predicted(db, model)
    load(worker, 2.0)
    busy = predicted(db, model)
    assert busy.seconds == pytest.approx(2**1.3 * alone.seconds)
    assert any("2 at once" in reason for reason in busy.reasons)
    lease = datetime.now(UTC) + timedelta(minutes=1)
    make_job(db, status=JobStatus.RUNNING, worker_id=worker.id, lease_until=lease)
    assert predicted(db, model).seconds == pytest.approx(alone.seconds)


def test_like_jobs_correct_what_was_worked_out(
    db: Session, model: BaseModel, worker: Worker
) -> None:
    alone = predicted(db, model)
    for plain, on in (
        (50.0, model),
        (40.0, model),
        (25.0, model),
        (1.0, make_base_model(db, name="house/other")),
    ):
        finish(db, on, plain)
    slower = predicted(db, model)
    # The middle one of 2, 2.5 and 4 times; another model's job says nothing of this one.
    assert slower.correction == 2.5
    assert slower.seconds == pytest.approx(2.5 * alone.seconds)
    assert slower.tokens_per_second == pytest.approx(alone.tokens_per_second / 2.5)
    assert slower.plain_tokens_per_second == pytest.approx(alone.plain_tokens_per_second)
    load(worker, 2.0)  # what like jobs took is what they would have taken alone
    assert predicted(db, model).seconds == pytest.approx(2**1.3 * slower.seconds)


def finish(db: Session, model: BaseModel, plain: float) -> Job:
    """A job that was planned at 100 tokens/s, and did half of what it would have done alone."""
    job = make_job(
        db, base_model=model, status=JobStatus.SUCCEEDED,
        plan={"seconds": 1, "tokens_per_second": 100, "plain_tokens_per_second": 100},
        measured={"tokens_per_second": plain / 2, "plain_tokens_per_second": plain},
    )  # fmt: skip
    job.attempt = 1
    db.add(
        Attempt(
            job_id=job.id,
            number=1,
            worker_id="gpu-0@here",
            host="here",
            boot_id="b",
            devices=["cpu"],
            supervisor_pid=1,
            supervisor_started=1,
            resume_step=0,
        )
    )
    return job


def test_devices_of_several_kinds_are_kept_apart(db: Session) -> None:
    gib = 2**30
    for worker_id, kind, name, free, number in (
        ("gpu-0@one", "cuda", "NVIDIA H100", 70, 1),
        ("gpu-1@one", "cuda", "NVIDIA H100", 78, 1),
        ("gpu-0@two", "cuda", "NVIDIA L4", 20, 1),
        ("gpu-all@two", "cuda", "NVIDIA L4", 20, 2),
        ("gpu-0@three", "cpu", "a CPU", 900, 1),
    ):
        info = DeviceInfo.model_validate(
            {"kind": kind, "name": name, "free_bytes": free * gib, "num_devices": number}
        )
        db.add(
            Worker(id=worker_id, queue="gpu", host="here", boot_id="b", devices=[], version="1",
                   hardware=info.model_dump(), last_seen=datetime.now(UTC))
        )  # fmt: skip
        db.flush()
    on = plans.devices(db)
    assert [(info.name, info.num_devices) for info in on] == [
        ("NVIDIA L4", 1), ("NVIDIA H100", 1), ("NVIDIA L4", 2), ("a CPU", 1)
    ]  # fmt: skip
    small, large = (
        plans.plan_for(shape, number, plans._TYPICAL, TrainConfig(), on)
        for shape, number in (
            (LLAMA, 150_000),
            (LLAMA | {"hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64,
                      "intermediate_size": 28672}, 70_000_000_000),
        )
    )  # fmt: skip
    assert small and large
    assert plans.device_of(small, on).name == "NVIDIA L4"
    assert plans.device_of(large, on).name == "NVIDIA H100"
    older = small.model_copy(update={"device": ""})
    assert plans.device_of(older, on) == on[0]
