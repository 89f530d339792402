"""What the page of a job shows beside its figures: curve, settings, attempts, log."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.adapters import lineage
from app.adapters import states as adapter_states
from app.core.models import (
    Adapter,
    Attempt,
    DatasetVersion,
    ExampleKind,
    Job,
    JobEvent,
    JobStatus,
    Json,
    Role,
    User,
)
from app.datasets import versions
from app.evaluation import reading
from app.jobs import (
    afterwards,
    cuts,
    energy,
    metrics,
    practice,
    progress,
    requests,
    rights,
    states,
)
from app.people.auth import can_edit
from app.training.config import PRESETS, Preset, TrainConfig
from app.web import gone, lists
from app.web.evaluation import curve_page
from app.web.evaluation import page as evaluation_pages
from app.web.evaluation.curve_page import CurveCard
from app.web.evaluation.page import Box
from app.web.gone import Gone

CURVES = ("loss", "validation_loss", "learning_rate", "tokens_per_second")
_NUM_LOG_LINES = 200
_NUM_OTHERS = 20
_NUM_TABLE_ROWS = 60
_NUM_POINTS = 1500  # of a chart, at most about


class Setting(NamedTuple):
    """One line of the frozen settings."""

    label: str
    value: str
    unit: str
    help: str
    is_changed: bool


@dataclass(frozen=True)
class ListPage:
    """jobs/list.html: a page of the department's jobs."""

    listing: lists.Listing
    rows: list[tuple[Job, states.Standing, list[float]]]  # with its losses in between
    gone: Gone | None
    can_edit: bool


_LIST = lists.Kind(
    path="/jobs",
    key=Job.id,
    names=(Job.name,),
    owner=Job.owner_id,
    sorts={
        "newest": lists.Sort("Newest first", (Job.id.desc(),)),
        "oldest": lists.Sort("Oldest first", (Job.id,)),
        "name": lists.Sort("Name", (func.lower(Job.name),)),
    },
    shows={
        word: lists.Show(words, states.where(group))
        for word, (words, group) in states.GROUPS.items()
    },
)


def list_page(db: Session, user: User, query: lists.Query) -> ListPage:
    """Gather the page of the list of jobs that an address asks for."""
    ids, listing = lists.pick(db, user, requests.visible(user), lists.asked(_LIST, query))
    found = select(Job).where(Job.id.in_(ids)).options(*requests.IN_LIST)
    jobs = {job.id: job for job in db.scalars(found)} if ids else {}
    return ListPage(
        listing=listing,
        rows=progress.in_list(db, [jobs[each] for each in ids if each in jobs]),
        gone=gone.job(db, user, query.get("binned", ""), query.get("erased", "")),
        can_edit=can_edit(user),
    )


class Beside(NamedTuple):
    """Another job's curve, to be laid over this one's."""

    job: Job
    points: Json


@dataclass(frozen=True)
class JobPage:
    """One job: how it stands, its curve, its settings and its log."""

    job: Job
    standing: states.Standing
    adapter: adapter_states.Standing | None  # how its adapter stands
    cancelled_by: str  # who cancelled it, where that was not its owner
    judged: Box | None  # how many answers of its adapter are right
    curve: CurveCard | None  # would more rows help?
    texts: dict[str, str]  # the figures in words, as the stream sends them anew
    points: Json  # the curves, for the chart
    beside: Beside | None  # another job, whose curve is laid over it
    others: list[tuple[int, str]]  # whose curves may be: numbers and names
    table: list[Json]  # the same in rows, for the table
    settings: list[Setting]
    preset: Preset
    num_changes: int  # of the preset
    learns_preferences: bool
    cut: str
    log: list[JobEvent]  # the newest first
    attempts: list[tuple[Attempt, str]]  # with how they ended, in words
    device: str
    is_admin: bool
    energy: energy.Shown
    held_out: DatasetVersion | None
    retry_of: Job | None
    started_from: list[lineage.Ancestor]  # the nearest first; none: a fresh adapter
    trained_from: list[Adapter]  # what started from its adapter
    sizes: practice.Sizes  # how many rows it practises, chooses by and is tested on
    asked: str  # what its losses in between are measured on: check, test or practice
    practised_before: list[str]  # what became of test rows that were
    afterwards: str  # what its adapter is to answer once it is there
    can_edit: bool
    can_act: bool
    asks_why: bool  # whoever cancels it may say why to its owner
    typed: str | None  # a name that was refused, as typed
    error: str


def job_page(
    db: Session,
    user: User,
    job: Job,
    *,
    beside: str = "",
    typed: str | None = None,
    error: str = "",
) -> JobPage:
    """Gather what a job's page shows; `typed` and `error` are of a name that was refused."""
    points = curve_points(db, job)
    config = TrainConfig.model_validate(job.config)
    preset = closest_preset(config, job.base_model.config)
    held_out_id = job.validation_version_id
    log = (
        select(JobEvent)
        .where(JobEvent.job_id == job.id)
        .order_by(JobEvent.seq.desc())
        .limit(_NUM_LOG_LINES)
    )
    attempts = list(
        db.scalars(select(Attempt).where(Attempt.job_id == job.id).order_by(Attempt.number))
    )
    held_out = db.get(DatasetVersion, held_out_id) if held_out_id else None
    sizes = practice.sizes(job, held_out)
    judged = reading.of_adapter(db, job.adapter.id) if job.adapter else None
    return JobPage(
        job=job,
        standing=states.of(job),
        adapter=adapter_states.of(job.adapter) if job.adapter else None,
        cancelled_by=_cancelled_by(db, job),
        judged=evaluation_pages.box(judged),
        curve=_curve(db, user, job),
        texts=progress.figures(db, job)["texts"],
        points=points,
        beside=_beside(db, user, job, beside),
        others=_others(db, user, job),
        table=thinned(points),
        settings=settings_of(config, job.base_model.config),
        preset=preset,
        num_changes=num_changes(preset, config, job.base_model.config),
        learns_preferences=config.objective == "dpo",
        cut=_cut(db, job),
        log=list(db.scalars(log)),
        attempts=[(each, states.ended_as(each.outcome)) for each in attempts],
        device=_device(job, attempts),
        is_admin=user.role is Role.ADMIN,
        energy=energy.shown(db, job, attempts),
        held_out=held_out,
        retry_of=db.get(Job, job.retry_of_id) if job.retry_of_id else None,
        started_from=lineage.ancestors(db, job.lineage),
        trained_from=lineage.descendants(db, job.adapter) if job.adapter else [],
        sizes=sizes,
        asked=practice.chosen_by(job),
        practised_before=practice.sentences(job),
        afterwards=_afterwards(job, sizes.test),
        can_edit=can_edit(user),
        can_act=rights.may_control(user, job),
        asks_why=user.id != job.owner_id,
        typed=typed,
        error=error,
    )


def _cancelled_by(db: Session, job: Job) -> str:
    is_known = job.status is JobStatus.CANCELLED and job.desired_by_id is not None
    by = db.get(User, job.desired_by_id) if is_known else None
    return "" if by is None or by.id == job.owner_id else by.name or by.email


def _curve(db: Session, user: User, job: Job) -> CurveCard | None:
    if job.status is not JobStatus.SUCCEEDED or job.version.dataset.deleted_at is not None:
        return None
    return curve_page.card(db, user, job.version, f"/jobs/{job.id}/learning-curve")


def _afterwards(job: Job, num_tested: int) -> str:
    mapping = versions.mapping_of(job.version)
    if job.status.is_final or (mapping and mapping.kind is ExampleKind.TEXT):
        return ""
    return afterwards.sentence(num_tested, (job.plan or {}).get("seconds"))


def curve_points(db: Session, job: Job) -> dict[str, Any]:
    """Return the curves as columns by step, and the number after which the stream goes on.

    A curve of very many steps has a mean for every few of them: a screen has no more room.
    """
    seq = job.event_seq
    every = max(1, -(-job.step // _NUM_POINTS))
    # What was written since `job` was read is left to the stream, which brings it once.
    curves = metrics.shown(db, job.id, CURVES, up_to_seq=seq, steps_a_point=every)
    steps = sorted(set().union(*(curves.get(name, {}).keys() for name in CURVES)))
    columns: dict[str, Any] = {
        name: [curves.get(name, {}).get(step) for step in steps] for name in CURVES
    }
    return {
        **{"seq": seq, "total_steps": job.total_steps, "steps_a_point": every},
        **{"step": steps, **columns},
    }


def thinned(points: dict[str, Any]) -> list[dict[str, Any]]:
    """Choose the rows of the table: every check, and evenly spaced steps between them."""
    steps = points["step"]
    every = max(1, -(-len(steps) // _NUM_TABLE_ROWS))
    return [
        {"step": step, **{name: points[name][row] for name in CURVES}}
        for row, step in enumerate(steps)
        if row % every == 0 or points["validation_loss"][row] is not None or row == len(steps) - 1
    ]


def closest_preset(config: TrainConfig, model_config: Json | None) -> Preset:
    """Find the preset from which a configuration for a model differs least."""
    return min(PRESETS.values(), key=lambda preset: num_changes(preset, config, model_config))


def num_changes(preset: Preset, config: TrainConfig, model_config: Json | None) -> int:
    """Count the values that differ; a seed of one's own makes nothing more or less thorough."""
    usual = preset.settings(model_config, config.objective)
    return sum(
        getattr(usual, name) != getattr(config, name)
        for name in TrainConfig.model_fields
        if name not in ("seed", "objective")
    )


def settings_of(config: TrainConfig, model_config: Json | None) -> list[Setting]:
    """List a configuration in words, in the order of its definition."""
    preset = closest_preset(config, model_config)
    usual = preset.settings(model_config, config.objective)
    listed = []
    for name, field in TrainConfig.model_fields.items():
        value = getattr(config, name)
        extra = field.json_schema_extra
        unit = str(extra.get("unit", "")) if isinstance(extra, dict) else ""
        listed.append(
            Setting(
                label=field.title or name,
                value=in_words(name, value),
                unit=unit if value else "",
                help=field.description or "",
                is_changed=value != getattr(usual, name),
            )
        )
    return listed


def decimal(value: float) -> str:
    """Write a number out, where Python would say 5e-05."""
    return f"{value:.10f}".rstrip("0").rstrip(".")


def in_words(name: str, value: object) -> str:
    """Write a setting's value for people; zeros that mean something say what."""
    words = {
        ("method", "qlora"): "QLoRA",
        ("method", "lora"): "LoRA",
        ("objective", "supervised"): "the right answers",
        ("objective", "dpo"): "better and worse answers (DPO)",
        ("optimizer", "auto"): "chosen by Etude",
        ("optimizer", "adamw"): "AdamW",
        ("optimizer", "adamw_8bit"): "8-bit AdamW",
        ("optimizer", "paged_adamw"): "paged AdamW",
        ("optimizer", "paged_adamw_8bit"): "paged 8-bit AdamW",
        ("micro_batch_tokens", 0): "chosen by Etude",
        ("early_stopping_patience", 0): "never",
        ("num_steps", 0): "set by the passes",
        ("neftune_alpha", 0): "none",
        ("schedule", "cosine"): "along half a cosine",
        ("schedule", "linear"): "in a straight line",
        ("schedule", "constant"): "constant",
        ("unfit_rows", "join"): "turns are joined",
        ("unfit_rows", "leave_out"): "their rows are left out",
        ("lora_targets", "all"): "all layers",
        ("lora_targets", "attention"): "attention layers",
        ("lora_targets", "feed_forward"): "feed-forward layers",
    }
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str | int | float) and (name, value) in words:
        return words[name, value]
    if isinstance(value, float):
        return decimal(value)
    return f"{value:,}" if isinstance(value, int) and name != "seed" else str(value)


def _beside(db: Session, user: User, job: Job, wanted: str) -> Beside | None:
    if not (wanted.isascii() and wanted.isdecimal() and len(wanted) < 10):
        return None
    other = db.scalars(requests.visible(user).where(Job.id == int(wanted))).one_or_none()
    if other is None or other.id == job.id:
        return None
    return Beside(other, curve_points(db, other))


def _others(db: Session, user: User, job: Job) -> list[tuple[int, str]]:
    """Name jobs to compare a curve with: those of the same data first, the newest first."""
    same_data = (Job.version_id == job.version_id).desc()
    rows = requests.visible(user).where(Job.id != job.id, Job.step > 0)
    chosen = rows.order_by(same_data, Job.id.desc()).limit(_NUM_OTHERS)
    named = chosen.with_only_columns(Job.id, Job.name)
    return [(number, name) for number, name in db.execute(named)]


def _cut(db: Session, job: Job) -> str:
    """Say what the newest attempt cut off because it is too long."""
    found = cuts.of_jobs(db, [job.id]).get(job.id)
    return cuts.sentence(found, practice.chosen_by(job)) if found else ""


def _device(job: Job, attempts: list[Attempt]) -> str:
    if job.status is not JobStatus.RUNNING:
        return ""
    here = next((each for each in attempts if each.number == job.attempt), None)
    names = [str(device) for device in here.devices] if here else []
    return ", ".join(
        "the CPU" if name == "cpu" else name.replace("cuda:", "GPU ") for name in names
    )
