"""When the sweep looks, and what it removes because its time is over."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
import redis
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core import processes, settings, wakeup
from app.core.broker import for_redis_py
from app.core.models import Beside, Conversation, Job, JobStatus, JudgingStatus, Role
from app.evaluation import evaluations, judging
from app.jobs import protocol
from app.training.clock import boot_seconds
from tests import patience
from tests.factories import (
    make_adapter,
    make_base_model,
    make_evaluation,
    make_job,
    make_user,
    make_zipped_adapter,
)
from worker import identity, sweep
from worker.bell import Bell


def test_conversations_over_their_time_are_removed(db: Session, broker: str) -> None:
    adapter = make_zipped_adapter(db, make_user(db))
    for days in (29.9, 30.1):
        db.add(
            Conversation(
                owner_id=adapter.owner_id,
                adapter_id=adapter.id,
                beside=Beside.NOBODY,
                instruction="",
                temperature=days,  # to know it by
                updated_at=func.now() - timedelta(days=days),
            )
        )
    db.commit()
    sweep.clean(db)
    db.commit()
    assert db.scalars(select(Conversation.temperature)).all() == [29.9]


def test_an_evaluation_rings_for_those_who_train_alone(
    db: Session, broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_WORKER_ID", "w@test")
    gpu, cpu = sweep._Sweep("gpu", Bell()), sweep._Sweep("cpu", Bell())
    assert not gpu._has_work(db)
    job = make_job(db, status=JobStatus.SUCCEEDED)
    evaluations.request_after_job(db, make_adapter(db, job=job))
    assert gpu._has_work(db)
    assert not cpu._has_work(db)


def test_a_judging_rings_for_those_who_train_alone_and_ends_in_a_day(
    db: Session, broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_WORKER_ID", "w@test")
    gpu, cpu = sweep._Sweep("gpu", Bell()), sweep._Sweep("cpu", Bell())
    made = make_evaluation(db)
    user, judge = make_user(db, role=Role.MEMBER), make_base_model(db, name="house/judge")
    row = judging.request(db, user, made, judge)
    assert gpu._has_work(db)
    assert not cpu._has_work(db)
    judging.fail_hopeless(db)
    assert gpu._has_work(db)
    row.created_at = datetime.now(UTC) - timedelta(days=2)
    db.flush()
    judging.fail_hopeless(db)
    db.refresh(row)
    assert row.status is JudgingStatus.FAILED
    assert "no machine that trains" in str(row.reason)
    assert not gpu._has_work(db)


# --- in time ------------------------------------------------------------------------------

# Longer than any test may take: what it is the time of does not come about by it.
FOR_EVER = 3600.0


def test_what_is_promised_is_what_is_set() -> None:
    """A lost hint is repaired within 5 s, and what a dead worker held is taken back within 2 s."""
    chosen = settings.Settings(_secrets_dir=None)
    assert chosen.sweep_seconds <= 5
    # One watch after it died, or two where it died amid one.
    assert 2 * chosen.watch_seconds <= 2


@contextmanager
def sweeping(
    monkeypatch: pytest.MonkeyPatch, bell: Bell, **seconds: float
) -> Iterator[sweep._Sweep]:
    """Let a worker's sweep run whose every time is for ever, but for the one that is looked at."""
    monkeypatch.setenv("ETUDE_WORKER_ID", "w@test")
    times = {
        "sweep": FOR_EVER, "watch": FOR_EVER, "heartbeat": FOR_EVER,
        "self_fence": 2 * FOR_EVER, "lease": 3 * FOR_EVER, "deaf": FOR_EVER,
    }  # fmt: skip
    for name, value in (times | seconds).items():
        monkeypatch.setenv(f"ETUDE_{name.upper()}_SECONDS", str(value))
    settings.get.cache_clear()
    made = sweep._Sweep("gpu", bell)
    made.is_needed = False  # nothing is held, so it rests
    made.swept_at = made.beat_at = boot_seconds()
    sweep._stopping.clear()
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        sweep.stop()
        bell._ring_all()
        thread.join(patience.seconds(30))
        sweep._stopping.clear()
    assert not thread.is_alive()


@pytest.fixture
def bell(db: Session) -> Iterator[Bell]:
    made = Bell()
    made.start()
    until(lambda: made.is_listening, 30)
    for topic in wakeup.TOPICS:
        made.wait(topic, 0)  # what rang as it began to listen
    yield made
    made.stop()


def until(is_so: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + patience.seconds(seconds)
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_hint_that_was_lost_is_repaired_by_the_next_sweep(
    db: Session, broker: str, bell: Bell, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = redis.Redis.from_url(for_redis_py(broker))
    messages.delete("etude:w@test")
    with sweeping(monkeypatch, bell, watch=1, sweep=5):
        make_job(db)
        db.commit()  # and nobody was told
        until(lambda: messages.llen("etude:w@test") > 0, 5 + 1)  # the tick itself takes a moment
    messages.delete("etude:w@test")
    messages.close()


def test_a_bell_amid_a_rest_does_not_make_the_sweep_later(
    db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_WORKER_ID", "w@test")
    for is_listening, is_needed in ((True, False), (True, True), (False, False)):
        bell = Bell()
        bell.is_listening = is_listening
        made = sweep._Sweep("gpu", bell)
        made.is_needed = is_needed
        made.swept_at = boot_seconds() - made.settings.sweep_seconds + 0.5
        assert 0 < made._rest_seconds() <= 0.5


def test_what_a_dead_worker_of_this_machine_held_is_taken_back_at_the_next_watch(
    db: Session, broker: str, bell: Bell, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(db)
    db.commit()
    with sweeping(monkeypatch, bell, watch=1), subprocess.Popen(["sleep", "3600"]) as process:
        started = processes.start_ticks(process.pid)
        assert started is not None
        here = (identity.host(), identity.boot_id(), process.pid, started, ("cpu",))
        assert protocol.claim(db, protocol.WorkerInfo("gpu-0@here", *here)) is not None
        db.commit()  # which ends the rest
        process.kill()
        process.wait()
        until(lambda: _status(db, job) is JobStatus.QUEUED, 2)


def test_what_another_machine_held_is_taken_back_by_the_sweep_after_its_lease(
    db: Session, broker: str, bell: Bell, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(db)
    db.commit()
    with sweeping(
        monkeypatch, bell, watch=1, sweep=2, self_fence=4, lease=5, reap_grace=0, reaper_patience=0
    ):
        elsewhere = protocol.WorkerInfo("gpu-0@there", "there", "boot", 1234, 99, ("cpu",))
        assert protocol.claim(db, elsewhere) is not None
        db.commit()
        until(lambda: _lease_is_over(db, job), 2 * 5)
        until(lambda: _status(db, job) is JobStatus.QUEUED, 2 + 1)


def _status(db: Session, job: Job) -> JobStatus:
    db.rollback()
    return db.scalars(select(Job.status).where(Job.id == job.id)).one()


def _lease_is_over(db: Session, job: Job) -> bool:
    db.rollback()
    over = select((Job.lease_until < func.clock_timestamp()) | Job.lease_until.is_(None))
    return bool(db.scalar(over.where(Job.id == job.id)))
