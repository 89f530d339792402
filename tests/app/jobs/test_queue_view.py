"""A long queue is worked out beside the pages that show it."""

import importlib
import time
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.orm import Session

from app.core.models import (
    Evaluation,
    EvaluationStatus,
    JobStatus,
    Judging,
    JudgingStatus,
    Worker,
)
from app.jobs import protocol
from app.jobs.queue_view import outlook, with_what_is_not_kept
from app.training.plan.machine import DeviceInfo
from tests import patience
from tests.factories import make_adapter, make_evaluation, make_job

module = importlib.import_module("app.jobs.queue_view")  # its function has the same name


@pytest.fixture
def long(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """From two jobs on a queue is long, and nothing is kept from other tests."""
    monkeypatch.setattr(module, "_LONG", 1)
    monkeypatch.setattr(module, "_kept", {})
    return monkeypatch


def test_a_long_line_is_shown_as_it_was_and_renewed_beside_it(
    db: Session, long: pytest.MonkeyPatch
) -> None:
    long.setattr(module, "_KEPT_SECONDS", 0.0)
    long.setattr(module, "_SHARE", float("inf"))
    first, second = make_job(db), make_job(db)
    assert set(outlook(db).positions) == {first.id, second.id}
    third = make_job(db)
    assert third.id not in outlook(db).positions
    deadline = time.monotonic() + patience.seconds(20)
    while third.id not in outlook(db).positions:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    while not module._working.acquire(blocking=False):
        time.sleep(0.01)
    module._working.release()


def test_a_long_line_is_not_worked_out_all_the_time(db: Session, long: pytest.MonkeyPatch) -> None:
    long.setattr(module, "_KEPT_SECONDS", 50.0)
    make_job(db), make_job(db)
    kept = outlook(db)
    make_job(db)
    assert outlook(db) is kept
    long.setattr(module, "_STALE_SECONDS", 0.0)
    assert len(outlook(db).positions) == 3


PLAN = {"seconds": 600, "tokens_per_second": 100, "peak_bytes": 10**9}


@pytest.fixture
def worker(db: Session) -> Worker:
    hardware = DeviceInfo(kind="cpu", name="a CPU", free_bytes=2**40).model_dump()
    made = Worker(id="gpu-0@here", queue="gpu", host="here", boot_id="b", devices=["cpu"],
                  version="1", hardware=hardware)  # fmt: skip
    db.add(made)
    db.commit()
    return made


def test_the_next_job_waits_for_what_the_new_adapter_answers(db: Session, worker: Worker) -> None:
    first, second = make_job(db, plan=PLAN), make_job(db, plan=PLAN)
    queue = with_what_is_not_kept(db)
    # At most twice the planned time, and two minutes of test questions.
    latest = queue.times[second.id].starts[1]
    assert latest == queue.now + timedelta(seconds=2 * 600 + 120)
    assert queue.times[first.id].ends is not None


def test_what_is_evaluated_holds_its_device(db: Session, worker: Worker) -> None:
    adapter = make_adapter(db, job=make_job(db, status=JobStatus.SUCCEEDED))
    assert adapter.job is not None
    db.add(
        Evaluation(
            department_id=adapter.department_id,
            owner_id=adapter.owner_id,
            adapter_id=adapter.id,
            base_model_id=adapter.base_model_id,
            version_id=adapter.job.version_id,
            status=EvaluationStatus.EVALUATING,
            arms=["tuned"],
            budget_seconds=120,
            spent_seconds=30,
            worker_id=worker.id,
            lease_until=datetime.now(UTC) + timedelta(minutes=1),
        )
    )
    job = make_job(db, plan=PLAN)
    queue = with_what_is_not_kept(db)
    assert queue.times[job.id].starts == (queue.now, queue.now + timedelta(seconds=90))


def test_what_is_judged_holds_its_device(db: Session, worker: Worker) -> None:
    evaluation = make_evaluation(db)
    db.add(
        Judging(
            evaluation_id=evaluation.id,
            department_id=evaluation.department_id,
            owner_id=evaluation.owner_id,
            base_model_id=evaluation.base_model_id,
            status=JudgingStatus.JUDGING,
            budget_seconds=120,
            spent_seconds=30,
            worker_id=worker.id,
            lease_until=datetime.now(UTC) + timedelta(minutes=1),
        )
    )
    job = make_job(db, plan=PLAN)
    queue = with_what_is_not_kept(db)
    assert queue.times[job.id].starts == (queue.now, queue.now + timedelta(seconds=90))


def test_a_job_that_waits_for_disk_says_so(db: Session, worker: Worker) -> None:
    job = make_job(db, plan=PLAN)
    claimed = protocol.claim(db, protocol.WorkerInfo(worker.id, "here", "b", 1, 1, ("cpu",)))
    assert claimed is not None
    protocol.requeue(db, claimed, outcome="disk_full", why="Full.", strike=False, delay_seconds=600)
    db.commit()
    why = with_what_is_not_kept(db).why(job.id)
    assert why.startswith("It waits for room on the disk of its machine")
    assert why.endswith("It tries again in 10 minutes.")
