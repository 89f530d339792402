"""A finding about many examples is put right by a worker, and the page says how far it is."""

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.core import leases
from app.core.errors import Conflict
from app.core.models import DatasetVersion, Example, FixRun, FixStatus, Role
from app.datasets import browsing, changes, examples
from app.datasets.changes import Change
from app.datasets.doctor import fixes
from tests import patience
from tests.app.web.pages import sign_in
from tests.factories import first_user, make_job, make_user
from tests.worker.cpu.test_checking import check, pair, version_of
from worker.cpu import checking, fixing
from worker.leased import LeaseHolder

ME = "cpu-0"


@pytest.fixture
def version(db: Session, broker: str, monkeypatch: pytest.MonkeyPatch) -> DatasetVersion:
    """Has 600 examples with stray blanks, which are many here."""
    monkeypatch.setattr(fixes, "MAX_AT_ONCE", 100)
    monkeypatch.setattr(fixing, "_TOLD_EVERY", 10)
    rows = [pair(f"Where is thing {n}?", f"On shelf {n}.  ") for n in range(600)]
    version = version_of(db, rows)
    assert len(check(db, version)["spaces"]) == 600
    return version


def run_of(db: Session, version: DatasetVersion) -> FixRun:
    run = fixes.newest_run(db, version)
    assert run is not None
    db.refresh(run)
    return run


def test_a_worker_makes_the_version_and_the_page_leads_to_it(
    client: TestClient, db: Session, version: DatasetVersion
) -> None:
    browser = sign_in(client, db, first_user(db))
    here = f"/versions/{version.id}"
    answer = browser.post(f"{here}/findings/spaces", data={"fix": "mend"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, f"{here}/check")
    assert f'hx-get="{here}/fix"' in browser.get(here).text
    assert "A new version is being made: extra spaces removed." in browser.get(f"{here}/fix").text
    # Twice is once.
    again = browser.post(f"{here}/findings/spaces", data={"fix": "mend"})
    assert again.status_code == 409
    assert "is being fixed already; wait until that is done." in again.text
    assert fixing.fix_next(ME)
    assert not fixing.fix_next(ME)
    run = run_of(db, version)
    made = run.result
    assert made is not None
    told = f'Version 2 is ready: extra spaces removed. <a href="/versions/{made.id}">'
    assert told in " ".join(browser.get(f"{here}/fix").text.split())
    assert told in " ".join(browser.get(here).text.split())
    assert (made.num_train + made.num_validation, made.layers) == (600, [made.id, version.id])
    assert {row.messages[1]["content"] for row in examples.at(db, made, [0, 599])} == {
        "On shelf 0.",
        "On shelf 599.",
    }
    assert "spaces" not in check(db, made)


def test_while_it_is_made_the_version_can_be_used_but_not_changed(
    client: TestClient, db: Session, version: DatasetVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = first_user(db)
    assert fixes.apply(db, user, version, "spaces", "mend") is None
    db.commit()
    is_amid, go_on = threading.Event(), threading.Event()
    told = fixing._told

    def hold(made: Iterator[Change], holder: LeaseHolder) -> Iterator[Change]:
        for change in told(made, holder):
            yield change
            is_amid.set()
            assert go_on.wait(patience.seconds(60))

    monkeypatch.setattr(fixing, "_told", hold)
    work = threading.Thread(target=fixing.fix_next, args=(ME,))
    work.start()
    try:
        assert is_amid.wait(patience.seconds(30))
        db.execute(text("SET lock_timeout = 2000"))
        make_job(db, user=user, version=version)
        version.token_lengths = {}  # what the page counts
        db.commit()
        with pytest.raises(Conflict, match="is being changed right now"):
            changes.derive(
                db, user, version, [Change(0, is_removed=True)], "by hand", patience_seconds=0.2
            )
        db.rollback()
    finally:
        go_on.set()
        work.join()
    assert run_of(db, version).status is FixStatus.DONE


def test_who_only_looks_has_nothing_put_right(
    client: TestClient, db: Session, version: DatasetVersion
) -> None:
    looker = make_user(db, role=Role.VIEWER, department=first_user(db).department)
    browser = sign_in(client, db, looker)
    answer = browser.post(f"/versions/{version.id}/findings/spaces", data={"fix": "mend"})
    assert answer.status_code == 403
    assert fixes.newest_run(db, version) is None


def test_what_was_lost_on_the_way_leaves_nothing_half_made(
    db: Session, version: DatasetVersion
) -> None:
    assert fixes.apply(db, first_user(db), version, "spaces", "mend") is None
    db.commit()
    lease = leases.claim(db, leases.FIXES, ME)
    assert lease is not None
    db.commit()
    run = run_of(db, version)
    db.expunge_all()
    with LeaseHolder(lease) as holder:
        leases.take_back(db, leases.FIXES, ME)  # as if it had been given up for dead
        db.commit()
        with pytest.raises(leases.LeaseLost):
            fixing._fix(holder, run)
    assert db.scalar(select(func.count()).select_from(DatasetVersion)) == 1
    assert db.scalar(select(func.count()).select_from(Example)) == 600
    assert run_of(db, version).status is FixStatus.WAITING
    assert fixing.fix_next(ME)
    assert run_of(db, version).result_version_id is not None


def test_what_would_leave_too_little_is_said_on_the_page(
    client: TestClient, db: Session, version: DatasetVersion
) -> None:
    rows = browsing.marks(db, version, "spaces").indices
    assert len(rows) == 600
    fixes.FIXES["spaces"]["remove"] = fixes.LEAVE_OUT
    try:
        assert fixes.apply(db, first_user(db), version, "spaces", "remove") is None
        with pytest.raises(Conflict):
            fixes.apply(db, first_user(db), version, "spaces", "remove")
        db.commit()
        assert fixing.fix_next(ME)
    finally:
        del fixes.FIXES["spaces"]["remove"]
    run = run_of(db, version)
    assert (run.status, run.result_version_id) == (FixStatus.FAILED, None)
    page = sign_in(client, db, first_user(db)).get(f"/versions/{version.id}").text
    told = "could not be made. This would leave 0 examples in the practice set"
    assert told in " ".join(page.split())
    # It can be asked for again.
    assert fixes.apply(db, first_user(db), version, "spaces", "mend") is None
    assert not checking.check_next(ME)
