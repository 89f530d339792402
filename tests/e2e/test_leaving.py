"""A page that watches a worker does not take back the click of whoever leaves it."""

from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Browser, Route, expect
from sqlalchemy.orm import Session

from app.core.models import PrivacyReview, ReviewStatus
from app.people import auth
from tests import patience
from tests.e2e.test_ask import address
from tests.factories import make_dataset_version, make_user

__all__ = ["address"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def test_a_page_that_would_load_anew_lets_its_reader_go(
    browser: Browser, db: Session, address: str
) -> None:
    user = make_user(db)
    version = make_dataset_version(db, user=user, decided=False)
    soon = datetime.now(UTC) + timedelta(hours=1)
    db.add(
        PrivacyReview(
            version_id=version.id, status=ReviewStatus.SCANNING, is_stated=True, lease_until=soon
        )
    )
    cookie = auth.open_session(db, user)
    db.commit()
    context = browser.new_context(locale="en-US")
    context.add_cookies([{"name": auth.COOKIE, "value": cookie, "url": address}])
    page = context.new_page()
    page.set_default_timeout(patience.milliseconds(60))
    page.goto(f"{address}/versions/{version.id}")
    held: list[Route] = []
    going: list[Route] = []

    def hold(route: Route) -> None:
        (going if "/jobs/new" in route.request.url else held).append(route)

    page.route("**/privacy?watching=1", hold)
    while not held:
        page.wait_for_timeout(100)

    page.route("**/jobs/new*", hold)
    page.get_by_role("link", name="Train a model with this").click(no_wait_after=True)
    while not going:
        page.wait_for_timeout(100)
    # The search ends just now, while the next page is still on its way.
    headers = {"HX-Refresh": "true", "X-Request-Id": "0123456789abcdef"}
    held[0].fulfill(status=204, headers=headers)
    page.wait_for_timeout(1000)
    going[0].continue_()
    expect(page).to_have_url(f"{address}/jobs/new?version={version.id}")
    context.close()
