"""A long queue is worked out beside the pages that show it."""

import importlib
import time

import pytest
from sqlalchemy.orm import Session

from app.jobs.queue_view import outlook
from tests import patience
from tests.factories import make_job

module = importlib.import_module("app.jobs.queue_view")  # its function has the same name


@pytest.fixture
def long(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """From two jobs on a queue is long, and nothing is kept from other tests."""
    monkeypatch.setattr(module, "_LONG", 1)
    monkeypatch.setattr(module, "_kept", {})
    return monkeypatch


def test_a_long_line_is_shown_as_it_was_and_renewed_beside_it(
    db: Session, long: pytest.MonkeyPatch
) -> None:
    long.setattr(module, "_KEPT_SECONDS", 0.0)
    long.setattr(module, "_SHARE", float("inf"))
    first, second = make_job(db), make_job(db)
    assert set(outlook(db).positions) == {first.id, second.id}
    third = make_job(db)
    assert third.id not in outlook(db).positions
    deadline = time.monotonic() + patience.seconds(20)
    while third.id not in outlook(db).positions:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    while not module._working.acquire(blocking=False):
        time.sleep(0.01)
    module._working.release()


def test_a_long_line_is_not_worked_out_all_the_time(db: Session, long: pytest.MonkeyPatch) -> None:
    long.setattr(module, "_KEPT_SECONDS", 50.0)
    make_job(db), make_job(db)
    kept = outlook(db)
    make_job(db)
    assert outlook(db) is kept
    long.setattr(module, "_STALE_SECONDS", 0.0)
    assert len(outlook(db).positions) == 3
