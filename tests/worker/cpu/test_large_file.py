"""A file of 200 MB on its whole way: simply read, and hardly felt by the processes it meets."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.core.models import (
    DatasetVersion,
    PrivacyReview,
    ReviewStatus,
    VersionStatus,
    Worker,
)
from app.people import auth
from app.training.plan.machine import this_cpu
from tests import http, patience
from tests.app.datasets.test_lengths import byte_model
from tests.app.web.pages import ORIGIN, READS_HTML
from tests.factories import make_user

NUM_ROWS = 6000
ANSWER = "A long answer with ümlauts. " * 1200
ROOM_KILOBYTES = 100 * 1024


def test_a_file_of_200_megabytes_is_simply_read(
    db: Session, web: tuple[str, int], tmp_path: Path
) -> None:
    address, web_pid = web
    model = byte_model(db)
    model.config = {"hidden_size": 64, "vocab_size": 300, "num_hidden_layers": 2}
    model.num_parameters = 100_000
    cpu = this_cpu().model_dump(mode="json")
    db.add(
        Worker(
            id="gpu-0@test",
            queue="gpu",
            host="test",
            boot_id="test",
            devices=["cpu"],
            hardware=cpu,
            version="0",
        )
    )
    user = make_user(db)
    cookies = {auth.COOKIE: auth.open_session(db, user)}
    db.commit()
    headers = {**ORIGIN, **READS_HTML, "Origin": address}
    with httpx2.Client(
        base_url=address, cookies=cookies, headers=headers, timeout=patience.seconds(120)
    ) as browser:
        web_before = peak_kilobytes(web_pid)
        with large_file(tmp_path / "large.jsonl").open("rb") as file:
            page = browser.post("/datasets/upload", files={"file": ("large.jsonl", file)})
        assert page.status_code == 303, page.text
        version = db.scalars(select(DatasetVersion)).one()
        assert version.file.size_bytes > 200_000_000
        for peak in read_next():  # worker and reader, which have a dozen modules each
            assert peak < 2 * ROOM_KILOBYTES
        db.refresh(version)
        assert version.status.value == "mapping"
        page = browser.get(f"/versions/{version.id}")
        assert f"{NUM_ROWS:,} rows read" in page.text
        form = {"column": ["prompt", "completion"], "role": ["question", "answer"]}
        browser.post(f"/versions/{version.id}/confirm", data=form)
        for peak in read_next():
            assert peak < 2 * ROOM_KILOBYTES
        db.refresh(version)
        assert version.status is VersionStatus.READY, version.reason
        # As if it had been searched, and nothing found: else no page says that it may be used.
        db.execute(update(PrivacyReview).values(status=ReviewStatus.DECIDED))
        db.commit()
        for path in (
            f"/versions/{version.id}",
            f"/versions/{version.id}/check",
            f"/jobs/new?version={version.id}",
        ):
            began = time.monotonic()
            page = browser.get(path)
            assert page.status_code == 200
            assert time.monotonic() - began < patience.seconds(
                30
            )  # some seconds here; minutes where all is counted
        assert "It fits this machine" in page.text
        assert peak_kilobytes(web_pid) - web_before < ROOM_KILOBYTES
    db.refresh(version)
    (counted,) = (version.token_lengths or {}).values()
    exact = len(ANSWER.encode()) + len("3000?") + 4
    # A tenth are test rows, which no trainer sees.
    assert counted["total_tokens"] == pytest.approx(exact * NUM_ROWS * 0.9, rel=0.01)


def large_file(path: Path) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for number in range(NUM_ROWS):
            row = {"prompt": f"{number}?", "completion": ANSWER}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


def peak_kilobytes(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


def read_next() -> tuple[int, int]:
    """Take the next version a step in a worker of its own; what it and its reader took at most."""
    code = (
        "import os, resource; from tests.worker.cpu.test_large_file import peak_kilobytes;"
        "from worker.cpu import reading; assert reading.read_next('cpu-0');"
        "print(peak_kilobytes(os.getpid()), resource.getrusage(-1).ru_maxrss)"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    worker, reader = output.split()[-2:]
    return int(worker), int(reader)


@pytest.fixture
def web(db: Session, broker: str, tmp_path: Path) -> Iterator[tuple[str, int]]:
    """A web process of its own: its address and process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (tmp_path / "web.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "web"],
            stdout=log,
            stderr=log,
            env=os.environ | {"ETUDE_PORT": str(port)},
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: http.get(f"{address}/healthz").status_code == 200)
        yield address, process.pid
    finally:
        process.terminate()
        process.wait(patience.seconds(30))


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + patience.seconds(30)
    while True:
        try:
            if is_so():
                return
        except httpx2.TransportError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.1)
