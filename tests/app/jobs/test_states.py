"""Each way in which a job can stand: what it is called, promised, and may be done with it."""

import ast
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.errors import Conflict
from app.core.models import Desired, Job, JobStatus, Metric, Role, Worker
from app.jobs import ordering, progress, requests, states
from app.jobs.states import Operation, State
from tests.factories import make_job, make_user

PHASES = (None, *states._PHASES, "something new")
OPERATIONS: tuple[Operation, ...] = ("cancel", "delete", "move", "pause", "resume", "try again")
# A queued job that is to be cancelled is cancelled at once.
STANDS = [
    (status, desired)
    for status, desired in product(JobStatus, Desired)
    if (status, desired) != (JobStatus.QUEUED, Desired.CANCEL)
]


def job_that(status: JobStatus, desired: Desired, phase: str | None = None) -> Job:
    return Job(status=status, desired=desired, phase=phase, durable_step=0, step=0)


def test_each_state_has_its_words() -> None:
    met = {
        states.state_of(status, desired, phase)
        for (status, desired), phase in product(STANDS, PHASES)
    }
    assert met == set(State) == set(states.WORDS)
    assert len({word for word, _ in states.WORDS.values()}) == len(State), "two have one name"


def test_a_list_shows_each_job_in_the_group_of_its_state(db: Session) -> None:
    user = make_user(db)
    jobs = []
    for status, desired in STANDS:
        held: dict[str, Any] = {"worker_id": "gpu-0", "lease_until": datetime.now(UTC)}
        is_held = status is JobStatus.RUNNING
        job = make_job(db, user=user, status=status, desired=desired, **held if is_held else {})
        jobs.append(job)
    groups = [wanted for _, wanted in states.GROUPS.values()]
    for wanted in [*groups, *({state} for state in State if state not in states._MOVING)]:
        found = set(db.scalars(select(Job.id).where(states.where(wanted))))
        assert found == {job.id for job in jobs if states.of(job).state in wanted}
    assert set().union(*groups) == set(State), "none is in no group"


@pytest.mark.parametrize(("status", "desired"), STANDS)
def test_nothing_is_promised_that_is_not_so(status: JobStatus, desired: Desired) -> None:
    for phase in PHASES:
        how = states.of(job_that(status, desired, phase))
        trains_on = status is JobStatus.RUNNING and desired is Desired.RUN
        assert how.is_moving == trains_on
        assert ("training continues" in how.promise) == trains_on
        assert (how.time == "left") == trains_on
        assert (how.time == "start") == (how.state is State.WAITING)
        assert how.is_over == status.is_final
        assert not (how.promise and how.is_over)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(("status", "desired"), STANDS)
def test_what_is_offered_is_done_and_nothing_else(
    db: Session, status: JobStatus, desired: Desired, operation: Operation
) -> None:
    admin = make_user(db, role=Role.ADMIN)
    held: dict[str, Any] = {"worker_id": "gpu-0", "lease_until": _soon(), "attempt": 1}
    job = make_job(
        db,
        user=admin,
        status=status,
        desired=desired,
        **(held if status is JobStatus.RUNNING else {}),
    )
    may = operation in states.of(job).may
    do = {
        "cancel": requests.cancel,
        "delete": requests.delete,
        "move": ordering.raise_,
        "pause": requests.pause,
        "resume": requests.resume,
        "try again": requests.retry,
    }[operation]
    # The same asked for twice is no error: an answer may have been lost on its way.
    is_again = (operation, desired) in (("pause", Desired.PAUSE), ("cancel", Desired.CANCEL))
    if may or (is_again and not status.is_final):
        do(db, admin, job)
        return
    with pytest.raises(Conflict) as refusal:
        do(db, admin, job)
    assert refusal.value.message.startswith(("This job", "Only a"))


def _soon() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)


def test_the_word_of_v1_for_each() -> None:
    said = {
        (status.value, desired.value): states.in_v1(job_that(status, desired), False)
        for status, desired in STANDS
    }
    assert said["queued", "run"] == ("queued", "waiting")
    assert said["queued", "pause"] == ("queued", "paused")
    assert said["running", "pause"] == ("running", "pausing")
    assert said["running", "cancel"] == ("running", "cancelling")
    assert said["succeeded", "run"] == ("succeeded", "succeeded")
    coming = states.in_v1(job_that(JobStatus.QUEUED, Desired.RUN), True)
    assert coming == ("validating_files", "validating_files")


def test_figures_hold_no_time_that_is_not_the_jobs(db: Session) -> None:
    plan = {"seconds": 240.0}
    waits = progress.figures(db, make_job(db, plan=plan))["texts"]
    assert (waits["time_left"], waits["takes"]) == ("", "about 4 min")
    paused = progress.figures(db, make_job(db, plan=plan, desired=Desired.PAUSE))
    texts = paused["texts"]
    assert {texts[name] for name in ("time_left", "takes", "starts", "elapsed")} == {""}
    assert not paused["is_moving"]
    assert "does not train" in texts["promise"]


def test_a_first_step_that_is_slow_frightens_nobody(db: Session) -> None:
    began = datetime.now(UTC) - timedelta(minutes=5)
    worker = Worker(id="gpu-0@here", queue="gpu", host="here", boot_id="b", devices=[], version="0")
    db.add(worker)
    db.flush()
    job = make_job(
        db, plan={"seconds": 600.0}, status=JobStatus.RUNNING, attempt=1, total_steps=100,
        phase="training", started_at=began, worker_id=worker.id,
        lease_until=datetime.now(UTC) + timedelta(hours=1),
    )  # fmt: skip

    def left(*seconds: float) -> str:
        db.query(Metric).delete()
        for step, after in enumerate(seconds):
            at = began + timedelta(seconds=after)
            row = {"job_id": job.id, "attempt": 1, "seq": step, "step": step, "at": at}
            db.add(Metric(**row, name="loss", value=1.0))
        job.step = len(seconds)
        db.flush()
        return str(progress.figures(db, job)["texts"]["time_left"])

    assert left(0.0) == "about 10 min"
    # A step was planned to take 6 s and takes 30: alone it would say 49 min.
    assert left(0.0, 30.0) == "about 16 min"
    # Of thirty, nothing planned is left.
    assert left(*(30.0 * step for step in range(30))) == "about 35 min"


def _values(table: ast.expr) -> list[tuple[str, str]]:
    assert isinstance(table, ast.Dict)
    return [ast.literal_eval(value) for value in table.values]


def test_each_way_in_which_an_attempt_ends_has_words() -> None:
    """Those that the supervisor, the trainer and the protocol write down."""
    root = Path(__file__).parents[3]
    codes: set[str] = set()
    for name in ("worker/gpu/endings.py", "worker/trainer", "app/jobs/protocol.py"):
        place = root / name
        for path in place.rglob("*.py") if place.is_dir() else [place]:
            for one in ast.walk(ast.parse(path.read_text())):
                if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == "_FAILURES":
                    codes |= {code for code, _ in _values(one.value)}
                if not isinstance(one, ast.Call):
                    continue
                kind = ast.unparse(one.func).rpartition(".")[2]
                given = [each.value for each in one.keywords if each.arg in ("outcome", "code")]
                given += one.args[:1] if kind in ("Interruption", "Failure") else []
                found = [each for arg in given for each in ast.walk(arg)]
                codes |= {
                    str(each.value)
                    for each in found
                    if isinstance(each, ast.Constant) and isinstance(each.value, str)
                }
    assert len(codes) > 20
    assert codes <= set(states.OUTCOMES)
    for words in states.OUTCOMES.values():
        assert words[0].isupper()
        assert "_" not in words
