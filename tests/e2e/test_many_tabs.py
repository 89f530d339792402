"""Ten tabs of one browser on one job: each shows every point once, whatever is closed or killed."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page
from sqlalchemy.orm import Session

from app.core.models import Job, Role
from tests import patience
from tests.e2e.conftest import CHROMIUM
from tests.factories import PASSWORD, make_job, make_user
from tests.up import STAND_IN, Etude

NUM_TABS = 10
pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]
# What the stream handed to the page, before the chart sorts it by step.
LISTEN = """
window.streamed = [];
document.addEventListener("job:metric", (event) => {
  if ("loss" in event.detail.values) window.streamed.push(event.detail.step);
}, true);
"""
STEPS_SHOWN = """() => {
  const given = JSON.parse(document.querySelector("[data-points]").textContent);
  const drawn = given.step.filter((step, row) => given.loss[row] !== null);
  return [...drawn, ...window.streamed];
}"""


@pytest.fixture
def etude(tmp_path: Path) -> Iterator[Etude]:
    house = Etude(tmp_path / "data", environment=STAND_IN)
    house.start()
    yield house
    house.end(signal.SIGTERM)


@pytest.fixture
def window(tmp_path: Path, browser: Browser) -> Iterator[BrowserContext]:
    """A browser as a person has it: a tab behind another one is hidden.

    The browser that Playwright starts tells every tab that it is seen, so it joins one instead.
    `browser` is asked for only because it judges whether there is one.
    """
    assert CHROMIUM is not None
    profile = tmp_path / "profile"
    process = subprocess.Popen(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *("--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"),
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        note = profile / "DevToolsActivePort"
        wait_until(lambda: note.exists() and len(note.read_text().split()) == 2)
        address = f"http://127.0.0.1:{note.read_text().split()[0]}"
        joined = browser.browser_type.connect_over_cdp(address, no_defaults=True)
        yield joined.contexts[0]
        joined.close()
    finally:
        process.terminate()
        process.wait(patience.seconds(30))


def wait_until(look: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + patience.seconds(seconds)
    while not look():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def last_step(tab: Page) -> int:
    return int(tab.locator("[data-loss-chart]").get_attribute("data-last-step") or 0)


def test_ten_tabs_lose_and_double_nothing(etude: Etude, window: BrowserContext) -> None:
    with etude.database() as db:
        user = make_user(db, role=Role.ADMIN, email="ada@house.example", password=PASSWORD)
        job = make_job(db, user=user)
        job.name = "steps=5000 pause=0.1 every=50"
        db.commit()
        address = f"http://127.0.0.1:{etude.port}"
        window.add_init_script(LISTEN)
        tabs = [window.new_page() for _ in range(NUM_TABS)]
        tabs[0].bring_to_front()
        tabs[0].goto(f"{address}/sign-in")
        tabs[0].get_by_label("E-mail").fill("ada@house.example")
        tabs[0].get_by_label("Password").fill(PASSWORD)
        tabs[0].get_by_role("button", name="Sign in").click()
        tabs[0].wait_for_url(f"{address}/")
        # More tabs than connections: only hidden ones that let go of theirs leave room for all.
        for tab in tabs:
            tab.bring_to_front()
            tab.goto(f"{address}/jobs/{job.id}")
        assert [tab.evaluate("document.hidden") for tab in tabs] == [True] * 9 + [False]
        seen = last_step(tabs[-1])
        wait_until(lambda: last_step(tabs[-1]) > seen)
        behind = last_step(tabs[0])
        tabs[3].bring_to_front()
        tabs[3].reload()
        os.kill(etude.find("app.cli web"), signal.SIGKILL)
        back = last_step(tabs[3])
        wait_until(lambda: last_step(tabs[3]) > back + 20)
        assert last_step(tabs[0]) == behind  # hidden: it keeps quiet
        for number, tab in enumerate(tabs):
            reached = job_step(db, job)
            tab.bring_to_front()
            wait_until(lambda tab=tab, least=reached: last_step(tab) >= least)  # type: ignore[misc]
            shown = tab.evaluate(STEPS_SHOWN)
            assert len(shown) >= reached
            assert shown == list(range(1, len(shown) + 1)), f"tab {number}"
        assert not job.status.is_final  # its end would load each page afresh


def job_step(db: Session, job: Job) -> int:
    db.refresh(job)
    return job.step
