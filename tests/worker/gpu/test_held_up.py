"""A supervisor that stood still for longer than its lease: the next attempt is left alone."""

import json
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, update
from sqlalchemy.orm import Session

from app.core import processes
from app.core.models import Job
from app.jobs import fence, protocol
from app.training import failpoints
from tests import patience
from tests.factories import make_job
from tests.worker.conftest import wait_for
from worker import identity
from worker.gpu import spool
from worker.gpu.supervisor import Supervisor


@pytest.fixture
def at_work() -> Iterator[subprocess.Popen[bytes]]:
    """A process that stands for the next attempt's trainer."""
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def give_to_another(db: Session, job: Job, at_work: subprocess.Popen[bytes]) -> Path:
    """Let the lease run out and another worker train the job; returns its config.json."""
    db.rollback()
    ago = func.clock_timestamp() - timedelta(seconds=100)
    db.execute(update(Job).values(lease_until=ago))
    assert protocol.reap(db) == [job.id]
    other = replace(identity.me(), id="gpu-2@test", supervisor_pid=1)
    claim = protocol.claim(db, other)
    assert claim is not None
    db.commit()
    folder = spool.attempt_dir(claim)
    folder.mkdir(parents=True)
    note = {"pid": at_work.pid, "started": processes.start_ticks(at_work.pid)}
    (folder / "trainer.json").write_text(json.dumps(note))
    config = spool.job_dir(job.id) / "config.json"
    config.write_text("of the second attempt")
    return config


@pytest.mark.parametrize("held_up", ["before it began", "as it prepared"])
def test_one_who_was_held_up_touches_nothing_of_the_next_attempt(
    held_up: str,
    db: Session,
    quick: None,
    tmp_path: Path,
    at_work: subprocess.Popen[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ETUDE_WORKER_ID", "gpu-1@test")
    monkeypatch.setenv("ETUDE_DEVICE", "cpu")
    monkeypatch.setenv("ETUDE_FAILPOINTS", str(tmp_path / "failpoints"))
    job = make_job(db)
    claim = protocol.claim(db, identity.me())
    assert claim is not None
    db.commit()
    met: list[Exception] = []

    def carry() -> None:
        supervisor = Supervisor(claim)
        try:
            supervisor.carry()
        except fence.Fenced as fenced:
            met.append(fenced)
        finally:
            supervisor.room.close()

    late = threading.Thread(target=carry)
    if held_up == "before it began":
        config = give_to_another(db, job, at_work)
        late.start()
    else:
        name = "prepare.examples_written"
        failpoints.arm(tmp_path / "failpoints", name, "delay:1")
        late.start()
        wait_for(db, lambda: failpoints.has_struck(tmp_path / "failpoints", name))
        config = give_to_another(db, job, at_work)
    late.join(timeout=patience.seconds(30))
    assert met
    assert config.read_text() == "of the second attempt"
    assert at_work.poll() is None
