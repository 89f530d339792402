"""A table that becomes cards on a phone has all of a card at one edge."""

import pytest
from playwright.sync_api import Browser
from sqlalchemy.orm import Session

from app.core.models import Role
from app.people import auth
from tests import patience
from tests.e2e.test_ask import address
from tests.factories import make_user

__all__ = ["address"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


def test_the_buttons_of_a_card_begin_where_its_words_do(
    browser: Browser, db: Session, address: str
) -> None:
    make_user(db)
    cookie = auth.open_session(db, make_user(db, role=Role.ADMIN))
    db.commit()
    context = browser.new_context(viewport={"width": 390, "height": 900})
    context.add_cookies([{"name": auth.COOKIE, "value": cookie, "url": address}])
    page = context.new_page()
    page.set_default_timeout(patience.milliseconds(30))
    page.goto(f"{address}/people")
    title = page.locator(".table-cards .title").first.bounding_box()
    button = page.get_by_role("button", name="Create a password link").first.bounding_box()
    assert title is not None
    assert button is not None
    assert button["x"] == title["x"]
    context.close()
