"""A person uploads a file in a browser and goes home with a trained adapter."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from playwright.sync_api import Browser, Page, expect

from tests import patience
from tests.e2e.conftest import House, clean_environment
from tests.worker.conftest import is_running, parent

EXAMPLES = Path(__file__).parents[2] / "examples"
HELD_OUT_LOSS = Path(__file__).with_name("held_out_loss.py")
PASSWORD = "four quiet green lamps"
T = TypeVar("T")
pytestmark = [pytest.mark.browser, pytest.mark.timeout(580)]


@pytest.fixture(scope="module")
def page(house: House, browser: Browser) -> Page:
    """A browser's page, signed in as the first administrator by the one-time link."""
    context = browser.new_context(locale="en-US", accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(patience.milliseconds(60))
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
    page.goto(house.setup_link)
    page.get_by_label("Your name").fill("Ada")
    page.get_by_label("E-mail").fill("ada@house.example")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Repeat password").fill(PASSWORD)
    page.get_by_role("button", name="Set password and sign in").click()
    expect(page).to_have_url(f"{house.address}/")
    page.problems = problems  # type: ignore[attr-defined]
    return page


def test_a_file_becomes_an_adapter(house: House, page: Page, tmp_path: Path) -> None:
    learned, held_out = short_rows(tmp_path)
    upload_and_confirm(house, page, learned)
    see_what_is_learned(page)
    start_job(page)
    trainer = watch_it_learn(house, page)
    kill_the_worker(page, trainer)
    finish(page)
    archive = download(page, tmp_path)
    loads_in_plain_peft(house, archive, held_out, tmp_path)
    assert page.problems == []  # type: ignore[attr-defined]


@pytest.mark.long
def test_a_nurse_has_an_answer_within_twelve_clicks(house: House, page: Page) -> None:
    """From the first page by the school sample, one standing-out button after the other."""
    clicks: list[str] = []

    def clicked(words: str) -> None:
        clicks.append(words)

    page.expose_function("clicked", clicked)
    page.add_init_script(
        "addEventListener('pointerdown', (e) => clicked(e.target.textContent.trim()), true)"
    )
    page.goto(f"{house.address}/")
    if not (sample := page.get_by_role("button", name="the school sample")).count():
        page.get_by_role("link", name="Data", exact=True).click()
        page.get_by_role("link", name="Add data").first.click()
    sample.first.click()
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("link", name="Train a model with this").click()
    # The starter model may still be on its way.
    expect(page.get_by_role("button", name="Start training")).to_be_enabled()
    # What a nurse would wait for takes an hour on a small machine: here it ends after some steps.
    for name, value in (("num_steps", "4"), ("batch_size", "1"), ("num_evaluations", "1")):
        field = page.locator(f"input[name={name}]")
        assert field.count(), name
        field.evaluate("(field, value) => { field.value = value; }", value)
    page.get_by_role("button", name="Start training").click()
    ask = page.get_by_role("link", name="Ask it", exact=True)
    is_over = ask.or_(page.get_by_text("Why it stopped")).first
    expect(is_over).to_be_visible(timeout=patience.milliseconds(300))
    ask.click()
    page.get_by_label("Your question").fill("What is the past tense of “go”?")
    page.get_by_role("button", name="Ask", exact=True).click()
    answer = page.get_by_label("Your trained model", exact=True)
    expect(answer).to_have_attribute(
        "data-finish", re.compile("stop|length"), timeout=patience.milliseconds(300)
    )
    assert answer.locator("[data-words]").inner_text().strip()
    assert len(clicks) <= 12, clicks
    print(f"{len(clicks)} clicks: {clicks}")


def short_rows(tmp_path: Path) -> tuple[Path, Path]:
    """The clinic's shortest rows, just so many that some check; the next ones are held out."""
    with (EXAMPLES / "clinic-faq.csv").open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    rows.sort(key=lambda row: len("".join(row)))
    learned, held_out = tmp_path / "clinic.csv", tmp_path / "held-out.csv"
    for path, chosen in ((learned, rows[:60]), (held_out, rows[60:64])):
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([head, *chosen])
    return learned, held_out


def upload_and_confirm(house: House, page: Page, file: Path) -> None:
    page.goto(f"{house.address}/datasets/new")
    page.get_by_label("Name (optional)").fill("Clinic questions")
    page.get_by_label("File", exact=True).set_input_files(file)
    page.get_by_role("button", name="Upload").click()
    page.get_by_label("Kept for testing").fill("50")  # 30 of 60; 6 check, and 24 are practised
    page.get_by_role("button", name="Continue").click()
    decide_about_people(page)
    expect(page.get_by_role("link", name="Train a model with this")).to_be_visible()


def decide_about_people(page: Page) -> None:
    """The clinic is invented, and so are its streets and phones: they are kept, with a reason."""
    page.get_by_role("link", name="Review personal details").first.click()
    # A list of locators waits for nothing: read on the page before, it was empty.
    expect(page.get_by_role("button", name="Save decision")).to_be_visible()
    for choice in page.locator("select[name^=kind-]").all():
        choice.select_option("keep")
    page.get_by_role("button", name="Save decision").click()
    expect(page.get_by_role("alert")).to_contain_text("write a sentence on why")
    (refusal,) = page.problems  # type: ignore[attr-defined]
    assert "422" in refusal
    page.problems.clear()  # type: ignore[attr-defined]
    page.get_by_label("Why may details be kept?").fill("The clinic and its town are invented.")
    page.get_by_role("button", name="Save decision").click()
    expect(page.get_by_text("Decided by Ada")).to_be_visible()
    page.get_by_role("link", name="Back to version").click()


def see_what_is_learned(page: Page) -> None:
    # The starter model may still be on its way: its template shows what the model will see.
    deadline = time.monotonic() + patience.seconds(180)
    while not page.locator("mark.learned").count() > 1:
        assert time.monotonic() < deadline, "the starter model was not imported"
        page.wait_for_timeout(1000)
        page.reload()
    seen = page.locator(".seen")
    expect(seen).to_contain_text("<|im_start|>user")
    learned = seen.locator("mark.learned").inner_text()
    assert "<|im_start|>" not in learned
    assert learned.endswith("<|im_end|>")


def start_job(page: Page) -> None:
    page.get_by_role("link", name="Train a model with this").click()
    page.get_by_text("Quick", exact=True).click()
    page.get_by_text("Advanced settings").click()
    page.get_by_label("Passes over the practice set").fill("0.4")  # ten steps
    page.get_by_label("Examples per step").fill("1")
    page.get_by_label("Checks during training").fill("2")
    page.get_by_label("Job name").fill("Clinic, first try")
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Clinic, first try")


def watch_it_learn(house: House, page: Page) -> int:
    """The chart grows without a reload, and a second tab sees the same points.

    Returns the trainer's process id. It stands still from its first checkpoint on, so that there is
    time to look, on a quick machine as on a slow one.
    """
    # A new status loads the page afresh; there are no points before the model is loaded.
    expect(page.locator("[data-job-stream]")).to_have_attribute("data-kind", "moving")
    page.evaluate("window.isTheSamePage = true")
    chart_shows(page, None)
    (attempt,) = wait_until(page, lambda: list(house.data_dir.glob("jobs/*/attempts/1")))
    spool = attempt / "events.jsonl"
    wait_until(page, lambda: spool.exists() and b'"checkpoint"' in spool.read_bytes())
    trainer = int(json.loads((attempt / "trainer.json").read_text())["pid"])
    os.kill(trainer, signal.SIGSTOP)
    events = [json.loads(line) for line in spool.read_text().splitlines()]
    last = max(event["step"] for event in events if event["kind"] == "step")
    expect(page.locator("[data-log]")).to_contain_text("Checkpoint saved at step")
    chart_shows(page, last)
    assert page.evaluate("window.isTheSamePage")
    other = page.context.new_page()
    other.goto(page.url)
    chart_shows(other, last)
    other.close()
    return trainer


def chart_shows(page: Page, last_step: int | None) -> None:
    """Wait until every step is a point, and so is step 0, the base model's loss; None: no point."""
    chart = page.locator("[data-loss-chart]")
    expect(chart).to_have_attribute("data-last-step", "" if last_step is None else str(last_step))
    num_points = 0 if last_step is None else last_step + 1
    expect(chart).to_have_attribute("data-num-points", str(num_points))


def kill_the_worker(page: Page, trainer: int) -> None:
    """Kill the gpu worker after the first checkpoint: the job must go on from there by itself."""
    supervisor = parent(trainer)
    for pid in (parent(supervisor), supervisor):  # Celery's main process and its pool child
        os.kill(pid, signal.SIGKILL)
    os.kill(trainer, signal.SIGCONT)
    expect(page.locator("[data-log]")).to_contain_text("Resuming from step")
    assert not is_running(trainer)


def finish(page: Page) -> None:
    link = page.get_by_role("link", name="Open your trained model")
    is_over = link.or_(page.get_by_text("Why it stopped")).first
    expect(is_over).to_be_visible(timeout=patience.milliseconds(300))
    assert link.count(), page.locator("[data-log]").inner_text()
    steps = page.evaluate(
        "fetch(`${location.pathname}/metrics.csv`).then((answer) => answer.text())"
    ).splitlines()[1:]
    numbers = [int(line.split(",")[0]) for line in steps if line.split(",")[1]]
    assert numbers == list(range(1, numbers[-1] + 1)), "a step is missing or doubled"
    link.click()


def download(page: Page, tmp_path: Path) -> Path:
    expect(page.get_by_role("heading", name="The same question, before and after")).to_be_visible()
    assert page.locator(".side-by-side").count() == 3
    page.get_by_role("link", name="Take it along").click()
    page.get_by_role("button", name="Make it: Adapter", exact=True).click()
    link = page.get_by_role("link", name="Download: Adapter, as trained")
    expect(link).to_be_visible(timeout=patience.milliseconds(300))
    with page.expect_download() as waiting:
        link.click()
    archive = tmp_path / "adapter.zip"
    waiting.value.save_as(archive)
    return archive


def loads_in_plain_peft(house: House, archive: Path, held_out: Path, tmp_path: Path) -> None:
    """In a process of its own, with transformers and peft alone: its loss is below the base's."""
    with zipfile.ZipFile(archive) as zipped:
        names = {Path(name).name for name in zipped.namelist()}
        zipped.extractall(tmp_path / "unpacked")
    assert {"adapter_model.safetensors", "adapter_config.json", "README.md"} <= names
    assert {"MANIFEST.json", "chat_template.jinja", "tokenizer.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]
    adapter = next((tmp_path / "unpacked").rglob("adapter_config.json")).parent
    base = next(path for path in (house.data_dir / "models").iterdir() if path.is_dir())
    done = subprocess.run(
        [sys.executable, str(HELD_OUT_LOSS), str(base), str(adapter), str(held_out)],
        capture_output=True,
        text=True,
        env=clean_environment() | {"HF_HUB_OFFLINE": "1"},
        timeout=patience.seconds(300),
    )
    assert done.returncode == 0, done.stderr
    losses = json.loads(done.stdout.splitlines()[-1])
    assert losses["tuned"] < losses["base"] - 0.1


def wait_until(page: Page, look: Callable[[], T], limit_seconds: float = 180) -> T:
    deadline = time.monotonic() + patience.seconds(limit_seconds)
    while not (found := look()):
        assert time.monotonic() < deadline, page.locator("[data-log]").inner_text()
        time.sleep(0.01)
    return found
