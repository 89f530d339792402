"""The web as a process of its own, on the test's database, and a browser without a mind."""

import http.client
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests import patience, warm


@pytest.fixture
def port(database_url: str, broker: str, data_dir: Path, tmp_path: Path) -> Iterator[int]:
    """The web as a process of its own, on the test's database."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = int(probe.getsockname()[1])
    environment = os.environ | {"ETUDE_PORT": str(number), "ETUDE_LOG_LEVEL": "WARNING"}
    with (tmp_path / "web.log").open("wb") as log:
        web = warm.Popen(
            [sys.executable, "-m", "app.cli", "web"], stdout=log, stderr=log, env=environment
        )
    deadline = time.monotonic() + patience.seconds(60)
    while ask(number, "GET", "/healthz")[0] != 200:
        assert web.poll() is None, (tmp_path / "web.log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    yield number
    web.terminate()
    web.wait(patience.seconds(30))


def ask(port: int, method: str, path: str, *, cookie: str = "", form: str = "") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience.seconds(60))
    headers = {"Origin": f"http://127.0.0.1:{port}", "Cookie": cookie, "Accept": "text/html"}
    if form:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    with closing(connection), suppress(OSError, http.client.HTTPException):
        connection.request(method, path, body=form or None, headers=headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.getheader("location") or ""
    return 0, ""
