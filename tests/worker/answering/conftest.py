"""A real `etude answer` with short timings and the stand-in child."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from app.core import settings
from tests import patience
from tests.worker.answering.asking import STAND_IN, AnswerProcess


@pytest.fixture
def quick(database_url: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in {
        **STAND_IN,
        "ETUDE_HEARTBEAT_SECONDS": "0.3",
        "ETUDE_SELF_FENCE_SECONDS": f"{patience.seconds(2):.2f}",
        "ETUDE_LEASE_SECONDS": f"{patience.seconds(3):.2f}",
        "ETUDE_WATCH_SECONDS": "0.2",
    }.items():
        monkeypatch.setenv(name, value)
    settings.get.cache_clear()
    yield
    settings.get.cache_clear()


@pytest.fixture
def answerer(quick: None, db: Session, tmp_path: Path) -> Iterator[AnswerProcess]:
    """One that is not started yet."""
    made = AnswerProcess(db, tmp_path)
    yield made
    made.end()
    print(made.log.read_text() if made.log.exists() else "")
