"""An administrator uploads a model on its page, in Chromium: breaks, pauses, reloads."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect
from sqlalchemy.orm import Session

from app.base_models import registry as base_models
from app.core.models import ModelStatus, Role
from app.people import auth
from tests import patience
from tests.e2e.test_ask import address
from tests.factories import make_user
from tests.worker.trainer.conftest import tiny_model
from worker.cpu import model_import

__all__ = ["address", "tiny_model"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(580)]
NUM_BYTES = 24 * 1024**2


@pytest.fixture
def given(tiny_model: Path, tmp_path: Path) -> Path:
    """A model's folder on the administrator's computer, with what nobody needs beside."""
    folder = tmp_path / "tiny-model"
    shutil.copytree(tiny_model, folder)
    (folder / "MANIFEST.json").unlink()
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    return folder


@pytest.fixture
def page(browser: Browser, db: Session, address: str) -> Iterator[Page]:
    cookie = auth.open_session(db, make_user(db, role=Role.ADMIN))
    db.commit()
    context = browser.new_context(locale="en-US", viewport={"width": 1280, "height": 900})
    context.add_cookies([{"name": auth.COOKIE, "value": cookie, "url": address}])
    page = context.new_page()
    page.set_default_timeout(patience.milliseconds(60))
    page.goto(f"{address}/models")
    yield page
    context.close()


def slowly(context: BrowserContext, page: Page) -> None:
    """Let so little through that a person could press a button meanwhile."""
    devtools = context.new_cdp_session(page)
    devtools.send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 2_000_000},
    )


def test_a_folder_is_uploaded_checked_and_imported(
    page: Page, db: Session, given: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_WORKER_ID", "cpu-0@test")
    page.get_by_label("Folder", exact=True).set_input_files(given)
    expect(page.get_by_label("Name, e.g. hospital/model-name").first).to_have_value("tiny-model")
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(page.get_by_role("heading", name="tiny-model")).to_be_visible()
    model = base_models.by_name(db, "tiny-model")
    names = {path.name for path in base_models.uploaded_folder(model.source["id"]).iterdir()}
    assert "model.safetensors" in names
    assert "pytorch_model.bin" not in names
    assert model_import.import_next("cpu-0@test")
    db.refresh(model)
    assert (model.status, model.reason) == (ModelStatus.READY, None)


def test_a_wrong_folder_is_told_before_a_byte_travels(page: Page, given: Path) -> None:
    (given / "model.safetensors").rename(given / "model-00002-of-00002.safetensors")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.method))
    page.get_by_label("Folder", exact=True).set_input_files(given)
    page.get_by_role("button", name="Upload", exact=True).click()
    error = page.locator("[data-upload-error]")
    expect(error).to_have_text(
        "model-00001-of-00002.safetensors is missing; copy the whole folder again."
    )
    assert "PATCH" not in sent
    page.get_by_label("GGUF file").set_input_files(given / "config.json")
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(error).to_contain_text("neither safetensors files nor a GGUF file")


def test_a_folder_that_is_dropped_is_taken(page: Page, given: Path) -> None:
    page.locator("[data-drop]").scroll_into_view_if_needed()
    box = page.locator("[data-drop]").bounding_box()
    assert box is not None
    devtools = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(given)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        at = {"x": box["x"] + 20, "y": box["y"] + 20}
        devtools.send("Input.dispatchDragEvent", {"type": kind, "data": data, **at})
    expect(page.locator("[data-upload-chosen]")).to_contain_text("files chosen")
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(page.get_by_role("heading", name="tiny-model")).to_be_visible()


def test_it_pauses_and_goes_on_after_a_break_and_a_reload(
    page: Page, address: str, db: Session, tmp_path: Path
) -> None:
    file = tmp_path / "large.gguf"
    file.write_bytes(b"GGUF" + bytes(range(256)) * (NUM_BYTES // 256))
    slowly(page.context, page)
    choose(page, file)
    progress = page.locator("[data-upload-text]")
    expect(progress).to_have_text(re.compile(r"\d MB of 25\.2 MB"))
    page.get_by_role("button", name="Pause").click()
    expect(progress).to_contain_text("Paused.")
    page.get_by_role("button", name="Continue").click()
    expect(progress).not_to_contain_text("Paused.")
    # The network goes, and comes back: it goes on by itself.
    page.context.set_offline(True)
    page.wait_for_timeout(1500)
    page.context.set_offline(False)
    # The page is left in the middle of it.
    page.goto("about:blank")
    page.goto(f"{address}/models")
    unfinished = page.locator("[data-unfinished]")
    expect(unfinished).to_contain_text("of 25.2 MB are here")
    unfinished.get_by_role("button", name="Choose the same files again").click()
    offsets: list[int] = []

    def note(request: Request) -> None:
        if request.method == "PATCH":
            offsets.append(int(request.headers["upload-offset"]))

    page.on("request", note)
    choose(page, file)
    expect(page.get_by_role("heading", name="large")).to_be_visible()
    assert offsets[0] > 0
    assert offsets == sorted(set(offsets))
    model = base_models.by_name(db, "large")
    (kept,) = base_models.uploaded_folder(model.source["id"]).iterdir()
    assert kept.read_bytes() == file.read_bytes()


def test_it_is_cancelled(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "large.gguf"
    file.write_bytes(b"GGUF" + bytes(NUM_BYTES))
    slowly(page.context, page)
    choose(page, file)
    expect(page.locator("[data-upload-text]")).to_have_text(re.compile(r"\d MB of 25\.2 MB"))
    page.get_by_role("button", name="Cancel upload").click()
    expect(page.locator("[data-upload-state]")).to_be_hidden()
    expect(page.locator("[data-unfinished]")).to_have_count(0)
    expect(page.get_by_role("heading", name="large")).to_have_count(0)


def choose(page: Page, file: Path) -> None:
    page.get_by_label("GGUF file").set_input_files(file)
    page.get_by_role("button", name="Upload", exact=True).click()
