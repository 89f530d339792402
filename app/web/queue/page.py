"""What the page of the queue shows: jobs, the machines and their devices, and the workers."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.metadata import version

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from app.core.errors import AppError
from app.core.models import (
    Department,
    Job,
    JobStatus,
    QuarantinedDevice,
    Role,
    User,
    Worker,
)
from app.jobs import choice, queue_view, requests, rights, standstill, states
from app.jobs.moments import in_words
from app.machines import devices as machines
from app.web.queue import timeline

# More rows than anyone reads, as in the list of jobs; all are counted.
MOST_ROWS = 50
# Such a worker was not merely restarted: it is shown no longer.
_FORGOTTEN = timedelta(days=7)


@dataclass(frozen=True)
class Row:
    """One job in the queue."""

    job: Job
    standing: states.Standing
    position: int | None
    why: str
    starts: str
    ends: str
    department: str
    can_act: bool
    is_mine: bool  # of the person's department: its page may be opened
    asks_why: bool  # whoever cancels it may say why to its owner


@dataclass(frozen=True)
class Device:
    name: str  # as the worker names it
    reading: machines.DeviceReading | None
    quarantine: QuarantinedDevice | None


@dataclass(frozen=True)
class Machine:
    """A worker that trains, with its devices."""

    worker: Worker
    is_here: bool
    has_left: bool  # it ended because it was told to
    is_still: bool  # it takes no job although it could
    job: Job | None  # that it trains, where the person may know its name
    is_busy: bool
    devices: list[Device]
    is_in_common: bool  # each of its devices has a worker of its own, which shows it
    problem: str


@dataclass(frozen=True)
class QueuePage:
    is_admin: bool
    running: list[Row]
    waiting: list[Row]
    num_running: int  # of all departments, as the next
    num_waiting: int
    num_other_running: int  # of departments whose jobs the person may not see
    num_other_waiting: int
    num_more: int  # that wait, and are more than anyone reads
    places: dict[str, str]  # what each worker trains on, by its name
    machines: list[Machine]
    workers: list[tuple[Worker, bool, bool]]  # whether it was heard of lately, or ended in order
    version: str  # of this web; a worker of another has to be started anew
    hosts: list[str]
    standing_still: list[str]  # names of workers that take no job although they could
    standstill: str  # that, in a sentence; empty where all goes on
    picture: timeline.Timeline | None  # who trains when; none where nothing does
    now: datetime
    error: AppError | None


def queue_page(db: Session, user: User, error: AppError | None = None) -> QueuePage:
    """Gather the page's parts; other departments' jobs are counted, not named."""
    outlook = queue_view.outlook(db)
    is_admin = user.role is Role.ADMIN
    running_ids = [
        key for key, department in outlook.running if is_admin or department == user.department_id
    ]
    waiting_ids = outlook.waiting_of(None if is_admin else user.department_id)
    found = db.execute(
        select(Job, Department.name)
        .join(Department, Department.id == Job.department_id)
        .options(joinedload(Job.owner), *requests.BARE)
        .where(Job.id.in_(running_ids + waiting_ids[:MOST_ROWS]))
    )
    rows = {job.id: _row(user, job, outlook, department) for job, department in found}
    # Somebody may have ended or begun a job between the two queries.
    running = [rows[each] for each in running_ids if each in rows]
    waiting = [rows[each] for each in waiting_ids[:MOST_ROWS] if each in rows]
    workers = list(db.scalars(select(Worker).order_by(Worker.queue.desc(), Worker.id)))
    # Else all of a long queue would be searched for a job that has waited for long.
    is_overdue = standstill.is_overdue(outlook.waits_since, outlook.now)
    still = standstill.standing_still(db) if is_overdue else []
    workers = [worker for worker in workers if outlook.now - worker.last_seen < _FORGOTTEN]
    return QueuePage(
        is_admin=is_admin,
        running=running,
        waiting=waiting,
        num_running=len(outlook.running),
        num_waiting=len(outlook.waiting),
        num_other_running=len(outlook.running) - len(running_ids),
        num_other_waiting=len(outlook.waiting) - len(waiting_ids),
        num_more=len(waiting_ids) - len(waiting),
        places={worker.id: timeline.name_of(worker) for worker in workers},
        machines=_machines(
            db, workers, {row.job.worker_id: row.job for row in running}, outlook, still
        ),
        workers=[
            (
                worker,
                outlook.now - worker.last_seen < choice.WORKER_SILENCE,
                machines.has_left(worker),
            )
            for worker in workers
        ],
        version=version("etude"),
        hosts=sorted({worker.host for worker in workers}),
        standing_still=still,
        standstill=standstill.in_words(still) if still else "",
        picture=timeline.draw(
            outlook,
            {
                job_id: timeline.Named(row.job.name, _person(row.job), row.starts, row.ends)
                for job_id, row in rows.items()
            },
        ),
        now=outlook.now,
        error=error,
    )


def _person(job: Job) -> str:
    return job.owner.name or job.owner.email


def _row(user: User, job: Job, outlook: queue_view.Outlook, department: str) -> Row:
    times, standing = outlook.times.get(job.id), states.of(job)
    is_running = job.status is JobStatus.RUNNING
    return Row(
        job=job,
        standing=standing,
        position=outlook.positions.get(job.id),
        why="" if is_running else outlook.why(job.id),
        starts="" if is_running else in_words(times, outlook.now, starts=True),
        ends="" if standing.time == "none" else in_words(times, outlook.now, starts=False),
        department=department,
        can_act=rights.may_control(user, job),
        is_mine=job.department_id == user.department_id,
        asks_why=user.id != job.owner_id,
    )


def _machines(
    db: Session,
    workers: list[Worker],
    known: dict[str | None, Job],
    outlook: queue_view.Outlook,
    still: list[str],
) -> list[Machine]:
    quarantined = machines.quarantined(db)
    busy = set(db.scalars(select(Job.worker_id).where(Job.status == JobStatus.RUNNING)))
    alone = {
        (worker.host, *worker.devices)
        for worker in workers
        if worker.queue == "gpu" and len(worker.devices) == 1
    }
    shown = []
    for worker in workers:
        if worker.queue != "gpu":
            continue
        is_here = outlook.now - worker.last_seen < choice.WORKER_SILENCE
        readings = machines.Readings.model_validate(worker.readings or {})
        by_name = {each.device: each for each in readings.devices}
        shown.append(
            Machine(
                worker=worker,
                is_here=is_here,
                has_left=machines.has_left(worker),
                is_still=worker.id in still,
                job=known.get(worker.id),
                is_busy=worker.id in busy,
                devices=[
                    Device(
                        name,
                        by_name.get(name) if is_here else None,
                        quarantined.get((worker.host, name)),
                    )
                    for name in dict.fromkeys(worker.devices)
                ],
                is_in_common=len(worker.devices) > 1
                and all((worker.host, name) in alone for name in worker.devices),
                problem=readings.problem if is_here else "",
            )
        )
    return shown
