"""What a job is expected to need, by the devices that workers have said they have.

On a machine with several GPUs each has a worker of its own, and one more worker has all of them
(app/ops/up.py). A job is planned for one device, the smallest GPU that holds it; only what fits
none is planned for several, and for a CPU where no GPU will do.
"""

import statistics
from collections.abc import Sequence
from typing import Literal

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from app.core.db import read_once
from app.core.models import (
    Attempt,
    BaseModel,
    DatasetVersion,
    Job,
    JobStatus,
    Json,
    VersionStatus,
    Worker,
)
from app.datasets import lengths, parts
from app.jobs import practice, scheduling
from app.jobs.choice import WORKER_SILENCE
from app.machines.devices import Readings
from app.training.config import PRESETS, TrainConfig
from app.training.plan import choose
from app.training.plan.choose import Plan
from app.training.plan.machine import DeviceInfo
from app.training.plan.shape import LengthHistogram

# From how many like jobs a correction is taken, the newest.
_NUM_LIKE = 5
# Whether a model fits depends little on the data: a small file of middling examples stands for it.
_TYPICAL = LengthHistogram(
    upper_bounds=[512], counts=[200], num_train=180, num_validation=20,
    total_tokens=200 * 256, max_tokens=512,
)  # fmt: skip


@read_once
def devices(db: Session) -> list[DeviceInfo]:
    """Return what a job may be trained on, in the order in which it is tried.

    Of each kind of device, and each number of them, the worker seen last stands for all.
    """
    trains = exists().where(Job.status == JobStatus.RUNNING, Job.worker_id == Worker.id)
    rows = db.execute(
        select(Worker.hardware, Worker.readings, Worker.last_seen, trains.label("trains"))
        .where(Worker.queue == "gpu", Worker.hardware.is_not(None))
        .order_by(Worker.last_seen.desc())
    ).all()
    found: dict[tuple[str, str, int], DeviceInfo] = {}
    for row in rows:
        # Without any that is heard of, the last one that was; a site may be switched off.
        if rows[0].last_seen - row.last_seen < WORKER_SILENCE:
            info = DeviceInfo.model_validate(row.hardware)
            load = _others_load(info, row.readings, row.trains)
            alike = (info.kind, info.name, info.num_devices)
            found.setdefault(alike, info.model_copy(update={"load": load}))
    return sorted(found.values(), key=_order)


def _order(info: DeviceInfo) -> tuple[bool, int, int, str]:
    return info.kind == "cpu", info.num_devices, info.total_bytes or info.free_bytes, info.name


def _others_load(info: DeviceInfo, readings: Json | None, trains: bool) -> float:
    """Return how many programs want a core of a CPU, a job's trainer aside: it will be gone."""
    if info.kind != "cpu" or readings is None:
        return 0.0
    found = [one.load or 0.0 for one in Readings.model_validate(readings).devices]
    own = info.num_cores * info.num_devices if trains else 0
    return max(0.0, max(found, default=0.0) - own)


@read_once
def corrections(db: Session, method: str, objective: str) -> dict[tuple[int, str], float]:
    """Return how much longer like jobs took than was worked out for them, each by itself.

    Returns:
        By the starting model's id and the device's name; where there are none, nothing.
    """
    newest = (
        select(
            Job.base_model_id,
            Worker.hardware["name"].as_string().label("device"),
            Job.plan["plain_tokens_per_second"].as_float().label("planned"),
            func.coalesce(
                Job.measured["plain_tokens_per_second"].as_float(),
                Job.measured["tokens_per_second"].as_float(),
            ).label("measured"),
            func.row_number()
            .over(
                partition_by=(Job.base_model_id, Worker.hardware["name"].as_string()),
                order_by=Job.id.desc(),
            )
            .label("place"),
        )
        .join(Attempt, (Attempt.job_id == Job.id) & (Attempt.number == Job.attempt))
        .join(Worker, Worker.id == Attempt.worker_id)
        .where(
            Job.status == JobStatus.SUCCEEDED,
            Job.config["method"].as_string() == method,
            Job.config["objective"].as_string() == objective,
        )
        .subquery()
    )
    factors: dict[tuple[int, str], list[float]] = {}
    for row in db.execute(select(newest).where(newest.c.place <= _NUM_LIKE)):
        if row.planned and row.measured:
            factors.setdefault((row.base_model_id, row.device), []).append(
                row.planned / row.measured
            )
    return {like: statistics.median(found) for like, found in factors.items()}


def device_of(plan: Plan, on: Sequence[DeviceInfo]) -> DeviceInfo:
    """Return what a plan was made for; of one that is gone, or an older plan, the likeliest."""
    for info in on:
        if (info.name, info.num_devices) == (plan.device, plan.num_devices):
            return info
    return max(on, key=lambda info: info.num_devices) if plan.strategy == "fsdp" else on[0]


def predict(
    db: Session,
    version: DatasetVersion,
    base_model: BaseModel,
    config: TrainConfig,
    *,
    held_out: DatasetVersion | None = None,
    from_adapter: bool = False,
    rows_percent: int = 100,
) -> Plan | None:
    """Predict memory and time; nothing while data, model or worker are not there yet.

    Args:
        held_out: On which the job is tested, all of it; more of its version is practised then.
        rows_percent: Of its practice rows, so many.
    """
    on = devices(db)
    if (
        not on
        or version.status is not VersionStatus.READY
        or base_model.config is None
        or base_model.num_parameters is None
    ):
        return None
    histogram = lengths.histogram(db, version, base_model)
    histogram = practised(histogram, version, held_out, rows_percent)
    plan = plan_for(
        base_model.config, base_model.num_parameters, histogram, config, on, from_adapter
    )
    if plan is None:
        return None
    factors = corrections(db, config.method, config.objective)
    return plan.corrected(factors.get((base_model.id, device_of(plan, on).name), 1.0))


def practised(
    histogram: LengthHistogram,
    version: DatasetVersion,
    held_out: DatasetVersion | None,
    rows_percent: int = 100,
) -> LengthHistogram:
    """Return the lengths of a version for so many of its rows as a job practises and checks."""
    if held_out is None and rows_percent == 100:
        return histogram
    sizes = practice.sizes_of(version, held_out)
    num_checked = sizes.check if parts.has_three(version) else sizes.test
    return histogram.of_so_many(practice.num_of(sizes.practice, rows_percent), num_checked)


def fits(base_model: BaseModel, on: Sequence[DeviceInfo]) -> Literal["yes", "tight", "no"] | None:
    """Say whether training a model fits the site's memory; None while nobody can say."""
    config = PRESETS["balanced"].config
    plan = plan_for(base_model.config, base_model.num_parameters, _TYPICAL, config, on)
    return plan.fits if plan else None


def needs(db: Session, plan: Plan | None) -> scheduling.Needs:
    """Read off a plan what a worker must have."""
    if plan is None:
        return scheduling.Needs()
    number = device_of(plan, devices(db)).num_devices if plan.strategy == "fsdp" else 1
    return scheduling.Needs(plan.peak_bytes, number)


def plan_for(
    model_config: Json | None,
    num_parameters: int | None,
    histogram: LengthHistogram,
    config: TrainConfig,
    on: Sequence[DeviceInfo],
    from_adapter: bool = False,
) -> Plan | None:
    """Plan for as few devices as hold it; where none do, for as many as there are together.

    Args:
        model_config: The model's config.json; None while it is not there, and then no plan.
        num_parameters: All of its weights.
    """
    plan = None
    if model_config is not None and num_parameters is not None:
        for info in on:
            plan = choose.plan(
                model_config, num_parameters, histogram, config, info, from_adapter=from_adapter
            )
            if plan.fits != "no":
                break
    return plan
