"""Measurements, readiness and the log: what an administrator's programs read."""

import io
import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Connection, func, text
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.core import db as database
from app.core import logs, migrations, settings
from app.core.models import Attempt, JobStatus, Worker
from app.machines import prometheus
from app.ops.embedded.postgres import Postgres
from app.ops.embedded.valkey import Valkey
from tests import patience
from tests.app.web.pages import sign_in
from tests.factories import make_job, make_user
from tests.small_disk import small_disk

ROOT = Path(__file__).parents[2]
TOKEN = {"Authorization": "Bearer a-long-token"}


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch, database_url: str) -> None:
    monkeypatch.setenv("ETUDE_METRICS_TOKEN", "a-long-token")
    settings.get.cache_clear()


def scrape(client: TestClient) -> dict[tuple[str, ...], float]:
    """Return each sample by its name and its labels' values, in the order of the labels' names."""
    answer = client.get("/metrics", headers=TOKEN)
    assert answer.status_code == 200
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def add_worker(db: Session, queue: str) -> Worker:
    worker = Worker(id=f"{queue}-0@here", queue=queue, host="here", boot_id="", devices=["cpu"],
                    version="1", hardware={"free_bytes": 7e9, "num_cores": 8})  # fmt: skip
    db.add(worker)
    db.commit()
    return worker


def test_measurements_need_the_token(client: TestClient, db: Session, token: None) -> None:
    assert client.get("/metrics").status_code == 401
    for wrong in ("Bearer wrong", "Basic a-long-token", "Bearer ", "a-long-token", "Bearer ä"):
        headers = {b"Authorization": wrong.encode()}
        assert client.get("/metrics", headers=headers).status_code == 401
    assert client.get("/metrics", headers=TOKEN).headers["content-type"].startswith("text/plain")
    settings.get().metrics_token = ""
    assert client.get("/metrics", headers=TOKEN).status_code == 404
    assert client.get("/metrics", headers={"Authorization": "Bearer "}).status_code == 404


def test_they_say_how_the_house_is(client: TestClient, db: Session, token: None) -> None:
    hour = timedelta(hours=1)
    add_worker(db, "gpu").last_seen = func.now() - timedelta(seconds=30)
    make_job(db, created_at=func.now() - hour, run_after=func.now() - hour)
    done = make_job(db, status=JobStatus.SUCCEEDED, created_at=func.now() - hour)
    done.started_at = func.now() - hour / 2
    db.add(Attempt(job_id=done.id, number=1, worker_id="gpu-0@here", host="here", boot_id="",
                   supervisor_pid=1, supervisor_started=1, devices=["cpu"], resume_step=0,
                   ended_at=func.now(), outcome="succeeded", energy_joules=3.6e6,
                   energy_source="gpu"))  # fmt: skip
    db.commit()
    sign_in(client, db, make_user(db))
    client.get(f"/jobs/{done.id}")
    client.get("/nothing/at/all")
    found = scrape(client)
    assert found["etude_jobs", "waiting"] == 1
    assert found["etude_jobs", "running"] == 0
    assert found["etude_jobs_ended_total", "succeeded"] == 1
    assert 3599 < found["etude_oldest_waiting_seconds",] < 3700
    assert found["etude_jobs_wait_seconds_total",] == pytest.approx(1800, abs=60)
    assert found["etude_attempts_ended_total", "succeeded"] == 1
    assert found["etude_energy_joules_total", "gpu"] == 3.6e6
    assert 29 < found["etude_worker_heartbeat_age_seconds", "gpu", "active", "gpu-0@here"] < 40
    assert found["etude_worker_memory_free_bytes", "gpu-0@here"] == 7e9
    assert found["etude_http_request_seconds_count", "GET", "/jobs/{job_id}", "2xx"] >= 1
    assert found["etude_http_request_seconds_count", "GET", "other", "4xx"] >= 1
    assert not any("nothing" in str(name) for name in found)
    assert found["etude_database_connections", "idle"] >= 0
    assert "Ward" not in client.get("/metrics", headers=TOKEN).text


def test_a_database_that_is_away_is_a_measurement(
    client: TestClient, token: None, database_url: str, gone: None
) -> None:
    found = scrape(client)
    assert found["etude_database_up",] == 0
    assert ("etude_jobs", "waiting") not in found


def test_open_pages_are_counted(client: TestClient, db: Session, token: None) -> None:
    hub = client.app.state.hub  # type: ignore[attr-defined]
    before = scrape(client)["etude_event_streams_open",]
    with hub.subscribe("job:7"):
        assert scrape(client)["etude_event_streams_open",] == before + 1
    assert scrape(client)["etude_event_streams_open",] == before


def test_the_dashboard_names_what_there_is(client: TestClient, token: None) -> None:
    board = json.loads((ROOT / "deploy/grafana-etude.json").read_text())
    asked = {
        name
        for panel in board["panels"]
        for target in panel["targets"]
        for name in re.findall(r"\betude_\w+", target["expr"])
    }
    text = client.get("/metrics", headers=TOKEN).text
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    there = set(kinds)
    for name, kind in kinds.items():
        if kind == "histogram":
            there |= {f"{name}_bucket", f"{name}_count", f"{name}_sum"}
    assert len(asked) > 15
    assert asked <= there, asked - there
    told = {name for name in kinds if not name.endswith("_created")}
    shown = {name.removesuffix("_bucket").removesuffix("_count") for name in asked}
    assert told <= shown, "a measurement that no panel shows"
    assert "etude-token" in (ROOT / "deploy/prometheus.yml").read_text()


def test_what_devices_say_is_passed_on() -> None:
    said = {
        "devices": [
            {"device": "cuda:0", "memory_used_bytes": 5, "power_watts": 71.5, "xid": 79},
            {"device": "cuda:1", "temperature_celsius": None},
        ]
    }
    assert list(prometheus.readings(said)) == [
        ("memory_used_bytes", "cuda:0", 5.0),
        ("power_watts", "cuda:0", 71.5),
    ]
    assert list(prometheus.readings(None)) == []


# --- readiness -----------------------------------------------------------------------------


@pytest.fixture
def gone(client: TestClient, postgres: Postgres) -> Iterator[None]:
    """The database takes no connections any more."""
    # A connection that was just being made when the door was shut would not be on the list of those
    # that are ended, and live on.
    hub = client.app.state.hub  # type: ignore[attr-defined]
    wait_until(lambda: hub.is_listening)
    name = database.engine().url.database
    server = postgres.url.replace("@/etude?", "@/postgres?")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
        yield
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + patience.seconds(20)
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ready(client: TestClient) -> dict[str, str]:
    answer = client.get("/readyz")
    checks: dict[str, str] = answer.json()
    is_ready = checks.pop("ready")
    assert answer.status_code == (200 if is_ready else 503)
    assert bool(is_ready) == all(value == "ok" for value in checks.values())
    return {name: value for name, value in checks.items() if value != "ok"}


def well(client: TestClient, db: Session) -> None:
    for queue in ("gpu", "cpu"):
        add_worker(db, queue)
    hub = client.app.state.hub  # type: ignore[attr-defined]
    for _ in range(200):
        if hub.is_listening:
            break
        client.get("/healthz")
    assert ready(client) == {}


def test_each_dependency_is_asked(
    client: TestClient, db: Session, broker: str, data_dir: Path, owner: Connection
) -> None:
    assert ready(client).keys() >= {"gpu worker", "cpu worker"}
    well(client, db)
    worker = db.get_one(Worker, "cpu-0@here")
    worker.last_seen = func.now() - timedelta(minutes=10)
    db.commit()
    assert ready(client) == {"cpu worker": "none is alive"}
    db.execute(text("UPDATE worker SET last_seen = now()"))
    db.commit()
    owner.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    assert ready(client) == {"database": "its tables are not those of this version"}
    owner.execute(text("UPDATE alembic_version SET version_num = :n"), {"n": migrations.head()})
    with small_disk(data_dir / "storage") as place:
        (place / "ballast").write_bytes(bytes(1024 * 1024))
        assert ready(client) == {"storage": "takes no files: No space left on device"}
    assert client.get("/healthz").status_code == 200


def test_a_job_that_nobody_takes(client: TestClient, db: Session, broker: str) -> None:
    well(client, db)
    make_job(db, run_after=func.now() - timedelta(hours=1))
    db.commit()
    assert ready(client) == {"queue": "Jobs wait, but gpu-0@here is free and takes none."}


def test_the_web_alone_needs_its_database_and_no_worker(client: TestClient, db: Session) -> None:
    hub = client.app.state.hub  # type: ignore[attr-defined]
    wait_until(lambda: client.get("/healthz").is_success and hub.is_listening)
    assert client.get("/readyz/web").json() == {"ready": True, "database": "ok", "live pages": "ok"}


def test_a_broker_that_stops(
    client: TestClient,
    db: Session,
    server_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    data_dir: Path,
) -> None:
    server = Valkey(settings.load(data_dir=server_dir / "broker of a test"))
    server.start()
    monkeypatch.setenv("REDIS_URL", server.url)
    settings.get.cache_clear()
    try:
        well(client, db)
    finally:
        server.stop()
    assert ready(client) == {"broker": "does not answer"}


def test_a_database_that_is_away(client: TestClient, broker: str, gone: None) -> None:
    wrong = ready(client)
    assert wrong["database"] == "does not answer"
    of_web = client.get("/readyz/web")
    assert (of_web.status_code, of_web.json()["database"]) == (503, "does not answer")
    assert client.get("/healthz").status_code == 200
    hub = client.app.state.hub  # type: ignore[attr-defined]
    wait_until(lambda: not hub.is_listening)
    assert "hear nothing" in ready(client)["live pages"]


# --- the log -------------------------------------------------------------------------------


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    out = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logs.configure("INFO", "json", out)
    yield out
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def test_each_line_of_a_request_has_its_id(
    log: io.StringIO, client: TestClient, db: Session
) -> None:
    app = client.app

    @app.get("/two-lines")  # type: ignore[attr-defined, untyped-decorator]
    def two_lines() -> None:
        structlog.get_logger().info("ours")
        logging.getLogger("a.library").warning("theirs: %s", "x\ny")
        raise RuntimeError("it broke")

    with pytest.raises(RuntimeError):
        client.get("/two-lines")
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    ours = [line for line in lines if line["event"] in ("ours", "theirs: x\ny", "request")]
    assert len(ours) == 3
    assert len({line["request_id"] for line in ours}) == 1
    assert {line["level"] for line in ours} == {"info", "warning"}
    assert next(line["logger"] for line in ours if line["level"] == "warning") == "a.library"
    assert [line["status"] for line in ours if line["event"] == "request"] == [500]
    crash = next(line for line in lines if line["event"] == "request.failed")
    assert crash["request_id"] == ours[0]["request_id"]
    assert "it broke" in crash["exception"]
    client.get("/sign-in")
    last = json.loads(log.getvalue().splitlines()[-1])
    assert last["request_id"] != ours[0]["request_id"]


def test_lines_are_one_line_each_in_logfmt(log: io.StringIO) -> None:
    logs.configure("INFO", "logfmt", log)
    with structlog.contextvars.bound_contextvars(job=7, attempt=2):
        logging.getLogger("celery").error("two\nlines")
        structlog.get_logger().info("trainer.ended", exit_code=0)
    first, second = log.getvalue().splitlines()
    assert "attempt=2 job=7" in first
    assert r"two\nlines" in first
    assert re.search(r"level=info event=trainer.ended attempt=2 exit_code=0 job=7", second)
