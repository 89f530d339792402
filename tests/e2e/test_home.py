"""The start page and the lists in a browser: the tour, typing into a list, Undo, no script."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect
from sqlalchemy.orm import Session

from app.core.models import JobStatus, User
from app.people import auth
from tests import patience
from tests.e2e.test_ask import address
from tests.factories import make_job, make_user

__all__ = ["address"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.fixture
def ana(db: Session) -> User:
    return make_user(db)


@pytest.fixture
def page(browser: Browser, db: Session, address: str, ana: User) -> Iterator[Page]:
    context = browser.new_context(locale="en-US", viewport={"width": 1280, "height": 900})
    cookie = auth.open_session(db, ana)
    db.commit()
    context.add_cookies([{"name": auth.COOKIE, "value": cookie, "url": address}])
    page = context.new_page()
    page.set_default_timeout(patience.milliseconds(60))
    yield page
    context.close()


def test_the_tour_works_by_keyboard_and_does_not_come_back(page: Page, address: str) -> None:
    page.goto(address)
    tour = page.get_by_role("dialog", name="A look around")
    expect(page.get_by_text("New here?")).to_be_visible()
    expect(tour).to_be_hidden()
    page.get_by_role("button", name="Show me").focus()
    page.keyboard.press("Enter")
    expect(tour.get_by_role("heading", name="Add your data")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(tour.get_by_role("heading", name="Check it")).to_be_visible()
    expect(tour.get_by_role("heading", name="Add your data")).to_be_hidden()
    page.keyboard.press("ArrowLeft")
    expect(tour.get_by_role("heading", name="Add your data")).to_be_visible()
    for _ in range(4):
        tour.get_by_role("button", name="Next").click()
    expect(tour.get_by_role("heading", name="Use it")).to_be_visible()
    tour.get_by_role("button", name="Done").click()
    expect(tour).to_be_hidden()
    expect(page.get_by_text("New here?")).to_be_hidden()
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.get_by_text("New here?")).to_be_hidden()
    expect(tour).to_be_hidden()
    page.get_by_role("button", name="A look around").click()  # whoever wants it has it again
    expect(tour.get_by_role("heading", name="Add your data")).to_be_visible()
    page.keyboard.press("Escape")
    expect(tour).to_be_hidden()


def test_a_list_follows_what_is_typed_and_keeps_it(
    page: Page, db: Session, address: str, ana: User
) -> None:
    made = [make_job(db, user=ana, name=name) for name in ("Nights", "Days", "Falls", "Pain")]
    version = made[0].version
    for number in range(4):
        make_job(db, user=ana, version=version, name=f"Bath {number}", status=JobStatus.FAILED)
    page.goto(f"{address}/jobs")
    page.get_by_role("searchbox", name="Search", exact=True).fill("bath")
    expect(page.get_by_role("link", name="Nights")).to_be_hidden()
    expect(page).to_have_url(f"{address}/jobs?q=bath&sort=newest")
    page.get_by_label("Show", exact=True).select_option("failed")
    expect(page.get_by_text("4 jobs")).to_be_visible()
    # A change elsewhere comes in, and what was asked for stays.
    with page.expect_response("**/jobs?q=bath**"):
        make_job(db, user=ana, version=version, name="Bath 9", status=JobStatus.FAILED)
        make_job(db, user=ana, version=version, name="Nurses", status=JobStatus.FAILED)
    expect(page.get_by_role("link", name="Bath 9")).to_be_visible()
    expect(page.get_by_role("link", name="Nurses")).to_be_hidden()
    page.reload()
    expect(page.get_by_role("searchbox", name="Search", exact=True)).to_have_value("bath")
    expect(page.get_by_text("5 jobs")).to_be_visible()


def test_an_empty_list_hears_of_its_first_row(
    page: Page, db: Session, address: str, ana: User
) -> None:
    page.goto(f"{address}/jobs")
    expect(page.get_by_text("No jobs yet.")).to_be_visible()
    page.wait_for_timeout(500)
    make_job(db, user=ana, name="The first")
    expect(page.get_by_role("link", name="The first")).to_be_visible()


def test_undo_brings_a_job_back(page: Page, db: Session, address: str, ana: User) -> None:
    job = make_job(db, user=ana, name="Nights", status=JobStatus.FAILED)
    page.goto(f"{address}/jobs/{job.id}")
    page.get_by_role("button", name="Delete…").click()
    dialog = page.locator("dialog[open]")
    expect(dialog.get_by_label("Erase it at once")).not_to_be_checked()
    dialog.get_by_role("button", name="Delete the job").click()
    expect(page.get_by_text("“Nights” is in the bin until")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Nights")


def test_a_list_that_is_drawn_anew_takes_no_click_back(
    page: Page, db: Session, address: str, ana: User
) -> None:
    """The stream tells of the restored job before the browser has the answer to Undo."""
    job = make_job(db, user=ana, name="Nights", status=JobStatus.FAILED)
    page.goto(f"{address}/jobs/{job.id}")
    page.get_by_role("button", name="Delete…").click()
    page.locator("dialog[open]").get_by_role("button", name="Delete the job").click()
    expect(page.get_by_text("No jobs yet.")).to_be_visible()
    page.wait_for_load_state()
    asked: list[str] = []
    page.on("requestfinished", lambda request: asked.append(request.resource_type))

    def late(route: Route) -> None:
        answer = route.fetch(max_redirects=0)
        for _ in range(60):
            if "fetch" in asked:
                break
            page.wait_for_timeout(1000)
        page.wait_for_timeout(500)
        route.fulfill(response=answer)

    page.route("**/bin/jobs/*/restore", late)
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Nights")
    assert "fetch" in asked


def test_a_list_is_narrowed_without_a_script(
    browser: Browser, db: Session, address: str, ana: User
) -> None:
    version = make_job(db, user=ana, name="Nights").version
    for number in range(6):
        make_job(db, user=ana, version=version, name=f"Bath {number}")
    cookie = auth.open_session(db, ana)
    db.commit()
    context = browser.new_context(java_script_enabled=False)
    context.add_cookies([{"name": auth.COOKIE, "value": cookie, "url": address}])
    page = context.new_page()
    page.set_default_timeout(patience.milliseconds(60))
    page.goto(f"{address}/jobs")
    page.get_by_role("searchbox", name="Search", exact=True).fill("bath")
    page.get_by_label("Mine").check()
    page.get_by_role("button", name="Show", exact=True).click()
    assert "q=bath" in page.url
    assert "mine=1" in page.url
    assert page.get_by_role("link", name="Nights").count() == 0
    assert page.get_by_role("link", name="Bath").count() == 6
    page.goto(address)
    page.get_by_role("button", name="A look around").click()
    expect(page.get_by_role("heading", name="Use it")).to_be_visible()
    context.close()
