"""A viewer asks a released model in a browser: word by word, reported, withdrawn amid it all."""

import re
import threading
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.adapters import sharing
from app.core.models import Adapter, AnswerReport, Conversation, Role, User
from app.people import auth
from tests import patience
from tests.answerer import StandIn, saying
from tests.e2e.test_ask import adapter, address, answerer, ask, bubble, held_up
from tests.factories import make_user

__all__ = ["adapter", "address", "answerer"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture
def page(
    browser: Browser, db: Session, adapter: Adapter, answerer: StandIn, address: str
) -> Iterator[Page]:
    """The start page of somebody who may only look."""
    sharing.release(
        db,
        db.get_one(User, adapter.owner_id),
        adapter,
        purpose="Answers about the rules of ward 3.",
        limits="Never for doses.",
        asks_per_day=3,
        keeps_questions=False,
    )
    cookie = auth.open_session(db, make_user(db, role=Role.VIEWER))
    db.commit()
    context = browser.new_context(locale="en-US")
    context.add_cookies([{"name": auth.COOKIE, "value": cookie, "url": address}])
    page = context.new_page()
    page.set_default_timeout(patience.milliseconds(30))
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(address)
    yield page
    context.close()
    assert problems == []


def test_a_viewer_asks_goes_on_and_reports(
    page: Page, db: Session, answerer: StandIn, adapter: Adapter
) -> None:
    page.get_by_role("link", name=re.compile("^Ask it")).click()
    expect(page.get_by_role("heading", name=adapter.name)).to_be_visible()
    expect(page.get_by_text("Never for doses.")).to_be_visible()
    expect(page.get_by_text("What you ask is not kept")).to_be_visible()
    gate = threading.Event()
    answerer.script = lambda request: held_up("At ", gate=gate, rest=("three.",))
    ask(page, "When?")
    expect(bubble(page, adapter.name)).to_contain_text("At")
    gate.set()
    expect(bubble(page, adapter.name)).to_contain_text("At three.")
    expect(page.get_by_role("button", name="Good", exact=True)).to_have_count(0)
    answerer.script = lambda request: saying("In room 4.")
    ask(page, "And where?")
    expect(bubble(page, adapter.name)).to_contain_text("In room 4.")
    said = [turn["content"] for turn in answerer.asked(adapter.id).messages]
    assert said == ["When?", "At three.", "And where?"]
    bubble(page, adapter.name).get_by_text("Report this answer").click()
    bubble(page, adapter.name).get_by_label("What is wrong with it?").fill("It is room 5.")
    bubble(page, adapter.name).get_by_role("button", name="Report", exact=True).click()
    done = bubble(page, adapter.name).get_by_text("Reported.")
    expect(done).to_be_focused()
    expect(page.locator("[data-turn]")).to_have_count(2)
    db.rollback()
    report = db.scalars(select(AnswerReport)).one()
    assert (report.question, report.answer, report.note) == (
        "And where?",
        "In room 4.",
        "It is room 5.",
    )
    assert db.scalars(select(Conversation)).all() == []


def test_a_viewer_hears_why_nothing_comes(
    page: Page, db: Session, answerer: StandIn, adapter: Adapter, address: str
) -> None:
    page.goto(f"{address}/ask/{adapter.id}")
    for number in range(3):
        ask(page, f"Question {number}?")
        expect(page.locator("[data-turn]")).to_have_count(number + 1)
        expect(bubble(page, adapter.name)).to_contain_text("Hello.")
    ask(page, "One more?")
    expect(page.get_by_role("alert").filter(has_text="as often as its owner")).to_be_visible()
    expect(page.get_by_label("Your question")).to_have_value("One more?")
    sharing.withdraw(db, db.get_one(User, adapter.owner_id), adapter)
    db.commit()
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").filter(has_text="was withdrawn")).to_be_visible()
    assert len(answerer.requests) == 3
    page.goto(address)
    expect(page.get_by_role("heading", name="Models you can ask")).to_have_count(0)
