"""What workers do to jobs: claim, hold, end, requeue, reap. The attempt number is the fence.

Every write goes through `fence.py`. The worker's side, start to end:

    claim = protocol.claim(db, worker); db.commit()
    ...  # metrics.ingest, or fence.heartbeat every settings.heartbeat_seconds; each commits
    adapters.publish(db, claim, …); db.commit()      # or fail, cancelled, requeue
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Integer,
    Interval,
    Select,
    Text,
    bindparam,
    case,
    cast,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session, aliased

from app import notices
from app.core import clock, settings, wakeup
from app.core.models import (
    Attempt,
    Checkpoint,
    Desired,
    Job,
    JobEvent,
    JobStatus,
    Json,
    Metric,
    Worker,
)
from app.jobs import choice, fence, shares
from app.jobs.fence import Claim
from app.jobs.stream import CHANNEL, say, topic

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


def claim(db: Session, worker: WorkerInfo) -> Claim | None:
    """Take the first job in the queue whose data and model are ready, or nothing.

    What an earlier attempt reported beyond its last checkpoint will be reported again, so it is
    deleted, and streams are told to rewind.
    """
    shares.lock(db)
    first = choice.choose(db, worker.id, worker.host, worker.devices, to_take=True)
    if first is None:
        return None
    row = db.execute(
        _TAKE,
        {
            "its_job_id": first,
            "its_worker_id": worker.id,
            "its_lease": fence.lease(),
            "its_host": worker.host,
            "its_boot_id": worker.boot_id,
            "its_pid": worker.supervisor_pid,
            "its_started": worker.supervisor_started,
            "its_devices": list(worker.devices),
            "its_topic": topic(first),
        },
    ).one()
    claimed = Claim(row.job_id, row.number, worker.id, row.resume_step, row.started_at)
    notices.job_started(db, claimed.job_id)
    if row.number > 1:
        _rewind(db, row.job_id, row.resume_step)
        _say_if_elsewhere(db, claimed, worker)
    return claimed


def _build_take() -> Select[Any]:
    worker_id = cast(bindparam("its_worker_id"), Text)
    is_first = Job.attempt == 0
    taken = (
        update(Job)
        .where(Job.id == bindparam("its_job_id"), Job.status == JobStatus.QUEUED)
        .values(
            status=JobStatus.RUNNING,
            attempt=Job.attempt + 1,
            worker_id=worker_id,
            lease_until=clock.NOW + bindparam("its_lease", type_=Interval),
            started_at=func.coalesce(Job.started_at, clock.NOW),
            phase="starting",
            step=Job.durable_step,
            awaits_scan=False,
            # A later attempt says where it goes on; the number of that is drawn there.
            event_seq=Job.event_seq + case((is_first, 1), else_=0),
        )
        .returning(Job.id, Job.attempt, Job.durable_step, Job.event_seq)
        .cte("taken")
    )
    t = taken.c
    attempt: dict[str, Any] = {
        "job_id": t.id,
        "number": t.attempt,
        "worker_id": worker_id,
        "host": bindparam("its_host", type_=Text),
        "boot_id": bindparam("its_boot_id", type_=Text),
        "supervisor_pid": bindparam("its_pid", type_=Integer),
        "supervisor_started": bindparam("its_started", type_=BigInteger),
        "devices": bindparam("its_devices", type_=JSONB),
        "resume_step": t.durable_step,
        "started_at": clock.NOW,
    }
    begun = (
        insert(Attempt)
        .from_select(list(attempt), select(*attempt.values()))
        .returning(Attempt.job_id, Attempt.number, Attempt.resume_step, Attempt.started_at)
        .cte("begun")
    )
    sentence: dict[str, Any] = {
        "job_id": t.id,
        "seq": t.event_seq,
        "at": clock.NOW,
        "level": literal("info"),
        "kind": literal("status"),
        "message": literal("A machine is free; training starts."),
    }
    said = (
        insert(JobEvent)
        .from_select(list(sentence), select(*sentence.values()).where(t.attempt == 1))
        .cte("said")
    )
    bell = func.pg_notify(CHANNEL, bindparam("its_topic", type_=Text))
    return select(*begun.c, bell, wakeup.bell("held")).add_cte(taken, said)


# One statement, built once: it is asked for while the queue is held.
_TAKE = _build_take()


def _say_if_elsewhere(db: Session, claimed: Claim, worker: WorkerInfo) -> None:
    """Say that a job goes on on devices of another kind, whose last digits may differ."""
    name = Worker.hardware["name"].as_string()
    before = db.execute(
        select(name, Attempt.devices)
        .join(Worker, Worker.id == Attempt.worker_id)
        .where(Attempt.job_id == claimed.job_id, Attempt.number == claimed.attempt - 1)
    ).one_or_none()
    here = db.scalar(select(name).where(Worker.id == worker.id))
    if claimed.resume_step and before is not None and before[0] and here:
        was, now = (
            (f"{len(devices)} × " if len(devices) > 1 else "") + kind
            for kind, devices in ((before[0], before.devices), (here, worker.devices))
        )
        if was != now:
            sentence = (
                f"It continues on {now} instead of {was}. What is learned is the same, but the "
                "last digits of its numbers may differ from those on one kind of device alone."
            )
            say(db, claimed.job_id, "status", sentence, data={"exact": False})


def has_claimable(db: Session, worker: WorkerInfo | Worker) -> bool:
    """Say whether a worker could claim a job now; the sweep rings for it."""
    job_id = choice.choose(db, worker.id, worker.host, tuple(worker.devices), to_take=False)
    return job_id is not None


def is_out(db: Session, worker: WorkerInfo) -> bool:
    """Say whether a worker is to give its job back: drained, or a device of it quarantined."""
    return choice.is_out(db, worker.id, worker.host, worker.devices)


def held_here(db: Session, host: str) -> list[Attempt]:
    """List the attempts that hold a job on a machine by the books; mostly there is none."""
    return list(db.scalars(_HELD_HERE, {"host": host}))


_HELD = (
    select(Job.id, Job.attempt, Attempt)
    .join(Attempt, (Attempt.job_id == Job.id) & (Attempt.number == Job.attempt))
    .where(Job.status == JobStatus.RUNNING, Attempt.ended_at.is_(None))
)
# Built once: every worker asks it before each claim.
_HELD_HERE = _HELD.with_only_columns(Attempt).where(Attempt.host == bindparam("host"))


def unheard(db: Session, worker: WorkerInfo) -> Claim | None:
    """Hold on to a claim of this very process that was committed, but whose answer was lost.

    A process ends what it has begun before it asks for more, so what it holds as it asks, and
    has reported nothing of, is such a claim.
    """
    row = db.execute(
        select(Job.id, Job.attempt, Attempt.resume_step, Attempt.started_at)
        .join(Attempt, (Attempt.job_id == Job.id) & (Attempt.number == Job.attempt))
        .where(
            Job.status == JobStatus.RUNNING,
            Job.worker_id == worker.id,
            Attempt.host == worker.host,
            Attempt.boot_id == worker.boot_id,
            Attempt.supervisor_pid == worker.supervisor_pid,
            Attempt.supervisor_started == worker.supervisor_started,
            Attempt.spool_offset == 0,
        )
        .with_for_update(skip_locked=True, of=Job)
    ).first()
    if row is None:
        return None
    claimed = Claim(row.id, row.attempt, worker.id, row.resume_step, row.started_at)
    fence.heartbeat(db, claimed)
    return claimed


def is_holding(db: Session, worker_id: str) -> bool:
    """Say whether a worker has a job by the books."""
    mine = exists().where(Job.worker_id == worker_id, Job.status == JobStatus.RUNNING)
    return bool(db.scalar(select(mine)))


def held_on(db: Session, claimed: Claim) -> bool:
    """Say whether an attempt still holds its job; an end that was committed but not heard of."""
    mine = fence.mine(claimed.job_id, claimed.attempt)
    return bool(db.scalar(select(exists().where(*mine, Job.worker_id == claimed.worker_id))))


def roll_back(db: Session, claimed: Claim, step: int) -> Claim:
    """Go on from an earlier checkpoint than the newest: that one is damaged or not on this disk.

    Raises:
        Fenced: another worker may have the job.
    """
    back: Json = {"durable_step": step, "step": step}
    fence.write(db, claimed.job_id, claimed.attempt, back, claimed.worker_id)
    db.execute(
        delete(Checkpoint).where(Checkpoint.job_id == claimed.job_id, Checkpoint.step > step)
    )
    db.execute(
        update(Attempt)
        .where(Attempt.job_id == claimed.job_id, Attempt.number == claimed.attempt)
        .values(resume_step=step)
    )
    _rewind(db, claimed.job_id, step)
    return replace(claimed, resume_step=step)


@dataclass(frozen=True)
class Spool:
    """What the database knows of an attempt's events.jsonl."""

    attempt: int
    started_at: datetime
    resume_step: int
    offset: int  # up to where it has been heard of
    last_step: int | None  # that was heard of


def spools(db: Session, claimed: Claim) -> list[Spool]:
    """Return what is known of all attempts' files, the newest first."""
    rows = db.execute(
        select(
            Attempt.number,
            Attempt.started_at,
            Attempt.resume_step,
            Attempt.spool_offset,
            Attempt.last_step,
        )
        .where(Attempt.job_id == claimed.job_id)
        .order_by(Attempt.number.desc())
    )
    return [Spool(*row) for row in rows]


def has_taken_over(
    db: Session, claimed: Claim, source: Spool, *, step: int, last_step: int
) -> Claim | None:
    """Return the claim of an attempt that has taken just this over and did not hear of it.

    It reported nothing itself, so points and checkpoints of its number were taken over. It may have
    taken over something before: its trainer ran on while nobody could hear it.

    Args:
        source, step, last_step: As `take_over` is given them.
    """
    key = claimed.job_id, claimed.attempt
    points = exists().where(Metric.job_id == key[0], Metric.attempt == key[1])
    kept = exists().where(Checkpoint.job_id == key[0], Checkpoint.attempt == key[1])
    from_it = exists().where(
        _Source.job_id == key[0], _Source.number == source.attempt, _Source.last_step == last_step
    )
    resume_step = db.scalar(
        select(Attempt.resume_step)
        .where(Attempt.job_id == key[0], Attempt.number == key[1], Attempt.resume_step == step)
        .where(points | kept, from_it)
    )
    return None if resume_step is None else replace(claimed, resume_step=resume_step)


_Source = aliased(Attempt)


def take_over(
    db: Session,
    claimed: Claim,
    source: Spool,
    offset: int,
    *,
    step: int,
    last_step: int,
    is_done: bool,
) -> Claim:
    """Go on from what an earlier attempt did; its events have been written as this one's.

    What got further than anybody had heard of was no reason for a strike.

    Args:
        source: Whose events they were.
        offset: Up to where in its file.
        step: Of its newest checkpoint.
        last_step: The last one of which there is a point now.
        is_done: Whether its result is whole.

    Raises:
        Fenced: another worker may have the job.
    """
    values: Json = {"durable_step": step, "step": last_step, "phase": "starting"}
    if offset > source.offset and last_step > source.resume_step:
        # Of those that came after it, each may have been one.
        since = max(0, claimed.attempt - 1 - source.attempt)
        values["strikes"] = func.least(func.greatest(Job.strikes - 1, 0), since)
    fence.write(db, claimed.job_id, claimed.attempt, values, claimed.worker_id)
    attempt = update(Attempt).where(Attempt.job_id == claimed.job_id)
    db.execute(attempt.where(Attempt.number == claimed.attempt).values(resume_step=step))
    heard: Json = {"last_step": last_step}
    if source.attempt != claimed.attempt:  # else its trainer begins the file anew
        heard["spool_offset"] = max(offset, source.offset)
    db.execute(attempt.where(Attempt.number == source.attempt).values(heard))
    message = (
        "Its result lies finished on this machine's disk and is published as it is."
        if is_done
        else "This machine's disk holds a later checkpoint than had been reported; it goes on from "
        f"step {step}."
    )
    told: Json = {"from_attempt": source.attempt, "step": last_step}
    say(db, claimed.job_id, "status", message, data=told)
    return replace(claimed, resume_step=step)


def succeed(db: Session, claimed: Claim, *, measured: Json) -> None:
    """End a job well, in the transaction that adds its adapter.

    Who is told of it, and when, is decided by what follows (app/evaluation/evaluations.py).

    Raises:
        Fenced: another worker may have the job.
    """
    values = {"measured": measured, "reason": None, "error_code": None, "strikes": 0}
    _end(db, claimed, JobStatus.SUCCEEDED, "succeeded", exit_code=0, **values)
    say(db, claimed.job_id, "status", "Finished: the trained model is ready.")


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
    notices.job_ended(db, claimed.job_id)


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
    """Give a job back to the queue; after too many strikes without progress it fails instead.

    Args:
        outcome: A stable word for the attempt's end: stopped, disk_full, trainer_lost, …
        why: What happened, as a sentence for a person.
        strike: Whether the job itself may be to blame.

    Raises:
        Fenced: another worker may have the job.
    """
    # The fence, and the row's lock.
    fence.write(db, claimed.job_id, claimed.attempt, {}, claimed.worker_id)
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
        .where(Job.status == JobStatus.RUNNING, Job.lease_until < clock.NOW - grace)
        .with_for_update(skip_locked=True, of=Job)
    ).all()
    for job_id, attempt in expired:
        _give_back(
            db, job_id, attempt, outcome="lost", why="Its worker stopped responding.", strike=True
        )
    return [row.id for row in expired]


def take_back(
    db: Session,
    host: str,
    is_alive: Callable[[Attempt], bool],
    *,
    boot_id: str | None = None,
    cut_off: Claim | None = None,
) -> list[int]:
    """Take back at once what dead workers of this machine held; no lease has to run out.

    Args:
        is_alive: Asked of each, and once more of who seems dead, while the attempt's job is locked:
            what the living hold is not locked even for a moment, in which they could not find it.
        boot_id: Of this machine, to look at its other hosts as well: its containers.
        cut_off: What its worker, which lives, gave up while the database was out of reach: no fault
            of the job's.
    """
    is_here = Attempt.host == host
    if boot_id is not None:
        is_here = is_here | (Attempt.boot_id == boot_id)
    held = _HELD.where(is_here)
    seem_dead = [row.id for row in db.execute(held) if not is_alive(row.Attempt)]
    if not seem_dead:
        return []
    rows = db.execute(
        held.where(Job.id.in_(seem_dead))
        .with_for_update(skip_locked=True, of=Job)
        .execution_options(populate_existing=True)
    ).all()
    dead = [row for row in rows if not is_alive(row.Attempt)]
    for row in dead:
        is_cut_off = cut_off is not None and cut_off.is_of(row.Attempt)
        _give_back(
            db,
            row.id,
            row.attempt,
            outcome="cut_off" if is_cut_off else "worker_died",
            why="The database could not be reached." if is_cut_off else "Its worker was killed.",
            strike=not is_cut_off,
        )
    return [row.id for row in dead]


def _end(
    db: Session,
    claimed: Claim,
    status: JobStatus,
    outcome: str,
    *,
    exit_code: int | None = None,
    **values: Any,
) -> None:
    end: Json = {"status": status, "finished_at": clock.NOW, **_LET_GO}
    fence.write(db, claimed.job_id, claimed.attempt, end | values, claimed.worker_id)
    _end_attempt(db, claimed.job_id, claimed.attempt, outcome, exit_code)


def _end_attempt(
    db: Session, job_id: int, attempt: int, outcome: str, exit_code: int | None
) -> None:
    ended = db.execute(
        update(Attempt)
        .where(Attempt.job_id == job_id, Attempt.number == attempt, Attempt.ended_at.is_(None))
        .values(ended_at=clock.NOW, outcome=outcome, exit_code=exit_code)
        .returning(Attempt.started_at, Attempt.ended_at, Attempt.devices)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if ended is not None and ended.ended_at is not None:
        shares.charge(db, job_id, ended.started_at, ended.ended_at, len(ended.devices))


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
        message = f"It was interrupted {strikes} times without getting any further. {why}"
        values |= {"error_code": outcome, "reason": message}
    else:
        status, level = JobStatus.QUEUED, "warn" if strike else "info"
        message = f"{why} It will resume from step {job.durable_step}."
        values["run_after"] = clock.NOW + timedelta(seconds=delay_seconds)
    if status.is_final:
        values["finished_at"] = clock.NOW
    fence.write(db, job_id, attempt, {"status": status, **values})
    _end_attempt(db, job_id, attempt, outcome, exit_code)
    say(db, job_id, "status", message, level=level, data={"outcome": outcome})  # type: ignore[arg-type]
    notices.job_ended(db, job_id)
    return status


def _rewind(db: Session, job_id: int, step: int) -> None:
    # Without a checkpoint all of it is reported again, the test questions before training, too.
    kept = step or -1
    db.execute(delete(Metric).where(Metric.job_id == job_id, Metric.step > kept))
    say(db, job_id, "resumed", f"Resuming from step {step}.", data={"step": kept})
