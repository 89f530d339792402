"""Each page as a person meets it: readable by all, silent in the console, whole on a phone.

axe (Deque, MPL 2.0) looks at the page as the browser has drawn it. The short suite opens each
address once at a desk in the light, then makes the window a phone's in the dark and asks again for
what that changes; each row of each noun, at both widths in both themes, is looked at by
`make test-long`.
"""

import re
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Error, Page, Response, expect
from sqlalchemy.orm import Session

from app.core.models import Desired, JobStatus, ModelStatus, Role, VersionStatus
from app.people import auth
from tests import patience
from tests.e2e.test_ask import address
from tests.factories import (
    make_adapter,
    make_base_model,
    make_dataset_version,
    make_evaluation,
    make_job,
    make_user,
)
from tests.security.full_house import addresses, furnish

__all__ = ["address"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(1800)]
Look = tuple[int, Literal["light", "dark"]]
DESK, PHONE = 1280, 390
# The first is looked at whole, the others for what a width and a theme may spoil.
LOOKS = [
    pytest.param([(DESK, "light"), (PHONE, "dark")], id="both"),
    *(
        pytest.param([(width, theme)], marks=pytest.mark.long, id=f"{width} {theme}")
        for width in (DESK, PHONE)
        for theme in ("light", "dark")
    ),
]
# What Swagger UI draws is its own: it comes after the page, in colours and headings of its choice.
_THEIRS = ".swagger-ui"
each_row = pytest.mark.parametrize(
    "each_row", [False, pytest.param(True, marks=pytest.mark.long)], ids=["one", "each"]
)


@pytest.fixture(params=LOOKS)
def looks(request: pytest.FixtureRequest) -> list[Look]:
    chosen: list[Look] = request.param
    return chosen


@each_row
def test_a_house_with_a_row_of_everything(
    browser: Browser, db: Session, address: str, looks: list[Look], each_row: bool
) -> None:
    cookie = auth.open_session(db, furnish(db))
    db.commit()
    found = addresses(db)
    if not each_row:
        found = list({re.sub(r"\d+", "N", path): path for path in found}.values())
    with _Walk(browser, address, cookie, looks) as walk:
        for path in found:
            walk.look(path)


@pytest.mark.parametrize(
    "role", [each if each is Role.VIEWER else pytest.param(each, marks=pytest.mark.long)
             for each in Role if each is not Role.ADMIN],
)  # fmt: skip
def test_a_house_as_others_see_it(
    browser: Browser, db: Session, address: str, looks: list[Look], role: Role
) -> None:
    """Also what they may not see is a page."""
    furnish(db)
    person = make_user(db, role=role)
    cookie = auth.open_session(db, person)
    db.commit()
    found = list({re.sub(r"\d+", "N", path): path for path in addresses(db)}.values())
    if role is Role.VIEWER:  # who is shown little
        found = [path for path in found if path.count("/") == 1 or path.startswith("/ask")]
    with _Walk(browser, address, cookie, looks) as walk:
        for path in found:
            walk.look(path)


def test_an_empty_house(browser: Browser, db: Session, address: str, looks: list[Look]) -> None:
    cookie = auth.open_session(db, make_user(db, role=Role.ADMIN))
    db.commit()
    with _Walk(browser, address, cookie, looks) as walk:
        for path in ("/", "/datasets", "/datasets/new", "/jobs", "/jobs/new", "/adapters"):
            walk.look(path)
        for path in (
            "/lists",
            "/queue",
            "/models",
            "/bin",
            "/notices",
            "/people",
            "/settings",
            "/nothing-here",
        ):
            walk.look(path)
    with _Walk(browser, address, "", looks) as stranger:
        stranger.look("/sign-in")


@pytest.mark.long
def test_what_is_busy_over_and_much(
    browser: Browser, db: Session, address: str, looks: list[Look]
) -> None:
    """Each state of a job, of data and of a starting model, and lists of more than one page."""
    admin = make_user(db, role=Role.ADMIN)
    version = make_dataset_version(db, user=admin)
    finished = make_adapter(db, user=admin)
    make_evaluation(db, adapter=finished)
    states: list[tuple[JobStatus, dict[str, Any]]] = [
        (JobStatus.QUEUED, {}),
        (JobStatus.QUEUED, {"desired": Desired.PAUSE}),
        (JobStatus.RUNNING, {}),
        (JobStatus.RUNNING, {"desired": Desired.CANCEL}),
        (JobStatus.FAILED, {"log_tail": "the end"}),
        (JobStatus.CANCELLED, {}),
    ]
    jobs = [
        make_job(db, user=admin, version=version, status=status, reason="It was so.", **columns)
        for status, columns in states
    ]
    held = [make_dataset_version(db, user=admin, decided=False)]
    held += [
        make_dataset_version(db, user=admin, status=status)
        for status in VersionStatus
        if status not in (VersionStatus.READY, VersionStatus.MAPPING)
    ]
    for number, status in enumerate(ModelStatus):
        make_base_model(db, name=f"house/{status.value}", status=status, folder=f"m{number}")
    for number in range(60):
        make_job(db, user=admin, version=version, name=f"Try {number}", status=JobStatus.FAILED)
    cookie = auth.open_session(db, admin)
    db.commit()
    with _Walk(browser, address, cookie, looks) as walk:
        for job in jobs:
            walk.look(f"/jobs/{job.id}")
        for each in held:
            walk.look(f"/versions/{each.id}")
        for path in ("/", "/datasets", "/jobs", "/jobs?page=2&q=try", "/jobs?q=nothing", "/models"):
            walk.look(path)
        for path in ("/queue", f"/jobs/{finished.job_id}", f"/adapters/{finished.id}"):
            walk.look(path)


@pytest.mark.long
def test_forms_that_were_refused(
    browser: Browser, db: Session, address: str, looks: list[Look]
) -> None:
    """As they come back: what is wrong stands above, and beside its field."""
    admin = make_user(db, role=Role.ADMIN)
    version = make_dataset_version(db, user=admin)
    cookie = auth.open_session(db, admin)
    db.commit()
    with _Walk(browser, address, cookie, looks) as walk:
        for path, action in (
            ("/datasets/new", "/datasets/upload"),
            ("/jobs/new", "/jobs/new"),
            ("/people", "/people"),
            ("/patterns", "/patterns"),
            ("/webhooks", "/webhooks"),
            ("/account", "/account/password"),
            (f"/versions/{version.id}/file", f"/datasets/{version.dataset_id}/rename"),
        ):
            walk.refused(path, action)
    with _Walk(browser, address, "", looks) as stranger:
        stranger.refused("/sign-in", "/sign-in")


def test_a_cancel_on_the_queue_page_is_silent(
    browser: Browser, db: Session, address: str, looks: list[Look]
) -> None:
    """Also once the page has put a fresh queue into itself."""
    admin = make_user(db, role=Role.ADMIN)
    job = make_job(db, user=make_user(db), name="Nights")
    make_job(db, user=admin, version=job.version, name="Days")
    cookie = auth.open_session(db, admin)
    db.commit()
    with _Walk(browser, address, cookie, looks) as walk:
        page, said = walk.page()
        page.goto(f"{address}/queue")
        page.locator("li", has_text="Nights").locator("summary").click()
        page.get_by_role("button", name="Cancel…").first.click()
        dialog = page.locator("dialog[open]")
        assert page.evaluate("document.activeElement.textContent") == "Go back"
        dialog.get_by_label("Why? (optional)").fill("We need the machine.")
        dialog.get_by_role("button", name="Cancel the job").click()
        expect(page.get_by_text("1 job is waiting.")).to_be_visible()
        for _ in range(2):
            with page.expect_response("**/queue"):
                pass
        page.get_by_role("link", name="Days").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Days")
        assert said == []
    db.expire_all()
    assert (job.status, job.reason) == (JobStatus.CANCELLED, "We need the machine.")


class _Walk:
    """A browser that goes from page to page and notes what is wrong on each."""

    def __init__(self, browser: Browser, address: str, cookie: str, looks: list[Look]) -> None:
        self._looks = looks
        self._address = address
        self._context: BrowserContext = browser.new_context(locale="en-US")
        if cookie:
            self._context.add_cookies([{"name": auth.COOKIE, "value": cookie, "url": address}])
        self._problems: list[str] = []

    def __enter__(self) -> "_Walk":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._context.close()
        if kind is None:
            assert not self._problems, "\n".join(["", *self._problems])

    def page(self) -> tuple[Page, list[str]]:
        """Open a window; returns also what is written to its console."""
        page = self._context.new_page()
        page.set_default_timeout(patience.milliseconds(60))
        _dress(page, self._looks[0])
        said: list[str] = []
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        return page, said

    def look(self, path: str) -> None:
        """Open a page; a file to take home is none."""
        page, said = self.page()
        try:
            answer = self._opens(page, path)
            if answer is not None:
                self._judge(page, path, said, answer)
        finally:
            page.close()

    def refused(self, path: str, action: str) -> None:
        """Send a page's form with nothing in it, and look at what comes back."""
        page, said = self.page()
        try:
            page.goto(self._address + path)
            form = page.locator(f'form[method=post][action="{action}"]')
            with page.expect_navigation() as coming:
                form.evaluate(
                    """(form) => {
                      for (const field of form.elements) {
                        const isTicked = ["radio", "checkbox"].includes(field.type);
                        if (isTicked) field.checked = false;
                        else if (field.type !== "hidden") field.value = "";
                      }
                      form.submit();
                    }"""
                )
            answer = coming.value
            assert answer is not None
            if not 400 <= answer.status < 500:
                self._problems.append(f"{path}: an empty form is answered with {answer.status}")
            self._judge(page, f"{path} refused", said, answer)
        finally:
            page.close()

    def _judge(self, page: Page, path: str, said: list[str], answer: Response) -> None:
        found = [f"status {answer.status}"] if answer.status >= 500 else []
        found += _axe(page)
        for number, look in enumerate(self._looks):
            if number:
                _dress(page, look)
                found += _axe(page, "color-contrast", "scrollable-region-focusable")
            over = page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            if over > 0:
                found.append(f"{over} pixels wider than the window of {look[0]}")
        # Chromium itself tells the console of every answer that is an error.
        refused = f"status of {answer.status}" if answer.status >= 400 else None
        found += [f"console: {each}" for each in said if refused is None or refused not in each]
        self._problems += [f"{path}: {problem}" for problem in found]

    def _opens(self, page: Page, path: str) -> Response | None:
        """Return the answer of a whole page, or None."""
        try:
            answer = page.goto(self._address + path, wait_until="load")
        except Error as error:
            if "Download is starting" in str(error):
                return None
            raise
        assert answer is not None
        if "text/html" not in answer.headers.get("content-type", ""):
            return None
        if "<html" not in answer.text():  # a piece that htmx puts into a page
            return None
        return answer


def _dress(page: Page, look: Look) -> None:
    width, theme = look
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=theme)


def _axe(page: Page, *rules: str) -> Iterator[str]:
    """Name what breaks these rules, or any."""
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if rules:
        options["runOnly"] = list(rules)
    if not page.evaluate("'axe' in window"):
        page.evaluate(Axe().axe_script)
    answer = page.evaluate(
        "([theirs, options]) => axe.run({exclude: [[theirs]]}, options)", [_THEIRS, options]
    )
    for fault in answer["violations"]:
        for node in fault["nodes"]:
            yield f"axe: {fault['id']} ({fault['impact']}): {node['html'][:200]}"
