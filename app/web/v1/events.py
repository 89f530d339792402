"""A job's events for programs: its sentences and its metrics in one list, newest first."""

from collections import defaultdict
from datetime import datetime
from typing import Any, Literal, cast

from sqlalchemy import select, union
from sqlalchemy.orm import Session

from app.core.models import Job, Metric
from app.core.models import JobEvent as EventRow
from app.web.v1.paging import Page, page, unknown_after
from app.web.v1.schemas import JobEvent, unix

# Our metric names -> the names that OpenAI's users know; others keep ours.
_NAMES = {"loss": "train_loss", "validation_loss": "full_valid_loss"}


def newest(db: Session, job: Job, after: str | None, limit: int) -> Page[JobEvent]:
    """Return a page of events; rows with one sequence number are one event.

    Raises:
        BadRequest: `after` is not the id of an event of this job.
    """
    before = job.event_seq + 1 if after is None else _seq(job, after)
    seqs = _seqs(db, job, before, limit + 1)
    events: dict[int, EventRow] = {}
    metrics: defaultdict[int, list[Metric]] = defaultdict(list)
    if seqs:
        low, high = seqs[-1], seqs[0]
        for event in db.scalars(
            select(EventRow).where(EventRow.job_id == job.id, EventRow.seq.between(low, high))
        ):
            events[event.seq] = event
        for metric in db.scalars(
            select(Metric).where(Metric.job_id == job.id, Metric.seq.between(low, high))
        ):
            metrics[metric.seq].append(metric)
    return page(
        seqs,
        limit,
        lambda seq: _show(job, seq, events.get(seq), metrics[seq]),
        lambda seq: _id(job, seq),
    )


def _seqs(db: Session, job: Job, before: int, limit: int) -> list[int]:
    # Each side stops after `limit` numbers on its index: a long job's page costs no more.
    sides = [
        select(table.seq)
        .where(table.job_id == job.id, table.seq < before)
        .distinct()
        .order_by(table.seq.desc())
        .limit(limit)
        for table in (EventRow, Metric)
    ]
    both = union(*(select(side.subquery().c.seq) for side in sides)).subquery()
    return list(db.scalars(select(both.c.seq).order_by(both.c.seq.desc()).limit(limit)))


def _id(job: Job, seq: int) -> str:
    return f"ftevent-{job.public_id.removeprefix('ftjob-')}-{seq}"


def _seq(job: Job, event_id: str) -> int:
    # Not looked up: an attempt that goes back to a checkpoint takes later points away, and a
    # reader in the middle of its pages goes on below the number all the same.
    number = event_id.rpartition("-")[2]
    is_number = number.isdecimal() and len(number) < 19
    if not is_number or _id(job, int(number)) != event_id or int(number) > job.event_seq:
        raise unknown_after(event_id)
    return int(number)


def _show(job: Job, seq: int, event: EventRow | None, metrics: list[Metric]) -> JobEvent:
    at: datetime = event.at if event else metrics[0].at
    data: dict[str, Any] = dict(event.data or {}) if event else {}
    if metrics:
        step = metrics[0].step
        data |= {"step": step, "total_steps": job.total_steps}
        data |= {_NAMES.get(metric.name, metric.name): metric.value for metric in metrics}
        if "full_valid_loss" in data:
            data["valid_loss"] = data["full_valid_loss"]
    return JobEvent(
        id=_id(job, seq),
        created_at=unix(at),
        level=cast(Literal["info", "warn", "error"], event.level) if event else "info",
        message=event.message if event else _sentence(job, metrics[0].step, data),
        type="metrics" if metrics else "message",
        data=data or None,
    )


def _sentence(job: Job, step: int, data: dict[str, Any]) -> str:
    parts = [
        f"{label}={data[name]:.4f}"
        for name, label in (("train_loss", "training loss"), ("full_valid_loss", "validation loss"))
        if name in data
    ]
    return f"Step {step}/{job.total_steps or '?'}: {', '.join(parts) or 'metrics'}"
