"""What a trainer reports: into rows under the fence, and out again as stream, series and CSV.

`seq` numbers a job's metrics and sentences together; numbers become visible in their order, because
each is drawn under the job's row lock by the one attempt that holds it.
"""

import csv as csv_format
import io
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Float,
    Integer,
    Interval,
    Row,
    Select,
    SQLColumnExpression,
    Text,
    bindparam,
    case,
    cast,
    column,
    func,
    or_,
    select,
    text,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, Insert, insert
from sqlalchemy.orm import Session
from sqlalchemy.types import TypeEngine

from app.core import clock, site_time
from app.core.models import (
    Attempt,
    Checkpoint,
    Job,
    JobEvent,
    Json,
    Metric,
)
from app.jobs import cuts, fence, practice, stream, wishes
from app.jobs.wishes import Wishes
from app.training.events import (
    NOT_FINITE,
    CheckpointEvent,
    DoneEvent,
    EvaluationEvent,
    FailedEvent,
    NoteEvent,
    PhaseEvent,
    PlanEvent,
    SamplesEvent,
    StepEvent,
)

TrainerEvent = (
    PhaseEvent
    | PlanEvent
    | StepEvent
    | EvaluationEvent
    | CheckpointEvent
    | NoteEvent
    | SamplesEvent
    | DoneEvent
    | FailedEvent
)
_EVENT: TypeAdapter[TrainerEvent] = TypeAdapter(
    Annotated[TrainerEvent, Field(discriminator="kind")]
)
# What a JSONB column holds where Python wrote None: not SQL's NULL.
_JSON_NULL = text("'null'::jsonb")
_STEP_METRICS = ("loss", "learning_rate", "grad_norm", "tokens_per_second", "num_tokens", "epoch")
_PAIR_METRICS = ("preferred_share", "preference_margin")  # of pairs alone
CSV_COLUMNS = ("step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy")


_POINT: dict[str, TypeEngine[Any]] = {
    "number": Integer(),
    "step": Integer(),
    "name": Text(),
    "value": Float(),
    "at": DateTime(timezone=True),
}


def _or_again(new: Insert) -> Insert:
    again = {name: new.excluded[name] for name in ("value", "attempt", "seq", "at")}
    return new.on_conflict_do_update(index_elements=["job_id", "step", "name"], set_=again)


def _build_ingest() -> Select[Any]:
    # Not by the columns' names: those of a parameter become columns that an UPDATE sets.
    def given(name: str, kind: TypeEngine[Any]) -> ColumnElement[Any]:
        return cast(bindparam(f"its_{name}", type_=kind), kind)

    attempt, num_events = given("attempt", Integer()), given("num_events", Integer())
    last_step = given("last_step", Integer())
    by = given("worker_id", Text())
    held = (
        update(Job)
        .where(
            *fence.mine(bindparam("its_job_id", type_=Integer), attempt),
            or_(by.is_(None), Job.worker_id == by),
        )
        .values(
            attempt=attempt,
            lease_until=clock.NOW + bindparam("its_lease", type_=Interval),
            event_seq=Job.event_seq + num_events,
            trained_tokens=Job.trained_tokens + given("num_tokens", BigInteger()),
            step=func.coalesce(last_step, Job.step),
        )
        .returning(
            Job.id, Job.event_seq, Job.desired, Job.worker_id, Job.department_id, Job.owner_id
        )
        .cte("held")
    )
    point = (
        func.unnest(*(bindparam(f"its_{name}", type_=ARRAY(kind)) for name, kind in _POINT.items()))
        .table_valued(*(column(name, kind) for name, kind in _POINT.items()), name="point")
        .render_derived()
    )
    p = point.c
    seq = held.c.event_seq - num_events + p.number
    rows = select(held.c.id, attempt, seq, p.step, p.name, p.value, p.at).join_from(
        held, point, true()
    )
    names = ["job_id", "attempt", "seq", "step", "name", "value", "at"]
    added = _or_again(insert(Metric).from_select(names, rows)).cte("added")
    heard = (
        update(Attempt)
        .where(Attempt.job_id == held.c.id, Attempt.number == attempt)
        .values(
            spool_offset=bindparam("its_spool_offset"),
            last_step=func.coalesce(last_step, Attempt.last_step),
        )
        .returning(Attempt.host, Attempt.devices)
        .cte("heard")
    )
    bell = func.pg_notify(stream.CHANNEL, bindparam("its_topic", type_=Text))
    return (
        select(held.c.event_seq, bell, *wishes.beside(held, heard))
        .select_from(held.outerjoin(heard, true()))
        .add_cte(added)
    )


# A heartbeat, what it brings and what people want, in one statement, built once: every job that
# trains sends it with each of its steps.
_INGEST = _build_ingest()


@dataclass(frozen=True)
class StreamItem:
    """One numbered thing about a job, as the event stream sends it."""

    event: Literal["metric", "note", "rewind"]
    seq: int
    data: Json


class NoNumber(ValueError):
    """An event has a figure that is no number, which neither JSON nor a chart can hold."""


def parse(line: bytes) -> TrainerEvent:
    """Read one line of events.jsonl.

    Raises:
        NoNumber: one of its figures is NaN or infinite. Trainers of ours write none.
        ValueError: it is not an event.
    """
    try:
        return _EVENT.validate_json(line)
    except ValidationError as error:
        if any(each["type"] == NOT_FINITE for each in error.errors()):
            raise NoNumber from error
        raise


def ingest(
    db: Session,
    job_id: int,
    attempt: int,
    events: Sequence[TrainerEvent],
    spool_offset: int,
    worker_id: str | None = None,
) -> Wishes:
    """Write what a trainer reported, renew the lease and keep how far its file has been read.

    One transaction holds all of it, so a supervisor that goes on from the stored offset after
    a broken connection doubles nothing and loses nothing.

    Returns:
        What people want of the job meanwhile.

    Raises:
        Fenced: another worker may have the job.
    """
    steps = [event for event in events if isinstance(event, StepEvent)]
    points = _points(events)
    its: Json = {
        "job_id": job_id,
        "attempt": attempt,
        "worker_id": worker_id,
        "lease": fence.lease(),
        "num_events": len(events),
        "num_tokens": sum(event.num_tokens for event in steps),
        "last_step": steps[-1].step if steps else None,
        "spool_offset": spool_offset,
        "topic": stream.topic(job_id),
        **{name: [point[name] for point in points] for name in _POINT},
    }
    told = db.execute(_INGEST, {f"its_{name}": value for name, value in its.items()}).one_or_none()
    if told is None:
        raise fence.Fenced(f"job {job_id}, attempt {attempt}")
    # What a step does not bring comes seldom, and is written by itself.
    values: Json = {}
    for event in events:
        if not isinstance(event, StepEvent):
            values |= _columns(event)
    if values:
        fence.write(db, job_id, attempt, values, worker_id)
    _write_rest(db, job_id, attempt, events, told.event_seq, is_told=False)
    db.flush()
    return wishes.read(told)


def is_one_statement(events: Sequence[TrainerEvent]) -> bool:
    """Say whether `ingest` writes these events at once, and needs no transaction around it."""
    return all(isinstance(event, StepEvent) for event in events)


def take_over(
    db: Session, claim: fence.Claim, events: Sequence[TrainerEvent], *, is_told: bool
) -> None:
    """Write what an earlier attempt reported, for the attempt that goes on from there.

    Args:
        is_told: It was written before and its points were deleted at the claim: they are written
            again, and nothing is said or counted twice.

    Raises:
        fence.Fenced: another worker may have the job.
    """
    values: Json = {"event_seq": Job.event_seq + len(events)}
    if not is_told:
        tokens = sum(event.num_tokens for event in events if isinstance(event, StepEvent))
        values["trained_tokens"] = Job.trained_tokens + tokens
        for event in events:
            values |= _columns(event)
    fence.hold(db, claim.job_id, claim.attempt, claim.worker_id, **values)
    _write_rows(db, claim.job_id, claim.attempt, events, is_told=is_told)
    db.flush()


def _write_rows(
    db: Session, job_id: int, attempt: int, events: Sequence[TrainerEvent], *, is_told: bool
) -> None:
    """Write events as points, checkpoints and sentences; their numbers have been drawn."""
    last_seq = db.scalars(select(Job.event_seq).where(Job.id == job_id)).one()
    points = _points(events)
    if points:
        first = last_seq - len(events)
        rows = [
            {**point, "seq": first + point["number"], "job_id": job_id, "attempt": attempt}
            for point in points
        ]
        names = ("job_id", "attempt", "seq", "step", "name", "value", "at")
        new = insert(Metric).values({name: bindparam(name) for name in names})
        db.execute(_or_again(new), rows)
    _write_rest(db, job_id, attempt, events, last_seq, is_told=is_told)


def _write_rest(
    db: Session,
    job_id: int,
    attempt: int,
    events: Sequence[TrainerEvent],
    last_seq: int,
    *,
    is_told: bool,
) -> None:
    """Write checkpoints and sentences, of which most steps have none."""
    asked: practice.ChosenBy = "practice"
    if any(isinstance(event, PlanEvent | EvaluationEvent) for event in events):
        asked = practice.chosen_by(db.get_one(Job, job_id))
    for seq, event in enumerate(events, start=last_seq - len(events) + 1):
        if isinstance(event, CheckpointEvent):
            _keep_checkpoint(db, job_id, attempt, event)
        sentence = None if is_told else _sentence(event, asked)
        if sentence is not None:
            level, message, data = sentence
            db.add(
                JobEvent(
                    job_id=job_id,
                    seq=seq,
                    at=_time(event.at),
                    level=level,
                    kind=event.kind,
                    message=message,
                    data=data,
                )
            )


def _points(events: Sequence[TrainerEvent]) -> list[Json]:
    """Return the points of events, each with the number of its event among them, from 1.

    A trainer that went back to a checkpoint does steps again: the newer number counts.
    """
    points: dict[tuple[int, str], Json] = {}
    for number, event in enumerate(events, start=1):
        for point in _metrics(number, event):
            points[point["step"], point["name"]] = point
    return list(points.values())


def after(db: Session, job: Job, seq: int, limit: int = 2000) -> list[StreamItem]:
    """Return what came after a number, in order; a step's metrics are one item.

    What has come since `job` was read is left to the next call.
    """
    found = db.execute(
        _AFTER, {"job_id": job.id, "after": seq, "up_to": job.event_seq, "most": limit}
    ).one()
    return read_items(found, limit)


def read_items(found: Row[Any], limit: int) -> list[StreamItem]:
    """Read what a statement with the columns of `build_after` has found, at most so many."""
    items = {
        number: StreamItem(
            "metric", number, {"seq": number, "step": step, "at": at, "values": values}
        )
        for number, step, at, values in found.points or ()
    }
    events = [_Told(*row) for row in found.events or ()]
    for event in events:
        item = _item(event)
        if event.seq in items:
            # An evaluation is a point and a sentence under one number: they travel together.
            items[event.seq].data["note"] = item.data
        else:
            items[event.seq] = item
    return [items[number] for number in sorted(items)[:limit]]


def series(
    db: Session, job_id: int, up_to_seq: int | None = None
) -> dict[str, list[tuple[int, float]]]:
    """Return every curve of a job: name -> (step, value) in the order of steps.

    Args:
        db: Its session.
        job_id: The job.
        up_to_seq: Leave out what is numbered higher.
    """
    curves: dict[str, list[tuple[int, float]]] = defaultdict(list)
    wanted = select(Metric.name, Metric.step, Metric.value).where(Metric.job_id == job_id)
    if up_to_seq is not None:
        wanted = wanted.where(Metric.seq <= up_to_seq)
    for row in db.execute(wanted.order_by(Metric.step)):
        curves[row.name].append((row.step, row.value))
    return dict(curves)


def shown(
    db: Session, job_id: int, names: Sequence[str], *, up_to_seq: int, steps_a_point: int
) -> dict[str, dict[int, float]]:
    """Return curves as a chart shows them: name -> step -> value.

    Args:
        db: Its session.
        job_id: The job.
        names: Which curves.
        up_to_seq: Leave out what is numbered higher.
        steps_a_point: Of so many steps the mean, at the last of them; checks stay as they are.
    """
    curves: dict[str, dict[int, float]] = defaultdict(dict)
    wanted = select(Metric.name, Metric.step, Metric.value)
    if steps_a_point > 1:
        group = case(
            (Metric.name.startswith("validation_"), Metric.step),
            else_=(Metric.step - 1) // steps_a_point,
        ).label("a_point")
        wanted = select(
            Metric.name, func.max(Metric.step).label("step"), func.avg(Metric.value).label("value")
        ).group_by(Metric.name, group)
    found = (Metric.job_id == job_id, Metric.name.in_(names), Metric.seq <= up_to_seq)
    for row in db.execute(wanted.where(*found)):
        curves[row.name][row.step] = row.value
    return dict(curves)


def csv(db: Session, job_id: int) -> str:
    """Write the losses as a table with the columns that programs for OpenAI's API expect."""
    curves = series(db, job_id)
    train = dict(curves.get("loss", []))
    valid = dict(curves.get("validation_loss", []))
    out = io.StringIO()
    writer = csv_format.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for step in sorted(train.keys() | valid.keys()):
        # Accuracy is not measured; the columns stay, so that a reader finds them.
        writer.writerow([step, _cell(train.get(step)), "", _cell(valid.get(step)), ""])
    return out.getvalue()


def _columns(event: TrainerEvent) -> Json:
    """Say what an event changes in the job's own row."""
    match event:
        case PhaseEvent():
            return {"phase": event.phase}
        case PlanEvent():
            # A job that was made before its data had been read has no prediction yet.
            predicted = func.coalesce(func.nullif(Job.plan, _JSON_NULL), cast(event.plan, JSONB))
            return {"total_steps": event.total_steps, "plan": predicted}
        case StepEvent():
            return {"step": event.step}
        case CheckpointEvent():
            return {"durable_step": event.step}
        case SamplesEvent():
            return {"samples": [sample.model_dump() for sample in event.samples]}
        case DoneEvent():
            # Without the steps that a broken-off attempt did in vain.
            return {"trained_tokens": event.trained_tokens}
        case _:
            return {}


def _metrics(number: int, event: TrainerEvent) -> list[Json]:
    values: dict[str, float]
    if isinstance(event, StepEvent):
        values = {name: float(getattr(event, name)) for name in _STEP_METRICS}
        values |= _of_pairs(event, "")
    elif isinstance(event, EvaluationEvent):
        values = {"validation_loss": event.loss} | _of_pairs(event, "validation_")
    else:
        return []
    at = _time(event.at)
    return [
        {"number": number, "step": event.step, "name": name, "value": value, "at": at}
        for name, value in values.items()
        if math.isfinite(value)  # JSON knows no infinity, and a chart cannot draw one
    ]


def _sentence(event: TrainerEvent, asked: practice.ChosenBy) -> tuple[str, str, Json | None] | None:
    """Say an event in words: level, message, data.

    Args:
        asked: What the losses in between are measured on: check, test or practice.
    """
    match event:
        case PhaseEvent():
            return "info", event.message, {"phase": event.phase}
        case PlanEvent():
            message = f"Planned: {event.total_steps} steps over {event.num_train} examples"
            if event.num_validation:
                message += f", {asked}ed on {event.num_validation}"
            message += "."
            counts = event.model_dump(include=set(cuts.COUNTS))
            cut = cuts.sentence(cuts.of_plan(counts), asked)
            message = f"{message} {cut}".strip()
            return "warn" if cut else "info", message, event.plan | counts
        case EvaluationEvent():
            message = f"Loss on the {asked} questions after step {event.step}: {event.loss:.3f}."
            if event.is_best:
                message += " This is the best so far."
            if event.preferred_share is not None:
                share = f"{event.preferred_share * 100:.0f}%"
                message += f" It prefers the better of two answers to {share} of the questions."
            return "info", message, {"step": event.step, "loss": event.loss}
        case CheckpointEvent():
            return "info", f"Checkpoint saved at step {event.step}.", {"step": event.step}
        case NoteEvent():
            return event.level, event.message, None
        case _:  # steps are drawn, not told; how a job ended is told by app/jobs
            return None


def _of_pairs(event: StepEvent | EvaluationEvent, prefix: str) -> dict[str, float]:
    values = {prefix + name: getattr(event, name) for name in _PAIR_METRICS}
    return {name: value for name, value in values.items() if value is not None}


def _keep_checkpoint(db: Session, job_id: int, attempt: int, event: CheckpointEvent) -> None:
    losses = select(Metric.name, Metric.value).where(
        Metric.job_id == job_id,
        Metric.step == event.step,
        Metric.name.in_(("loss", "validation_loss")),
    )
    values: dict[str, Any] = {
        "attempt": attempt,
        "path": event.path,
        "manifest_sha256": event.manifest_sha256,
        "metrics": {row.name: row.value for row in db.execute(losses)},
    }
    db.execute(
        insert(Checkpoint)
        .values(job_id=job_id, step=event.step, **values)
        .on_conflict_do_update(index_elements=["job_id", "step"], set_=values)
    )


def build_after(
    job_id: SQLColumnExpression[int], up_to: SQLColumnExpression[int]
) -> list[ColumnElement[Any]]:
    """Build the columns that `read_items` needs.

    Args:
        job_id: Of which job.
        up_to: The last number that is wanted. A statement with the job's own row gives its
            `event_seq`; the parameters `after` and `most` it takes as `after` does.
    """
    after, most = bindparam("after", type_=BigInteger), bindparam("most", type_=Integer)
    # The first of both together are among the first of each.
    point = (
        select(
            Metric.seq,
            Metric.step,
            Metric.at,
            func.json_object_agg(Metric.name, Metric.value).label("values"),
        )
        .where(Metric.job_id == job_id, Metric.seq > after, Metric.seq <= up_to)
        .group_by(Metric.seq, Metric.step, Metric.at)
        .order_by(Metric.seq)
        .limit(most)
        .correlate_except(Metric)
        .subquery()
    )
    event = (
        select(*(getattr(JobEvent, name) for name in _Told._fields))
        .where(JobEvent.job_id == job_id, JobEvent.seq > after, JobEvent.seq <= up_to)
        .order_by(JobEvent.seq)
        .limit(most)
        .correlate_except(JobEvent)
        .subquery()
    )
    points, events = (
        select(func.json_agg(func.json_build_array(*rows.c))).scalar_subquery()
        for rows in (point, event)
    )
    return [points.label("points"), events.label("events")]


class _Told(NamedTuple):
    """A sentence, as the stream sends it."""

    seq: int
    at: str
    level: str
    kind: str
    message: str
    data: Json | None


# One statement, built once: each step of a job that is watched asks it.
_AFTER = select(
    *build_after(bindparam("job_id", type_=Integer), bindparam("up_to", type_=BigInteger))
)


def _item(event: _Told) -> StreamItem:
    if event.kind == "resumed" and event.data:
        return StreamItem("rewind", event.seq, {"seq": event.seq, "step": event.data["step"]})
    return StreamItem(
        "note",
        event.seq,
        {
            "seq": event.seq,
            "at": event.at,
            "time": site_time.time_of_day(datetime.fromisoformat(event.at)),
            "level": event.level,
            "kind": event.kind,
            "message": event.message,
            "data": event.data,
        },
    )


def _time(unix_seconds: float) -> datetime:
    return datetime.fromtimestamp(unix_seconds, UTC)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.5f}"
