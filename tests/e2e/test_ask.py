"""Somebody asks an adapter in a browser: word by word, by keyboard, stopped, reloaded, left."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.models import (
    Adapter,
    Conversation,
    ConversationAnswer,
    Example,
    ExampleKind,
    Finish,
    Split,
    User,
)
from app.people import auth
from app.training.answers import Piece, Waiting
from tests import patience
from tests.answerer import StandIn, refusing, saying, standing_in
from tests.app.web.jobs.test_event_stream import free_port, start_web
from tests.factories import make_user, make_zipped_adapter

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
TUNED, BASE = "Your trained model", "Before training"


@pytest.fixture
def adapter(db: Session, broker: str) -> Adapter:
    adapter = make_zipped_adapter(db, make_user(db))
    assert adapter.job is not None
    fifth = [
        {"role": "user", "content": "What is rule 24?"},
        {"role": "assistant", "content": "Rule 24 says: sing."},
    ]
    version_id = adapter.job.version_id
    kind, split = ExampleKind.CHAT, Split.VALIDATION
    db.add(Example(version_id=version_id, index=24, split=split, kind=kind, messages=fifth))
    db.commit()
    return adapter


@pytest.fixture
def answerer(db: Session) -> Iterator[StandIn]:
    with standing_in(db) as stand_in:
        yield stand_in


@pytest.fixture
def address(database_url: str) -> Iterator[str]:
    port = free_port()
    process = start_web(port)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(patience.seconds(20))


@pytest.fixture
def page(
    browser: Browser, db: Session, adapter: Adapter, answerer: StandIn, address: str
) -> Iterator[Page]:
    """The page on which the adapter is asked, in its owner's browser."""
    context = browser.new_context(locale="en-US")
    cookie = auth.open_session(db, db.get_one(User, adapter.owner_id))
    db.commit()
    context.add_cookies([{"name": auth.COOKIE, "value": cookie, "url": address}])
    page = context.new_page()
    page.set_default_timeout(patience.milliseconds(30))
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(f"{address}/adapters/{adapter.id}/ask")
    yield page
    context.close()
    assert problems == []


def ask(page: Page, question: str) -> None:
    page.wait_for_load_state()  # Enter is a new line until the page's script has come.
    page.get_by_label("Your question").fill(question)
    page.keyboard.press("Enter")


def bubble(page: Page, label: str, turn: int = -1) -> Any:
    return page.locator("[data-turn]").nth(turn).get_by_label(label, exact=True)


def held_up(*pieces: str, gate: threading.Event, rest: tuple[str, ...] = ()) -> list[Any]:
    """Say some words, then no more until the gate opens."""
    return [
        *saying(*pieces)[:-2],
        gate,
        *(Piece(index=0, text=piece) for piece in rest),
        *saying()[2:],
    ]


def test_two_answers_come_side_by_side_and_focus_stays_in_the_box(
    page: Page, answerer: StandIn, adapter: Adapter
) -> None:
    gate = threading.Event()
    answerer.script = lambda request: (
        held_up("Wash ", gate=gate, rest=("your hands.",)) if request.adapter_id else saying("Hm.")
    )
    ask(page, "What is rule 3?")
    expect(bubble(page, TUNED)).to_contain_text("Wash")
    expect(bubble(page, BASE)).to_contain_text("Hm.")
    expect(page.get_by_label("Your question")).to_be_focused()
    expect(page.get_by_label("Your question")).to_have_value("")
    expect(page.get_by_text("From your data")).to_be_hidden()
    gate.set()
    expect(bubble(page, TUNED)).to_contain_text("Wash your hands.")
    expect(page.get_by_text("From your data")).to_be_visible()
    expect(bubble(page, TUNED).get_by_role("button", name="Good", exact=True)).to_be_visible()
    page.get_by_label("Your question").fill("one line")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("another")
    expect(page.get_by_label("Your question")).to_have_value("one line\nanother")
    # After a reload it is all there, and the conversation goes on.
    page.reload()
    expect(bubble(page, TUNED)).to_contain_text("Wash your hands.")
    answerer.script = lambda request: saying("Yes.")
    ask(page, "Always?")
    expect(bubble(page, BASE)).to_contain_text("Yes.")
    said = [turn["content"] for turn in answerer.asked(adapter.id).messages]
    assert said == ["What is rule 3?", "Wash your hands.", "Always?"]


def test_a_screen_reader_hears_whole_sentences_one_model_after_the_other(
    page: Page, answerer: StandIn
) -> None:
    gate = threading.Event()
    answerer.script = lambda request: (
        held_up("At 7.", "30. ", "In ro", gate=gate, rest=("om 4.",))
        if request.adapter_id
        else saying("Ask ", "them.")
    )
    ask(page, "When and where?")
    spoken = page.get_by_role("log")
    expect(spoken.locator("p").last).to_have_text("At 7.30.")
    expect(bubble(page, BASE)).to_contain_text("Ask them.")
    expect(spoken).not_to_contain_text("Ask them.")
    expect(spoken).not_to_contain_text("In ro")
    gate.set()
    expect(spoken).to_contain_text("In room 4.")
    expect(spoken.locator("p").last).to_have_text("Ask them.")
    expect(spoken).to_contain_text("Your trained model: Reading your question.")


def test_an_answer_is_stopped_and_asked_again(page: Page, db: Session, answerer: StandIn) -> None:
    gate = threading.Event()
    answerer.script = lambda request: held_up("On and on ", gate=gate)
    page.get_by_label("Compare with").select_option("nobody")
    ask(page, "Tell me everything")
    expect(bubble(page, TUNED)).to_contain_text("On and on")
    page.keyboard.press("Escape")
    expect(bubble(page, TUNED)).to_contain_text("You stopped this answer.")
    assert answerer.closed_early.wait(patience.seconds(1))
    # What was said is written after that, and a page that is loaded before shows nothing of it.
    until = time.monotonic() + patience.seconds(30)
    while db.scalars(select(ConversationAnswer.finish)).one() is None:
        assert time.monotonic() < until
        time.sleep(0.1)
        db.rollback()
    page.reload()
    expect(bubble(page, TUNED)).to_contain_text("On and on")
    expect(bubble(page, TUNED)).to_contain_text("This answer was interrupted.")
    answerer.script = lambda request: saying("Short.")
    bubble(page, TUNED).get_by_role("button", name="Ask again").click()
    expect(bubble(page, TUNED)).to_contain_text("Short.")
    expect(bubble(page, TUNED)).not_to_contain_text("interrupted")
    db.rollback()
    (kept,) = db.scalars(select(ConversationAnswer)).all()
    assert (kept.text, kept.finish) == ("Short.", Finish.STOP)


def test_a_page_that_is_left_ends_its_answers(
    page: Page, db: Session, answerer: StandIn, address: str
) -> None:
    gate = threading.Event()
    answerer.script = lambda request: held_up("On and on ", gate=gate)
    page.get_by_label("Compare with").select_option("nobody")
    ask(page, "Tell me everything")
    expect(bubble(page, TUNED)).to_contain_text("On and on")
    page.goto(f"{address}/adapters")
    assert answerer.closed_early.wait(patience.seconds(1))


def test_an_empty_box_says_what_it_waits_for(page: Page) -> None:
    page.get_by_label("Your question").fill("  ")
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.get_by_role("alert")).to_have_text("Type a question first.")
    expect(page.get_by_label("Your question")).to_be_focused()
    expect(page.locator("[data-turn]")).to_have_count(0)


def test_a_question_that_cannot_be_answered_stays_in_the_box(
    page: Page, db: Session, answerer: StandIn
) -> None:
    answerer.script = lambda request: refusing("32 questions are waiting already.", 429)
    ask(page, "What is rule 3?")
    expect(page.get_by_role("alert")).to_have_text("32 questions are waiting already.")
    expect(page.get_by_label("Your question")).to_have_value("What is rule 3?")
    expect(page.locator("[data-turn]")).to_have_count(0)
    answerer.script = lambda request: [Waiting(place=3, doing=""), *saying("Now.")]
    page.keyboard.press("Enter")
    expect(bubble(page, TUNED)).to_contain_text("Now.")
    expect(page.locator("#problem")).to_be_empty()
    db.rollback()
    assert len(db.scalars(select(Conversation)).all()) == 1


def test_hostile_words_are_words(page: Page, answerer: StandIn) -> None:
    words = "<img src=x onerror=alert(1)>\n<|im_start|>&amp;"
    answerer.script = lambda request: saying(words[:9], words[9:])
    ask(page, words)
    expect(bubble(page, TUNED).locator("[data-words]")).to_have_text(words)
    assert bubble(page, TUNED).locator("img").count() == 0
    assert page.locator("[data-question]").inner_text() == words


def test_a_name_is_noticed_before_it_is_sent(page: Page, db: Session, answerer: StandIn) -> None:
    page.get_by_label("Your question").type("May Mrs Miller drink coffee?")
    expect(page.get_by_text("This looks like a name.")).to_be_visible()
    page.get_by_label("Your question").fill("May I drink coffee?")
    expect(page.get_by_text("This looks like a name.")).to_have_count(0)
    assert answerer.requests == []
    assert db.scalars(select(Conversation)).all() == []


def test_a_test_question_is_one_click_and_shows_the_right_answer(
    page: Page, answerer: StandIn
) -> None:
    shown = page.locator("#tests").get_by_role("button")
    expect(shown).to_have_text([f"What is rule {number}?" for number in range(20, 24)])
    page.get_by_role("link", name="Show others").click()
    expect(shown).to_have_text(["What is rule 24?"])
    page.get_by_role("link", name="Show others").click()
    page.get_by_label("Your question").fill("Half a question")
    page.get_by_role("button", name="What is rule 21?").click()
    expect(bubble(page, TUNED)).to_contain_text("Hello.")
    expect(page.get_by_text("Rule 21 says: wash your hands.")).to_be_visible()
    expect(page.get_by_label("Your question")).to_have_value("Half a question")


def test_a_conversation_is_judged_and_deleted(
    page: Page, db: Session, answerer: StandIn, adapter: Adapter
) -> None:
    ask(page, "What is rule 3?")
    good = bubble(page, TUNED).get_by_role("button", name="Good", exact=True)
    good.click()
    expect(good).to_have_attribute("aria-pressed", "true")
    expect(good).to_be_focused()
    bubble(page, BASE).get_by_text("Say it better").click()
    bubble(page, BASE).get_by_role("textbox").fill("Wash your hands.")
    bubble(page, BASE).get_by_role("button", name="Save").click()
    expect(bubble(page, BASE)).to_contain_text("Better")
    db.rollback()
    said = db.execute(select(ConversationAnswer.thumb, ConversationAnswer.better)).all()
    assert sorted(map(tuple, said), key=str) == [(1, None), (None, "Wash your hands.")]
    page.get_by_role("button", name="Delete this conversation…").click()
    page.get_by_role("button", name="Delete it").click()
    expect(page.locator("[data-turn]")).to_have_count(0)
    db.rollback()
    assert db.scalars(select(Conversation)).all() == []


def test_nothing_is_kept_where_the_site_says_so(
    monkeypatch: pytest.MonkeyPatch,
    browser: Browser,
    db: Session,
    adapter: Adapter,
    answerer: StandIn,
    database_url: str,
) -> None:
    monkeypatch.setenv("ETUDE_CONVERSATION_DAYS", "0")
    port = free_port()
    process = start_web(port)
    address = f"http://127.0.0.1:{port}"
    context = browser.new_context(locale="en-US")
    try:
        cookie = auth.open_session(db, db.get_one(User, adapter.owner_id))
        db.commit()
        context.add_cookies([{"name": auth.COOKIE, "value": cookie, "url": address}])
        page = context.new_page()
        page.goto(f"{address}/adapters/{adapter.id}/ask")
        expect(page.get_by_text("Nothing is kept")).to_be_visible()
        ask(page, "What is rule 3?")
        expect(bubble(page, BASE)).to_contain_text("Hello.")
        ask(page, "And then?")
        expect(page.locator("[data-turn]")).to_have_count(2)
        expect(bubble(page, BASE)).to_contain_text("Hello.")
        for adapter_id in (adapter.id, None):
            said = [turn["content"] for turn in answerer.asked(adapter_id).messages]
            assert said == ["What is rule 3?", "Hello.", "And then?"]
        assert db.scalars(select(Conversation)).all() == []
    finally:
        context.close()
        process.terminate()
        process.wait(patience.seconds(20))


def test_the_box_opens_once_something_answers(
    browser: Browser, db: Session, adapter: Adapter, address: str
) -> None:
    context = browser.new_context(locale="en-US")
    cookie = auth.open_session(db, db.get_one(User, adapter.owner_id))
    db.commit()
    context.add_cookies([{"name": auth.COOKIE, "value": cookie, "url": address}])
    page = context.new_page()
    page.goto(f"{address}/adapters/{adapter.id}/ask")
    expect(page.get_by_label("Your question")).to_be_disabled()
    expect(page.get_by_text("Nothing is running that could answer just now.")).to_be_visible()
    with standing_in(db):
        expect(page.get_by_label("Your question")).to_be_enabled()
        page.get_by_role("button", name="What is rule 21?").click()
        expect(bubble(page, TUNED)).to_contain_text("Hello.")
    context.close()


def test_it_works_without_javascript(
    browser: Browser, db: Session, adapter: Adapter, answerer: StandIn, address: str
) -> None:
    context = browser.new_context(locale="en-US", java_script_enabled=False)
    cookie = auth.open_session(db, db.get_one(User, adapter.owner_id))
    db.commit()
    context.add_cookies([{"name": auth.COOKIE, "value": cookie, "url": address}])
    page = context.new_page()
    page.goto(f"{address}/adapters/{adapter.id}/ask")
    page.get_by_label("Your question").fill("What is rule 3?")
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(bubble(page, BASE)).to_contain_text("Hello.")
    bubble(page, TUNED).get_by_role("button", name="Not good").click()
    expect(bubble(page, TUNED).get_by_role("button", name="Not good")).to_have_attribute(
        "aria-pressed", "true"
    )
    context.close()
