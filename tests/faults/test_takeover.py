"""The database away while a job trains: what lies whole on the disk by then is gone on from."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import select

from app.core.models import Attempt, Job, JobStatus
from app.jobs import requests
from app.ops.embedded.postgres import Postgres
from app.training import failpoints
from tests import patience
from tests.faults.conftest import opened
from tests.faults.house import LEASE_AND_GRACE, PACE, House, until_gone
from tests.faults.test_database import away, plain
from tests.worker.conftest import WorkerProcess

# Tables of which a job has rows, in the order in which they can be filled.
_TABLES = ("job", "attempt", "metric", "checkpoint", "job_event")
# A lease that outlasts what a trainer still does while the database is away.
LASTING = {
    "ETUDE_SELF_FENCE_SECONDS": f"{4 * PACE:.2f}",
    "ETUDE_LEASE_SECONDS": f"{5 * PACE:.2f}",
}


class Disk:
    """A job's folder, which can be read while the database is away."""

    def __init__(self, house: House, job: Job) -> None:
        self.folder = house.data_dir / "jobs" / str(job.id)

    def told(self, kind: str, attempt: int = 1) -> list[int]:
        """Of which steps an attempt has reported something, to its file."""
        path = self.folder / "attempts" / str(attempt) / "events.jsonl"
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        events = [json.loads(line) for line in lines if line.endswith(b"\n")]
        return [event.get("step", 0) for event in events if event["kind"] == kind]

    def last(self, kind: str) -> int:
        return max(self.told(kind), default=0)

    def kept(self) -> list[int]:
        found = (self.folder / "checkpoints").glob("step-?????")
        return sorted(int(folder.name[5:]) for folder in found)


def until(look: Callable[[], object], seconds: float = 30) -> None:
    """Wait for something that shows without the database."""
    deadline = time.monotonic() + patience.seconds(seconds)
    while not look():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def tries(house: House, job: Job) -> list[tuple[str | None, int]]:
    house.db.rollback()
    rows = house.db.execute(
        select(Attempt.outcome, Attempt.resume_step)
        .where(Attempt.job_id == job.id)
        .order_by(Attempt.number)
    )
    return [(row.outcome, row.resume_step) for row in rows]


@contextmanager
def house_with(postgres: Postgres, fence: bool, **environment: str) -> Iterator[House]:
    """A house whose worker stops its trainer while the database is away, or does not."""
    environment["ETUDE_FENCE_ON_DB_LOSS"] = "yes" if fence else "no"
    with opened(postgres, with_worker=False, **environment) as house:
        house.worker.start()
        yield house


def let_it_be_lost(house: House, fence: bool, pids: tuple[int, int]) -> None:
    """Amid an outage: its supervisor gives up by itself, or is killed; its trainer ends."""
    child, trainer = pids
    if fence:
        until(lambda: "event=job.abandoned" in house.log())
    else:
        os.kill(child, signal.SIGKILL)
    until_gone(trainer, 20)


@pytest.mark.parametrize("fence", [True, False], ids=["fence", "no-fence"])
@pytest.mark.parametrize(
    "num", [*(pytest.param(each, marks=pytest.mark.long) for each in (1, 2)), 3]
)
def test_f29_f30_checkpoints_written_while_the_database_is_away_are_gone_on_from(
    num: int, fence: bool, postgres: Postgres
) -> None:
    """One, two and three of them; the one that the database knows stays until it knows another."""
    end = 10 * num + 14
    # However many they are, there is as much time to take the database away before the last.
    pause = round(1.5 * PACE / (10 * num + 4), 3)
    orders = f"steps={end + 50} every=10 pause={pause} tidy exit=74 at={end} attempts=1"
    # To be told at the latest a moment before the next one.
    with house_with(postgres, fence, **LASTING) as house:
        job = house.make_job(orders)
        disk = Disk(house, job)
        house.wait_for(lambda: job.durable_step >= 10)
        pids = house.child(job), house.trainer(job)
        house.db.rollback()
        with away(postgres):
            until(lambda: disk.last("step") == end - 1)
            until_gone(pids[1], 20)
            let_it_be_lost(house, fence, pids)
            found = disk.kept()
            newest = 10 + 10 * num
            assert found == sorted({10, newest - 10, newest})
        house.wait_for(lambda: job.attempt == 2 and job.step > newest)
        assert (job.durable_step >= newest, job.strikes) == (True, 0)
        assert tries(house, job)[1] == (None, newest)
        house.finish(job, attempts=2)


@pytest.mark.parametrize(
    ("fence", "wish"), [(True, "publish"), (False, "publish"), (True, "cancel")]
)
def test_f08_f29_a_job_that_ends_while_the_database_is_away_is_published_without_a_trainer(
    fence: bool, wish: str, postgres: Postgres
) -> None:
    with house_with(postgres, fence, **LASTING) as house:
        job = house.make_job(f"steps=35 every=10 pause={0.04 * PACE:.3f} tidy")
        disk = Disk(house, job)
        house.wait_for(lambda: job.durable_step >= 10)
        pids = house.child(job), house.trainer(job)
        house.db.rollback()
        if wish == "cancel":
            failpoints.arm(house.failpoints, "takeover.committed", "delay:1")
        with away(postgres):
            until(lambda: disk.told("done"))
            let_it_be_lost(house, fence, pids)
        if wish == "cancel":
            house.wait_for(lambda: failpoints.has_struck(house.failpoints, "takeover.committed"))
            house.db.refresh(job)
            requests.cancel(house.db, house.user, job)
            house.db.commit()
            assert house.until_over(job).status is JobStatus.CANCELLED
            house.check(job)
        else:
            house.finish(job, attempts=2)
            assert job.measured is not None
            assert (job.measured["peak_bytes"], job.measured["save_seconds"]) == (1000, 0.25)
            assert (job.step, job.durable_step, job.trained_tokens) == (35, 30, 3500)
        assert tries(house, job)[1][1] == 30
        assert not (disk.folder / "attempts" / "2").exists(), "a trainer ran"


@pytest.mark.parametrize(
    "fence",
    [pytest.param(True, id="fence"), pytest.param(False, id="no-fence", marks=pytest.mark.long)],
)
def test_f29_f31_an_outage_before_the_first_flush_loses_nothing(
    fence: bool, postgres: Postgres
) -> None:
    """With its supervisor alive the claim is handed out again; its file would be begun anew."""
    lasting = {"ETUDE_SELF_FENCE_SECONDS": "2", "ETUDE_LEASE_SECONDS": "30"}
    with house_with(postgres, fence, **lasting) as house:
        failpoints.arm(house.failpoints, "trainer.started", "delay:1.5")
        job = house.make_job("steps=400 every=5 pause=0.03 tidy")
        disk = Disk(house, job)
        house.wait_for(lambda: failpoints.has_struck(house.failpoints, "trainer.started"))
        pids = house.child(job), house.trainer(job)
        house.db.rollback()
        with away(postgres):
            until(lambda: disk.last("checkpoint") > 0)
            let_it_be_lost(house, fence, pids)
            newest = disk.last("checkpoint")
        number = 1 if fence else 2
        house.wait_for(lambda: job.attempt == number and job.step > newest)
        assert job.strikes == 0
        assert tries(house, job)[-1] == (None, newest)
        house.worker.terminate()
        house.wait_for(lambda: job.status is JobStatus.QUEUED)
        house.worker.start()
        house.finish(job, attempts=number + 1)


def test_f29_f31_an_attempt_that_has_taken_over_may_take_over_from_itself(
    postgres: Postgres,
) -> None:
    """The second outage comes before its trainer was heard of: it has points, and not all."""
    # Time enough for a checkpoint before it lets go, on a busy machine, too.
    lasting = {
        "ETUDE_SELF_FENCE_SECONDS": f"{3 * PACE:.2f}",
        "ETUDE_LEASE_SECONDS": f"{30 * PACE:.2f}",
    }
    with house_with(postgres, fence=True, **lasting) as house:
        job = house.make_job("steps=600 every=5 pause=0.03 tidy")
        disk = Disk(house, job)
        house.wait_for(lambda: job.durable_step >= 5)
        pids, heard = (house.child(job), house.trainer(job)), job.durable_step
        house.db.rollback()
        with away(postgres):
            until(lambda: disk.last("checkpoint") > heard + 5)
            let_it_be_lost(house, True, pids)
            failpoints.arm(house.failpoints, "trainer.started", "delay:1.5")
        house.wait_for(lambda: failpoints.has_struck(house.failpoints, "trainer.started"))
        house.wait_for(lambda: job.attempt == 2)
        trainer, first = house.trainer(job), job.durable_step
        assert first > heard
        house.db.rollback()
        with away(postgres):
            until(lambda: max(disk.told("checkpoint", attempt=2), default=0) > first)
            until(lambda: house.log().count("event=job.abandoned") == 2)
            until_gone(trainer, 20)
            newest = max(disk.told("checkpoint", attempt=2))
        house.wait_for(lambda: job.step > newest)
        assert tries(house, job)[-1] == (None, newest)
        house.finish(job, attempts=2)


def elsewhere(house: House, tmp_path: Path) -> WorkerProcess:
    """A worker with a disk of its own, as on another machine."""
    return house.make_worker(number=1, ETUDE_DATA_DIR=str(tmp_path / "elsewhere"))


def until_unheard(house: House, job: Job, postgres: Postgres, step: int) -> int:
    """End a job's worker amid an outage, after a checkpoint that nobody heard of."""
    disk = Disk(house, job)
    house.wait_for(lambda: job.durable_step >= 10)
    trainer = house.trainer(job)
    house.db.rollback()
    with away(postgres):
        until(lambda: disk.last("checkpoint") >= step)
        house.worker.end()
        until_gone(trainer)
    return disk.last("checkpoint")


@pytest.mark.parametrize("comes_to_a_step", [True, pytest.param(False, marks=pytest.mark.long)])
def test_f29_another_hosts_attempt_in_between_decides_where_it_goes_on(
    comes_to_a_step: bool, postgres: Postgres, tmp_path: Path
) -> None:
    with house_with(postgres, fence=False) as house:
        job = house.make_job("steps=60 every=10 pause=0.05")
        newest = until_unheard(house, job, postgres, 30)
        other = elsewhere(house, tmp_path)
        if not comes_to_a_step:
            failpoints.arm(house.failpoints, "trainer.started", "kill")
        other.start()
        try:
            if comes_to_a_step:
                house.wait_for(lambda: job.attempt == 2 and 0 < job.step < 9)
            else:
                house.wait_for(lambda: failpoints.has_struck(house.failpoints, "trainer.started"))
        finally:
            other.end()
        house.worker.start()
        house.finish(job, attempts=3)
        began = [step for _, step in tries(house, job)]
        assert began == [0, 0, 0 if comes_to_a_step else newest]


def test_f29_f32_an_attempts_number_that_comes_again_is_told_by_its_beginning(
    postgres: Postgres,
) -> None:
    """The database is put back to a moment before the second attempt, which goes on on the disk."""
    with house_with(postgres, fence=False) as house:
        job = house.make_job("steps=90 every=10 pause=0.04")
        newest = until_unheard(house, job, postgres, 20)
        with psycopg.connect(plain(house), autocommit=True) as other:
            for table in _TABLES:
                other.execute(f"CREATE TABLE saved_{table} AS SELECT * FROM {table}")
            house.worker.start()
            house.wait_for(lambda: job.attempt == 2 and job.durable_step >= newest + 20)
            house.worker.end()
            house.db.rollback()
            with other.transaction():
                other.execute("SET session_replication_role = replica")
                for table in reversed(_TABLES):
                    other.execute(f"DELETE FROM {table}")
                for table in _TABLES:
                    other.execute(f"INSERT INTO {table} SELECT * FROM saved_{table}")
                other.execute("SET session_replication_role = DEFAULT")
        assert max(Disk(house, job).kept()) >= newest + 20
        house.db.expire_all()
        assert house.db.get_one(Job, job.id).attempt == 1
        house.worker.start()
        house.finish(job, attempts=2)
        assert tries(house, job)[1][1] == newest


def test_an_attempt_that_begins_anew_leaves_nothing_of_the_one_before(house: House) -> None:
    """Else the next outage's end might find it and take it for its own."""
    job = house.make_job("steps=60 every=10 pause=0.05")
    house.wait_for(lambda: job.durable_step >= 20)
    house.worker.end()
    disk = Disk(house, job)
    folder = disk.folder
    (folder / "result").mkdir()
    for state in folder.glob("checkpoints/*/state.json"):
        state.write_text("damaged")
    (folder / "checkpoints" / "step-00030.tmp").mkdir()
    house.worker.start()
    house.wait_for(lambda: job.attempt == 2 and 0 < job.step < 15)
    assert set(disk.kept()) <= {10}  # a new one
    assert not (folder / "checkpoints" / "step-00030.tmp").exists()
    assert not (folder / "result").exists()
    house.finish(job, attempts=2)


def test_f29_a_pair_of_outages_costs_no_step(postgres: Postgres) -> None:
    """The second one meets the attempt that has taken over."""
    with house_with(postgres, fence=True) as house:
        job = house.make_job("steps=120 every=5 pause=0.04 tidy")
        house.wait_for(lambda: job.durable_step >= 5)

        def lose(attempt: int) -> None:
            house.wait_for(lambda: job.attempt == attempt and job.step > job.durable_step)
            trainer = house.trainer(job)
            house.db.rollback()
            with away(postgres):
                until_gone(trainer, 20)
                time.sleep(LEASE_AND_GRACE)

        lose(1)
        lose(2)
        house.finish(job, attempts=3)
        began = [step for _, step in tries(house, job)]
        assert began == sorted(set(began))
