"""What people and programs ask of jobs; who may see and do what is decided here.

A job belongs to its department, and all of it may look. Its owner, the department's lead and
administrators may act; strangers are told that it does not exist. In the queue an administrator may
act on the jobs of every department (`get_any`).
"""

from collections.abc import Sequence

from sqlalchemy import Select, select
from sqlalchemy import delete as sql_delete
from sqlalchemy.orm import Session, defer, lazyload, selectinload
from sqlalchemy.orm.interfaces import ORMOption

from app import notices
from app.base_models import registry as base_models
from app.core import audit, bins, clock
from app.core.errors import Forbidden, Invalid, NotFound
from app.core.models import (
    Adapter,
    DatasetVersion,
    Desired,
    ExampleKind,
    Job,
    JobStatus,
    Json,
    ModelStatus,
    Role,
    User,
)
from app.datasets import examples, versions
from app.datasets import states as data_states
from app.datasets.privacy import reviews
from app.jobs import limits, plans, practice, start, states
from app.jobs.rights import require_control
from app.jobs.stream import say
from app.people.auth import can_edit
from app.training.config import TrainConfig

MAX_NAME_LENGTH = 200
MAX_REASON_LENGTH = 300
# For a list of names: a job's settings and all that it learns from are larger than all else of it.
BARE: tuple[ORMOption, ...] = (
    lazyload(Job.version),
    lazyload(Job.base_model),
    defer(Job.samples),
    defer(Job.config),
    defer(Job.lineage),
    defer(Job.practised_before),
)
# The same where data and starting model are named beside it.
IN_LIST: tuple[ORMOption, ...] = (*BARE[2:], selectinload(Job.owner))


def visible(user: User) -> Select[Job]:
    """Select the jobs that a person may see: those of the department that are not in the bin."""
    return select(Job).where(Job.department_id == user.department_id, Job.binned_at.is_(None))


def get(db: Session, user: User, job_id: int) -> Job:
    """Return one job.

    Raises:
        NotFound: there is none, it is in the bin, or it belongs to another department.
    """
    known = select(Job).where(Job.department_id == user.department_id, Job.id == job_id)
    job = db.scalars(known).one_or_none()
    if job is None:
        raise _no_such_job()
    if job.binned_at is not None:
        raise bins.in_the_bin(job.name)
    return job


def require_visible(db: Session, user: User, job_id: int) -> None:
    """Ask only whether a person may see a job, without loading it.

    Raises:
        NotFound: there is none, or it belongs to another department.
    """
    visible_id = visible(user).where(Job.id == job_id).with_only_columns(Job.id)
    if db.scalar(visible_id) is None:
        raise _no_such_job()


def _no_such_job() -> NotFound:
    return NotFound("There is no such job; it may have been deleted.")


def get_any(db: Session, user: User, job_id: int) -> Job:
    """Return one job; for administrators of any department, as the queue shows it to them.

    Raises:
        NotFound: there is none, or it belongs to another department.
    """
    job = db.get(Job, job_id) if user.role is Role.ADMIN else None
    return job if job is not None and job.binned_at is None else get(db, user, job_id)


def by_public_id(db: Session, user: User, public_id: str) -> Job:
    """Return one job by the id that programs know, e.g. `ftjob-…`.

    Raises:
        NotFound: there is none, or it belongs to another department.
    """
    job = db.scalars(visible(user).where(Job.public_id == public_id)).one_or_none()
    if job is None:
        raise NotFound(f"There is no fine-tuning job {public_id!r}.", field="fine_tuning_job_id")
    return job


def list_jobs(
    db: Session,
    user: User,
    *,
    statuses: tuple[JobStatus, ...] = (),
    labels: dict[str, str] | None = None,
    before_id: int | None = None,
    limit: int = 100,
    options: Sequence[ORMOption] = (),
) -> list[Job]:
    """List jobs, the newest first: those of some statuses, with some labels, older than one."""
    query = visible(user).options(*options).order_by(Job.id.desc()).limit(limit)
    if statuses:
        query = query.where(Job.status.in_(statuses))
    if labels:
        query = query.where(Job.labels.contains(labels))
    if before_id is not None:
        query = query.where(Job.id < before_id)
    return list(db.scalars(query))


def create(
    db: Session,
    user: User,
    *,
    name: str,
    version_id: int,
    base_model_id: int,
    config: TrainConfig,
    suffix: str | None = None,
    labels: Json | None = None,
    api_request: Json | None = None,
    validation_version_id: int | None = None,
    retry_of: Job | None = None,
    privacy: reviews.Decision | None = None,
    start_adapter: Adapter | None = None,
    rows_percent: int = 100,
    curve_id: int | None = None,
    may_await_scan: bool = False,
) -> Job:
    """Queue a job with its settings frozen; its data may still be on the way to being ready.

    Args:
        privacy: What a program's owner decides about personal details in the data.
        start_adapter: Whose weights the job begins with; a fresh adapter unless given.
        rows_percent: Of the practice rows it takes so many, as a point of a learning curve.
        curve_id: That curve.
        may_await_scan: Data that has not been searched for personal details yet will do: the job
            waits for that, and fails where some are found.

    Raises:
        Forbidden: the person may only look.
        NotFound: no such data, model or adapter, or they are another department's.
        Invalid: data, model or adapter cannot be trained with, or the name is missing.
        Conflict: nobody has decided yet about personal details in the data.
    """
    if not can_edit(user):
        raise Forbidden("You can look at jobs, but not start them.")
    version = versions.get_version(db, user, version_id)
    held_out = None
    if validation_version_id is not None:
        held_out = versions.get_version(db, user, validation_version_id)
    awaits_scan = False
    for data, field in ((version, "version_id"), (held_out, "validation_version_id")):
        if data is None:
            continue
        _require_usable(db, data, field)
        if config.objective == "dpo":
            _require_pairs(db, data)
        if privacy is not None:
            reviews.state(db, user, data, privacy)
        awaits_scan |= reviews.check(db, data, may_wait=may_await_scan, field=field)
    base_model = base_models.get_model(db, base_model_id)
    if base_model.status is ModelStatus.FAILED:
        raise Invalid(
            f"{base_model.label} could not be imported; choose another starting model.",
            field="base_model_id",
        )
    limits.check_queued(db, user)
    lineage = []
    if start_adapter is not None:
        lineage = start.require(db, user, start_adapter, base_model, config)
        practice.require_new_rows(db, start_adapter, version, held_out)
    plan = plans.predict(
        db,
        version,
        base_model,
        config,
        held_out=held_out,
        from_adapter=bool(lineage),
        rows_percent=rows_percent,
    )
    needs = plans.needs(db, plan)
    job = Job(
        department_id=user.department_id,
        owner_id=user.id,
        name=check_name(name),
        version_id=version.id,
        validation_version_id=validation_version_id,
        base_model_id=base_model.id,
        retry_of_id=retry_of.id if retry_of else None,
        start_adapter_id=start_adapter.id if start_adapter else None,
        lineage=lineage,
        rows_percent=rows_percent,
        curve_id=curve_id,
        config=config.model_dump(mode="json"),
        plan=plan.model_dump(mode="json") if plan else None,
        needs_bytes=needs.memory_bytes,
        needs_devices=needs.num_devices,
        status=JobStatus.QUEUED,
        desired=Desired.RUN,
        suffix=suffix,
        labels=labels,
        api_request=api_request,
        awaits_scan=awaits_scan,
    )
    db.add(job)
    db.flush()
    say(db, job.id, "status", "Waiting in the queue.")
    audit.record(
        db,
        user,
        "job.create",
        f"job {job.id}",
        version=version.id,
        base_model=base_model.name,
        retry_of=job.retry_of_id,
        start_adapter=job.start_adapter_id,
    )
    db.refresh(job)
    return job


def cancel(db: Session, user: User, job: Job, why: str = "") -> None:
    """Stop a job for good: at once where it waits, within seconds where it runs.

    Args:
        why: A sentence for the owner, where it is somebody else's job; may be empty.

    Raises:
        Forbidden: it is not theirs to decide.
        Conflict: the job is over.
        Invalid: the sentence is too long; with the field `why`.
    """
    require_control(user, job, "cancel")
    why = _checked_reason(why)
    _lock(db, job)
    if job.desired is Desired.CANCEL and not job.status.is_final:
        return  # asked for twice
    states.require(job, "cancel")
    who = user.name or user.email
    job.desired, job.desired_by_id, job.reason = Desired.CANCEL, user.id, why or None
    if job.status is JobStatus.QUEUED:
        job.status = JobStatus.CANCELLED
        job.finished_at = clock.NOW
        said = f"{who} cancelled this job before it started."
    else:
        said = f"{who} cancelled this job; it is stopping."
    _flush_and_say(db, job, "status", f"{said} “{why}”" if why else said)
    if user.id != job.owner_id:
        notices.job_cancelled(db, job, user, why)
    audit.record(db, user, "job.cancel", f"job {job.id}")


def pause(db: Session, user: User, job: Job) -> None:
    """Let a job wait: a running one keeps a checkpoint and frees its machine.

    Raises:
        Forbidden: it is not theirs to decide.
        Conflict: the job is over, or being cancelled.
    """
    require_control(user, job, "pause")
    _lock(db, job)
    if job.desired is Desired.PAUSE and not job.status.is_final:
        return  # asked for twice
    states.require(job, "pause")
    job.desired, job.desired_by_id = Desired.PAUSE, user.id
    _flush_and_say(db, job, "status", "Paused. It will resume where it stopped.")
    audit.record(db, user, "job.pause", f"job {job.id}")


def resume(db: Session, user: User, job: Job) -> None:
    """Put a paused job back in the queue; the caller rings the queue after the commit.

    Raises:
        Forbidden: it is not theirs to decide.
        Conflict: the job is not paused.
    """
    require_control(user, job, "resume")
    _lock(db, job)
    states.require(job, "resume")
    job.desired, job.desired_by_id = Desired.RUN, user.id
    _flush_and_say(db, job, "status", "Back in the queue.")
    audit.record(db, user, "job.resume", f"job {job.id}")


def retry(db: Session, user: User, job: Job) -> Job:
    """Queue a new job with the same data, model and settings that names the old one.

    Raises:
        Forbidden: it is not theirs to decide.
        Conflict: the job is not over, or it succeeded; or the adapter that it starts from is gone.
        Invalid: its data or model are gone.
    """
    require_control(user, job, "try again")
    states.require(job, "try again")
    return create(
        db,
        user,
        name=job.name,
        version_id=job.version_id,
        base_model_id=job.base_model_id,
        config=TrainConfig.model_validate(job.config),
        suffix=job.suffix,
        labels=job.labels,
        api_request=job.api_request,
        validation_version_id=job.validation_version_id,
        retry_of=job,
        start_adapter=start.of_job(job),
        rows_percent=job.rows_percent,
        curve_id=job.curve_id,
    )


def rename(db: Session, user: User, job: Job, name: str) -> None:
    """Give a job another name.

    Raises:
        Forbidden: it is not theirs to decide.
        Invalid: the name is empty or too long.
    """
    require_control(user, job, "rename")
    job.name = check_name(name)
    db.flush()
    audit.record(db, user, "job.rename", f"job {job.id}")


def delete(db: Session, user: User, job: Job) -> None:
    """Erase a job at once, with its curve, log and checkpoints; its adapter stays.

    What people delete on pages goes to the bin first (app/jobs/bin.py).

    Raises:
        Forbidden: it is not theirs to decide.
        Conflict: the job is not over.
    """
    require_control(user, job, "delete")
    _lock(db, job)
    states.require(job, "delete")
    erase(db, user, job)


def erase(db: Session, user: User, job: Job) -> None:
    """Erase a job that is over; the caller has asked whether it may be, under the row's lock.

    The folder on the worker's disk is removed by the sweep once the row is gone.
    """
    db.execute(sql_delete(Job).where(Job.id == job.id))
    db.expunge(job)
    audit.record(db, user, "job.delete", f"job {job.id}")


def _require_usable(db: Session, version: DatasetVersion, field: str) -> None:
    """Refuse what will never be learned from as it is; what the gate holds, `check` refuses."""
    standing = data_states.of(db, version)
    if standing.is_unusable:
        raise Invalid(standing.why_not, field=field)


def _require_pairs(db: Session, version: DatasetVersion) -> None:
    # What is still being read may turn out to have none; the trainer says so then.
    if examples.kind(db, version) not in (None, ExampleKind.PREFERENCE):
        raise Invalid(
            f"“{version.dataset.name}” has no pairs of a better and a worse answer, so only its "
            "better answers can be learned.",
            field="objective",
        )


def check_name(name: str) -> str:
    """Return a job's name without stray blanks.

    Raises:
        Invalid: it is missing, or too long; with the field `name`.
    """
    name = " ".join(name.split())
    if not name:
        raise Invalid("Give the job a name.", field="name")
    if len(name) > MAX_NAME_LENGTH:
        raise Invalid(f"Use at most {MAX_NAME_LENGTH} characters for the name.", field="name")
    return name


def _checked_reason(why: str) -> str:
    why = " ".join(why.split())
    if len(why) > MAX_REASON_LENGTH:
        raise Invalid(f"Use at most {MAX_REASON_LENGTH} characters.", field="why")
    return why


def _lock(db: Session, job: Job) -> None:
    # Under the row's lock: a worker claiming or ending it now waits, or has been first.
    db.refresh(job, with_for_update={"of": Job})


def _flush_and_say(db: Session, job: Job, kind: str, message: str) -> None:
    db.flush()
    say(db, job.id, kind, message)
    db.refresh(job)
