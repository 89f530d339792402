"""Somebody has a sheet of questions answered in a browser, with a real worker beside it."""

import io
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import openpyxl
import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import func, update
from sqlalchemy.orm import Session

from app.core.models import Adapter, Answerer
from app.people import auth
from app.training.answers import AnswerRequest, Begun, Event
from tests import patience
from tests.answerer import saying, standing_in
from tests.app.web.jobs.test_event_stream import free_port, start_web
from tests.factories import make_user, make_zipped_adapter
from tests.worker.conftest import WorkerProcess, quick

__all__ = ["quick"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture
def adapter(db: Session, broker: str) -> Adapter:
    return make_zipped_adapter(db, make_user(db))


@pytest.fixture
def worker(adapter: Adapter, quick: None, tmp_path: Path) -> Iterator[WorkerProcess]:
    worker = WorkerProcess("cpu", tmp_path)
    worker.start()
    yield worker
    worker.end()


@pytest.fixture
def address(database_url: str) -> Iterator[str]:
    port = free_port()
    process = start_web(port)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait()


@pytest.fixture
def page(browser: Browser, db: Session, adapter: Adapter, address: str) -> Iterator[Page]:
    context = browser.new_context()
    session = auth.open_session(db, adapter.job.owner if adapter.job else make_user(db))
    db.commit()
    context.add_cookies([{"name": auth.COOKIE, "value": session, "url": address}])
    page = context.new_page()
    page.set_default_timeout(1000 * patience.seconds(20))
    yield page
    context.close()


def test_a_sheet_goes_up_and_comes_back_with_answers(
    page: Page, db: Session, adapter: Adapter, address: str, worker: WorkerProcess, tmp_path: Path
) -> None:
    go = threading.Event()

    def script(request: AnswerRequest) -> list[Event | threading.Event]:
        question = request.messages[-1]["content"]
        held: list[Event | threading.Event] = []
        if "door" in question:
            held = [Begun(prompt_tokens=3, cached_tokens=0), go]
        return held + saying("I would say: ", question)

    sheet = tmp_path / "questions.csv"
    sheet.write_text("nr,question,ward\n1,Where is the soap?,3\n2,Who locks the door?,4\n")
    with standing_in(db) as answerer:
        answerer.script = script
        # The stand-in renews nothing, and leases are short here.
        db.execute(update(Answerer).values(lease_until=func.now() + timedelta(hours=1)))
        db.commit()
        page.goto(f"{address}/adapters/{adapter.id}")
        page.get_by_role("link", name="Ask a list of questions").click()
        page.get_by_label("Sheet").set_input_files(sheet)
        page.get_by_role("button", name="Upload").click()
        # The page moves on by itself each time.
        choice = page.get_by_label("Column with the questions")
        expect(choice).to_have_value("1")
        page.get_by_role("button", name="Start").click()
        expect(page.get_by_role("heading", name="1 of 2 rows")).to_be_visible()
        expect(page.get_by_text("I would say: Where is the soap?").first).to_be_visible()
        go.set()
        expect(page.get_by_role("heading", name="2 of 2 rows")).to_be_visible()
        expect(page.get_by_text("Finished")).to_be_visible()
        with page.expect_download() as begun:
            page.get_by_role("link", name="Download XLSX").click()
        file = begun.value
        assert file.suggested_filename == "questions with answers.xlsx"
        found = openpyxl.load_workbook(io.BytesIO(file.path().read_bytes())).active
        assert found is not None
        assert [row[-2] for row in found.iter_rows(values_only=True)] == [
            "Before training",
            "I would say: Where is the soap?",
            "I would say: Who locks the door?",
        ]
