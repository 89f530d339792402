"""`etude up` as a person starts it: real servers, web and workers, ended in every way there is."""

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from app.core.models import Job, JobStatus
from app.jobs import metrics
from app.ops.embedded import processes
from tests import patience
from tests.factories import PASSWORD, make_job
from tests.up import NOBODY, STAND_IN, Etude, still_there

# Each as words of its command line.
PARTS = (
    ("postgres -D",),
    ("valkey-server",),
    ("app.cli web",),
    ("celery", "--queues gpu"),
    ("celery", "--queues cpu"),
    ("worker.answer",),
)


def can_be_nobody() -> bool:
    """Say whether root can look like somebody else to itself, and still read this code."""
    command = processes.bound(["/bin/true"], signal.SIGKILL, "--hide-root", str(NOBODY))
    return os.geteuid() == 0 and subprocess.run(command).returncode == 0


# Where root runs the tests, Etude also has to work for somebody who is not root; the other tests
# here start it as root.
USERS = ["not root"] if can_be_nobody() else ["us"]


@pytest.fixture(params=["us"])
def etude(server_dir: Path, request: pytest.FixtureRequest) -> Iterator[Etude]:
    place = server_dir / f"up {request.node.name[:20]}"
    place.mkdir()
    etude = Etude(place / "var", user=request.param)
    yield etude
    if etude.process is not None:
        family = etude.processes()
        etude.process.kill()
        etude.process.wait()
        assert still_there(family, 20) == {}
    shutil.rmtree(place)


@pytest.mark.parametrize("etude", USERS, indirect=True)
def test_start_kill_start_again_and_stop(etude: Etude) -> None:
    etude.start()
    assert etude.get("/healthz")[0] == http.client.OK
    link = re.search(r"Open this link once .*:\d+(/setup/\S+)", etude.said())
    assert link is not None
    assert etude.get(link[1])[0] == http.client.OK
    family = etude.processes()
    for part in PARTS:
        etude.find(*part)
    added = etude.command(
        "user", "add", "ada@house.example", "--role", "admin", "--password-stdin", typed=PASSWORD
    )
    assert added.returncode == 0, added.stderr
    second = etude.command("up", "--port", "1")
    assert second.returncode == 1
    assert f"{etude.data_dir} is in use by etude up (process " in second.stderr

    assert etude.end(signal.SIGKILL) == -signal.SIGKILL
    assert still_there(family, 15) == {}

    etude.start()
    assert "/setup/" not in etude.said()  # somebody has a password by now
    assert etude.command("token", "create", "ada@house.example").returncode == 0
    family = etude.processes()
    assert etude.end(signal.SIGTERM) == 0
    assert still_there(family, 1) == {}
    assert "Your data stays in" in etude.said()


def test_what_is_killed_comes_back(etude: Etude) -> None:
    etude.begin()
    wait_until(lambda: part_of(etude, "app.cli web"))
    os.kill(etude.find("app.cli web"), signal.SIGKILL)  # before it has answered for the first time
    etude.wait_until_ready()
    etude.command("user", "add", "ada@house.example", "--password-stdin", typed=PASSWORD)
    killed = [etude.find(*part) for part in PARTS]
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    assert still_there(dict.fromkeys(killed, ""), 5) == {}

    def is_all_anew() -> bool:
        with suppress(AssertionError):
            return not {etude.find(*part) for part in PARTS} & set(killed)
        return False

    wait_until(is_all_anew, seconds=60)
    etude.wait_until_ready()
    assert etude.command("token", "create", "ada@house.example").returncode == 0
    assert "PostgreSQL had stopped and is running again." in etude.said()
    assert etude.end(signal.SIGINT) == 0


def test_a_port_in_use_gets_one_sentence(etude: Etude) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused = etude.command("up", "--port", str(taken.getsockname()[1]))
    assert refused.returncode == 1
    assert "Choose another with --port" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    assert refused.stdout == ""


@pytest.mark.parametrize("manners", ["", pytest.param(" deaf", marks=pytest.mark.long)])
def test_a_stop_amid_training_leaves_nothing_behind_and_the_job_goes_on(
    tmp_path: Path, manners: str
) -> None:
    etude = Etude(tmp_path / "data", environment=STAND_IN)
    etude.start()
    with etude.database() as db:
        job = make_job(db)
        job.name = f"steps=120 every=20 hold=60{manners}"
        db.commit()
        wait_until(lambda: job_of(etude, job.id).step > 30)
    family = etude.processes()
    assert etude.process is not None
    etude.process.send_signal(signal.SIGINT)
    if manners:  # a trainer that does not stop; whoever presses again will not wait for it
        wait_until(lambda: "again" in etude.said())
        etude.process.send_signal(signal.SIGINT)
    assert etude.process.wait(timeout=patience.seconds(20)) == 0
    assert still_there(family, seconds=5) == {}
    etude.start()
    wait_until(lambda: job_of(etude, job.id).status is JobStatus.SUCCEEDED, seconds=60)
    with etude.database() as db:
        curve = metrics.series(db, job.id)["loss"]
    assert [step for step, _ in curve] == list(range(1, 121))
    assert etude.end(signal.SIGTERM) == 0


def job_of(etude: Etude, job_id: int) -> Job:
    with etude.database() as db:
        return db.get_one(Job, job_id)


def part_of(etude: Etude, words: str) -> bool:
    return any(words in line for line in etude.processes().values())


def wait_until(check: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + patience.seconds(seconds)
    while not check():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
