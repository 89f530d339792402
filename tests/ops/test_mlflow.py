"""A job's figures in the house's MLflow: all of them, once, late if need be, and nothing else."""

import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app import notices
from app.core import settings
from app.core.models import Job, JobStatus, Notice, Outgoing, Role
from app.jobs import metrics, protocol, requests
from app.jobs.fence import Claim
from app.jobs.protocol import WorkerInfo
from app.training.events import EvaluationEvent, StepEvent
from tests.app.web.pages import sign_in
from tests.factories import make_dataset_version, make_job, make_user
from tests.ops.mlflow_server import Mlflow, mlflow_server
from worker.cpu.outbox import send_due

WORKER = WorkerInfo("gpu-0@here", "here", "boot", 1, 1, ("cpu",))


def use(monkeypatch: pytest.MonkeyPatch, url: str, **values: str) -> None:
    named = {"MLFLOW_URL": url, "OUTBOX_RETRY_SECONDS": "[0, 0]", **values}
    for name, value in named.items():
        monkeypatch.setenv(f"ETUDE_{name}", value)
    settings.get.cache_clear()


@pytest.fixture
def house(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mlflow]:
    with mlflow_server() as there:
        use(monkeypatch, there.url, PUBLIC_URL="https://etude.house.example")
        yield there


def begin(db: Session, **columns: object) -> tuple[Job, Claim]:
    job = make_job(db, **columns)  # type: ignore[arg-type]
    claimed = protocol.claim(db, WORKER)
    db.commit()
    assert claimed is not None
    return job, claimed


def report(db: Session, claimed: Claim, steps: range) -> None:
    events: list[metrics.TrainerEvent] = [
        StepEvent(at=1.7e9 + step, step=step, epoch=step / 10, loss=3 - step / 1000,
                  learning_rate=1e-3, grad_norm=1, num_tokens=50, tokens_per_second=500)
        for step in steps
    ]  # fmt: skip
    events.append(EvaluationEvent(at=1.7e9 + steps[-1], step=steps[-1], loss=2.5, is_best=True))
    metrics.ingest(db, claimed.job_id, claimed.attempt, events, spool_offset=1000)
    db.commit()


def end(db: Session, claimed: Claim) -> None:
    protocol.succeed(db, claimed, measured={})
    db.commit()


def send(db: Session) -> int:
    """Let what waits for its time be due now, and send it."""
    db.execute(update(Outgoing).values(send_after=func.now() - timedelta(seconds=1)))
    db.commit()
    num = send_due()
    db.expire_all()
    return num


def test_a_job_stands_there_with_its_figures_and_settings(db: Session, house: Mlflow) -> None:
    job, claimed = begin(db)
    report(db, claimed, range(1, 4))
    send(db)
    (run,) = house.runs
    assert (run["name"], run["status"], house.experiments) == (
        f"job {job.id}",
        "RUNNING",
        ["Etude"],
    )
    assert run["tags"]["etude.job"] == job.public_id
    assert run["tags"]["etude.link"] == f"https://etude.house.example/jobs/{job.id}"
    assert run["params"]["base_model"] == "house/tiny"
    assert run["params"]["lora_rank"] == str(job.config["lora_rank"])
    assert house.points("loss") == [(1, 2.999), (2, 2.998), (3, 2.997)]
    report(db, claimed, range(4, 6))
    end(db, claimed)
    send(db)
    assert [step for step, _ in house.points("loss")] == [1, 2, 3, 4, 5]
    assert house.points("validation_loss") == [(3, 2.5), (5, 2.5)]
    assert run["status"] == "FINISHED"
    assert send(db) == 0  # it is over


def test_nothing_of_people_or_their_data_is_sent(db: Session, house: Mlflow) -> None:
    user = make_user(db, email="ada.okafor@ward.example")
    version = make_dataset_version(db, user=user, name="Falls of Mrs Weber")
    _, claimed = begin(db, user=user, version=version, name="Weber, second try")
    report(db, claimed, range(1, 3))
    protocol.fail(db, claimed, code="dataset_invalid", reason="Row 3, “Mrs Weber fell”, is odd.")
    db.commit()
    send(db)
    said = "\n".join(house.bodies)
    assert "dataset_invalid" in said
    assert house.runs[0]["status"] == "FAILED"
    for word in ("weber", "okafor", "ward", "fell"):
        assert word not in said.lower()


def test_a_server_that_is_down_delays_nothing_and_loses_nothing(
    db: Session, data_dir: Path, monkeypatch: pytest.MonkeyPatch, client: TestClient
) -> None:
    admin = make_user(db, role=Role.ADMIN)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    use(monkeypatch, f"http://127.0.0.1:{port}/house")
    _, claimed = begin(db)
    for step in range(1, 5):
        report(db, claimed, range(step, step + 1))
        assert send(db) >= 1
    end(db, claimed)
    row = db.scalars(select(Outgoing)).one()
    assert (row.sent_at, row.gave_up_at) == (None, None)
    assert row.tries >= 4
    titles = list(db.scalars(select(Notice.title).where(Notice.user_id == admin.id)))
    assert titles == ["A job's figures could not be sent to MLflow; Etude goes on trying"]
    sign_in(client, db, admin)
    assert "MLflow: nothing answers at this address" in client.get("/webhooks").text
    with mlflow_server(port) as there:
        send(db)
        assert [step for step, _ in there.points("loss")] == [1, 2, 3, 4]
        assert there.runs[0]["status"] == "FINISHED"
    row = db.scalars(select(Outgoing)).one()
    assert row.sent_at is not None
    assert row.last_error is None


def test_what_is_told_twice_stands_there_once(db: Session, house: Mlflow) -> None:
    _, claimed = begin(db)
    report(db, claimed, range(1, 4))
    house.to_lose = {"experiments/create", "runs/create", "runs/log-batch", "runs/update"}
    for _ in range(5):
        send(db)
    assert not house.to_lose
    assert house.calls.count("experiments/create") == 1
    assert house.calls.count("runs/create") == 1
    assert house.calls.count("runs/log-batch") == 3
    assert house.points("loss") == [(1, 2.999), (2, 2.998), (3, 2.997)]


def test_many_points_go_in_several_requests(db: Session, house: Mlflow) -> None:
    _, claimed = begin(db)
    report(db, claimed, range(1, 401))
    end(db, claimed)
    send(db)
    assert [step for step, _ in house.points("loss")] == list(range(1, 401))
    assert house.points("num_tokens")[-1] == (400, 50)
    assert house.calls.count("runs/log-batch") == 4  # of 2,401 points, 800 at most in each
    assert house.runs[0]["status"] == "FINISHED"


def test_a_server_made_anew_is_told_everything_again(db: Session, house: Mlflow) -> None:
    _, claimed = begin(db)
    report(db, claimed, range(1, 3))
    send(db)
    house.runs.clear()
    house.experiments.clear()
    report(db, claimed, range(3, 4))
    send(db)
    assert [step for step, _ in house.points("loss")] == [1, 2, 3]


def test_a_run_that_was_deleted_there_stays_deleted(db: Session, house: Mlflow) -> None:
    _, claimed = begin(db)
    report(db, claimed, range(1, 3))
    send(db)
    house.runs[0]["is_deleted"] = True
    report(db, claimed, range(3, 4))
    end(db, claimed)
    send(db)
    assert send(db) == 0
    assert len(house.runs) == 1
    assert [step for step, _ in house.points("loss")] == [1, 2]


def test_how_many_answers_are_right_comes_after(db: Session, house: Mlflow) -> None:
    job, claimed = begin(db)
    report(db, claimed, range(1, 2))
    end(db, claimed)
    send(db)
    counts = {"right": 29, "partly": 2, "wrong": 9, "unsure": 1, "num": 41, "verdict": "ready"}
    notices.job_ended(db, job.id, "29 of 41 answers are right", counts)
    db.commit()
    assert send(db) == 1
    assert house.points("evaluation/right") == [(0, 29)]
    assert house.points("evaluation/num") == [(0, 41)]
    assert send(db) == 0


def test_a_refusal_is_told_in_the_servers_words(db: Session, house: Mlflow) -> None:
    begin(db)
    house.refusal = (403, "Permission denied")
    send(db)
    assert db.scalars(select(Outgoing.last_error)).one() == "it answered 403: Permission denied"


@pytest.mark.parametrize(
    ("values", "header"),
    [
        ({"MLFLOW_TOKEN": "t0ken"}, "Bearer t0ken"),
        ({"MLFLOW_USER": "etude", "MLFLOW_PASSWORD": "secret"}, "Basic ZXR1ZGU6c2VjcmV0"),
    ],
)
def test_it_signs_in(
    db: Session,
    house: Mlflow,
    monkeypatch: pytest.MonkeyPatch,
    values: dict[str, str],
    header: str,
) -> None:
    use(monkeypatch, house.url, **values)
    begin(db)
    send(db)
    assert {each["Authorization"] for each in house.headers} == {header}


def test_a_deleted_job_is_told_no_more(db: Session, house: Mlflow) -> None:
    job, claimed = begin(db)
    protocol.fail(db, claimed, code="x", reason="It was tried.")
    db.commit()
    requests.delete(db, job.owner, job)
    db.commit()
    assert (send(db), house.calls) == (0, [])


def test_without_the_setting_nothing_is_written_and_what_waits_waits(
    db: Session, house: Mlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, claimed = begin(db)
    use(monkeypatch, "")
    assert send(db) == 0
    begin(db)
    assert db.scalar(select(func.count()).select_from(Outgoing)) == 1
    use(monkeypatch, house.url)
    assert send(db) == 1
    assert db.get_one(Job, claimed.job_id).status is JobStatus.RUNNING


def test_an_address_that_is_none_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("mlflow.house.example", "http://ada:secret@mlflow.house.example"):
        monkeypatch.setenv("ETUDE_MLFLOW_URL", url)
        with pytest.raises(SystemExit, match="ETUDE_MLFLOW_URL"):
            settings.load()
