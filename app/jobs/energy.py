"""What a job takes in energy and money: beforehand as a range from like jobs, then as measured."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

from sqlalchemy import ColumnElement, Integer, Select, String, bindparam, func, select
from sqlalchemy.orm import Session

from app.core import settings
from app.core.models import Attempt, Job, JobStatus, Worker
from app.training.config import TrainConfig
from app.training.plan.choose import Plan

_JOULES_PER_KWH = 3.6e6
# As many of the newest like jobs say what the next will take.
_LIKE_JOBS = 20
_COVERS = {"gpu": "the GPU alone", "cpu": "everything that ran on the processor", "": ""}
_NOT_MEASURED = "not measured on this machine"


class Measured(NamedTuple):
    joules: float
    source: str  # "gpu" or "cpu"
    is_whole: bool  # whether every attempt was measured


class Likely(NamedTuple):
    """From and to how many joules, and how many like jobs say so."""

    least: float
    most: float
    number: int
    source: str


class Before(NamedTuple):
    """What stands on the page where a job is made."""

    energy: str
    cost: str  # empty where no price is set
    basis: str


class Shown(NamedTuple):
    """Four cells of the job's page, and a word on what the measured ones cover."""

    predicted: str
    measured: str
    predicted_cost: str  # empty where no price is set
    measured_cost: str
    covers: str


def measured(attempts: Sequence[Attempt]) -> Measured | None:
    """Add up a job's attempts; nothing where none was measured."""
    known = [each.energy_joules for each in attempts if each.energy_joules is not None]
    if not known:
        return None
    source = max(each.energy_source or "" for each in attempts)
    return Measured(sum(known), source, len(known) == len(attempts))


def likely(
    db: Session,
    base_model_id: int,
    method: str,
    num_tokens: float,
    device: str | None = None,
    but: int | None = None,
) -> Likely | None:
    """Say what a job will take by what a token of like jobs took; nothing where none says.

    Like jobs have the same starting model and method, and were measured whole.

    Args:
        base_model_id: The starting model.
        method: How it is trained.
        num_tokens: Of all passes together.
        device: Only jobs that were trained on one of that name.
        but: A job that says nothing about itself.
    """
    row = db.execute(
        _of_like(on_device=device is not None),
        {"base_model_id": base_model_id, "method": method, "device": device, "but": but},
    ).one()
    least, most, number, source = row
    if not num_tokens or not number:
        return None
    return Likely(least * num_tokens, most * num_tokens, number, source or "")


@cache  # each job's page asks it, and to put it together takes as long
def _of_like(*, on_device: bool) -> Select[float, float, int, str]:
    """Select the least and the most joules of a token, of how many jobs, and how measured."""
    is_on = Worker.hardware["name"].as_string() == bindparam("device", type_=String)
    # Of every attempt, on such a device alone.
    measured: list[ColumnElement[bool]] = [func.count() == func.count(Attempt.energy_joules)]
    if on_device:
        measured.append(func.bool_and(is_on))
    per_token = (
        select(
            (func.sum(Attempt.energy_joules) / Job.trained_tokens).label("joules"),
            func.max(Attempt.energy_source).label("source"),
        )
        .join(Attempt, Attempt.job_id == Job.id)
        .outerjoin(Worker, Worker.id == Attempt.worker_id)
        .where(
            Job.base_model_id == bindparam("base_model_id", type_=Integer),
            Job.config["method"].as_string() == bindparam("method", type_=String),
            Job.id.is_distinct_from(bindparam("but", type_=Integer)),
            Job.status == JobStatus.SUCCEEDED,
            Job.trained_tokens > 0,
        )
        .group_by(Job.id)
        .having(*measured)
        .order_by(Job.id.desc())
        .limit(_LIKE_JOBS)
        .subquery()
    )
    each = per_token.c
    return select(
        func.min(each.joules), func.max(each.joules), func.count(), func.max(each.source)
    ).select_from(per_token)


def estimate(db: Session, job: Job) -> Likely | None:
    """Say what a job that was made takes; nothing where no like job says."""
    plan = job.plan or {}
    by_time = float(plan.get("seconds", 0)) * float(plan.get("tokens_per_second", 0))
    num_tokens = plan.get("num_tokens") or by_time
    return likely(db, job.base_model_id, job.config.get("method", ""), num_tokens, but=job.id)


def before(
    db: Session, base_model_id: int, config: TrainConfig, plan: Plan, device: str
) -> Before | None:
    """Put in words what a job would take that is not made yet; nothing where no like job says."""
    guess = likely(db, base_model_id, config.method, plan.num_tokens, device)
    if guess is None:
        return None
    has_price = settings.get().price_per_kwh > 0
    return Before(
        _span(guess, _kwh),
        _span(guess, _money) if has_price else "",
        f"Energy as measured for 1 similar job here: {_COVERS[guess.source]}."
        if guess.number == 1
        else f"Energy as measured for {guess.number} similar jobs here: {_COVERS[guess.source]}.",
    )


def shown(db: Session, job: Job, attempts: Sequence[Attempt]) -> Shown:
    """Put both in words for the job's page, given all attempts of the job."""
    guess, used_energy = estimate(db, job), measured(attempts)
    if used_energy is not None:
        form = "{used}" if used_energy.is_whole else "at least {used}"
        said, cost = (form.format(used=words(used_energy.joules)) for words in (_kwh, _money))
        covers = _COVERS[used_energy.source]
    else:
        said, cost = (_NOT_MEASURED if job.status.is_final else "—"), "—"
        covers = ""
    has_price = settings.get().price_per_kwh > 0
    return Shown(
        _span(guess, _kwh) if guess else "—",
        said,
        (_span(guess, _money) if guess else "—") if has_price else "",
        cost if has_price else "",
        covers,
    )


def _span(guess: Likely, words: Callable[[float], str]) -> str:
    least, most = words(guess.least), words(guess.most)
    if least == most:
        return f"about {least}"
    number, _, unit = least.rpartition(" ")
    return f"{number if most.endswith(f' {unit}') else least} to {most}"


def _kwh(joules: float) -> str:
    kwh = joules / _JOULES_PER_KWH
    return f"{kwh:,.2f} kWh" if kwh >= 0.1 else f"{kwh * 1000:,.3g} Wh"


def _money(joules: float) -> str:
    money = joules / _JOULES_PER_KWH * settings.get().price_per_kwh
    return f"{money:,.2f} {settings.get().currency}"
