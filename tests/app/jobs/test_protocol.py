"""The protocol of workers on real PostgreSQL: claim, fence, heartbeat, reap, strikes, ends."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from app.core import db as database
from app.core import settings
from app.core.models import (
    Attempt,
    Checkpoint,
    Desired,
    Job,
    JobEvent,
    JobStatus,
    Metric,
    ModelStatus,
    VersionStatus,
    Worker,
    WorkerState,
)
from app.jobs import fence, inputs, metrics, protocol, queue_view, requests
from app.training.events import CheckpointEvent, EvaluationEvent, PlanEvent, StepEvent
from tests.factories import make_base_model, make_dataset_version, make_job

WORKER = protocol.WorkerInfo("gpu-0@here", "here", "boot", 1234, 99, ("cpu",))
OTHER = replace(WORKER, id="gpu-1@there", host="there")


@pytest.fixture
def quick_leases(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ETUDE_LEASE_SECONDS", "0.1")
    monkeypatch.setenv("ETUDE_SELF_FENCE_SECONDS", "0.05")
    monkeypatch.setenv("ETUDE_REAP_GRACE_SECONDS", "0")
    monkeypatch.setenv("ETUDE_RETRY_BACKOFF_SECONDS", "0")
    settings.get.cache_clear()
    yield
    settings.get.cache_clear()


def claim(db: Session, worker: protocol.WorkerInfo = WORKER) -> fence.Claim:
    claimed = protocol.claim(db, worker)
    db.commit()
    assert claimed is not None
    return claimed


def fresh(db: Session, job: Job) -> Job:
    db.refresh(job)
    return job


def step_event(step: int) -> StepEvent:
    return StepEvent(
        at=1.7e9 + step,
        step=step,
        epoch=step / 10,
        loss=3 - step / 10,
        learning_rate=1e-3,
        grad_norm=1,
        num_tokens=50,
        tokens_per_second=500,
    )


def report(db: Session, claimed: fence.Claim, steps: range, checkpoint: int | None = None) -> None:
    events: list[metrics.TrainerEvent] = [step_event(step) for step in steps]
    if checkpoint is not None:
        events.append(EvaluationEvent(at=1.7e9, step=checkpoint, loss=2.5, is_best=True))
        path = f"checkpoints/step-{checkpoint:05d}"
        events.append(
            CheckpointEvent(at=1.7e9, step=checkpoint, path=path, manifest_sha256="a" * 64)
        )
    metrics.ingest(db, claimed.job_id, claimed.attempt, events, spool_offset=1000)
    db.commit()


def let_lease_run_out(db: Session, job: Job) -> None:
    past = func.clock_timestamp() - timedelta(seconds=1)
    db.execute(update(Job).where(Job.id == job.id).values(lease_until=past))
    db.commit()


def test_many_workers_claim_each_job_once(db: Session) -> None:
    version = make_dataset_version(db)
    wanted = {make_job(db, version=version).id for _ in range(12)}
    barrier = threading.Barrier(6)

    def take(number: int) -> list[int]:
        barrier.wait()
        found = []
        with database.session() as session:
            while (one := protocol.claim(session, replace(WORKER, id=f"gpu-{number}"))) is not None:
                session.commit()
                found.append(one.job_id)
        return found

    with ThreadPoolExecutor(6) as pool:
        taken = [job_id for found in pool.map(take, range(6)) for job_id in found]
    assert sorted(taken) == sorted(wanted)
    assert db.scalar(select(func.count()).select_from(Attempt)) == 12


def test_the_line_goes_by_priority_then_age(db: Session) -> None:
    version = make_dataset_version(db)
    second = make_job(db, version=version)
    third = make_job(db, version=version)
    first = make_job(db, version=version, priority=-1)
    assert [queue_view.position(db, job) for job in (first, second, third)] == [1, 2, 3]
    assert [claim(db).job_id for _ in range(3)] == [first.id, second.id, third.id]
    assert protocol.claim(db, WORKER) is None


def test_a_job_waits_for_its_data_and_its_model(db: Session) -> None:
    version = make_dataset_version(db, status=VersionStatus.CONFIRMED)
    model = make_base_model(db, status=ModelStatus.WAITING)
    job = make_job(db, version=version, base_model=model)
    assert protocol.claim(db, WORKER) is None
    assert not protocol.has_claimable(db, WORKER)
    version.status = VersionStatus.READY
    db.commit()
    assert protocol.claim(db, WORKER) is None
    model.status = ModelStatus.READY
    db.commit()
    assert protocol.has_claimable(db, WORKER)
    assert claim(db).job_id == job.id


def test_a_job_whose_data_failed_fails_with_that_reason(db: Session) -> None:
    version = make_dataset_version(db, status=VersionStatus.FAILED, reason="Line 3 has no answer.")
    job = make_job(db, version=version)
    assert protocol.claim(db, WORKER) is None
    assert inputs.fail_hopeless(db) == [job.id]  # the sweep does so
    db.commit()
    assert fresh(db, job).status is JobStatus.FAILED
    assert job.reason is not None and "Line 3 has no answer." in job.reason
    assert job.finished_at is not None


def test_a_failed_test_file_fails_the_job_too(db: Session) -> None:
    validation = make_dataset_version(db, status=VersionStatus.FAILED, reason="It is empty.")
    job = make_job(db, validation_version_id=validation.id)
    assert inputs.fail_hopeless(db) == [job.id]
    assert "It is empty." in (fresh(db, job).reason or "")


def test_a_draining_worker_claims_nothing(db: Session) -> None:
    make_job(db)
    db.add(
        Worker(
            id=WORKER.id,
            queue="gpu",
            host="here",
            boot_id="boot",
            devices=["cpu"],
            state=WorkerState.DRAINING,
            version="0",
        )
    )
    db.commit()
    assert protocol.claim(db, WORKER) is None
    assert protocol.claim(db, OTHER) is not None


def test_an_older_attempt_can_write_nothing(db: Session, quick_leases: None) -> None:
    job = make_job(db)
    old = claim(db)
    let_lease_run_out(db, job)
    assert protocol.reap(db) == [job.id]
    db.commit()
    new = claim(db, OTHER)
    assert new.attempt == old.attempt + 1
    for write in (
        lambda: fence.heartbeat(db, old),
        lambda: metrics.ingest(db, old.job_id, old.attempt, [step_event(1)], 10),
        lambda: protocol.succeed(db, old, measured={}),
        lambda: protocol.fail(db, old, code="x", reason="y"),
        lambda: protocol.cancelled(db, old),
        lambda: protocol.requeue(db, old, outcome="x", why="y", strike=True),
        lambda: protocol.roll_back(db, old, 0),
    ):
        with pytest.raises(fence.Fenced):
            write()
        db.rollback()
    assert fresh(db, job).status is JobStatus.RUNNING
    assert job.worker_id == OTHER.id
    assert db.scalar(select(func.count()).select_from(Metric)) == 0


def test_a_heartbeat_keeps_the_reaper_away_and_carries_wishes(
    db: Session, quick_leases: None
) -> None:
    job = make_job(db)
    held = claim(db)
    let_lease_run_out(db, job)
    assert fence.heartbeat(db, held) is Desired.RUN
    db.commit()
    assert protocol.reap(db) == []
    requests.cancel(db, job.owner, job)
    db.commit()
    assert fence.heartbeat(db, held) is Desired.CANCEL
    assert fresh(db, job).status is JobStatus.RUNNING


def test_the_grace_protects_a_late_worker(db: Session) -> None:
    job = make_job(db)
    claim(db)
    let_lease_run_out(db, job)
    assert protocol.reap(db) == []  # a second late, within the grace of 30


def test_three_strikes_without_progress_fail_a_job(db: Session, quick_leases: None) -> None:
    job = make_job(db)
    for strikes in (1, 2):
        claim(db)
        let_lease_run_out(db, job)
        protocol.reap(db)
        db.commit()
        assert (fresh(db, job).status, job.strikes) == (JobStatus.QUEUED, strikes)
    held = claim(db)
    status = protocol.requeue(
        db, held, outcome="trainer_lost", why="It broke.", strike=True, log_tail="Segfault"
    )
    db.commit()
    assert status is JobStatus.FAILED
    assert (
        fresh(db, job).reason == "It was interrupted 3 times without getting any further. It broke."
    )
    assert (job.error_code, job.log_tail) == ("trainer_lost", "Segfault")
    ends = db.scalars(select(Attempt.outcome).order_by(Attempt.number)).all()
    assert ends == ["lost", "lost", "trainer_lost"]


def test_progress_forgives_earlier_strikes(db: Session, quick_leases: None) -> None:
    job = make_job(db, strikes=2)
    held = claim(db)
    report(db, held, range(1, 11), checkpoint=10)
    let_lease_run_out(db, job)
    protocol.reap(db)
    db.commit()
    assert (fresh(db, job).status, job.strikes, job.durable_step) == (JobStatus.QUEUED, 1, 10)


def test_a_drained_job_goes_back_without_a_strike(db: Session) -> None:
    job = make_job(db)
    held = claim(db)
    protocol.requeue(db, held, outcome="stopped", why="Its machine is restarted.", strike=False)
    db.commit()
    assert (fresh(db, job).status, job.strikes, job.worker_id) == (JobStatus.QUEUED, 0, None)
    assert claim(db, OTHER).attempt == 2


def test_a_reaped_job_that_people_cancelled_is_cancelled(db: Session, quick_leases: None) -> None:
    job = make_job(db)
    claim(db)
    requests.cancel(db, job.owner, job)
    let_lease_run_out(db, job)
    protocol.reap(db)
    db.commit()
    assert fresh(db, job).status is JobStatus.CANCELLED


def test_dead_workers_of_this_machine_are_taken_back_at_once(db: Session) -> None:
    version = make_dataset_version(db)
    dead, living, elsewhere = (make_job(db, version=version) for _ in range(3))
    claim(db, replace(WORKER, supervisor_pid=1))
    claim(db, replace(WORKER, id="gpu-1@here", supervisor_pid=2))
    claim(db, OTHER)
    taken = protocol.take_back(db, "here", lambda attempt: attempt.supervisor_pid == 2)
    db.commit()
    assert taken == [dead.id]
    assert fresh(db, dead).status is JobStatus.QUEUED
    assert fresh(db, living).status is fresh(db, elsewhere).status is JobStatus.RUNNING


def test_what_a_living_worker_gave_up_without_the_database_is_no_strike(db: Session) -> None:
    job, killed = make_job(db), make_job(db)
    held = claim(db, replace(WORKER, supervisor_pid=1))
    claim(db, replace(WORKER, id="gpu-1@here", supervisor_pid=2))
    taken = protocol.take_back(db, "here", lambda _: False, cut_off=held)
    db.commit()
    assert sorted(taken) == [job.id, killed.id]
    assert (fresh(db, job).strikes, fresh(db, killed).strikes) == (0, 1)
    outcomes = select(Attempt.outcome).order_by(Attempt.job_id)
    assert list(db.scalars(outcomes)) == ["cut_off", "worker_died"]
    again = claim(db, replace(WORKER, supervisor_pid=1))
    taken = protocol.take_back(db, "here", lambda _: False, cut_off=held)
    db.commit()
    assert taken == [again.job_id]
    assert fresh(db, job).strikes == 1, "of another attempt nothing was said"


def test_what_other_containers_of_the_machine_held_is_taken_back_by_their_proof(
    db: Session,
) -> None:
    dead, living, elsewhere = make_job(db), make_job(db), make_job(db)
    claim(db, replace(WORKER, id="gpu-1@compose", host="compose-gpu-1"))
    claim(db, replace(WORKER, id="gpu-2@compose", host="compose-gpu-2"))
    claim(db, replace(OTHER, boot_id="another"))
    asked: list[str] = []

    def lives(attempt: Attempt) -> bool:
        asked.append(attempt.worker_id)
        return attempt.worker_id == "gpu-2@compose"

    taken = protocol.take_back(db, "compose-gpu-0", lives, boot_id="boot")
    db.commit()
    assert taken == [dead.id]
    assert set(asked) == {"gpu-1@compose", "gpu-2@compose"}, "of another machine nothing is known"
    # Who lives is asked once, and its job is not locked.
    assert asked.count("gpu-2@compose") == 1
    assert fresh(db, living).status is fresh(db, elsewhere).status is JobStatus.RUNNING


def test_a_new_attempt_takes_back_what_will_be_said_again(db: Session) -> None:
    job = make_job(db)
    held = claim(db)
    report(db, held, range(1, 11), checkpoint=10)
    report(db, held, range(11, 14))
    protocol.requeue(db, held, outcome="lost", why="Gone.", strike=True)
    db.execute(update(Job).values(run_after=func.clock_timestamp()))
    db.commit()
    assert [step for step, _ in metrics.series(db, job.id)["loss"]] == list(range(1, 14))
    again = claim(db)
    assert again.resume_step == 10
    assert [step for step, _ in metrics.series(db, job.id)["loss"]] == list(range(1, 11))
    assert fresh(db, job).step == 10
    rewinds = [item for item in metrics.after(db, fresh(db, job), 0) if item.event == "rewind"]
    assert [item.data["step"] for item in rewinds] == [10]
    assert rewinds[0].seq == job.event_seq  # the newest thing said: every reader comes by it


def test_without_a_checkpoint_the_look_before_training_is_taken_back_as_well(db: Session) -> None:
    job = make_job(db)
    held = claim(db)
    before = EvaluationEvent(at=1.7e9, step=0, loss=3.5, is_best=True)
    metrics.ingest(db, held.job_id, held.attempt, [before], 100)
    db.commit()
    report(db, held, range(1, 4))
    protocol.requeue(db, held, outcome="lost", why="Gone.", strike=True)
    db.execute(update(Job).values(run_after=func.clock_timestamp()))
    db.commit()
    assert claim(db).resume_step == 0
    assert metrics.series(db, job.id) == {}
    rewinds = [item for item in metrics.after(db, fresh(db, job), 0) if item.event == "rewind"]
    assert [item.data["step"] for item in rewinds] == [-1]


def test_going_back_further_than_the_newest_checkpoint(db: Session) -> None:
    job = make_job(db)
    held = claim(db)
    report(db, held, range(1, 11), checkpoint=10)
    report(db, held, range(11, 21), checkpoint=20)
    back = protocol.roll_back(db, held, 10)
    db.commit()
    assert back.resume_step == fresh(db, job).durable_step == 10
    assert db.scalars(select(Checkpoint.step)).all() == [10]
    assert [step for step, _ in metrics.series(db, job.id)["validation_loss"]] == [10]


def test_a_final_status_never_changes(db: Session) -> None:
    job = make_job(db)
    protocol.succeed(db, claim(db), measured={"seconds": 1})
    db.commit()
    with pytest.raises(DatabaseError, match="is final"):
        db.execute(update(Job).where(Job.id == job.id).values(status=JobStatus.QUEUED))


def test_one_job_cannot_have_two_open_attempts(db: Session) -> None:
    job = make_job(db)
    claim(db)
    values: dict[str, Any] = {"status": "queued", "worker_id": None, "lease_until": None}
    db.execute(update(Job).where(Job.id == job.id).values(values))
    with pytest.raises(DatabaseError, match="uq_attempt_open"):
        protocol.claim(db, OTHER)


def test_every_change_of_status_is_told(db: Session) -> None:
    job = make_job(db)
    protocol.fail(db, claim(db), code="out_of_memory", reason="Choose a smaller model.")
    db.commit()
    said = db.scalars(select(JobEvent).order_by(JobEvent.seq)).all()
    assert [event.message for event in said] == [
        "A machine is free; training starts.",
        "Choose a smaller model.",
    ]
    assert [event.seq for event in said] == [1, 2]
    assert said[-1].level == "error"
    assert fresh(db, job).event_seq == 2


def test_steps_done_again_after_a_return_replace_the_old_ones(db: Session) -> None:
    """After a loss that is no number the trainer goes back within the same attempt."""
    job = make_job(db)
    claimed = protocol.claim(db, WORKER)
    assert claimed is not None
    report(db, claimed, range(1, 6))
    before = metrics.after(db, fresh(db, job), 0)[-1].seq
    again = [step_event(step).model_copy(update={"loss": 9.0}) for step in (4, 5, 4)]
    metrics.ingest(db, claimed.job_id, claimed.attempt, again, spool_offset=2000)
    db.commit()
    assert [step for step, _ in metrics.series(db, job.id)["loss"]] == [1, 2, 3, 4, 5]
    assert metrics.series(db, job.id)["loss"][3:] == [(4, 9.0), (5, 9.0)]
    streamed = [item.data["step"] for item in metrics.after(db, fresh(db, job), before)]
    assert sorted(streamed) == [4, 5]


def test_the_trainer_s_own_plan_fills_in_for_a_missing_one(db: Session) -> None:
    """A program may make a job while its file is still being read: nothing can be predicted yet."""
    version = make_dataset_version(db)
    early = make_job(db, version=version, plan=None)
    later = make_job(db, version=version, plan={"peak_bytes": 1})
    event = PlanEvent(
        at=1.7e9,
        total_steps=9,
        num_train=20,
        num_validation=4,
        num_truncated=0,
        plan={"seconds": 5},
    )
    for _ in range(2):
        claimed = protocol.claim(db, WORKER)
        assert claimed is not None
        metrics.ingest(db, claimed.job_id, claimed.attempt, [event], spool_offset=10)
        db.commit()
    db.refresh(early)
    db.refresh(later)
    assert (early.plan, early.total_steps) == ({"seconds": 5}, 9)
    assert later.plan == {"peak_bytes": 1}
