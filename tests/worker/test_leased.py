"""The one runner of leased rows: how each work can end, and what holding a row costs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from app.core import db as database
from app.core import leases, settings
from app.core.leases import VERSIONS, Lease
from app.core.models import DatasetVersion, VersionStatus
from tests.factories import make_dataset_version
from worker import identity, leased
from worker.leased import LeaseHolder, Unfinished

ME = "cpu-0"


@pytest.fixture
def version(db: Session) -> DatasetVersion:
    return make_dataset_version(db, status=VersionStatus.UPLOADED)


def run(work: Callable[[LeaseHolder, DatasetVersion], None]) -> bool:
    return leased.run(VERSIONS, ME, fetch, work, name="version")


def fetch(session: Session, lease: Lease) -> DatasetVersion | None:
    return session.get(DatasetVersion, lease.id)


def publish(holder: LeaseHolder, version: DatasetVersion) -> None:
    with database.session() as session:
        leases.release(session, holder.lease, VersionStatus.MAPPING)
        session.commit()


def never(holder: LeaseHolder, version: DatasetVersion) -> None:
    raise AssertionError


@contextmanager
def statements() -> Iterator[list[str]]:
    said: list[str] = []

    def note(*args: object) -> None:
        said.append(str(args[2]).split()[0])

    event.listen(database.engine(), "before_cursor_execute", note)
    try:
        yield said
    finally:
        event.remove(database.engine(), "before_cursor_execute", note)


def state(db: Session, version: DatasetVersion) -> tuple[VersionStatus, int, str | None]:
    db.refresh(version)
    assert (version.worker_id, version.lease_until) == (None, None)
    return version.status, version.strikes, version.reason


def test_what_waits_is_done_once(db: Session, version: DatasetVersion) -> None:
    with statements() as said:
        assert run(publish)
    # What an earlier process left, the claim, the fetch, the release: nobody pays for more.
    assert said == ["UPDATE", "UPDATE", "SELECT", "UPDATE"]
    assert state(db, version) == (VersionStatus.MAPPING, 0, None)
    with statements() as said:
        assert not run(never)
    assert said == ["UPDATE", "UPDATE"]


def test_work_without_a_result_fails_with_its_sentence(
    db: Session, version: DatasetVersion
) -> None:
    def refuse(holder: LeaseHolder, version: DatasetVersion) -> None:
        raise Unfinished("This file holds nothing.")

    assert run(refuse)
    assert state(db, version) == (VersionStatus.FAILED, 0, "This file holds nothing.")


def test_a_worker_that_is_to_end_hands_the_row_back_without_a_strike(
    db: Session, version: DatasetVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_WATCH_SECONDS", "0.01")
    settings.get.cache_clear()

    def go_on(holder: LeaseHolder, version: DatasetVersion) -> None:
        identity.drain()
        while True:
            holder.check()

    assert run(go_on)
    assert state(db, version) == (VersionStatus.UPLOADED, 0, None)


def test_who_lost_the_row_writes_nothing(db: Session, version: DatasetVersion) -> None:
    def lose(holder: LeaseHolder, version: DatasetVersion) -> None:
        with database.session() as session:
            leases.take_back(session, VERSIONS, ME)  # as if it had been given up for dead
            session.commit()
        publish(holder, version)

    assert run(lose)
    assert state(db, version) == (VersionStatus.UPLOADED, 1, None)


def test_a_row_that_is_gone_needs_no_work(db: Session, version: DatasetVersion) -> None:
    assert leased.run(VERSIONS, ME, lambda _session, _lease: None, never, name="version")


def test_what_breaks_the_work_is_heard_and_costs_a_strike_the_next_time(
    db: Session, version: DatasetVersion
) -> None:
    def break_off(holder: LeaseHolder, version: DatasetVersion) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(break_off)
    assert run(publish), "the same worker takes back what it held"
    db.refresh(version)
    assert (version.status, version.attempt) == (VersionStatus.MAPPING, 2)
