"""Every failpoint is struck: killed there, an exception there, or held up until the lease is over.

Real worker, PostgreSQL and Valkey, and the stand-in trainer. Afterwards each job has ended exactly
once, with metrics 1..N once each, one adapter, attempts without a gap, and nothing left running.

`make faults` walks each place in one of the three ways, chosen by --faults-seed; --all-faults walks
all. Failpoints of one process (a trainer's, a supervisor's, the web's) are armed by files, so that
one long-lived house serves many cases.
"""

import ast
import os
import random
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import select

from app.core.models import Desired, Job, JobStatus
from app.jobs import requests
from app.ops.embedded.postgres import Postgres
from app.training import failpoints
from app.training.answers import Event
from tests import patience
from tests.faults import evaluating, exporting, judging
from tests.faults.conftest import opened
from tests.faults.house import (
    LEASE_AND_GRACE,
    House,
    dead_worker,
    distant_worker,
    stopped,
    until_gone,
)
from tests.worker.answering.asking import a_model, an_adapter, ask, child_pids, question, text
from tests.worker.conftest import ROOT, is_running

ACTIONS = ("kill", "exception", f"delay:{LEASE_AND_GRACE + 0.5}")
NUM_LANES = 2
Case = tuple[str, str]


def struck(house: House, name: str) -> None:
    house.wait_for(lambda: failpoints.has_struck(house.failpoints, name))


def a_job(house: House, name: str, action: str) -> None:
    # Not at the very first flush: something must have been written before.
    failpoints.arm(house.failpoints, name, f"after:2 {action}" if "flush" in name else action)
    job = house.make_job()
    struck(house, name)
    house.finish(job)


def a_submission(house: House, name: str, action: str) -> None:
    web = house.web or house.start_web()
    failpoints.arm(house.failpoints, name, action)
    public_id = web.submit(f"{name} {action}")
    struck(house, name)
    made = house.db.scalars(
        select(Job).where(Job.api_request["idempotency_key"].astext == f"{name} {action}")
    ).all()
    assert [job.public_id for job in made] == [public_id]
    made[0].name = "steps=20 every=10"  # what the stand-in does by itself
    house.finish(made[0])


def a_wish_to_cancel(house: House, name: str, action: str) -> None:
    web = house.web or house.start_web()
    job = house.make_job("steps=9000 pause=0.05")
    house.until_step(job, 2)
    failpoints.arm(house.failpoints, name, action)
    for _ in range(3):
        web.post(f"/jobs/{job.id}/cancel")
        house.db.rollback()
        house.db.refresh(job)
        if job.desired is Desired.CANCEL:
            break
    struck(house, name)
    assert house.until_over(job).status is JobStatus.CANCELLED
    house.check(job)


def a_cancelled_job(house: House, name: str, action: str) -> None:
    job = house.make_job("steps=9000 pause=0.05")
    house.until_step(job, 2)
    failpoints.arm(house.failpoints, name, action)
    requests.cancel(house.db, house.user, job)
    house.db.commit()
    struck(house, name)
    assert house.until_over(job).status is JobStatus.CANCELLED
    house.check(job)


def a_paused_job(house: House, name: str, action: str) -> None:
    job = house.make_job("steps=60 pause=0.05 hold=20")
    house.until_step(job, 2)
    failpoints.arm(house.failpoints, name, action)
    requests.pause(house.db, house.user, job)
    house.db.commit()
    struck(house, name)
    house.wait_for(lambda: job.status is JobStatus.QUEUED)
    requests.resume(house.db, house.user, job)
    house.db.commit()
    house.finish(job)


def a_hopeless_job(house: House, name: str, action: str) -> None:
    failpoints.arm(house.failpoints, name, action)
    job = house.make_job("steps=6 exit=12 at=3 say")
    struck(house, name)
    assert house.until_over(job).status is JobStatus.FAILED
    assert job.error_code == "out_of_memory"
    house.check(job)


def an_interrupted_job(house: House, name: str, action: str) -> None:
    failpoints.arm(house.failpoints, name, action)
    job = house.make_job("steps=6 every=2 exit=74 at=4 attempts=1")
    struck(house, name)
    house.finish(job)


def a_job_that_got_further_than_was_heard(house: House, name: str, action: str) -> None:
    job = house.make_job("steps=90 every=2 pause=0.02")
    house.until_step(job, 3)
    child = house.child(job)
    spool = house.data_dir / "jobs" / str(job.id) / "attempts" / "1" / "events.jsonl"
    with stopped(child):  # for less than a self-fence
        before = house.spool_size(job)
        house.wait_for(lambda: b'"checkpoint"' in spool.read_bytes()[before:])
        failpoints.arm(house.failpoints, name, action)
        os.kill(child, signal.SIGKILL)
    struck(house, name)
    house.finish(job)


def a_dead_workers_job(house: House, name: str, action: str) -> None:
    failpoints.arm(house.failpoints, name, action)
    job = house.make_held_job(dead_worker(), "steps=6 every=2")
    struck(house, name)
    house.finish(job)


def a_silent_workers_job(house: House, name: str, action: str) -> None:
    failpoints.arm(house.failpoints, name, action)
    job = house.make_held_job(distant_worker(), "steps=6 every=2")
    house.lapse(job)
    struck(house, name)
    house.finish(job)


def an_answer(house: House, name: str, action: str) -> None:
    """Whoever asks again is answered, whole, and nothing of what broke is left."""
    model = a_model(house.db, data_dir=house.data_dir)
    adapter = an_adapter(house.db, model, house.data_dir)
    failpoints.arm(house.failpoints, name, action)
    answerer = house.start_answering()
    said: list[Event] = []
    deadline = time.monotonic() + patience.seconds(60)
    while not said or said[-1].kind != "done":
        assert time.monotonic() < deadline, said
        if answerer.has_ended():
            answerer.start()
        said = ask(house.wait_for(answerer.alive), question(model, "words=4", adapter))
        # Of an answer that breaks off, the end is said all the same.
        assert said[-1].kind in ("done", "refused")
    struck(house, name)
    assert text(said) == "0 1 2 3 "
    *former, last = child_pids(model, house.data_dir)
    for pid in former:
        until_gone(pid)
    assert is_running(last)
    answerer.end()
    until_gone(last)


def an_evaluation(house: House, name: str, action: str) -> None:
    """The answers are those of an undisturbed one, and one notice tells of its job."""
    failpoints.arm(house.failpoints, name, action)
    scene = evaluating.begin(house)
    struck(house, name)
    scene.finish()


def a_judging(house: House, name: str, action: str) -> None:
    """Each answer is judged once, as by an undisturbed judge."""
    failpoints.arm(house.failpoints, name, action)
    scene = judging.begin(house)
    struck(house, name)
    scene.finish()


def an_export(house: House, name: str, action: str) -> None:
    """What is handed over at last is whole and proved, and only one of it lies there."""
    failpoints.arm(house.failpoints, name, action)
    row = exporting.begin(house)
    struck(house, name)
    exporting.finish(house, row)


SCENES: dict[str, Callable[[House, str, str], None]] = {
    "web.submit": a_submission,
    "hint": a_submission,
    "web.cancel": a_wish_to_cancel,
    "cancel": a_cancelled_job,
    "stop": a_paused_job,
    "fail": a_hopeless_job,
    "requeue": an_interrupted_job,
    "takeover": a_job_that_got_further_than_was_heard,
    "take_back": a_dead_workers_job,
    "reap": a_silent_workers_job,
    "evaluate": an_evaluation,
    "evaluate.keep": an_evaluation,
    "evaluate.finish": an_evaluation,
    "judge": a_judging,
    "judge.keep": a_judging,
    "judge.finish": a_judging,
    "export": an_export,
    "answer": an_answer,
    "answer.claim": an_answer,
}


@pytest.mark.timeout(1800)
def test_every_failpoint_struck_in_every_way_loses_and_doubles_nothing(
    postgres: Postgres, all_faults: bool, request: pytest.FixtureRequest
) -> None:
    chance = random.Random(request.config.getoption("--faults-seed", default=0))
    cases = [(name, action) for name in failpoints.NAMES for action in ACTIONS]
    if not all_faults:
        # The web is a process more to start; its failpoints have turns of their own.
        cases = [(name, chance.choice(ACTIONS)) for name in failpoints.NAMES]
    only = request.config.getoption("--only-fault", default="")
    cases = [case for case in cases if only in "=".join(case)]
    waiting: deque[Case] = deque(cases)
    broken: list[str] = []
    walked: list[Case] = []

    def walk(house: House) -> None:
        while waiting and not broken:
            name, action = waiting.popleft()
            began = time.monotonic()
            scene = SCENES.get(name.rpartition(".")[0], a_job)
            try:
                scene(house, name, action)
                house.check_nothing_runs()
            except BaseException as error:
                broken.append(f"{name}={action}: {error!r}")
                raise
            (house.failpoints / f"{name}.struck").unlink()
            walked.append((name, action))
            print(f"{time.monotonic() - began:5.1f} s  {name}={action}", flush=True)

    with ExitStack() as stack:
        houses = [stack.enter_context(opened(postgres)) for _ in range(NUM_LANES)]
        lanes = [threading.Thread(target=walk, args=(house,)) for house in houses]
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()
    assert broken == []
    assert sorted(walked) == sorted(cases)


def test_an_attempt_that_is_taken_back_at_its_last_flush_lets_go_of_its_job(house: House) -> None:
    """It went round for ever: what it wanted to write was neither written nor refused."""
    a_job(house, "flush.before_commit", f"delay:{LEASE_AND_GRACE + 0.5}")


def test_each_name_is_used_in_the_code() -> None:
    used: set[str] = set()
    for folder in ("app", "worker"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.name != "failpoints.py":
                used |= names_in(path)
    assert used == set(failpoints.NAMES)


def names_in(path: Path) -> set[str]:
    """Return the failpoints of a file: what is given to hit, commit and persist."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            last = node.args[-1] if node.args else None
            if not (isinstance(last, ast.Constant) and isinstance(last.value, str)):
                continue
            if called == "hit":
                found.add(last.value)
            elif called in ("commit", "persist"):
                found |= {f"{last.value}.before_commit", f"{last.value}.committed"}
    return found


def test_a_failpoint_is_nothing_until_it_is_armed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failpoints.hit("claim.committed")
    monkeypatch.setenv(failpoints.VARIABLE, "claim.committed=exception; flush.committed=delay:0")
    failpoints.hit("claim.before_commit")
    failpoints.hit("flush.committed")
    for _ in range(2):
        with pytest.raises(failpoints.Injected):
            failpoints.hit("claim.committed")
    monkeypatch.setenv(failpoints.VARIABLE, str(tmp_path))
    failpoints.arm(tmp_path, "claim.committed", "after:2 exception")
    failpoints.hit("claim.committed")
    failpoints.hit("claim.committed")
    assert not failpoints.has_struck(tmp_path, "claim.committed")
    with pytest.raises(failpoints.Injected):
        failpoints.hit("claim.committed")
    failpoints.hit("claim.committed")  # once
    assert failpoints.has_struck(tmp_path, "claim.committed")
