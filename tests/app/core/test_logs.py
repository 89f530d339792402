"""The log: an outage is told once a minute, with how much was left out."""

import io
import time
from collections.abc import Iterator

import pytest
import structlog

from app.core import logs


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    logs.configure("INFO", stream=stream)
    yield stream
    logs.configure("INFO")


def test_an_outage_is_not_a_line_a_second(
    written: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    log = structlog.get_logger()
    for _ in range(70):
        log.warning("sweep.database_away", error="refused")
        log.info("job.claimed")
        now[0] += 1
    lines = written.getvalue().splitlines()
    away = [line for line in lines if "sweep.database_away" in line]
    assert len(away) == 2
    assert "left_out" not in away[0]
    assert "left_out=59" in away[1]
    assert len(lines) == 72, "all else is written"
