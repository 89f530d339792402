"""/v1/fine_tuning/jobs: the same jobs as on the pages, through the same functions."""

from collections.abc import Callable
from typing import Any

from fastapi import Request
from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from app.adapters import registry as adapters
from app.core import settings, wakeup
from app.core.errors import Forbidden, NotFound
from app.core.models import Checkpoint, Job, User
from app.jobs import requests
from app.people.auth import can_edit
from app.training import failpoints
from app.web.dependencies import Db, TokenUser
from app.web.v1 import creation, errors, events, job_view, retries, transport
from app.web.v1.errors import BadRequest
from app.web.v1.paging import After, Limit100, Page, page, unknown_after
from app.web.v1.schemas import (
    CheckpointMetrics,
    CreateJob,
    FineTuningJob,
    JobCheckpoint,
    JobEvent,
    PlannedJob,
    fold,
    unix,
)

router = transport.router("/fine_tuning/jobs")


@router.post("")
def create_job(
    request: Request, db: Db, user: TokenUser, body: CreateJob
) -> FineTuningJob | PlannedJob:
    """Make a job; a repeat of a request that was carried out gets the job of the first time.

    With `x_etude.dry_run` nothing is made: the answer says what would be, and what it would take.
    """
    if not can_edit(user):
        raise Forbidden("You may look at jobs, but not start any.")
    if body.x_etude is not None and body.x_etude.dry_run:
        return _planned(db, user, body)
    sent = body.model_dump(mode="json", exclude_unset=True)
    print_ = retries.fingerprint(sent)
    key = retries.idempotency_key(request)
    retries.serialize(db, user, key or print_)
    earlier = retries.earlier_job(db, user, request, print_)
    if earlier is not None:
        return job_view.show(db, earlier)
    request_kept = {"body": sent, "fingerprint": print_, "idempotency_key": key}
    job = _create(db, user, body, request_kept)
    failpoints.commit(db, "web.submit")
    wakeup.hint("gpu")
    return job_view.show(db, job)


def _planned(db: Session, user: User, body: CreateJob) -> PlannedJob:
    """Make the job, look at it, and take all of it back: no two ways of making one can differ."""
    try:
        job = _create(db, user, body, {})
        return job_view.planned(db, job)
    finally:
        db.rollback()


def _create(db: Session, user: User, body: CreateJob, request_kept: dict[str, Any]) -> Job:
    creation.refuse_unsupported(body)
    model, start_adapter = creation.starting_point(db, user, body.model)
    config = creation.train_config(body, model, start_adapter)
    version = creation.training_data(db, user, body.training_file, "training_file")
    held_out = (
        creation.training_data(db, user, body.validation_file, "validation_file")
        if body.validation_file
        else None
    )
    if held_out is not None and held_out.id == version.id:
        raise BadRequest(
            "validation_file: a job cannot be tested on what it practised; send another file, "
            "or leave it out and Etude sets a part of the training file aside.",
            field="validation_file",
        )
    name = body.x_etude.name if body.x_etude else None
    objective = "method" if body.method else "x_etude.objective"
    with errors.naming(
        base_model_id="model",
        start_adapter_id="model",
        version_id="training_file",
        validation_version_id="validation_file",
        objective=objective,
        name="x_etude.name",
        reason="x_privacy.reason",
    ):
        return requests.create(
            db,
            user,
            name=name or (body.suffix or "").strip() or version.dataset.name,
            version_id=version.id,
            base_model_id=model.id,
            config=config,
            suffix=fold(body.suffix) if body.suffix else None,
            labels=body.metadata,
            api_request=request_kept,
            validation_version_id=held_out.id if held_out else None,
            privacy=creation.privacy(body.x_privacy),
            start_adapter=start_adapter,
            may_await_scan=True,
        )


@router.get("")
def list_jobs(
    request: Request, db: Db, user: TokenUser, after: After = None, limit: Limit100 = 20
) -> Page[FineTuningJob]:
    """List the department's jobs, newest first; `metadata[k]=v` filters, `metadata=null` too."""
    query = requests.visible(user).where(*_metadata_filters(request))
    if after is not None:
        try:
            last = requests.by_public_id(db, user, after)
        except NotFound:
            raise unknown_after(after) from None
        query = query.where(Job.id < last.id)
    rows = db.scalars(query.order_by(Job.id.desc()).limit(limit + 1)).all()
    shown = {job.id: job for job in job_view.show_many(db, rows[:limit])}
    return page(rows, limit, lambda row: shown[row.public_id], lambda row: row.public_id)


def _metadata_filters(request: Request) -> list[ColumnElement[bool]]:
    filters: list[ColumnElement[bool]] = []
    for name, value in request.query_params.multi_items():
        if name == "metadata":
            if value != "null":
                message = "metadata: pass metadata[key]=value, or metadata=null for jobs without."
                raise BadRequest(message, field="metadata")
            has_labels = func.coalesce(func.jsonb_typeof(Job.labels), "null") == "object"
            filters.append(or_(~has_labels, Job.labels == {}))
        elif name.startswith("metadata[") and name.endswith("]"):
            filters.append(Job.labels.contains({name[len("metadata[") : -1]: value}))
    return filters


@router.get("/{job_id}")
def retrieve_job(job_id: str, db: Db, user: TokenUser) -> FineTuningJob:
    """Say how a job is doing."""
    return job_view.show(db, requests.by_public_id(db, user, job_id))


@router.post("/{job_id}/cancel")
def cancel_job(job_id: str, db: Db, user: TokenUser) -> FineTuningJob:
    """Stop a job for good; one that runs ends within seconds."""
    return _wish(db, user, job_id, requests.cancel)


@router.post("/{job_id}/pause")
def pause_job(job_id: str, db: Db, user: TokenUser) -> FineTuningJob:
    """Let a job give its place up, at its last checkpoint, until it is resumed."""
    return _wish(db, user, job_id, requests.pause)


@router.post("/{job_id}/resume")
def resume_job(job_id: str, db: Db, user: TokenUser) -> FineTuningJob:
    """Put a paused job back in the queue."""
    return _wish(db, user, job_id, requests.resume)


def _wish(
    db: Session, user: User, job_id: str, wish: Callable[[Session, User, Job], object]
) -> FineTuningJob:
    job = requests.by_public_id(db, user, job_id)
    with errors.refusing_the_state():
        wish(db, user, job)
    db.commit()
    wakeup.hint("gpu")
    db.refresh(job)
    return job_view.show(db, job)


@router.get("/{job_id}/events")
def list_events(
    job_id: str, db: Db, user: TokenUser, after: After = None, limit: Limit100 = 20
) -> Page[JobEvent]:
    """List what happened to a job, newest first: sentences and metrics."""
    return events.newest(db, requests.by_public_id(db, user, job_id), after, limit)


@router.get("/{job_id}/checkpoints")
def list_checkpoints(
    job_id: str, db: Db, user: TokenUser, after: After = None, limit: Limit100 = 10
) -> Page[JobCheckpoint]:
    """List a job's verified checkpoints, newest first."""
    job = requests.by_public_id(db, user, job_id)
    query = select(Checkpoint).where(Checkpoint.job_id == job.id)
    if after is not None:
        last = db.scalars(query.where(Checkpoint.public_id == after)).one_or_none()
        if last is None:
            raise unknown_after(after)
        query = query.where(Checkpoint.step < last.step)
    rows = db.scalars(query.order_by(Checkpoint.step.desc()).limit(limit + 1)).all()
    model = adapters.public_name(job)
    return page(rows, limit, lambda row: _checkpoint(job, model, row), lambda row: row.public_id)


def _checkpoint(job: Job, model: str, row: Checkpoint) -> JobCheckpoint:
    held_out = row.metrics.get("validation_loss")
    return JobCheckpoint(
        id=row.public_id,
        created_at=unix(row.created_at),
        fine_tuning_job_id=job.public_id,
        fine_tuned_model_checkpoint=f"{model}:ckpt-step-{row.step}",
        step_number=row.step,
        metrics=CheckpointMetrics(
            step=row.step,
            train_loss=row.metrics.get("loss"),
            valid_loss=held_out,
            full_valid_loss=held_out,
        ),
        x_exists=(settings.get().jobs_dir / str(job.id) / row.path).is_dir(),
    )
