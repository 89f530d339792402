"""A free worker that takes nothing although a job waits is found by the tables alone."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func
from sqlalchemy.orm import Session

from app.core.models import Attempt, Desired, Job, JobStatus, OutboundCount, Worker, WorkerState
from app.jobs import standstill
from tests.factories import make_job

LONG_AGO = func.clock_timestamp() - timedelta(minutes=10)
JUST_NOW = func.clock_timestamp() - timedelta(seconds=20)


@pytest.fixture
def worker(db: Session) -> Worker:
    worker = Worker(id="gpu-0@here", queue="gpu", host="here", boot_id="", devices=["cpu"],
                    version="1", last_seen=func.clock_timestamp())  # fmt: skip
    db.add(worker)
    db.commit()
    return worker


def waiting(db: Session, **values: Any) -> Job:
    job = make_job(db)
    for name, value in ({"run_after": LONG_AGO} | values).items():
        setattr(job, name, value)
    db.commit()
    return job


def still(db: Session) -> list[str]:
    db.rollback()
    return standstill.standing_still(db)


def test_a_free_worker_and_a_job_that_waits(db: Session, worker: Worker) -> None:
    assert still(db) == []
    waiting(db)
    assert still(db) == ["gpu-0@here"]
    sentence = standstill.in_words(["gpu-0@here"])
    assert sentence == "Jobs wait, but gpu-0@here is free and takes none."


def test_a_job_that_waits_on_purpose(db: Session, worker: Worker) -> None:
    waiting(db, run_after=JUST_NOW)
    waiting(db, desired=Desired.PAUSE)
    assert still(db) == []


def test_a_worker_that_is_not_free(db: Session, worker: Worker) -> None:
    waiting(db)
    busy = make_job(
        db, status=JobStatus.RUNNING, worker_id=worker.id, lease_until=func.clock_timestamp()
    )
    db.commit()
    assert still(db) == []
    busy.worker_id, busy.lease_until, busy.status = None, None, JobStatus.SUCCEEDED
    attempt = Attempt(job_id=busy.id, number=1, worker_id=worker.id, host="here", boot_id="",
                      supervisor_pid=1, supervisor_started=1, devices=["cpu"],
                      resume_step=0, ended_at=JUST_NOW)  # fmt: skip
    db.add(attempt)
    db.commit()
    assert still(db) == [], "it is between two jobs"
    attempt.ended_at = LONG_AGO
    db.commit()
    assert still(db) == ["gpu-0@here"]


def test_a_worker_that_has_just_begun_is_silent_or_paused(db: Session, worker: Worker) -> None:
    waiting(db)
    db.add(OutboundCount(process=worker.id, allowed={}, unexpected={}, started_at=JUST_NOW))
    db.commit()
    assert still(db) == []
    db.get_one(OutboundCount, worker.id).started_at = LONG_AGO
    db.commit()
    assert still(db) == ["gpu-0@here"]
    worker.last_seen = LONG_AGO
    db.commit()
    assert still(db) == []
    worker.last_seen, worker.readings = func.clock_timestamp(), {"has_left": True}
    db.commit()
    assert still(db) == [], "it was told to end"
    worker.readings = None
    worker.last_seen, worker.state = func.clock_timestamp(), WorkerState.DRAINING
    db.commit()
    assert still(db) == []
