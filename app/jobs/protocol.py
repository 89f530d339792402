"""What workers do to jobs: claim, hold, end, requeue, reap. The attempt number is the fence.

Every write of a worker is `WHERE id AND attempt AND status = 'running'`; one that finds no row
raises Fenced: another worker may have the job by now, so stop and write nothing more. Only the
database's clock decides (`clock_timestamp()`: now() stands still in a transaction). The worker's
side, start to end:

    claim = jobs.claim(db, worker); db.commit()
    ...  # metrics.ingest, or jobs.heartbeat every settings.heartbeat_seconds; each commits
    adapters.publish(db, claim, …); db.commit()      # or fail, cancelled, requeue
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, DateTime, and_, delete, exists, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from app import settings
from app.datasets.privacy import reviews
from app.jobs.stream import say
from app.models import (
    Attempt,
    BaseModel,
    Checkpoint,
    DatasetVersion,
    Desired,
    Job,
    JobStatus,
    Json,
    Metric,
    ModelStatus,
    PrivacyReview,
    ReviewStatus,
    VersionStatus,
    Worker,
    WorkerState,
)

_CLOCK = func.clock_timestamp(type_=DateTime(timezone=True))
_LET_GO: Json = {"worker_id": None, "lease_until": None, "phase": None, "progress": None}


@dataclass(frozen=True)
class WorkerInfo:
    """Who claims, in terms that let a worker of the same machine prove it dead later."""

    id: str  # e.g. "gpu-0@host"
    host: str
    boot_id: str
    supervisor_pid: int
    supervisor_started: int  # clock ticks after boot, as in /proc/<pid>/stat
    devices: tuple[str, ...]


@dataclass(frozen=True)
class Claim:
    """One worker's hold on one job."""

    job_id: int
    attempt: int
    worker_id: str
    resume_step: int


class Fenced(Exception):
    """The job was reaped, or another worker has it: kill the trainer and write nothing more."""


def claim(db: Session, worker: WorkerInfo) -> Claim | None:
    """Take the first job in line whose data and model are ready, or nothing.

    What an earlier attempt reported beyond its last checkpoint will be reported again, so it is
    deleted, and streams are told to rewind.
    """
    fail_hopeless(db)
    if db.scalar(select(Worker.state).where(Worker.id == worker.id)) is WorkerState.DRAINING:
        return None
    first = (
        select(Job.id)
        .where(*_claimable())
        .order_by(Job.priority, Job.id)
        .limit(1)
        .with_for_update(skip_locked=True, of=Job)
        .scalar_subquery()
    )
    row = db.execute(
        update(Job)
        .where(Job.id == first)
        .values(
            status=JobStatus.RUNNING,
            attempt=Job.attempt + 1,
            worker_id=worker.id,
            lease_until=_until(),
            started_at=func.coalesce(Job.started_at, _CLOCK),
            phase="starting",
            step=Job.durable_step,
        )
        .returning(Job.id, Job.attempt, Job.durable_step)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if row is None:
        return None
    claimed = Claim(row.id, row.attempt, worker.id, row.durable_step)
    db.add(
        Attempt(
            job_id=row.id,
            number=row.attempt,
            worker_id=worker.id,
            host=worker.host,
            boot_id=worker.boot_id,
            supervisor_pid=worker.supervisor_pid,
            supervisor_started=worker.supervisor_started,
            devices=list(worker.devices),
            resume_step=row.durable_step,
            started_at=_CLOCK,
        )
    )
    db.flush()
    if row.attempt == 1:
        say(db, row.id, "status", "A machine is free; it begins.")
    else:
        _rewind(db, row.id, row.durable_step)
    return claimed


def has_claimable(db: Session) -> bool:
    """Say whether a job could be claimed now; the sweep rings for it."""
    return bool(db.scalar(select(exists().where(*_claimable()))))


def held_on(db: Session, job_id: int, attempt: int) -> bool:
    """Say whether an attempt still holds its job; an end that was committed but not heard of."""
    return bool(db.scalar(select(exists().where(*_mine(job_id, attempt)))))


def heartbeat(db: Session, claimed: Claim) -> Desired:
    """Hold on for another lease time; returns what people want of the job.

    Raises:
        Fenced: another worker may have the job.
    """
    return hold(db, claimed.job_id, claimed.attempt)


def hold(db: Session, job_id: int, attempt: int, **values: Any) -> Desired:
    """Renew the lease and write other columns with it, under the fence and the row's lock.

    Raises:
        Fenced: another worker may have the job.
    """
    return _write(db, job_id, attempt, {"lease_until": _until(), **values})


def roll_back(db: Session, claimed: Claim, step: int) -> Claim:
    """Go on from an earlier checkpoint than the newest: that one is damaged or not on this disk.

    Raises:
        Fenced: another worker may have the job.
    """
    _write(db, claimed.job_id, claimed.attempt, {"durable_step": step, "step": step})
    db.execute(
        delete(Checkpoint).where(Checkpoint.job_id == claimed.job_id, Checkpoint.step > step)
    )
    db.execute(
        update(Attempt)
        .where(Attempt.job_id == claimed.job_id, Attempt.number == claimed.attempt)
        .values(resume_step=step)
    )
    _rewind(db, claimed.job_id, step)
    return Claim(claimed.job_id, claimed.attempt, claimed.worker_id, step)


def succeed(db: Session, claimed: Claim, *, measured: Json) -> None:
    """End a job well, in the transaction that adds its adapter.

    Raises:
        Fenced: another worker may have the job.
    """
    values = {"measured": measured, "reason": None, "error_code": None, "strikes": 0}
    _end(db, claimed, JobStatus.SUCCEEDED, "succeeded", exit_code=0, **values)
    say(db, claimed.job_id, "status", "Finished: the adapter is ready.")


def fail(
    db: Session,
    claimed: Claim,
    *,
    code: str,
    reason: str,
    log_tail: str | None = None,
    exit_code: int | None = None,
) -> None:
    """End a job that would only fail again, with a sentence for a person.

    Raises:
        Fenced: another worker may have the job.
    """
    values = {"error_code": code, "reason": reason, "log_tail": log_tail}
    _end(db, claimed, JobStatus.FAILED, code, exit_code=exit_code, **values)
    say(db, claimed.job_id, "status", reason, level="error", data={"code": code})


def cancelled(db: Session, claimed: Claim, *, log_tail: str | None = None) -> None:
    """End a job whose trainer is gone because people asked for it.

    Raises:
        Fenced: another worker may have the job.
    """
    _end(db, claimed, JobStatus.CANCELLED, "cancelled", log_tail=log_tail)
    say(db, claimed.job_id, "status", "Cancelled.")


def requeue(
    db: Session,
    claimed: Claim,
    *,
    outcome: str,
    why: str,
    strike: bool,
    delay_seconds: float = 0,
    log_tail: str | None = None,
    exit_code: int | None = None,
) -> JobStatus:
    """Give a job back to the line; after too many strikes without progress it fails instead.

    Args:
        outcome: A stable word for the attempt's end: stopped, disk_full, trainer_lost, …
        why: What happened, as a sentence for a person.
        strike: Whether the job itself may be to blame.

    Raises:
        Fenced: another worker may have the job.
    """
    _write(db, claimed.job_id, claimed.attempt, {})  # the fence, and the row's lock
    return _give_back(
        db,
        claimed.job_id,
        claimed.attempt,
        outcome=outcome,
        why=why,
        strike=strike,
        delay_seconds=delay_seconds,
        log_tail=log_tail,
        exit_code=exit_code,
    )


def reap(db: Session) -> list[int]:
    """Take back the jobs whose lease ran out; any number of workers may do so at once."""
    grace = timedelta(seconds=settings.get().reap_grace_seconds)
    expired = db.execute(
        select(Job.id, Job.attempt)
        .where(Job.status == JobStatus.RUNNING, Job.lease_until < _CLOCK - grace)
        .with_for_update(skip_locked=True, of=Job)
    ).all()
    for job_id, attempt in expired:
        _give_back(db, job_id, attempt, outcome="lost", why="Its worker fell silent.", strike=True)
    return [row.id for row in expired]


def take_back(db: Session, host: str, is_alive: Callable[[Attempt], bool]) -> list[int]:
    """Take back at once what dead workers of this machine held; no lease has to run out."""
    rows = db.execute(
        select(Job.id, Job.attempt, Attempt)
        .join(Attempt, (Attempt.job_id == Job.id) & (Attempt.number == Job.attempt))
        .where(Job.status == JobStatus.RUNNING, Attempt.host == host, Attempt.ended_at.is_(None))
        .with_for_update(skip_locked=True, of=Job)
    ).all()
    dead = [row for row in rows if not is_alive(row.Attempt)]
    for row in dead:
        _give_back(
            db,
            row.id,
            row.attempt,
            outcome="worker_died",
            why="Its worker was stopped hard.",
            strike=True,
        )
    return [row.id for row in dead]


def fail_hopeless(db: Session) -> list[int]:
    """Fail queued jobs whose data or model turned out to be unusable, with that reason."""
    validation = aliased(DatasetVersion)
    review = aliased(PrivacyReview)
    rows = db.execute(
        select(Job.id, DatasetVersion.reason, validation.reason, BaseModel.reason, review.reason)
        .join(DatasetVersion, DatasetVersion.id == Job.version_id)
        .outerjoin(validation, validation.id == Job.validation_version_id)
        .join(BaseModel, BaseModel.id == Job.base_model_id)
        .outerjoin(
            review,
            and_(
                review.version_id.in_([Job.version_id, Job.validation_version_id]),
                review.is_stated,
                review.status == ReviewStatus.FAILED,
            ),
        )
        .where(
            Job.status == JobStatus.QUEUED,
            or_(
                review.id.is_not(None),
                DatasetVersion.status == VersionStatus.FAILED,
                validation.status == VersionStatus.FAILED,
                BaseModel.status == ModelStatus.FAILED,
            ),
        )
        .with_for_update(skip_locked=True, of=Job)
    ).all()
    for job_id, *reasons in rows:
        detail = next((reason for reason in reasons if reason), "")
        reason = f"Its data or starting model could not be used. {detail}".strip()
        db.execute(
            update(Job)
            .where(Job.id == job_id)
            .values(
                status=JobStatus.FAILED,
                error_code="invalid_input",
                reason=reason,
                finished_at=_CLOCK,
            )
            .execution_options(synchronize_session=False)
        )
        say(db, job_id, "status", reason, level="error", data={"code": "invalid_input"})
    return [row[0] for row in rows]


def use_instead(db: Session, version_id: int, following_id: int) -> None:
    """Let jobs that have not begun learn from the version in which stand-ins stand."""
    for column in (Job.version_id, Job.validation_version_id):
        db.execute(
            update(Job)
            .where(column == version_id, Job.status == JobStatus.QUEUED, Job.attempt == 0)
            .values({column: following_id})
            .execution_options(synchronize_session=False)
        )


def _claimable() -> list[ColumnElement[bool]]:
    def is_ready(version_id: Any) -> ColumnElement[bool]:
        version = aliased(DatasetVersion)
        return exists().where(version.id == version_id, version.status == VersionStatus.READY)

    return [
        Job.status == JobStatus.QUEUED,
        Job.desired == Desired.RUN,
        Job.run_after <= _CLOCK,
        is_ready(Job.version_id),
        reviews.settled(Job.version_id),
        or_(Job.validation_version_id.is_(None), is_ready(Job.validation_version_id)),
        reviews.settled(Job.validation_version_id),
        exists().where(BaseModel.id == Job.base_model_id, BaseModel.status == ModelStatus.READY),
    ]


def _mine(job_id: int, attempt: int) -> list[ColumnElement[bool]]:
    return [Job.id == job_id, Job.attempt == attempt, Job.status == JobStatus.RUNNING]


def _write(db: Session, job_id: int, attempt: int, values: Json) -> Desired:
    desired = db.scalars(
        update(Job)
        .where(*_mine(job_id, attempt))
        .values({"attempt": attempt, **values})
        .returning(Job.desired)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if desired is None:
        raise Fenced(f"job {job_id}, attempt {attempt}")
    return desired


def _end(
    db: Session,
    claimed: Claim,
    status: JobStatus,
    outcome: str,
    *,
    exit_code: int | None = None,
    **values: Any,
) -> None:
    end: Json = {"status": status, "finished_at": _CLOCK, **_LET_GO}
    _write(db, claimed.job_id, claimed.attempt, end | values)
    _end_attempt(db, claimed.job_id, claimed.attempt, outcome, exit_code)


def _end_attempt(
    db: Session, job_id: int, attempt: int, outcome: str, exit_code: int | None
) -> None:
    db.execute(
        update(Attempt)
        .where(Attempt.job_id == job_id, Attempt.number == attempt, Attempt.ended_at.is_(None))
        .values(ended_at=_CLOCK, outcome=outcome, exit_code=exit_code)
        .execution_options(synchronize_session=False)
    )


def _give_back(
    db: Session,
    job_id: int,
    attempt: int,
    *,
    outcome: str,
    why: str,
    strike: bool,
    delay_seconds: float = 0,
    log_tail: str | None = None,
    exit_code: int | None = None,
) -> JobStatus:
    """Requeue, fail or cancel a running job whose row the caller has locked."""
    job = db.execute(
        select(Job.desired, Job.strikes, Job.durable_step, Attempt.resume_step)
        .join(Attempt, (Attempt.job_id == Job.id) & (Attempt.number == attempt))
        .where(Job.id == job_id)
    ).one()
    constants = settings.get()
    strikes = job.strikes
    if strike:
        # Progress since the last beginning means that the job itself can be trained.
        strikes = 1 if job.durable_step > job.resume_step else strikes + 1
        delay_seconds += constants.retry_backoff_seconds * (strikes - 1)
    values: Json = {**_LET_GO, "strikes": strikes}
    if log_tail is not None:
        values["log_tail"] = log_tail
    if job.desired is Desired.CANCEL:
        status, message, level = JobStatus.CANCELLED, "Cancelled.", "info"
    elif strikes >= constants.max_strikes:
        status, level = JobStatus.FAILED, "error"
        message = f"It was broken off {strikes} times without getting any further. {why}"
        values |= {"error_code": outcome, "reason": message}
    else:
        status, level = JobStatus.QUEUED, "warn" if strike else "info"
        message = f"{why} It goes on from step {job.durable_step}."
        values["run_after"] = _CLOCK + timedelta(seconds=delay_seconds)
    if status.is_final:
        values["finished_at"] = _CLOCK
    _write(db, job_id, attempt, {"status": status, **values})
    _end_attempt(db, job_id, attempt, outcome, exit_code)
    say(db, job_id, "status", message, level=level, data={"outcome": outcome})  # type: ignore[arg-type]
    return status


def _rewind(db: Session, job_id: int, step: int) -> None:
    db.execute(delete(Metric).where(Metric.job_id == job_id, Metric.step > step))
    say(db, job_id, "resumed", f"Going on from step {step}.", data={"step": step})


def _until() -> ColumnElement[Any]:
    return _CLOCK + timedelta(seconds=settings.get().lease_seconds)
