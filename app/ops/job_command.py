"""`etude job`: make a job, watch it and steer it, through /v1."""

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO
from urllib.parse import quote

from app.core.errors import AppError, Invalid
from app.ops.terminal import harmless, line
from app.ops.v1_client import Answered, Api, JsonObject, find_job, find_model, patiently

UNDECIDED = "privacy_undecided"
FINAL = ("succeeded", "failed", "cancelled")
_POLL_SECONDS = 1.0
# Etude may be started again meanwhile; the job is not lost by that.
_PATIENCE_SECONDS = 300.0
_NUM_EVENTS = 50
_LOSS_ON = {"check": "Check loss", "test": "Test loss", "practice": "Loss"}


def create(
    api: Api,
    file: str,
    *,
    model: str,
    preset: str,
    name: str | None,
    suffix: str | None,
    validation: str | None,
    privacy: JsonObject | None,
    tell: Callable[[str], object],
) -> JsonObject:
    """Send the files and make the job; nothing that was sent stays behind if there is none.

    Raises:
        Invalid: a file or the model is none.
        Answered: Etude refuses the job.
    """
    files = [_checked(one) for one in (file, validation) if one is not None]
    found = find_model(api, model)  # before a large file is on its way
    sent: list[str] = []
    try:
        ids = [one if isinstance(one, str) else _send(api, one, sent) for one in files]
        body: JsonObject = {"model": found["id"], "training_file": ids[0]}
        options = {"preset": preset} | ({"name": name} if name else {})
        body |= {"x_etude": options}
        body |= {"validation_file": ids[1]} if validation is not None else {}
        body |= {"suffix": suffix} if suffix else {}
        body |= {"x_privacy": privacy} if privacy else {}
        return _post(api, body, ids, tell)
    except Answered as refusal:
        if refusal.code == UNDECIDED:  # a person decides on its page, and goes on here
            tell(f"The data stays in Etude as {' and '.join(sent or [file])}.")
        else:
            _take_back(api, sent)
        raise
    except BaseException:
        _take_back(api, sent)
        raise


def _post(
    api: Api, body: JsonObject, files: list[str], tell: Callable[[str], object]
) -> JsonObject:
    """Make the job: without a decision as soon as its files are searched, to hear what was found.

    /v1 would take it at once, and let it fail later, when nobody looks any more.
    """
    if "x_privacy" not in body and not _are_searched(api, files):
        # What is wrong with the wish itself is told before the wait.
        api.post("/fine_tuning/jobs", body | {"x_etude": body["x_etude"] | {"dry_run": True}})
        tell("Etude reads the data first, and looks for personal details in it.")
        while not _are_searched(api, files):
            time.sleep(_POLL_SECONDS)
    return api.post("/fine_tuning/jobs", body)


def _are_searched(api: Api, files: list[str]) -> bool:
    for file in files:
        shown = api.get(f"/files/{quote(file)}")
        if shown["status"] == "uploaded":
            return False
    return True


def _checked(file: str) -> Path | str:
    path = Path(file)
    if path.is_file():
        return path
    if path.is_dir():
        raise Invalid(f"{file} is a folder; name a file, or a ZIP of files.")
    if file.startswith("file-"):
        return file
    raise Invalid(f"There is no file {file}.")


def _send(api: Api, path: Path, sent: list[str]) -> str:
    stored = api.upload(path, "fine-tune")
    sent.append(stored["id"])
    return str(stored["id"])


def _take_back(api: Api, sent: list[str]) -> None:
    for stored in sent:
        with suppress(AppError):
            api.delete(f"/files/{stored}")


def steer(api: Api, wanted: str, wish: str) -> JsonObject:
    """Cancel, pause or resume a job."""
    job = find_job(api, wanted)
    return api.post(f"/fine_tuning/jobs/{quote(job['id'])}/{wish}")


def watch(api: Api, job: JsonObject, output: TextIO) -> JsonObject:
    """Show a job's progress until it is over; Etude may be started again meanwhile.

    Returns:
        The job as it ended.
    """
    bar = Bar(output)
    address = f"/fine_tuning/jobs/{quote(job['id'])}"
    try:
        while True:
            job = patiently(lambda: api.get(address), _PATIENCE_SECONDS, bar.tell)
            with suppress(AppError):  # what it says now, it says the next time, too
                bar.read(api.get(f"{address}/events?limit={_NUM_EVENTS}")["data"])
            bar.explain(job["x_why"])
            bar.show(job)
            if job["status"] in FINAL:
                return job
            time.sleep(_POLL_SECONDS)
    finally:
        bar.end()


class Bar:
    """One line that redraws itself on a terminal; elsewhere a new line whenever much changed."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._is_terminal = output.isatty()
        self._began = time.monotonic()
        self._last: tuple[str, int] | None = None
        self._loss: float | None = None
        self._tested: float | None = None
        self._is_drawn = False
        self._why = ""

    def read(self, events: list[JsonObject]) -> None:
        """Take in the losses; events come newest first."""
        for event in reversed(events):
            data = event["data"] or {}
            if event["type"] == "metrics":
                self._loss = data.get("train_loss", self._loss)
                self._tested = data.get("full_valid_loss", self._tested)

    def show(self, job: JsonObject) -> None:
        step, total = job["x_step"], job["x_total_steps"] or 0
        state = state_words(job)
        parts = [f"{state:<24}", _drawn(step, total)]
        if total:
            parts.append(f"step {step}/{total}")
        if self._loss is not None:
            parts.append(f"loss {self._loss:.2f}")
        if self._tested is not None:
            parts.append(f"check loss {self._tested:.2f}")
        seconds = int(time.monotonic() - self._began)
        text = "  ".join([*parts, f"{seconds // 60}:{seconds % 60:02}"])
        if self._is_terminal:
            width = shutil.get_terminal_size().columns - 1
            print("\r" + text[:width].ljust(width), end="", file=self._output, flush=True)
            self._is_drawn = True
            return
        now = (state, step * 10 // total if total else 0)
        if now != self._last:
            print(text, file=self._output, flush=True)
            self._last = now

    def explain(self, why: str | None) -> None:
        """Say why a job waits, once."""
        if why and why != self._why:
            self.tell(why)
            self._why = why

    def tell(self, text: str) -> None:
        """Say something between two drawings."""
        self.end()
        print(harmless(text), file=self._output, flush=True)

    def end(self) -> None:
        if self._is_drawn:
            print(file=self._output, flush=True)
        self._is_drawn = False


def _drawn(step: int, total: int, width: int = 30) -> str:
    filled = width * step // total if total else 0
    return "[" + "#" * filled + "." * (width - filled) + "]"


_WORDS = {
    "validating_files": "reading the files",
    "waiting": "waiting in the queue",
    "loading": "loading the model",
    "preparing": "preparing the examples",
    "probing": "trying two steps",
    "evaluating": "testing",
    "sampling": "answering questions",
    "saving": "saving a checkpoint",
    "succeeded": "done",
}


def state_words(job: JsonObject) -> str:
    state = str(job["x_state"])
    if state == "waiting" and job["x_position"]:
        return f"number {job['x_position']} in the queue"
    return _WORDS.get(state, state.replace("_", " "))


def outcome(job: JsonObject) -> str | None:
    """Say why a job that is over has no adapter; None where it has one."""
    if job["status"] == "succeeded":
        return None
    if job["error"]:
        return str(job["error"]["message"])
    return f"The job {job['id']} was {job['status']}."


def as_line(job: JsonObject) -> str:
    """Write a job as one row of a list."""
    step = f"{job['x_step']}/{job['x_total_steps']}" if job["x_total_steps"] else "-"
    cells = (job["id"], state_words(job), step, job["model"], job["x_name"])
    return "\t".join(line(cell) for cell in cells)


def as_text(job: JsonObject, url: str) -> str:
    """Write what is known of a job."""
    rows = [("Job", job["id"]), ("Page", f"{url}/jobs/{job['x_job_id']}")]
    rows += [("State", state_words(job))]
    if job["x_total_steps"]:
        rows.append(("Step", f"{job['x_step']} of {job['x_total_steps']}"))
    if job["x_why"]:
        rows.append(("Why", job["x_why"]))
    if job["error"]:
        rows.append(("Reason", job["error"]["message"]))
    rows.append(("Model", job["model"]))
    rows.append(("Made", _moment(job["created_at"])))
    if job["finished_at"]:
        rows.append(("Ended", _moment(job["finished_at"])))
    elif job["estimated_finish"]:
        rows.append(("Ends by", _moment(job["estimated_finish"])))
    metrics = job["x_metrics"] or {}
    before, after = metrics.get("validation_loss_before"), metrics.get("validation_loss_after")
    if before is not None and after is not None:
        rows.append((_LOSS_ON[job["x_chosen_by"]], f"{before:.2f} before, {after:.2f} after"))
    if job["fine_tuned_model"]:
        rows.append(("Adapter", job["fine_tuned_model"]))
    return "\n".join([line(job["x_name"]), *(f"  {name:<10}{line(said)}" for name, said in rows)])


def _moment(seconds: int) -> str:
    from app.core import site_time  # whoever only watches a job should not wait for settings

    return f"{site_time.local(datetime.fromtimestamp(seconds, UTC)):%Y-%m-%d %H:%M}"


def privacy(keep: str | None, decision: str | None) -> JsonObject | None:
    """Return the decision about personal details as /v1 takes it.

    Raises:
        Invalid: there are two.
    """
    if keep is not None and decision is not None:
        raise Invalid(
            "Keep personal details, or say with --privacy what to do with them: not both."
        )
    if keep is not None:
        return {"decision": "keep", "reason": keep}
    return {"decision": decision} if decision is not None else None
