"""TensorBoard's own reader and a real MLflow hear of a job; `make test-loggers` installs both.

ETUDE_TEST_LOGGERS names the Python that has them.
"""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app import notices
from app.core.models import Json, Outgoing
from app.jobs import metrics, protocol, tensorboard
from tests import patience
from tests.factories import make_job
from tests.ops.test_mlflow import WORKER, begin, end, report, send, use
from tests.worker.conftest import wait_for

LOGGERS = os.environ.get("ETUDE_TEST_LOGGERS", "")
NUM_STEPS = 450
READER = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
read = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "tensors": 0})
read.Reload()
scalars = {tag: [(each.step, each.value, each.wall_time) for each in read.Scalars(tag)]
           for tag in read.Tags()["scalars"]}
text = [each.tensor_proto.string_val[0].decode() for each in read.Tensors(sys.argv[2])]
plugin = read.SummaryMetadata(sys.argv[2]).plugin_data.plugin_name
print(json.dumps([scalars, text, plugin, read.file_version]))
"""

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not LOGGERS, reason="neither is here: `make test-loggers` installs them"),
]


def test_tensorboard_reads_every_point(db: Session, tmp_path: Path) -> None:
    job = make_job(db)
    claimed = protocol.claim(db, WORKER)
    assert claimed is not None
    report(db, claimed, range(1, NUM_STEPS + 1))
    file = tmp_path / tensorboard.filename(job)
    file.write_bytes(b"".join(tensorboard.event_file(db, job)))
    done = subprocess.run(
        [LOGGERS, "-c", READER, str(tmp_path), tensorboard.SETTINGS_TAG],
        capture_output=True,
        text=True,
        timeout=patience.seconds(120),
    )
    assert done.returncode == 0, done.stderr
    scalars, text, plugin, version = json.loads(done.stdout)
    assert (plugin, version) == ("text", 2.0)
    assert "| lora_rank | 16 |" in text[0]
    curves = metrics.series(db, job.id)
    assert scalars.keys() == curves.keys()
    for name, points in curves.items():
        assert [step for step, *_ in scalars[name]] == [step for step, _ in points]
        assert [value for _, value, _ in scalars[name]] == pytest.approx(
            [value for _, value in points], rel=1e-6
        )
    assert scalars["loss"][0][2] == 1.7e9 + 1


class House:
    """A running MLflow, asked past Etude."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder = folder
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "mlflow.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(LOGGERS, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1"),
                    *("--port", str(self.port), "--backend-store-uri"),
                    f"sqlite:///{self.folder / 'mlflow.db'}",
                ],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )

    def stop(self) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def is_up(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/health", timeout=5).status_code == httpx2.codes.OK
        except httpx2.HTTPError:
            return False

    def ask(self, what: str, **body: Any) -> Json:
        answer = httpx2.post(f"{self.url}/api/2.0/mlflow/{what}", json=body, timeout=60)
        assert answer.status_code == httpx2.codes.OK, answer.text
        found: Json = answer.json()
        return found

    def history(self, run_id: str, name: str) -> list[tuple[int, float]]:
        answer = httpx2.get(
            f"{self.url}/api/2.0/mlflow/metrics/get-history",
            params={"run_id": run_id, "metric_key": name, "max_results": 5000},
            timeout=60,
        )
        points = answer.json().get("metrics", [])
        return sorted((int(each["step"]), each["value"]) for each in points)


@pytest.fixture
def mlflow(tmp_path: Path, db: Session, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    there = House(tmp_path)
    there.start()
    try:
        wait_for(db, lambda: there.is_up() or None, seconds=patience.seconds(180))
        use(monkeypatch, there.url, WEBHOOK_SECONDS="60")
        yield there
    finally:
        there.stop()


def test_a_real_mlflow_has_every_point_once(db: Session, mlflow: House) -> None:
    job, claimed = begin(db)
    report(db, claimed, range(1, 4))
    send(db)
    # It is killed in mid-job and comes back; what was told is told once more.
    mlflow.stop()
    report(db, claimed, range(4, NUM_STEPS + 1))
    send(db)
    mlflow.start()
    wait_for(db, lambda: mlflow.is_up() or None, seconds=patience.seconds(180))
    end(db, claimed)
    counts = {"right": 29, "partly": 2, "wrong": 9, "unsure": 1, "num": 41}
    notices.job_ended(db, job.id, "29 of 41 answers are right", counts)
    db.commit()
    send(db)
    experiment = httpx2.get(
        f"{mlflow.url}/api/2.0/mlflow/experiments/get-by-name", params={"experiment_name": "Etude"}
    ).json()["experiment"]["experiment_id"]
    (run,) = mlflow.ask("runs/search", experiment_ids=[experiment])["runs"]
    info, data = run["info"], run["data"]
    assert (info["run_name"], info["status"]) == (f"job {job.id}", "FINISHED")
    params = {each["key"]: each["value"] for each in data["params"]}
    assert params["lora_rank"] == str(job.config["lora_rank"])
    curves = metrics.series(db, job.id)
    for name, points in curves.items():
        assert mlflow.history(info["run_id"], name) == points
    assert mlflow.history(info["run_id"], "evaluation/right") == [(0, 29.0)]


def test_a_run_that_was_deleted_there_stays_deleted(db: Session, mlflow: House) -> None:
    _, claimed = begin(db)
    report(db, claimed, range(1, 3))
    send(db)
    run_id = db.scalars(select(Outgoing)).one().content["run_id"]
    mlflow.ask("runs/delete", run_id=run_id)
    report(db, claimed, range(3, 4))
    send(db)
    row = db.scalars(select(Outgoing)).one()
    assert (row.sent_at is not None, row.last_error) == (True, None)
