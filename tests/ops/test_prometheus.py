"""Debian's Prometheus with our files, before a real web: what the dashboard asks is answered."""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy.orm import Session

from app.core import settings
from tests import http, patience
from tests.app.web.jobs.test_event_stream import free_port, start_web
from tests.factories import make_job

DEPLOY = Path(__file__).parents[2] / "deploy"
TOKEN = "a-token-of-the-site"
BOARD = json.loads((DEPLOY / "grafana-etude.json").read_text())
EXPRESSIONS = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]
Ask = Callable[[str], list[dict[str, Any]]]


@pytest.fixture(params=["prometheus.yml", "compose/prometheus.yml"])
def ask(
    request: pytest.FixtureRequest,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Ask]:
    """Ask a Prometheus that reads one of our files, with its places and hosts changed."""
    if shutil.which("prometheus") is None:
        assert not os.environ.get("ETUDE_REQUIRE_BROWSER"), "prometheus is not here"
        pytest.skip("prometheus is not installed here: make proxies installs it")
    monkeypatch.setenv("ETUDE_METRICS_TOKEN", TOKEN)
    settings.get.cache_clear()
    behind, port = free_port(), free_port()
    (tmp_path / "token").write_text(TOKEN)
    text = (DEPLOY / request.param).read_text()
    for pattern, value in (
        (r"(credentials_file: ).*", rf"\g<1>{tmp_path}/token"),
        (r"targets: .*", f'targets: ["localhost:{behind}"]'),
        (r"(scrape_interval: ).*", r"\g<1>1s"),
    ):
        text, number = re.subn(pattern, value, text)
        assert number == 1, pattern
    (tmp_path / "prometheus.yml").write_text(text)
    web = start_web(behind)
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={tmp_path}/prometheus.yml",
                f"--storage.tsdb.path={tmp_path}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )

    def query(expression: str) -> list[dict[str, Any]]:
        answer = http.get(
            f"http://127.0.0.1:{port}/api/v1/query", params={"query": expression}
        ).json()
        assert answer["status"] == "success", (expression, answer)
        return list(answer["data"]["result"])

    try:
        wait_until(lambda: http.get(f"http://127.0.0.1:{port}/-/ready").status_code == 200, server)
        yield query
    finally:
        server.terminate()
        server.wait(patience.seconds(20))
        web.terminate()
        web.wait(patience.seconds(20))


def wait_until(
    is_so: Callable[[], object], server: "subprocess.Popen[bytes] | None" = None
) -> None:
    deadline = time.monotonic() + patience.seconds(60)
    while True:
        try:
            if is_so():
                return
        except httpx2.TransportError:
            pass
        assert server is None or server.poll() is None, "Prometheus did not start"
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_it_reads_the_measurements_and_knows_the_dashboards_questions(
    ask: Ask, db: Session
) -> None:
    make_job(db)
    db.commit()
    wait_until(lambda: value(ask('etude_jobs{state="waiting"}')) == 1)
    assert value(ask('up{job="etude"}')) == value(ask("etude_database_up")) == 1
    assert len(EXPRESSIONS) > 20
    for expression in EXPRESSIONS:
        ask(expression)


def value(result: list[dict[str, Any]]) -> float | None:
    return float(result[0]["value"][1]) if len(result) == 1 else None
