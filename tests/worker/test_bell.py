"""The bell that lets a worker's threads rest, and what a sweep does while nothing is held."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import func, text
from sqlalchemy.orm import Session

from app.core import settings, wakeup
from app.core.models import JobStatus, Role, VersionStatus, Webhook
from app.jobs import protocol
from app.notices import outbox, webhooks
from tests import patience
from tests.factories import make_dataset_version, make_job, make_user
from worker import sweep
from worker.bell import Bell

WORKER = protocol.WorkerInfo("gpu-0@here", "here", "boot", 1234, 99, ("cpu",))
# Longer than any test may take: who waits so long was not woken.
FOR_EVER = 3600.0


@pytest.fixture
def bell(db: Session) -> Iterator[Bell]:
    made = Bell()
    made.start()
    wait_until_listening(made)
    yield made
    made.stop()


def wait_until_listening(bell: Bell) -> None:
    deadline = time.monotonic() + patience.seconds(30)
    while not bell.is_listening:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for topic in wakeup.TOPICS:
        bell.wait(topic, 0)  # what rang as it began to listen


@pytest.fixture
def resting(bell: Bell, monkeypatch: pytest.MonkeyPatch) -> sweep._Sweep:
    """A sweep that rests for ever while nothing is held."""
    monkeypatch.setenv("ETUDE_WORKER_ID", "w@test")
    for name in ("SWEEP", "SELF_FENCE", "LEASE"):
        monkeypatch.setenv(f"ETUDE_{name}_SECONDS", str(2 * FOR_EVER + (name == "LEASE")))
    settings.get.cache_clear()
    made = sweep._Sweep("gpu", bell)
    made.is_needed = False
    return made


def after_a_rest(resting: sweep._Sweep) -> threading.Thread:
    thread = threading.Thread(target=resting._pause, daemon=True)
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    return thread


def test_a_claim_ends_the_rest_of_every_sweep(resting: sweep._Sweep, db: Session) -> None:
    make_job(db)
    db.commit()
    thread = after_a_rest(resting)
    assert protocol.claim(db, WORKER) is not None
    db.commit()
    thread.join(patience.seconds(30))
    assert not thread.is_alive()


def test_a_bell_that_was_cut_off_rings_and_listens_again(
    resting: sweep._Sweep, db: Session
) -> None:
    thread = after_a_rest(resting)
    killed = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = "
    db.execute(text(f"{killed}'etude-bell' AND datname = current_database()"))
    thread.join(patience.seconds(30))
    assert not thread.is_alive()
    wait_until_listening(resting.bell)


def test_a_message_ends_the_rest_of_whoever_sends(bell: Bell, db: Session) -> None:
    admin = make_user(db, role=Role.ADMIN)
    hook = Webhook(name="Ward board", url="https://board.example")
    db.add(hook)
    db.commit()
    assert not outbox.is_due(db)
    thread = threading.Thread(target=bell.wait, args=("outbox", FOR_EVER), daemon=True)
    thread.start()
    webhooks.send_test(db, admin, hook)
    db.commit()
    thread.join(patience.seconds(30))
    assert not thread.is_alive()
    assert outbox.is_due(db)


@pytest.mark.parametrize(
    ("status", "is_needed"),
    [(JobStatus.QUEUED, True), (JobStatus.RUNNING, True), (JobStatus.SUCCEEDED, False)],
)
def test_a_sweep_is_needed_while_a_job_waits_or_is_held(
    db: Session, status: JobStatus, *, is_needed: bool
) -> None:
    assert db.scalar(sweep._IS_NEEDED) is False
    held: dict[str, Any] = {}
    if status is JobStatus.RUNNING:
        held = {"worker_id": "w@test", "lease_until": func.now()}
    make_job(db, status=status, **held)
    assert db.scalar(sweep._IS_NEEDED) is is_needed


@pytest.mark.parametrize("status", [VersionStatus.UPLOADED, VersionStatus.READY])
def test_a_sweep_is_needed_while_a_file_waits(db: Session, status: VersionStatus) -> None:
    make_dataset_version(db, status=status)
    assert db.scalar(sweep._IS_NEEDED) is (status is VersionStatus.UPLOADED)
