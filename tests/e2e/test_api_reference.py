"""The reference of /v1 in a real browser: drawn under our policy, and calls can be tried there."""

import pytest
from playwright.sync_api import Browser, expect
from sqlalchemy.orm import Session

from app.people import auth
from tests import factories
from tests.app.web.v1.conftest import address

__all__ = ["address"]  # a fixture
pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


def test_a_call_is_tried_on_the_page(browser: Browser, db: Session, address: str) -> None:
    user = factories.make_user(db)
    factories.make_base_model(db, name="house/tiny")
    cookie, token = auth.open_session(db, user), auth.create_token(db, user, "tests")
    db.commit()
    context = browser.new_context()
    context.add_cookies([{"name": auth.COOKIE, "value": cookie, "url": address}])
    page = context.new_page()
    problems: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{address}/account")
    page.get_by_role("link", name="reference for programs").click()
    expect(page.get_by_role("heading", name="Reference for programs")).to_be_visible()
    expect(page.get_by_text("/chat/completions")).to_be_visible()
    page.get_by_role("button", name="Authorize").first.click()
    page.get_by_label("auth-bearer-value").fill(token)
    page.locator(".auth-btn-wrapper").get_by_role("button", name="Apply credentials").click()
    page.locator(".auth-btn-wrapper").get_by_role("button", name="Close").click()
    block = page.locator("#operations-Models-list_models_models_get")
    block.locator(".opblock-summary-control").click()
    block.get_by_role("button", name="Try it out").click()
    block.get_by_role("button", name="Execute").click()
    expect(block.locator(".live-responses-table")).to_contain_text("house/tiny")
    assert problems == []
    assert [url for url in asked if not url.startswith((address, "data:"))] == []
    context.close()
