"""The six steps at the top of a page are renewed with what the page says by itself."""

import pytest
from playwright.sync_api import Browser, expect
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.models import Evaluation, EvaluationStatus
from app.people import auth
from tests import patience
from tests.e2e.test_ask import address
from tests.security.full_house import furnish

__all__ = ["address"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


def test_a_result_that_arrives_stands_in_the_steps_too(
    browser: Browser, db: Session, address: str
) -> None:
    cookie = auth.open_session(db, furnish(db))
    evaluation, *others = db.scalars(
        select(Evaluation).where(Evaluation.adapter_id.is_not(None)).order_by(Evaluation.id.desc())
    )
    for each in (evaluation, *others):  # a model is judged by one that is done, where there is one
        each.status = EvaluationStatus.WAITING
    db.commit()
    context = browser.new_context()
    context.add_cookies([{"name": auth.COOKIE, "value": cookie, "url": address}])
    page = context.new_page()
    page.set_default_timeout(patience.milliseconds(30))
    page.goto(f"{address}/evaluations/{evaluation.id}")
    steps = page.get_by_role("navigation", name="Steps of this work")
    expect(steps).to_contain_text("being counted")
    evaluation.status = EvaluationStatus.DONE
    db.commit()
    expect(page.get_by_role("progressbar", name="Questions answered")).to_have_count(0)
    expect(steps).not_to_contain_text("being counted")
    expect(steps).to_contain_text("right")
    context.close()
