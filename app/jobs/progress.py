"""How a job stands, in words and figures: the sentence, the time left, the loss in between.

One place for the page, the lists and the event stream, so that they never disagree.
"""

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Integer, Select, and_, bindparam, func, select
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import Session

from app.core.models import Job, JobStatus, Metric, Worker
from app.datasets import parts
from app.jobs import choice, practice, queue_view, states
from app.jobs.moments import in_words
from app.jobs.states import State

# The speed of the last steps says more about the next ones than that of the first.
_RECENT_STEPS = 30
# The first steps of an attempt are slower or quicker than the rest: what was planned counts beside
# them, as much as so many steps would.
_PLANNED_STEPS = 5

# What is happening in it, as a colleague would say; of the others more is known (`sentence`).
_SENTENCES = {
    State.STARTING: "Training is about to start.",
    State.LOADING: "Loading the starting model. This takes a moment.",
    State.PREPARING: "Preparing the examples for the model.",
    State.FINISHING: "Answering a few questions, to compare before and after.",
    State.SAVING: "Saving what has been learned so far.",
    State.PAUSING: "Pausing: it saves what it has learned, so that it can resume from there.",
    State.PAUSED: "Paused: it uses no machine and will resume where it stopped.",
    State.STOPPING: "Stopping. The machine will be free in a few seconds.",
    State.FAILED: "Training failed. The reason, and what may help, is below.",
}
_PROBING = "Trying the longest examples first, to check that memory is enough."


def figures(db: Session, job: Job, asked: str = "") -> dict[str, Any]:
    """Return what the job's page shows and its stream sends: numbers, and the words for them.

    Args:
        asked: What its losses are measured on, where that is known (practice.chosen_by).
    """
    course = _course(db, job)
    tests, shares = course.tests, course.shares
    standing = states.of(job)
    shown = _shown(job, tests, asked)
    preferred = dict(shares).get(shown[0]) if shown else None
    queue = queue_view.outlook(db) if standing.state is State.WAITING else None
    seconds = _seconds(job, course)
    left = duration(seconds) if seconds is not None else "not known yet"
    # What is not known yet is empty, and the page shows no word that leads to it.
    texts = {
        "status": standing.word,
        "promise": standing.promise,
        "sentence": sentence(job, tests, shares, asked, queue),
        "step": f"{job.step:,}",
        "total_steps": f"of {job.total_steps:,}" if job.total_steps else "",
        "elapsed": elapsed(job) if standing.is_moving or standing.is_over else "",
        "starts": in_words(queue.times.get(job.id), queue.now, starts=True) if queue else "",
        "takes": duration(seconds) if seconds is not None and standing.time == "start" else "",
        "time_left": left if standing.time == "left" else "",
        "test_loss": f"{shown[1]:.2f}" if shown else "",
        "first_test_loss": f"from {tests[0][1]:.2f}" if len(tests) > 1 else "",
        "preferred": _percent(preferred) if preferred is not None else "",
        "first_preferred": f"from {_percent(shares[0][1])}" if len(shares) > 1 else "",
        "speed": f"{course.speed:,.0f}" if course.speed else "",
        "attempt": str(job.attempt),
    }
    return {
        "status": job.status.value,
        "desired": job.desired.value,
        "kind": standing.kind,
        "is_moving": standing.is_moving,
        "phase": job.phase,
        "step": job.step,
        "total_steps": job.total_steps,
        "texts": texts,
    }


def _shown(job: Job, tests: list[tuple[int, float]], asked: str) -> tuple[int, float] | None:
    """Return the newest step with its loss; of a job that is done, those of what was kept."""
    if not tests:
        return None
    # Streams come here once a second: what is kept is asked of a job that is done alone.
    if job.status is JobStatus.SUCCEEDED and (asked or practice.chosen_by(job)) != "practice":
        return min(tests, key=lambda test: test[1])
    return tests[-1]


def elapsed(job: Job) -> str:
    """Say how long ago a job began, or how long it took."""
    if job.started_at is None:
        return ""
    until = job.finished_at or datetime.now(UTC)
    return duration((until - job.started_at).total_seconds())


def in_list(db: Session, rows: list[Job]) -> list[tuple[Job, states.Standing, list[float]]]:
    """Pair each job with how it stands and its losses in between, in one query for all.

    The last loss of a job that is done is that of the step that was kept.
    """
    losses: dict[int, list[float]] = {job.id: [] for job in rows}
    num_moved: dict[int, int] = {}
    for job_id, value, moved in db.execute(
        select(Metric.job_id, Metric.value, Job.practised_before["num_check_moved"].as_integer())
        .join(Job, Job.id == Metric.job_id)
        .where(Metric.job_id.in_(losses), Metric.name == "validation_loss")
        .order_by(Metric.job_id, Metric.step)
    ):
        losses[job_id].append(value)
        num_moved[job_id] = moved or 0
    for job in rows:
        if not losses[job.id] or job.status is not JobStatus.SUCCEEDED:
            continue
        if practice.chosen_without(job, num_moved[job.id]) != "practice":
            losses[job.id][-1] = min(losses[job.id])
    return [(job, states.of(job), losses[job.id]) for job in rows]


@dataclass(frozen=True)
class _Course:
    """What a job has measured so far."""

    # Losses on the questions that check, and of pairs the shares whose better answer is preferred:
    # each as (step, value) in order of steps.
    tests: list[tuple[int, float]]
    shares: list[tuple[int, float]]
    seconds: float  # that the last steps took, from the first of them to the last
    num_steps: int  # that those were
    speed: float | None  # tokens per second: of the last steps, or the mean of a finished job


@lru_cache
def _build_course(is_final: bool) -> Select[Any]:
    # One statement, built once: the streams of all jobs ask it once a second.
    job_id = bindparam("job_id", type_=Integer)

    def of(*names: str) -> ColumnElement[bool]:
        return and_(Metric.job_id == job_id, Metric.name.in_(names))

    point = func.json_build_array(Metric.name, Metric.step, Metric.value)
    tested = (
        select(func.json_agg(aggregate_order_by(point, Metric.step)))
        .where(of("validation_loss", "validation_preferred_share"))
        .scalar_subquery()
    )
    newest = (
        select(Metric.step, Metric.at)
        .where(of("loss"), Metric.attempt == bindparam("attempt", type_=Integer))
        .order_by(Metric.step.desc())
        .limit(_RECENT_STEPS)
        .subquery()
    )
    seconds = func.extract("epoch", func.max(newest.c.at) - func.min(newest.c.at))
    steps = func.max(newest.c.step) - func.min(newest.c.step)
    pace = select(func.json_build_array(seconds, steps)).scalar_subquery()
    rates = (
        select(Metric.value)
        .where(of("tokens_per_second"))
        .order_by(Metric.step.desc())
        .limit(None if is_final else 10)
        .subquery()
    )
    speed = select(func.avg(rates.c.value)).scalar_subquery()
    return select(tested, pace, speed)


def _course(db: Session, job: Job) -> _Course:
    points, (seconds, num_steps), tokens_per_second = db.execute(
        _build_course(job.status.is_final), {"job_id": job.id, "attempt": job.attempt}
    ).one()
    curves: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for name, step, value in points or ():
        curves[name].append((step, float(value)))  # JSON has no number that is none
    return _Course(
        tests=curves["validation_loss"],
        shares=curves["validation_preferred_share"],
        seconds=float(seconds or 0),
        num_steps=num_steps or 0,
        speed=tokens_per_second,
    )


def sentence(
    job: Job,
    tests: list[tuple[int, float]],
    shares: list[tuple[int, float]],
    asked: str,
    queue: queue_view.Outlook | None,
) -> str:
    """Say what is happening, as a colleague would; of a job that waits the queue says why."""
    state = states.of(job).state
    if state is State.CANCELLED:
        if not job.step:
            return "Cancelled before the first step; no trained model was made."
        return f"Cancelled at step {job.step:,}; no trained model was made."
    if state is State.SUCCEEDED:
        return _outcome(job, tests, dict(shares))
    if queue is not None:
        return queue.why(job.id)
    if state is State.PREPARING and job.phase == "probing":
        return _PROBING
    return _SENTENCES.get(state) or _learning(asked or practice.chosen_by(job), tests, dict(shares))


def _learning(asked: str, tests: list[tuple[int, float]], shares: dict[int, float]) -> str:
    """Say how it goes, by its losses on what is asked in between: check, test or practice rows."""
    if len(tests) < 2:
        return "Training has started. The first check comes soon."
    first, last = tests[0][1], tests[-1][1]
    best_step, best = min(tests, key=lambda test: test[1])
    if best >= first:
        said = f"Its loss on the {asked} questions has not fallen yet."
        if asked == "practice":
            return said
        return (
            f"{said} If it stays like this, there may be too few examples, or they may be too "
            f"different from the {asked} questions."
        )
    if last <= best and best_step in shares:
        return (
            "It is learning: it prefers the better of two answers to "
            f"{_percent(shares[best_step])} of the {asked} questions."
        )
    if last <= best or asked == "practice":
        return f"It is learning: its loss on the {asked} questions is still falling."
    return (
        f"It did best on the {asked} questions at step {best_step:,} and has not improved since. "
        "That best version is kept."
    )


def _outcome(job: Job, tests: list[tuple[int, float]], shares: dict[int, float]) -> str:
    if len(tests) < 2:
        return "Finished: the trained model is ready."
    asked = practice.chosen_by(job)
    first, (step, loss) = tests[0][1], min(tests, key=lambda test: test[1])
    kept = f"What it had learned by step {step:,} was kept."
    if asked == "practice":
        step, loss = tests[-1]
        kept = (
            "No rows were set apart to check on, so what it had learned at the last step was kept."
        )
        if not parts.has_three(job.version):
            kept = "That says nothing about questions that it has not practised."
    if loss >= first:
        said = f"Finished, but its loss on the {asked} questions did not fall."
        if asked == "practice":
            return f"{said} {kept}"
        return f"{said} More examples, or examples closer to the {asked} questions, may help."
    if step in shares:
        return (
            "Finished: it prefers the better of two answers to "
            f"{_percent(shares[step])} of the {asked} questions. {kept}"
        )
    return (
        f"Finished: its loss on the {asked} questions fell from {first:.2f} to {loss:.2f}. {kept}"
    )


def _percent(share: float) -> str:
    return f"{share * 100:.0f}%"


def why_it_waits(job: Job, queue: queue_view.Outlook) -> str:
    """Say why a job does not train yet."""
    state = states.of(job).state
    return _SENTENCES[state] if state is State.PAUSED else queue.why(job.id)


def has_worker(db: Session, queue: str) -> bool:
    """Say whether a worker of this queue has been heard of lately."""
    since = datetime.now(UTC) - choice.WORKER_SILENCE
    return (
        db.scalars(
            select(Worker.id).where(Worker.queue == queue, Worker.last_seen > since).limit(1)
        ).first()
        is not None
    )


def _seconds(job: Job, course: _Course) -> float | None:
    """Work out how long training still takes, once it has begun; None where nobody can know.

    Its last steps say it, and before the second one the plan does.
    """
    foreseen = float(job.plan["seconds"]) if job.plan and "seconds" in job.plan else None
    if job.status is JobStatus.QUEUED:
        # What was planned is for all of it: of one that goes on nobody knows the rest.
        return None if job.durable_step else foreseen
    if job.status is not JobStatus.RUNNING or not job.total_steps:
        return None
    if not course.num_steps:
        return foreseen
    seconds, num_steps = course.seconds, course.num_steps
    if foreseen is not None and num_steps < _RECENT_STEPS - 1:
        seconds += foreseen / job.total_steps * _PLANNED_STEPS
        num_steps += _PLANNED_STEPS
    return seconds / num_steps * max(0, job.total_steps - job.step)


def duration(seconds: float) -> str:
    """Say a length of time the way people do: `about 6 min`."""
    if seconds < 10:
        return "a few seconds"
    if seconds < 55:
        return f"about {round(seconds / 10) * 10} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"about {max(1, minutes)} min"
    hours, rest = divmod(minutes, 60)
    if hours < 24:
        return f"about {hours} h {rest:02d} min" if rest else f"about {hours} h"
    days = round(hours / 24, 1)
    return "about 1 day" if days == 1 else f"about {days:g} days"
