"""Help beside the page, keys, light and dark, and paper, as a person with a browser meets them."""

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect
from sqlalchemy.orm import Session

from app.people import auth
from tests import patience
from tests.e2e.test_ask import address
from tests.factories import make_adapter, make_evaluation, make_user

__all__ = ["address"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture
def cookie(db: Session) -> str:
    secret = auth.open_session(db, make_user(db))
    db.commit()
    return secret


@pytest.fixture
def context(browser: Browser, address: str, cookie: str) -> Iterator[BrowserContext]:
    context = browser.new_context(locale="en-US", viewport={"width": 1280, "height": 900})
    context.set_default_timeout(patience.milliseconds(30))
    context.add_cookies([{"name": auth.COOKIE, "value": cookie, "url": address}])
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A window whose console has to stay silent."""
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(str(error)))
    yield page
    assert said == []


def faults(page: Page) -> list[str]:
    return [
        f"{fault['id']}: {node['html'][:160]}"
        for fault in Axe().run(page).response["violations"]
        for node in fault["nodes"]
    ]


def test_the_question_mark_explains_the_page_beside_it(page: Page, address: str) -> None:
    page.goto(f"{address}/datasets/new")
    page.get_by_label("Name (optional)").fill("Half filled in")
    page.get_by_role("link", name="Help on this page").click()
    panel = page.get_by_role("dialog", name="Help")
    expect(panel.get_by_role("heading", name="Adding a file")).to_be_visible()
    assert faults(page) == []
    panel.get_by_role("link", name="what is read from a file").click()
    expect(panel.get_by_role("heading", name="What is read from a file")).to_be_visible()
    panel.get_by_label("Search the help").fill("forgot password")
    panel.get_by_role("button", name="Search").click()
    panel.get_by_role("link", name="Signing in").first.click()
    expect(panel.get_by_text("With it you choose your password")).to_be_visible()
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    # All that time the page stayed where it was.
    expect(page.get_by_label("Name (optional)")).to_have_value("Half filled in")
    assert page.url.endswith("/datasets/new")


def test_on_a_phone_the_panel_covers_the_page(page: Page, address: str) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    page.emulate_media(color_scheme="dark")
    page.goto(f"{address}/queue")
    page.get_by_role("link", name="Help on this page").click()
    panel = page.get_by_role("dialog", name="Help")
    expect(panel.get_by_role("heading", name="Reading the page")).to_be_visible()
    box = panel.bounding_box()
    assert box is not None
    assert (box["x"], box["width"]) == (0, 390)
    assert faults(page) == []
    panel.get_by_role("button", name="Close").click()
    expect(panel).to_be_hidden()


def test_without_javascript_the_question_mark_leads_to_the_chapter(
    browser: Browser, address: str, cookie: str
) -> None:
    context = browser.new_context(java_script_enabled=False)
    context.add_cookies([{"name": auth.COOKIE, "value": cookie, "url": address}])
    page = context.new_page()
    page.goto(f"{address}/queue")
    page.get_by_role("link", name="Help on this page").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Waiting in the queue")
    assert page.url.endswith("/help/queue#reading-the-page")
    page.get_by_role("searchbox", name="Search the help").fill("quarantine")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name="Quarantined", exact=True).click()
    assert page.url.endswith("/help/glossary#quarantined")
    context.close()


def test_keys_lead_from_page_to_page_and_can_be_switched_off(page: Page, address: str) -> None:
    page.goto(address)
    page.keyboard.press("?")
    overview = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(overview).to_be_visible()
    expect(overview.get_by_text("Explain this page")).to_be_visible()
    assert faults(page) == []
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("d")
    page.wait_for_url("**/datasets")
    page.keyboard.press("e")
    expect(page.get_by_role("dialog", name="Help")).to_be_visible()
    page.keyboard.press("Escape")
    page.goto(f"{address}/datasets/new")
    page.get_by_label("Name (optional)").press_sequentially("g je?")
    expect(page.get_by_label("Name (optional)")).to_have_value("g je?")
    assert page.url.endswith("/datasets/new")
    page.locator("main").focus()
    page.keyboard.press("?")
    page.get_by_label("Use keyboard shortcuts in this browser").uncheck()
    page.keyboard.press("Escape")
    page.reload()
    page.keyboard.press("e")
    page.keyboard.press("g")
    page.keyboard.press("j")
    page.wait_for_timeout(300)
    expect(page.get_by_role("dialog", name="Help")).to_be_hidden()
    assert page.url.endswith("/datasets/new")


def test_light_and_dark_are_chosen_for_this_browser_and_kept(page: Page, address: str) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    page.goto(f"{address}/account")
    light = page.evaluate(background)
    page.get_by_label("Dark", exact=True).check()
    dark = page.evaluate(background)
    assert dark != light
    page.goto(f"{address}/help")
    assert page.evaluate(background) == dark
    assert faults(page) == []
    page.goto(f"{address}/account")
    expect(page.get_by_label("Dark", exact=True)).to_be_checked()
    page.get_by_label("As the device").check()
    assert page.evaluate(background) == light
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(background) == dark


def test_on_paper_there_is_the_content_alone_and_it_is_light(
    page: Page, address: str, db: Session
) -> None:
    adapter = make_adapter(db, user=make_user(db))
    page.goto(f"{address}/account")
    page.get_by_label("Dark", exact=True).check()
    page.goto(f"{address}/adapters/{adapter.id}")
    dark = page.evaluate("getComputedStyle(document.body).color")
    page.emulate_media(media="print")
    for gone in (".top", ".help-mark", "form >> nth=0"):
        expect(page.locator(gone)).to_be_hidden()
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.locator(".way")).to_be_visible()
    assert page.evaluate("getComputedStyle(document.body).color") != dark
    # A tab leads nowhere on paper; of a card with a form alone nothing but a title would be left.
    evaluation = make_evaluation(db, adapter=adapter)
    for path, gone in (
        (f"/versions/{evaluation.version_id}", ".tabs"),
        (f"/evaluations/{evaluation.id}", "#again"),
    ):
        page.emulate_media(media="screen")
        page.goto(address + path)
        expect(page.locator(gone)).to_be_visible()
        page.emulate_media(media="print")
        expect(page.locator(gone)).to_be_hidden()
