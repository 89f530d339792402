"""Energy: read from counters that are files or a driver, summed over attempts, shown with money."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.core import settings
from app.core.models import Attempt, Job, JobStatus, Worker
from app.jobs import energy
from app.training.plan.machine import DeviceInfo
from tests.app.datasets.test_lengths import byte_model
from tests.app.web.pages import sign_in
from tests.factories import first_user, make_dataset_version, make_job, make_user
from tests.ops.conftest import take
from worker.gpu.energy import Counter, Meter, gpu_counters, processor_counters


def add_attempt(
    db: Session, job: Job, number: int, joules: float | None, source: str = "gpu"
) -> None:
    db.add(Attempt(job_id=job.id, number=number, worker_id="gpu-0@here", host="here", boot_id="",
                   supervisor_pid=1, supervisor_started=1, devices=["cuda:0"], resume_step=0,
                   ended_at=job.created_at, outcome="succeeded", energy_joules=joules,
                   energy_source=source if joules is not None else None))  # fmt: skip
    db.commit()


def test_counters_that_run_full_and_parts_that_count_twice(powercap: Path) -> None:
    counters = processor_counters(powercap)
    assert len(counters) == 2
    meter = Meter(counters, "cpu")
    take(powercap, "intel-rapl:0", 0.5)
    assert meter.sample() == pytest.approx(0.5)
    take(powercap, "intel-rapl:0", 3)  # runs full
    take(powercap, "intel-rapl:1", 0.25)
    take(powercap, "intel-rapl:0:0", 2)
    assert meter.sample() == pytest.approx(3.75)


def test_where_nothing_counts_nothing_is_claimed(tmp_path: Path) -> None:
    assert processor_counters(tmp_path / "nothing") == []
    (tmp_path / "intel-rapl:0").mkdir()
    (tmp_path / "intel-rapl:0" / "name").write_text("package-0")  # and no counter to read
    assert processor_counters(tmp_path) == []
    assert gpu_counters(["nothing-of-the-kind"]) == []
    assert not Meter([], "gpu").is_measuring


def test_a_driver_that_was_loaded_again_begins_at_nought() -> None:
    values = iter([100.0, 130.0, 5.0])
    meter = Meter([Counter(lambda: next(values))], "gpu")
    assert meter.sample() == 30
    assert meter.sample() == 35


def shown(db: Session, job: Job) -> energy.Shown:
    attempts = select(Attempt).where(Attempt.job_id == job.id)
    return energy.shown(db, job, list(db.scalars(attempts)))


def test_attempts_are_summed_and_money_is_shown(
    db: Session, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = {"seconds": 60, "peak_bytes": 1, "tokens_per_second": 1000}
    plan = {"seconds": 3600, "tokens_per_second": 1000, "peak_bytes": 1}
    for joules in (3.6e6, 7.2e6):
        like = make_job(db, status=JobStatus.SUCCEEDED, trained_tokens=3_600_000)
        add_attempt(db, like, 1, joules)
    job = make_job(db, status=JobStatus.SUCCEEDED, plan=plan, measured=measured)
    assert shown(db, job)[:3] == (
        "1.00 to 2.00 kWh", "not measured on this machine", ""
    )  # fmt: skip
    add_attempt(db, job, 1, 1.8e6)
    add_attempt(db, job, 2, 3.6e6)
    assert shown(db, job).measured == "1.50 kWh"
    add_attempt(db, job, 3, None)
    monkeypatch.setenv("ETUDE_PRICE_PER_KWH", "0.3")
    settings.get.cache_clear()
    sign_in(client, db, first_user(db))
    page = client.get(f"/jobs/{job.id}").text
    assert "0.30 to 0.60 EUR" in page
    assert "at least 1.50 kWh" in page
    assert "at least 0.45 EUR" in page
    assert "the GPU alone" in page


def test_what_like_jobs_took_is_said_before_the_start(
    db: Session, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = byte_model(db)
    model.config = {
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "vocab_size": 300,
        "num_hidden_layers": 2, "num_attention_heads": 4,
    }  # fmt: skip
    model.num_parameters = 300_000
    user = make_user(db)
    version = make_dataset_version(db, user=user)
    info = DeviceInfo(kind="cuda", name="NVIDIA L4", free_bytes=24 * 10**9)
    for number, name in enumerate(("NVIDIA L4", "NVIDIA T400")):
        hardware = info.model_copy(update={"name": name}).model_dump()
        db.add(Worker(id=f"gpu-{number}@here", queue="gpu", host="here", boot_id="", devices=[],
                      hardware=hardware, version="0",
                      last_seen=datetime.now(UTC) - timedelta(seconds=number)))  # fmt: skip
    db.commit()
    sign_in(client, db, user)
    form = {"name": "x", "version_id": str(version.id), "base_model_id": str(model.id)}

    def estimate() -> str:
        return client.post("/jobs/new/estimate", data=form, headers={"HX-Request": "true"}).text

    said = estimate()
    assert "It fits this machine" in said
    assert "Energy" not in said

    def took(joules: float | None, worker: str) -> None:
        job = make_job(db, user=user, version=version, base_model=model,
                       status=JobStatus.SUCCEEDED, trained_tokens=1000)  # fmt: skip
        add_attempt(db, job, 1, joules)
        db.execute(update(Attempt).where(Attempt.job_id == job.id).values(worker_id=worker))
        db.commit()

    took(None, "gpu-0@here")
    took(9e9, "gpu-1@here")  # another kind of card
    assert "Energy" not in estimate()
    took(3.6e5, "gpu-0@here")
    (about,) = re.findall(r"<b>about ([\d.,]+) kWh</b>", said := estimate())
    assert "as measured for 1 similar job here: the GPU alone" in said
    assert "cost" not in said
    took(7.2e5, "gpu-0@here")
    monkeypatch.setenv("ETUDE_PRICE_PER_KWH", "0.5")
    settings.get.cache_clear()
    said = estimate()
    (least, most) = re.findall(r"<b>([\d.,]+) to ([\d.,]+) kWh</b>", said)[0]
    assert least == about
    assert float(most) == pytest.approx(2 * float(least), rel=0.01)
    assert "as measured for 2 similar jobs here" in said
    (cost,) = re.findall(r"<b>([\d.]+) to [\d.]+ EUR</b>", said)
    assert float(cost) == pytest.approx(float(least) / 2, abs=0.01)


def test_small_numbers_have_a_smaller_unit(db: Session) -> None:
    job = make_job(db, status=JobStatus.SUCCEEDED)
    add_attempt(db, job, 1, 900.0, "cpu")
    said = shown(db, job)
    assert (said.predicted, said.measured, said.measured_cost) == ("—", "0.25 Wh", "")
    assert said.covers == "everything that ran on the processor"
