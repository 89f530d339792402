"""A page that keeps itself up to date says so where it cannot, and is silent once it can again."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from subprocess import Popen
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, expect
from sqlalchemy import delete
from sqlalchemy.orm import Session

from app.core.models import JobStatus, User, VersionStatus, WebSession
from app.people import auth
from tests import patience
from tests.app.web.jobs.test_event_stream import free_port, start_web
from tests.factories import make_dataset_version, make_job, make_user

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
LOST = "Not up to date: the connection to Etude is lost. It comes back by itself."


class _Web:
    """A web process that goes away and comes back at its address."""

    def __init__(self) -> None:
        self._port = free_port()
        self.address = f"http://127.0.0.1:{self._port}"
        self._process: Popen[Any] | None = None
        self.start()

    def start(self) -> None:
        self._process = start_web(self._port)

    def stop(self) -> None:
        assert self._process is not None
        self._process.kill()  # as a machine that loses its power
        self._process.wait()


@pytest.fixture
def web(database_url: str) -> Iterator[_Web]:
    web = _Web()
    yield web
    web.stop()


@pytest.fixture
def ana(db: Session, broker: str) -> User:
    return make_user(db)


@pytest.fixture
def context(browser: Browser, db: Session, web: _Web, ana: User) -> Iterator[BrowserContext]:
    context = browser.new_context(locale="en-US")
    cookie = auth.open_session(db, ana)
    db.commit()
    context.add_cookies([{"name": auth.COOKIE, "value": cookie, "url": web.address}])
    yield context
    context.close()


def _running(db: Session, user: User) -> str:
    until = datetime.now(UTC) + timedelta(hours=1)
    held: dict[str, Any] = {"worker_id": "gpu-0", "lease_until": until}
    make_job(db, user=user, status=JobStatus.RUNNING, step=3, total_steps=9, **held)
    db.commit()
    return "/"  # which asks again every four seconds


def _being_read(db: Session, user: User) -> str:
    version = make_dataset_version(db, user=user, status=VersionStatus.UPLOADED)
    db.commit()
    return f"/versions/{version.id}"


PAGES: dict[str, Callable[[Session, User], str]] = {
    "home": _running,
    "data being read": _being_read,
    "queue": lambda _db, _user: "/queue",
    "jobs": lambda _db, _user: "/jobs",
    "data": lambda _db, _user: "/datasets",
    "trained models": lambda _db, _user: "/adapters",
    "starting models": lambda _db, _user: "/models",
}


def test_a_lost_connection_is_told_of_until_it_is_back(
    context: BrowserContext, db: Session, web: _Web, ana: User
) -> None:
    pages = []
    for make in PAGES.values():
        page = context.new_page()
        page.set_default_timeout(patience.milliseconds(60))
        page.goto(web.address + make(db, ana))
        expect(page.get_by_text(LOST)).to_be_hidden()
        pages.append(page)
    web.stop()
    for page in pages:
        page.bring_to_front()
        expect(page.get_by_text(LOST)).to_be_visible()
        expect(page.get_by_text(LOST)).to_have_count(1)
    web.start()
    for page in pages:
        page.bring_to_front()
        expect(page.get_by_text(LOST)).to_be_hidden()


def test_a_list_whose_session_has_ended_says_so_and_asks_no_more(
    context: BrowserContext, db: Session, web: _Web, ana: User
) -> None:
    page = context.new_page()
    page.set_default_timeout(patience.milliseconds(60))
    page.goto(f"{web.address}/jobs?q=bath")
    web.stop()
    expect(page.get_by_text(LOST)).to_be_visible()
    db.execute(delete(WebSession).where(WebSession.user_id == ana.id))
    db.commit()
    web.start()
    expect(page.get_by_text("you are no longer signed in")).to_be_visible()
    expect(page.get_by_text(LOST)).to_be_hidden()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(6000)
    assert not [each for each in asked if each.endswith("/events")]
    page.get_by_role("link", name="Sign in again").click()
    expect(page).to_have_url(f"{web.address}/sign-in?next=%2Fjobs%3Fq%3Dbath")
