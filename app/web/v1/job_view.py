"""A job as OpenAI's FineTuningJob: its status words, settled settings and result files."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.models import (
    BaseModel,
    DatasetVersion,
    Desired,
    Job,
    JobStatus,
    ModelStatus,
    VersionStatus,
)
from app.datasets import fits
from app.datasets.privacy import reviews
from app.jobs import cuts, plans, practice, queue_view, states
from app.training.config import TrainConfig, proposed_learning_rate
from app.training.plan.choose import Plan
from app.web.v1.schemas import (
    Estimate,
    FineTuningJob,
    JobError,
    JobState,
    PlannedJob,
    SettledDpo,
    SettledDpoHyperparameters,
    SettledHyperparameters,
    SettledMethod,
    SettledSupervised,
    unix,
)


def show(db: Session, job: Job) -> FineTuningJob:
    """Build the answer for one job."""
    return show_many(db, [job])[0]


def planned(db: Session, job: Job) -> PlannedJob:
    """Build the answer for a job that will not be kept; nothing of it may be remembered either."""
    line = queue_view.with_what_is_not_kept(db)
    held_out = None
    if job.validation_version_id is not None:
        held_out = db.get_one(DatasetVersion, job.validation_version_id)
    ids = [one.id for one in (job.version, held_out) if one is not None]
    shown = _show(job, held_out, reviews.pending(db, ids), line, None)
    known = shown.model_dump() | {"id": None, "x_job_id": None}
    return PlannedJob.model_validate(known | {"x_estimate": _estimate(db, job, line)})


def _notes(db: Session, job: Job) -> list[str]:
    model = job.base_model
    if job.version.status is not VersionStatus.READY or model.status is not ModelStatus.READY:
        return []
    return fits.sentences(db, job.version, model)


def _estimate(db: Session, job: Job, line: queue_view.Outlook) -> Estimate:
    times = line.times.get(job.id)
    estimate = Estimate(
        position=line.positions.get(job.id),
        starts=_both(times.starts) if times else None,
        ends=_both(times.ends) if times and times.ends else None,
        why=line.why(job.id),
        notes=_notes(db, job),
    )
    if job.plan is None:
        return estimate
    plan = Plan.model_validate(job.plan)
    device = plans.device_of(plan, plans.devices(db))
    return estimate.model_copy(
        update={
            "seconds": plan.seconds,
            "num_steps": plan.num_steps,
            "num_tokens": plan.num_tokens,
            "tokens_per_second": plan.tokens_per_second,
            "memory_bytes": plan.peak_bytes,
            "fits": plan.fits,
            "device": device.name or device.kind,
            "num_devices": device.num_devices,
            "reasons": plan.reasons,
        }
    )


def _both(moments: tuple[datetime, datetime]) -> tuple[int, int]:
    return unix(moments[0]), unix(moments[1])


def show_many(db: Session, rows: Sequence[Job]) -> list[FineTuningJob]:
    """Build the answers for a page of jobs."""
    wanted = {job.validation_version_id for job in rows} - {None}
    tested_on = db.scalars(select(DatasetVersion).where(DatasetVersion.id.in_(wanted)))
    held_out = {version.id: version for version in tested_on}
    pending = reviews.pending(db, [job.version_id for job in rows] + list(held_out))
    is_any_waiting = any(job.status is JobStatus.QUEUED for job in rows)
    line = queue_view.outlook(db) if is_any_waiting else None
    cut = cuts.of_jobs(db, [job.id for job in rows])
    return [
        _show(job, held_out.get(job.validation_version_id or 0), pending, line, cut.get(job.id))
        for job in rows
    ]


def _show(
    job: Job,
    held_out: DatasetVersion | None,
    pending: dict[int, bool],
    line: queue_view.Outlook | None,
    cut: cuts.Cuts | None,
) -> FineTuningJob:
    config = TrainConfig.model_validate(job.config)
    settled = _hyperparameters(config, job.base_model)
    adapter = job.adapter
    status, state = _state(job, held_out, pending)
    results = [adapter.metrics_file, adapter.archive_file] if adapter else []
    deleted = job.deleted_result or {"model": None, "files": []}
    is_waiting = job.status is JobStatus.QUEUED and job.desired is Desired.RUN
    return FineTuningJob(
        id=job.public_id,
        created_at=unix(job.created_at),
        finished_at=unix(job.finished_at) if job.finished_at else None,
        estimated_finish=_estimated_finish(job, line),
        model=job.lineage[0]["public_name"] if job.lineage else job.base_model.name,
        fine_tuned_model=adapter.public_name if adapter else deleted["model"],
        organization_id=f"org-{job.department_id}",
        training_file=job.version.file.public_id,
        validation_file=held_out.file.public_id if held_out else None,
        result_files=[file.public_id for file in results if file and not file.deleted_at]
        or deleted["files"],
        status=status,
        error=_error(job),
        hyperparameters=settled,
        method=_method(config, settled),
        trained_tokens=job.trained_tokens if job.status.is_final else None,
        seed=config.seed,
        metadata=job.labels,
        integrations=[],
        x_state=state,
        x_name=job.name,
        x_job_id=job.id,
        x_step=job.step,
        x_total_steps=job.total_steps,
        x_position=line.positions.get(job.id) if line and is_waiting else None,
        x_why=line.why(job.id) if line and job.status is JobStatus.QUEUED else None,
        x_base_model=job.base_model.name,
        x_started_from=[one["public_name"] for one in job.lineage],
        x_rows=asdict(practice.sizes(job, held_out)),
        x_cut=cuts.by_use(cut, practice.chosen_by(job)) if cut else None,
        x_chosen_by=practice.chosen_by(job),
        x_settings=job.config,
        x_metrics=adapter.metrics if adapter else None,
    )


def _state(
    job: Job, held_out: DatasetVersion | None, pending: dict[int, bool]
) -> tuple[JobState, str]:
    """Return OpenAI's status and our finer word beside it."""
    versions = [job.version] + ([held_out] if held_out else [])
    is_data_coming = any(
        version.status is not VersionStatus.READY
        or (version.id in pending and (job.awaits_scan or pending[version.id]))
        for version in versions
    )
    return states.in_v1(job, is_data_coming)


def _error(job: Job) -> JobError | None:
    if job.status is not JobStatus.FAILED:
        return None
    message = job.reason or "The job failed without a reason; see its log."
    return JobError(code=job.error_code or "failed", message=message)


def _hyperparameters(config: TrainConfig, model: BaseModel) -> SettledHyperparameters:
    unit = proposed_learning_rate(model.config, config.objective)
    epochs = config.num_epochs
    return SettledHyperparameters(
        n_epochs=int(epochs) if epochs == int(epochs) else epochs,
        batch_size=config.batch_size,
        learning_rate_multiplier=round(config.learning_rate / unit, 6),
    )


def _method(config: TrainConfig, settled: SettledHyperparameters) -> SettledMethod:
    if config.objective == "supervised":
        return SettledMethod(
            type="supervised", supervised=SettledSupervised(hyperparameters=settled)
        )
    numbers = SettledDpoHyperparameters(**settled.model_dump(), beta=config.dpo_beta)
    return SettledMethod(type="dpo", dpo=SettledDpo(hyperparameters=numbers))


def _estimated_finish(job: Job, line: queue_view.Outlook | None) -> int | None:
    """Carry the pace of this attempt so far on to the last step; of a waiting job, the latest."""
    times = line.times.get(job.id) if line and job.status is JobStatus.QUEUED else None
    if times and times.ends:
        return unix(times.ends[1])
    num_done = job.step - job.durable_step if job.attempt > 1 else job.step
    if (
        job.status is not JobStatus.RUNNING
        or not (job.total_steps and job.started_at)
        or not (num_done > 0)
    ):
        return None
    elapsed = datetime.now(UTC) - job.started_at
    remaining = elapsed / num_done * max(job.total_steps - job.step, 0)
    return unix(datetime.now(UTC) + min(remaining, timedelta(days=365)))
