"""The queue as people see it: each job's position, why it waits, and when it begins and ends."""

import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, cached_property
from math import ceil
from typing import Any

import structlog
from sqlalchemy import Row, Select, case, func, select, union_all
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, aliased

from app.core import db as database
from app.core import settings
from app.core.models import (
    Attempt,
    BaseModel,
    DatasetVersion,
    Desired,
    Evaluation,
    EvaluationStatus,
    Job,
    JobStatus,
    Judging,
    JudgingStatus,
    ModelStatus,
    QuarantinedDevice,
    User,
    VersionStatus,
    Worker,
    WorkerState,
)
from app.core.sentences import counted
from app.datasets.privacy import reviews
from app.jobs import afterwards, choice, forecast, scheduling, shares

# From how many like jobs speeds are taken, the newest.
_NUM_MEASURED = 200
# A long queue changes little in a moment. It is worked out beside the pages, so that none waits for
# it, and takes at most a twentieth of a process's time; what is older than the last of these is not
# shown.
_LONG, _KEPT_SECONDS, _SHARE, _STALE_SECONDS = 500, 2.0, 0.05, 60.0
_log = structlog.get_logger()


@dataclass
class _Parts:
    """The rows that an outlook is worked out from."""

    everyone: scheduling.Standings
    queued: dict[int, Row[Any]]
    waiting: dict[int, forecast.Waiting]
    workers: list[Worker]  # that train, heard of lately or not
    offers: list[scheduling.Offer]  # theirs
    ready: list[tuple[Worker, scheduling.Offer]]  # those that take jobs now
    pace: forecast.Pace


@dataclass(eq=False)  # each is itself alone: what is worked out from one is kept by it
class Outlook:
    """What can be said about the queue at one moment, by job id."""

    now: datetime
    parts: _Parts
    positions: dict[int, int] = field(default_factory=dict)
    times: dict[int, forecast.Times] = field(default_factory=dict)
    # Everything that trains, and that waits in the order of the queue: id and department.
    running: list[tuple[int, int]] = field(default_factory=list)
    waiting: list[tuple[int, int]] = field(default_factory=list)
    # Where each that trains does so, and what else holds a machine: evaluations, for instance.
    at_work: dict[int, str] = field(default_factory=dict)
    evaluating: list[forecast.Running] = field(default_factory=list)

    @cached_property
    def has_machine(self) -> bool:
        """Whether a worker that trains was heard of lately."""
        return any(
            self.parts.everyone.now - worker.last_seen < choice.WORKER_SILENCE
            for worker in self.parts.workers
        )

    @cached_property
    def waits_since(self) -> datetime | None:
        """From when the first of what may begin has waited; nothing where nothing may."""
        rows = self.parts.queued.values()
        return min((row.run_after for row in rows if row.desired is Desired.RUN), default=None)

    def waiting_of(self, department_id: int | None) -> list[int]:
        """Return what waits in the order of the queue: a department's jobs, or all."""
        return self._waiting_by_department.get(department_id, [])

    @cached_property  # a long queue is read by many pages before it is worked out anew
    def _waiting_by_department(self) -> dict[int | None, list[int]]:
        found: dict[int | None, list[int]] = {None: [key for key, _ in self.waiting]}
        for key, department_id in self.waiting:
            found.setdefault(department_id, []).append(key)
        return found

    def why(self, job_id: int) -> str:
        """Say in one sentence why a job waits."""
        row = self.parts.queued.get(job_id)
        return "It is about to start." if row is None else _reason(row, self)


@dataclass(frozen=True)
class _Kept:
    outlook: Outlook
    at: float
    seconds: float  # that it took

    def age(self) -> float:
        return time.monotonic() - self.at

    def is_due(self) -> bool:
        return self.age() >= max(_KEPT_SECONDS, self.seconds / _SHARE)


_kept: dict[str, _Kept] = {}
_working = threading.Lock()


def outlook(db: Session) -> Outlook:
    """Work out the queue as it stands, or a moment ago where it is long."""
    url = settings.get().database_url
    kept = _kept.get(url)
    if kept is None or len(kept.outlook.waiting) <= _LONG or kept.age() > _STALE_SECONDS:
        return _work_out_anew(db, url)
    if kept.is_due() and _working.acquire(blocking=False):
        threading.Thread(target=_renew, args=(url,), name="outlook", daemon=True).start()
    return kept.outlook


def with_what_is_not_kept(db: Session) -> Outlook:
    """Work out the queue as this transaction sees it, for nobody else: it will be taken back."""
    return _work_out(db)


def _work_out_anew(db: Session, url: str) -> Outlook:
    began = time.monotonic()
    queue = _work_out(db)
    _kept.clear()
    _kept[url] = _Kept(queue, time.monotonic(), time.monotonic() - began)
    return queue


def _renew(url: str) -> None:
    try:
        with database.session() as session:
            _work_out_anew(session, url)
    except SQLAlchemyError as error:  # pages show what is there; later they ask by themselves
        _log.warning("outlook.not_renewed", error=str(error))
    finally:
        _working.release()


def position(db: Session, job: Job) -> int | None:
    """Return the position in the queue, 1 being next; nothing where the job is not in it."""
    if job.status is not JobStatus.QUEUED or job.desired is not Desired.RUN:
        return None
    return outlook(db).positions.get(job.id)


def _work_out(db: Session) -> Outlook:
    everyone = shares.standings(db)
    workers = list(db.scalars(select(Worker).where(Worker.queue == "gpu").order_by(Worker.id)))
    offers = [choice.worker_offer(worker) for worker in workers]
    rows = db.execute(select(QuarantinedDevice.host, QuarantinedDevice.device))
    quarantined = {(row.host, row.device) for row in rows}
    ready = [
        (worker, offer)
        for worker, offer in zip(workers, offers, strict=True)
        if _takes_jobs(worker, quarantined, everyone.now)
    ]
    parts = _Parts(everyone, {}, {}, workers, offers, ready, _pace(db))
    parts.queued = {row.id: row for row in db.execute(_queued())}
    in_queue = [row for row in parts.queued.values() if row.desired is Desired.RUN]
    on_which: dict[scheduling.Needs, Worker | None] = {}
    parts.waiting = {row.id: _waiting(row, parts, on_which) for row in in_queue}
    queue = Outlook(everyone.now, parts)
    queue.positions = forecast.positions(list(parts.waiting.values()), everyone, offers)
    order = [*queue.positions, *(key for key in parts.queued if key not in queue.positions)]
    queue.waiting = [(key, parts.queued[key].department_id) for key in order]
    machines = [forecast.Machine(worker.id, offer) for worker, offer in ready]
    # What is still on its way to being ready may be quick or slow: no time can be said.
    may_begin = [parts.waiting[row.id] for row in in_queue if _is_ready(row)]
    running = _running(db, queue)
    queue.times |= forecast.foresee(may_begin, running, machines, everyone)
    return queue


def _takes_jobs(worker: Worker, quarantined: set[tuple[str, str]], now: datetime) -> bool:
    return (
        worker.state is WorkerState.ACTIVE
        and now - worker.last_seen < choice.WORKER_SILENCE
        and not any((worker.host, device) in quarantined for device in worker.devices)
    )


@cache  # to put it together takes longer than to ask it
def _queued() -> Select[*tuple[Any, ...]]:
    version, held_out = aliased(DatasetVersion), aliased(DatasetVersion)
    return (
        select(
            *_COLUMNS,
            Job.desired,
            Job.run_after,
            func.coalesce(User.name, "").label("by_name"),
            User.email.label("by_email"),
            version.status.label("version_status"),
            held_out.status.label("held_out_status"),
            BaseModel.status.label("model_status"),
            _LAST_OUTCOME.label("last_outcome"),
            reviews.settled(Job.version_id, Job.awaits_scan).label("is_settled"),
            reviews.settled(Job.validation_version_id, Job.awaits_scan).label(
                "is_held_out_settled"
            ),
        )
        .join(version, version.id == Job.version_id)
        .outerjoin(held_out, held_out.id == Job.validation_version_id)
        .join(BaseModel, BaseModel.id == Job.base_model_id)
        .outerjoin(User, User.id == Job.desired_by_id)
        .where(Job.status == JobStatus.QUEUED)
        .order_by(Job.priority, Job.id)
    )


# Most of what waits was never tried: no attempt is looked for then.
_LAST_OUTCOME = case(
    (
        Job.attempt > 0,
        select(Attempt.outcome)
        .where(Attempt.job_id == Job.id, Attempt.number == Job.attempt)
        .correlate(Job)
        .scalar_subquery(),
    ),
)
# What a job's position and length follow from.
_COLUMNS = (
    Job.id,
    Job.department_id,
    Job.owner_id,
    Job.priority,
    Job.needs_bytes,
    Job.needs_devices,
    Job.base_model_id,
    Job.config["method"].as_string().label("method"),
    Job.config["early_stopping_patience"].as_integer().label("patience"),
    # As planned before like jobs corrected it: the range of like jobs is beside that.
    (Job.plan["seconds"].as_float() / func.coalesce(Job.plan["correction"].as_float(), 1)).label(
        "planned_seconds"
    ),
)
_PLAIN = func.nullif(Job.plan["plain_tokens_per_second"].as_float(), 0)


def _pace(db: Session) -> forecast.Pace:
    """Gather how fast jobs were that ended well, beside their plans."""
    pace = forecast.Pace()
    rows = db.execute(
        select(
            Job.base_model_id,
            Job.config["method"].as_string(),
            Worker.hardware["name"].as_string(),
            # Beside what it would have been alone on its machine, where both are known.
            func.coalesce(_PLAIN, Job.plan["tokens_per_second"].as_float()),
            func.coalesce(
                Job.measured["plain_tokens_per_second"].as_float(),
                Job.measured["tokens_per_second"].as_float(),
            ),
        )
        .join(Attempt, (Attempt.job_id == Job.id) & (Attempt.number == Job.attempt))
        .join(Worker, Worker.id == Attempt.worker_id)
        .where(Job.status == JobStatus.SUCCEEDED)
        .order_by(Job.id.desc())
        .limit(_NUM_MEASURED)
    )
    for *like, planned, measured in rows:
        if planned and measured:
            pace.add(tuple(like), planned, measured)
    return pace


def _duration(row: Row[Any], parts: _Parts, worker: Worker | None) -> forecast.DurationRange | None:
    device = (worker.hardware or {}).get("name") if worker else None
    like = (row.base_model_id, row.method, device)
    return parts.pace.duration(like, row.planned_seconds, bool(row.patience))


def _waiting(
    row: Row[Any], parts: _Parts, on_which: dict[scheduling.Needs, Worker | None]
) -> forecast.Waiting:
    # As if on the first machine that takes it; houses with unlike devices get a wider range.
    needs = scheduling.Needs(row.needs_bytes, row.needs_devices)
    if needs not in on_which:
        takes = (worker for worker, offer in parts.ready if offer.meets(needs))
        on_which[needs] = next(takes, None)
    return forecast.Waiting(
        row.id,
        row.department_id,
        row.owner_id,
        row.priority,
        needs,
        afterwards.with_evaluation(_duration(row, parts, on_which[needs]), row.planned_seconds),
        max(0.0, (row.run_after - parts.everyone.now).total_seconds()),
    )


def _running(db: Session, queue: Outlook) -> list[forecast.Running]:
    parts = queue.parts
    rows = db.execute(
        select(
            *_COLUMNS, Job.worker_id, Job.step, Job.total_steps, Attempt.started_at,
            Attempt.resume_step,
        )
        .join(Attempt, (Attempt.job_id == Job.id) & (Attempt.number == Job.attempt))
        .where(Job.status == JobStatus.RUNNING)
    )  # fmt: skip
    workers = {worker.id: worker for worker in parts.workers}
    running = []
    for row in rows:
        queue.running.append((row.id, row.department_id))
        queue.at_work[row.id] = row.worker_id
        elapsed = (parts.everyone.now - row.started_at).total_seconds()
        total = row.total_steps - row.resume_step if row.total_steps else None
        duration = _duration(row, parts, workers.get(row.worker_id))
        rest = forecast.left(elapsed, row.step - row.resume_step, total, duration)
        held = afterwards.with_evaluation(rest, row.planned_seconds)
        running.append(forecast.Running(row.department_id, row.owner_id, row.worker_id, held))
        if rest is not None:
            began = (row.started_at, row.started_at)
            queue.times[row.id] = forecast.Times(
                began, forecast.span(parts.everyone, rest.low, rest.high), row.worker_id
            )
    queue.evaluating = _evaluating(db)
    return running + queue.evaluating


def _evaluating(db: Session) -> list[forecast.Running]:
    """List what is evaluated or judged just now: its device is as taken as by a job."""
    of_tables = [
        select(
            table.department_id,
            table.owner_id,
            table.worker_id,
            (table.budget_seconds - table.spent_seconds).label("left"),
        ).where(table.status == status)
        for table, status in (
            (Evaluation, EvaluationStatus.EVALUATING),
            (Judging, JudgingStatus.JUDGING),
        )
    ]
    held = db.execute(union_all(*of_tables))
    return [
        forecast.Running(
            row.department_id,
            row.owner_id,
            row.worker_id,
            forecast.DurationRange(0, max(0.0, row.left), max(0.0, row.left)),
        )
        for row in held
        if row.worker_id is not None
    ]


def _is_ready(row: Row[Any]) -> bool:
    return (
        row.version_status is VersionStatus.READY
        and row.held_out_status in (None, VersionStatus.READY)
        and row.model_status is ModelStatus.READY
        and row.is_settled
        and row.is_held_out_settled
    )


def _reason(row: Row[Any], queue: Outlook) -> str:
    parts, offers = queue.parts, queue.parts.offers
    if row.desired is Desired.PAUSE:
        who = row.by_name or row.by_email
        return f"Paused by {who}." if who else "Paused."
    for status in (row.version_status, row.held_out_status):
        if status not in (None, VersionStatus.READY):
            return "Its data is being read."
    if not (row.is_settled and row.is_held_out_settled):
        return "Its data is being checked for personal details."
    if row.model_status is not ModelStatus.READY:
        return "Its starting model is being imported; the job begins by itself after that."
    job = parts.waiting[row.id]
    if offers and not any(offer.meets(job.needs) for offer in offers):
        return _too_large(job.needs, offers, parts.workers)
    obstacle = parts.everyone.obstacle(row.department_id, row.owner_id)
    if obstacle is not None:
        kind, standing = obstacle
        is_department = standing is parts.everyone.department(row.department_id)
        return _blocked(kind, standing, is_department)
    if job.after_seconds > 0:
        if row.last_outcome == "disk_full":
            minutes = counted(ceil(job.after_seconds / 60), "1 minute", "{n} minutes")
            return (
                "It waits for room on the disk of its machine: ask your administrator to free some "
                f"space. It tries again in {minutes}."
            )
        return "It was interrupted and will be tried again soon."
    if not queue.has_machine:
        return "No machine is ready to train. Please tell your administrator."
    if not any(offer.meets(job.needs) for _, offer in parts.ready):
        return "The machine it needs is paused for maintenance."
    ahead = queue.positions[row.id] - 1
    if ahead == 0:
        return "It is next in the queue."
    return counted(ahead, "One job is ahead of it.", "{n} jobs are ahead of it.")


def _too_large(
    needs: scheduling.Needs, offers: list[scheduling.Offer], workers: list[Worker]
) -> str:
    if all(needs.num_devices > len(offer.devices) for offer in offers):
        # A container is a host of its own; what stands after the @ is the machine.
        on_machine: dict[str, set[tuple[str, str]]] = {}
        for worker in workers:
            devices = on_machine.setdefault(worker.id.partition("@")[2], set())
            devices |= {(worker.host, device) for device in worker.devices}
        numbers = [len(devices) for devices in on_machine.values()]
        if max(numbers, default=0) < needs.num_devices <= sum(numbers):
            return (
                f"It needs {needs.num_devices} devices together in one machine; those here are in "
                "several, and Etude cannot train one job over more than one machine."
            )
        return f"It needs {needs.num_devices} devices together; no machine here has that many."
    gigabytes = (needs.memory_bytes or 0) / 1e9
    return f"It needs {gigabytes:,.3g} GB of memory; no machine here has that much."


def _blocked(
    obstacle: scheduling.Obstacle, standing: scheduling.Standing, is_department: bool
) -> str:
    who = "Its department" if is_department else standing.name
    if obstacle == "hours":
        hours = standing.rule.hours.words if standing.rule.hours else ""
        return f"{who} may train {hours[0].lower()}{hours[1:]}." if hours else ""
    if obstacle == "month":
        return f"{who} has used up this month's hours."
    return counted(
        standing.running,
        "{who} already has 1 job in training; no more are allowed at once.",
        "{who} already has {n} jobs in training; no more are allowed at once.",
        who=who,
    )
