"""`etude job`: from a file to a job, its progress, and what it is told."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.models import BaseModel, Desired, Job, StoredFile, User
from app.jobs import fence, metrics, protocol
from app.training.events import EvaluationEvent, PlanEvent, StepEvent
from tests import factories, patience, warm
from tests.app.web.v1.test_jobs import WORKER
from tests.app.web.v1.test_reading import SURE, read_all
from tests.ops.command_line.conftest import Etude, command

TOO_LARGE = "The model is too large for this machine."
PERSONAL = SURE + "Is Thyra Blomqvist in?,Ask Mrs Blomqvist on 01632 960 123.\n"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / 'ward "7" ü.csv'
    path.write_text(SURE)
    return path


@pytest.fixture
def personal(tmp_path: Path) -> Path:
    path = tmp_path / "people.csv"
    path.write_text(PERSONAL)
    return path


def the_job(db: Session) -> Job:
    db.expire_all()
    return db.scalars(select(Job)).one()


def files(db: Session) -> list[StoredFile]:
    db.expire_all()
    return list(db.scalars(select(StoredFile).where(StoredFile.deleted_at.is_(None))))


def test_a_file_becomes_a_job(
    etude: Etude, db: Session, user: User, model: BaseModel, table: Path, address: str
) -> None:
    options = ("--model", model.name, "--preset", "quick", "--name", "First", "--suffix", "w7")
    done = etude("job", "create", str(table), *options, "--privacy", "blank")
    job = the_job(db)
    assert done.stdout == f"Made job {job.public_id}: {address}/jobs/{job.id}\n"
    assert (done.returncode, done.stderr) == (0, "")
    assert (job.name, job.suffix, job.config["num_epochs"]) == ("First", "w7", 4)
    [file] = files(db)
    assert file.filename.startswith("ward ")
    assert file.size_bytes == len(SURE)


def test_a_job_is_tested_on_a_file_of_its_own(
    etude: Etude, db: Session, model: BaseModel, table: Path, personal: Path
) -> None:
    options = ("--model", model.name, "--validation", str(personal), "--json")
    keep = ("--keep-privacy", "Everybody in it is invented.")
    made = json.loads(etude("job", "create", str(table), *options, *keep).stdout)
    assert made["id"] == the_job(db).public_id
    by_name = {file.filename: file.public_id for file in files(db)}
    assert made["validation_file"] == by_name["people.csv"]
    # The same files once more, by their ids.
    again = etude(
        *("job", "create", made["training_file"], "--model", model.name),
        *("--validation", made["validation_file"], *keep),
    )
    assert again.returncode == 0, again.stderr
    assert len(files(db)) == 2


def test_personal_details_are_decided_with_the_job(
    etude: Etude, db: Session, user: User, model: BaseModel, personal: Path
) -> None:
    sent = etude("job", "create", str(personal), "--model", model.name, "--keep-privacy", "yes")
    assert (sent.returncode, "x_privacy.reason" in sent.stderr) == (1, True)
    assert files(db) == []  # what was sent for nothing is gone again
    both = etude(
        *("job", "create", str(personal), "--model", model.name),
        *("--keep-privacy", "They are invented.", "--privacy", "blank"),
    )
    assert (both.returncode, "not both" in both.stderr) == (1, True)
    done = etude("job", "create", str(personal), "--model", model.name, "--privacy", "replace")
    assert done.returncode == 0, done.stderr
    read_all()
    [file] = files(db)
    undecided = etude("job", "create", file.public_id, "--model", model.name)
    assert undecided.returncode == 0, "replaced once, it is decided"


def test_without_a_decision_the_data_is_searched_first(
    environment: dict[str, str], db: Session, model: BaseModel, table: Path, personal: Path
) -> None:
    options = ("--model", model.name)
    clean, other = (
        Watcher(environment, "job", "create", str(path), *options) for path in (table, personal)
    )
    for watcher in (clean, other):
        watcher.await_complaint("reads the data first")
    read_all()
    assert clean.end()[0] == 0
    code, said, complaints = other.end()
    assert (code, said) == (1, "")
    [kept] = [file for file in files(db) if file.filename == personal.name]
    assert f"stays in Etude as {kept.public_id}" in complaints
    assert "/privacy" in complaints


def test_ctrl_c_before_there_is_a_job_leaves_no_file(
    environment: dict[str, str], db: Session, model: BaseModel, table: Path
) -> None:
    watcher = Watcher(environment, "job", "create", str(table), "--model", model.name)
    watcher.await_complaint("reads the data first")
    watcher.process.send_signal(signal.SIGINT)
    assert watcher.end()[:2] == (130, "")
    assert files(db) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["/no/such.csv", "--model", "house/tiny"], "There is no file /no/such.csv"),
        (["/tmp", "--model", "house/tiny"], "/tmp is a folder"),
        (["{table}", "--model", "nobody"], "There is no model “nobody”"),
        (["{table}", "--model", "house/tiny", "--suffix", "w" * 65], "suffix"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(
    etude: Etude, db: Session, model: BaseModel, table: Path, arguments: list[str], sentence: str
) -> None:
    done = etude("job", "create", *(each.replace("{table}", str(table)) for each in arguments))
    assert (done.returncode, done.stdout) == (1, "")
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert files(db) == []


def train(db: Session, job: Job) -> fence.Claim:
    """Have a worker take the job, and a trainer report two steps of it."""
    claim = protocol.claim(db, WORKER)
    assert claim is not None
    at = time.time()
    steps = [
        StepEvent(
            at=at, step=step, epoch=step / 2, loss=3.0 - step, learning_rate=1e-3, grad_norm=1.0,
            num_tokens=500, tokens_per_second=100.0,
        )
        for step in (1, 2)
    ]  # fmt: skip
    plan = PlanEvent(at=at, total_steps=2, num_train=20, num_validation=4, num_truncated=0, plan={})
    tested = EvaluationEvent(at=at, step=2, loss=1.5, is_best=True)
    metrics.ingest(db, job.id, claim.attempt, [plan, *steps, tested], spool_offset=1)
    db.commit()
    return fence.Claim(job.id, claim.attempt, WORKER.id, 0)


class Watcher:
    """A command that watches, and what it has said so far."""

    def __init__(self, environment: dict[str, str], *arguments: str) -> None:
        self.process = warm.Popen(
            command(*arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def await_line(self, words: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if words in line:
                return str(line)
        raise AssertionError(f"it never said “{words}”")

    def await_complaint(self, words: str) -> None:
        assert self.process.stderr is not None
        assert words in self.process.stderr.readline()

    def end(self) -> tuple[int, str, str]:
        said, complaints = self.process.communicate(timeout=patience.seconds(60))
        return self.process.returncode, said, complaints


def test_a_watched_job_shows_its_loss_and_ends_well(
    environment: dict[str, str], db: Session, user: User, model: BaseModel
) -> None:
    job = factories.make_job(db, user=user, base_model=model, name="Ward 7")
    watcher = Watcher(environment, "job", "show", str(job.id), "--watch")
    watcher.await_line("in the queue")
    claim = train(db, job)
    line = watcher.await_line("step 2/2")
    assert "[##############################]" in line
    assert "loss 1.00  check loss 1.50" in line
    protocol.succeed(db, claim, measured={})
    db.commit()
    code, said, complaints = watcher.end()
    assert (code, complaints) == (0, "")
    assert "Ward 7\n  Job       ftjob-" in said


def test_a_watched_job_that_fails_is_a_failure(
    environment: dict[str, str], db: Session, user: User, model: BaseModel
) -> None:
    job = factories.make_job(db, user=user, base_model=model)
    claim = train(db, job)
    watcher = Watcher(environment, "job", "show", job.public_id, "--watch", "--json")
    protocol.fail(db, claim, code="out_of_memory", reason=TOO_LARGE)
    db.commit()
    code, said, complaints = watcher.end()
    assert code == 1
    assert json.loads(said)["status"] == "failed"
    # The progress is on standard error, too; the sentence comes last.
    assert json.loads(complaints[complaints.index("{") :]) == {"error": TOO_LARGE}


def test_ctrl_c_leaves_the_job_alone(
    environment: dict[str, str], db: Session, user: User, model: BaseModel
) -> None:
    job = factories.make_job(db, user=user, base_model=model)
    watcher = Watcher(environment, "job", "show", str(job.id), "--watch")
    watcher.await_line("in the queue")
    watcher.process.send_signal(signal.SIGINT)
    code, _, complaints = watcher.end()
    assert (code, "goes on" in complaints) == (130, True)
    assert "Traceback" not in complaints
    assert the_job(db).desired is Desired.RUN


def test_jobs_are_listed_shown_and_steered(
    etude: Etude, db: Session, user: User, model: BaseModel
) -> None:
    older = factories.make_job(db, user=user, base_model=model, name="Older\x1b[2J")
    newer = factories.make_job(db, user=user, version=older.version, base_model=model, name="Newer")
    rows = [line.split("\t") for line in etude("job", "list").stdout.splitlines()]
    assert [row[0] for row in rows] == [newer.public_id, older.public_id]
    assert (rows[0][4], rows[1][4]) == ("Newer", "Older␛[2J")
    listed = json.loads(etude("job", "list", "--limit", "1", "--json").stdout)
    assert [job["id"] for job in listed] == [newer.public_id]
    shown = etude("job", "show", newer.public_id)
    assert (shown.returncode, shown.stdout.startswith("Newer\n")) == (0, True)
    paused = etude("job", "pause", str(newer.id))
    assert paused.stdout == f"{newer.public_id}: paused\n"
    assert json.loads(etude("job", "resume", str(newer.id), "--json").stdout)["status"] == "queued"
    assert etude("job", "cancel", newer.public_id).stdout == f"{newer.public_id}: cancelled\n"
    over = etude("job", "cancel", newer.public_id)
    assert (over.returncode, len(over.stderr.splitlines())) == (1, 1)
    assert etude("job", "show", "999").returncode == 1
    assert etude("job", "show", "ftjob-no/../such").returncode == 1
