"""A worker on a CPU times a layer once, beside its start."""

import time
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from app.core.models import Worker
from tests import patience
from worker import sweep
from worker.bell import Bell
from worker.gpu import layer_rate
from worker.gpu.layer_rate import LayerRate


def test_it_is_timed_beside_the_start_and_kept_for_the_next_worker(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_WORKER_ID", "gpu-0@test")
    first = LayerRate()
    assert first.take() == 0
    deadline = time.monotonic() + patience.seconds(60)
    while not (rate := first.take()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert 1e8 < rate < 1e14  # FLOP/s: whatever computes the tests is between these
    assert LayerRate().take() == rate


def test_a_worker_says_it_of_its_hardware_as_soon_as_it_is_known(
    db: Session, broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_WORKER_ID", "gpu-0@test")
    layer_rate._keep(3e9)
    mine = sweep._Sweep("gpu", Bell())

    def said() -> float:
        mine._say_alive(db)
        db.expire_all()
        hardware = db.get_one(Worker, "gpu-0@test").hardware
        assert hardware is not None
        return float(hardware["layer_rate"])

    assert said() == 3e9
    mine.layer_rate._found = 4e9  # found while the worker was registered already
    assert said() == 4e9
