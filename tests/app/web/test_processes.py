"""Several processes of the web on one port."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from app.core import settings
from tests import patience
from tests.app.web.serving import serving
from worker.identity import children

pytestmark = pytest.mark.timeout(300)
TOKEN = "prometheus"
NUM_REQUESTS = 40


@pytest.fixture
def web(
    database_url: str, broker: str, tmp_path: Path
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    variables = {"ETUDE_WEB_PROCESSES": "2", "ETUDE_METRICS_TOKEN": TOKEN}
    with serving(tmp_path, **variables) as (port, process):
        wait_for_both(port, process)
        yield port, process


def of_web(process: subprocess.Popen[bytes]) -> set[int]:
    """The processes that answer, and not what they have started."""
    return {
        pid
        for pid in children(process.pid)
        if b"app.cli" in Path(f"/proc/{pid}/cmdline").read_bytes()
    }


def wait_for_both(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until two have said that they are there, each for itself."""
    deadline = time.monotonic() + patience.seconds(90)
    while len(listening_on(port)) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)


def listening_on(port: int) -> list[str]:
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [row[9] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A"]


def ask(port: int, path: str, **headers: str) -> httpx2.Response:
    # Each on a connection of its own: the kernel gives it to one of them.
    return httpx2.get(
        f"http://127.0.0.1:{port}{path}", headers=headers, timeout=patience.seconds(30)
    )


def counted(port: int) -> int:
    text = ask(port, "/metrics", authorization=f"Bearer {TOKEN}").text
    found = re.search(r'etude_http_request_seconds_count\{.*route="/sign-in".*\} ([0-9.]+)', text)
    assert found, text
    return int(float(found[1]))


def test_both_answer_and_what_they_count_is_added_up(
    web: tuple[int, subprocess.Popen[bytes]],
) -> None:
    port, process = web
    for _ in range(NUM_REQUESTS):
        assert ask(port, "/sign-in").status_code == 200
    assert {counted(port) for _ in range(10)} == {NUM_REQUESTS}
    counts = settings.get().run_dir / "web-counts"
    who = {int(file.stem.rpartition("_")[2]) for file in counts.glob("histogram_*.db")}
    assert who == of_web(process)
    assert len(who) == 2


def test_while_one_is_gone_the_other_answers(web: tuple[int, subprocess.Popen[bytes]]) -> None:
    port, process = web
    one = min(of_web(process))
    os.kill(one, signal.SIGKILL)
    deadline = time.monotonic() + patience.seconds(60)
    while one in of_web(process) and len(listening_on(port)) > 1:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for _ in range(10):
        assert ask(port, "/sign-in").status_code == 200
    wait_for_both(port, process)
    assert one not in of_web(process)


def test_they_end_together(web: tuple[int, subprocess.Popen[bytes]]) -> None:
    port, process = web
    both = of_web(process)
    process.terminate()
    assert process.wait(patience.seconds(60)) == 0
    assert not [pid for pid in both if Path(f"/proc/{pid}/exe").exists()]
    assert listening_on(port) == []
