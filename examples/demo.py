"""`make demo`: teach the starter model the clinic sample through /v1, and show what it learned.

Everything here is what any program can do: send two files, make a job, watch it, take the adapter
home, count its right answers, and ask it, with the starting model beside it. Standard library only.
`examples/compare.py` measures and asks the adapter without Etude, by plain transformers and peft.
"""

import argparse
import csv
import hashlib
import json
import os
import random
import shutil
import sys
import time
import urllib.parse
import zipfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from client import Api, Failure, etude, running

HERE = Path(__file__).parent
SAMPLE = HERE / "clinic-faq.csv"
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
ACCOUNT = "demo@etude.invalid"
# Nobody outside this invented clinic can know the answer; the question is not a row of the sample.
QUESTION = "My doctor ordered a blood test. Where is it done?"
FACT = "Fern Gate"
HELD_OUT_SHARE = 0.1
ARMS = {
    "tuned": "Your trained model",
    "base": "The starting model",
    "lookup": "Looking up, no training",
    "nearest": "The most alike row's answer",
}
FINAL = ("succeeded", "failed", "cancelled")


def main() -> int:
    """Run the demo; the exit code is 0 only if the loss on the check questions fell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data-dir", default=os.environ.get("ETUDE_DATA_DIR", "var"))
    parser.add_argument("--url", help="a running Etude; default: find it, or start it")
    options = parser.parse_args()
    data_dir = Path(options.data_dir).expanduser().absolute()
    os.environ["ETUDE_DATA_DIR"] = str(data_dir)
    folder = data_dir / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    try:
        with running(options.url, data_dir, folder) as url:
            api = sign_in(url, folder)
            wait_for_model(api)
            job = train(api, folder)
            adapter = take_home(api, job, folder)
            code = report(job, time.monotonic() - began)
            count(api, job["fine_tuned_model"])
            answers = [ask(api, "Base", job["model"]), ask(api, "Tuned", job["fine_tuned_model"])]
    except Failure as failure:
        print(f"\nmake demo: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    knows = FACT.lower() in answers[1].lower()
    print(f"  Right: at the {FACT}{'' if knows else ': it has not learned this fact by heart'}.\n")
    seconds = int(time.monotonic() - began)
    print(f"The adapter lies in {adapter}. Took {seconds // 60}:{seconds % 60:02}.")
    return code


def sign_in(url: str, folder: Path) -> Api:
    """Return a client with the demo's own token, which is made once and kept for its owner."""
    kept = folder / "token"
    if kept.exists():
        api = Api(url, kept.read_text().strip())
        if api.accepts_token():
            return api
    if "already has an account" not in etude("user", "add", ACCOUNT, "--service", may_fail=True):
        print(f"Made the service account {ACCOUNT}.")
    token = etude("token", "create", ACCOUNT, "--name", "make demo").strip()
    with open(kept, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        file.write(token)
    api = Api(url, token)
    if not api.accepts_token():
        raise Failure(
            f"the Etude at {url} does not know this data directory's account. Name its own with "
            "--data-dir (or ETUDE_DATA_DIR), or stop it and let the demo start one."
        )
    return api


def wait_for_model(api: Api) -> None:
    """Wait until the starter model is imported, which happens once, at the first start."""
    said = False
    while (model := api.get(f"/models/{MODEL}"))["x_status"] != "ready":
        if model["x_status"] == "failed":
            raise Failure(f"the starter model could not be imported: {model['x_reason']}")
        if not said:
            print(f"Waiting for the starter model {MODEL} to be imported (once, about a minute).")
            said = True
        time.sleep(1)


def split(folder: Path) -> tuple[Path, Path]:
    """Set a tenth of the sample's rows aside: the model is tested on what it never practised."""
    with SAMPLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    header, examples = rows[0], rows[1:]
    random.Random(0).shuffle(examples)  # noqa: S311 - the same rows each time, on purpose
    num_held_out = round(len(examples) * HELD_OUT_SHARE)
    paths = folder / "practice.csv", folder / "held-out.csv"
    for path, part in zip(paths, (examples[num_held_out:], examples[:num_held_out]), strict=True):
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([header, *part])
    print(
        f"{SAMPLE.name}: {len(examples) - num_held_out} examples to practise and check, "
        f"{num_held_out} held out for testing."
    )
    return paths


def train(api: Api, folder: Path) -> dict[str, Any]:
    """Send the files, make the job and watch it to its end."""
    practice, held_out = (api.upload(path)["id"] for path in split(folder))
    job = api.post(
        "/fine_tuning/jobs",
        {
            "model": MODEL,
            "training_file": practice,
            "validation_file": held_out,
            "suffix": "clinic-demo",
            "x_etude": {"preset": "quick", "name": "Clinic demo"},
            # Etude asks before a model learns from data that may point to people. This decides.
            "x_privacy": {"decision": "keep", "reason": "An invented sample: nobody in it exists."},
        },
    )
    print(f"Job {job['id']}: {MODEL}, preset Quick. Watch it on {api.url}/jobs/{job['x_job_id']}")
    try:
        job = watch(api, job["id"])
    except KeyboardInterrupt:
        print("\nCancelling the job.", file=sys.stderr)
        api.post(f"/fine_tuning/jobs/{job['id']}/cancel", {})
        raise
    if job["status"] != "succeeded":
        why = job["error"]["message"] if job["error"] else f"the job was {job['status']}"
        raise Failure(why)
    return job


def watch(api: Api, job_id: str) -> dict[str, Any]:
    """Show a job's progress until it is over."""
    bar = Bar()
    while True:
        job = api.get(f"/fine_tuning/jobs/{job_id}")
        events = api.get(f"/fine_tuning/jobs/{job_id}/events?limit=50")["data"]
        bar.show(job, events)
        if job["status"] in FINAL:
            bar.end()
            return job
        time.sleep(1)


class Bar:
    """One line that redraws itself on a terminal; elsewhere a new line whenever much changed."""

    _WORDS = {  # noqa: RUF012 - nobody changes it
        "validating_files": "reading the files",
        "waiting": "waiting in the queue",
        "starting": "starting",
        "loading": "loading the model",
        "preparing": "preparing the examples",
        "probing": "trying two steps",
        "training": "training",
        "evaluating": "testing",
        "sampling": "answering questions",
        "saving": "saving a checkpoint",
        "succeeded": "done",
    }

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._is_terminal = sys.stdout.isatty()
        self._last: tuple[str, int] | None = None
        self._loss: float | None = None
        self._tested: float | None = None

    def show(self, job: dict[str, Any], events: list[dict[str, Any]]) -> None:
        self._read(events)
        step, total = job["x_step"], job["x_total_steps"] or 0
        state = self._WORDS.get(job["x_state"], job["x_state"])
        parts = [f"{state:<22}", self._drawn(step, total)]
        if total:
            parts.append(f"step {step}/{total}")
        if self._loss is not None:
            parts.append(f"loss {self._loss:.2f}")
        if self._tested is not None:
            parts.append(f"check loss {self._tested:.2f}")
        seconds = int(time.monotonic() - self._began)
        line = "  ".join([*parts, f"{seconds // 60}:{seconds % 60:02}"])
        if self._is_terminal:
            width = shutil.get_terminal_size().columns - 1
            print("\r" + line[:width].ljust(width), end="", flush=True)
            return
        now = (state, step * 10 // total if total else 0)
        if now != self._last:
            print(line, flush=True)
            self._last = now

    def end(self) -> None:
        if self._is_terminal:
            print()

    def _read(self, events: list[dict[str, Any]]) -> None:
        for event in reversed(events):  # they come newest first
            data = event["data"] or {}
            if event["type"] == "metrics":
                self._loss = data.get("train_loss", self._loss)
                self._tested = data.get("full_valid_loss", self._tested)

    @staticmethod
    def _drawn(step: int, total: int, width: int = 30) -> str:
        filled = width * step // total if total else 0
        return "[" + "#" * filled + "." * (width - filled) + "]"


def take_home(api: Api, job: dict[str, Any], folder: Path) -> Path:
    """Download the adapter's zip, check every file against its manifest, and unpack it."""
    archive = folder / "adapter.zip"
    api.download(job["result_files"][1], archive)
    adapter = folder / "adapter"
    shutil.rmtree(adapter, ignore_errors=True)
    with zipfile.ZipFile(archive) as pack:
        pack.extractall(adapter)
    manifest = json.loads((adapter / "MANIFEST.json").read_text())
    for name, expected in manifest["files"].items():
        if hashlib.sha256((adapter / name).read_bytes()).hexdigest() != expected["sha256"]:
            raise Failure(f"{name} in {archive} is not what its manifest says; download it again.")
    print(f"Downloaded {job['fine_tuned_model']} ({archive.stat().st_size / 1e6:.1f} MB).")
    return adapter


def report(job: dict[str, Any], seconds: float) -> int:
    """Print what the check questions say of the training; the held-out ones chose nothing."""
    metrics = job["x_metrics"]
    before, after = metrics["validation_loss_before"], metrics["validation_loss_after"]
    print(f"\nTrained in {int(seconds) // 60}:{int(seconds) % 60:02}, set-up and queue included.")
    print(f"Check loss before: {before:.3f}")
    print(f"Check loss after:  {after:.3f}\n")
    if after < before:
        return 0
    print("The check loss did not fall: something is wrong with the training.", file=sys.stderr)
    return 1


def count(api: Api, model: str) -> None:
    """Wait until the adapter has answered the held-out questions, and print how many are right."""
    print("Now it answers the held-out questions, beside the starting model and looking them up.")
    began = time.monotonic()
    while True:
        found = api.get(f"/x_evaluations?model={urllib.parse.quote(model)}")["data"]
        if not found:
            print("  This Etude counts no answers by itself.\n")
            return
        if found[0]["status"] in ("done", "failed", "cancelled"):
            break
        time.sleep(1)
    shown, seconds = found[0], int(time.monotonic() - began)
    if shown["status"] != "done":
        print(f"  They were not counted: {shown['reason'] or 'that was cancelled.'}\n")
        return
    for arm, label in ARMS.items():
        if (tally := shown["arms"].get(arm)) is not None:
            counts = f"{tally['partly']} partly, {tally['wrong']} wrong, {tally['unsure']} to check"
            print(f"  {label + ':':<28}{tally['right']:>3} of {tally['num']} right, {counts}")
    print(f"  {shown['summary']}")
    print(f"  Counted in {seconds // 60}:{seconds % 60:02}.\n")


def ask(api: Api, who: str, model: str) -> str:
    """Ask one model the question, and print its words as they come."""
    if who == "Base":
        print(f"Question: {QUESTION}")
    print(f"  {who + ':':<7}", end="", flush=True)
    request = {
        "model": model,
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": 60,
        "temperature": 0,
        "stream": True,
    }
    text = ""
    for chunk in api.stream("/chat/completions", request):
        words = chunk["choices"][0]["delta"].get("content") or ""
        text += words
        print(words.replace("\n", " "), end="", flush=True)
    print()
    return text


if __name__ == "__main__":
    sys.exit(main())
