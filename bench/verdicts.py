"""What the count of answers says of four real sets of data, with the starter model on this CPU.

    python -m bench.verdicts [--data FOLDER] [--only NAME] [--data-dir FOLDER]

Each set is cut (seed 0) into what is practised and checked and what is held out, sent through /v1
as a user would, trained with the preset Quick, and counted by the evaluation that follows every
job. The clinic's and the school's rows come with Etude; `--data` names a folder that holds
`gsm8k/` (GSM8K, Cobbe et al., 2021) and `medquad/` (MedQuAD, Ben Abacha and Demner-Fushman, 2019).
Of those a part is taken, so that two cores come to an end. Prints the tables of docs/evaluation.md.
"""

import argparse
import csv
import datetime
import importlib
import json
import os
import random
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openpyxl

from bench import comparison

ROOT = Path(__file__).resolve().parents[1]
demo: Any = importlib.import_module("examples.demo")  # it stands alone, and is not typed as one

Row = tuple[str, str]
_SHOWN = ("right", "partly", "wrong", "unsure", "num")


@dataclass(frozen=True)
class Sample:
    """One set of rows, and how many of them are used."""

    name: str
    read: Callable[[Path], list[Row]]
    num_practised: int | None = None  # all that are not held out
    num_held_out: int = 24


def _clinic(_: Path) -> list[Row]:
    with (ROOT / "examples" / "clinic-faq.csv").open(encoding="utf-8", newline="") as file:
        return [(row[0], row[1]) for row in list(csv.reader(file))[1:]]


def _school(_: Path) -> list[Row]:
    book = openpyxl.load_workbook(ROOT / "examples" / "school-exercises.xlsx", read_only=True)
    rows = list(book.worksheets[0].iter_rows(min_row=2, max_col=3, values_only=True))
    return [(str(row[1]), str(row[2])) for row in rows]


def _gsm8k(folder: Path) -> list[Row]:
    lines = (folder / "gsm8k" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    return [(row["question"], row["answer"]) for row in map(json.loads, lines)]


def _medquad(folder: Path) -> list[Row]:
    with (folder / "medquad" / "questions.csv").open(encoding="utf-8", newline="") as file:
        return [(row["Question"], row["Answer"]) for row in csv.DictReader(file)]


SAMPLES = (
    Sample("clinic", _clinic),
    Sample("school", _school),
    Sample("gsm8k", _gsm8k, num_practised=150),
    Sample("medquad", _medquad, num_practised=80),
)


def measure(api: Any, sample: Sample, folder: Path, data: Path) -> dict[str, Any]:
    """Train on a sample and return what its evaluation found."""
    practice, held_out = _files(sample, folder, data)
    began = time.monotonic()
    job = api.post(
        "/fine_tuning/jobs",
        {
            "model": demo.MODEL,
            "training_file": api.upload(practice)["id"],
            "validation_file": api.upload(held_out)["id"],
            "suffix": f"bench-{sample.name}",
            "x_etude": {"preset": "quick", "name": f"Bench {sample.name}"},
            "x_privacy": {"decision": "keep", "reason": "Public or invented; a benchmark."},
        },
    )
    job = demo.watch(api, job["id"])
    if job["status"] != "succeeded":
        raise demo.Failure(f"{sample.name}: the job was {job['status']}: {job['error']}")
    trained = time.monotonic() - began
    found = _evaluation(api, job["fine_tuned_model"])
    if found["status"] != "done":
        raise demo.Failure(f"{sample.name}: not counted: {found['reason']}")
    metrics = job["x_metrics"]
    return {
        "verdict": found["verdict"],
        "summary": found["summary"],
        "arms": {
            arm: {name: tally[name] for name in _SHOWN} for arm, tally in found["arms"].items()
        },
        "loss_before": metrics["validation_loss_before"],
        "loss_after": metrics["validation_loss_after"],
        "seconds_until_trained": round(trained),
        "seconds_until_counted": round(time.monotonic() - began),
    }


def _files(sample: Sample, folder: Path, data: Path) -> tuple[Path, Path]:
    rows = sample.read(data)
    random.Random(0).shuffle(rows)
    held_out, rest = rows[: sample.num_held_out], rows[sample.num_held_out :]
    paths = folder / f"{sample.name}-practice.csv", folder / f"{sample.name}-held-out.csv"
    for path, part in zip(paths, (rest[: sample.num_practised], held_out), strict=True):
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("question", "answer"), *part])
    return paths


def _evaluation(api: Any, model: str) -> dict[str, Any]:
    while True:
        found = api.get(f"/x_evaluations?model={urllib.parse.quote(model)}")["data"]
        if not found:
            raise demo.Failure("This Etude counts no answers by itself.")
        if found[0]["status"] in ("done", "failed", "cancelled"):
            newest: dict[str, Any] = found[0]
            return newest
        time.sleep(1)


def table(name: str, found: dict[str, Any]) -> str:
    """Draw one sample's arms as docs/evaluation.md shows them."""
    lines = [
        f"**{name}**: {found['verdict'].replace('_', ' ')}. Loss on the check rows "
        f"{found['loss_before']:.2f} → {found['loss_after']:.2f}.",
        "",
        "| who answers | right | partly | wrong | for a person | of |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for arm, tally in found["arms"].items():
        counts = " | ".join(str(tally[each]) for each in _SHOWN)
        lines.append(f"| {demo.ARMS.get(arm, arm)} | {counts} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--data", type=Path, help="a folder with gsm8k/ and medquad/")
    options.add_argument("--only", action="append", choices=[each.name for each in SAMPLES])
    options.add_argument("--data-dir", type=Path, default=Path("var"))
    chosen = options.parse_args()
    data_dir = chosen.data_dir.absolute()
    os.environ["ETUDE_DATA_DIR"] = str(data_dir)
    folder = data_dir / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [each for each in SAMPLES if not chosen.only or each.name in chosen.only]
    if chosen.data is None:
        wanted = [each for each in wanted if each.num_practised is None]
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    body: dict[str, Any] = {
        "command": "make bench-verdicts",
        "kind": "verdicts-cpu",
        "date": today,
        "revision": comparison.revision(),
        "machine": comparison.machine(),
        "load_before": os.getloadavg()[0],
        "model": demo.MODEL,
        "preset": "quick",
        "samples": {},
    }
    path = ROOT / "bench" / "results" / f"verdicts-cpu-{today}.json"
    with demo.running(None, data_dir, folder) as url:
        api = demo.sign_in(url, folder)
        demo.wait_for_model(api)
        for sample in wanted:
            found = measure(api, sample, folder, chosen.data or Path())
            body["samples"][sample.name] = found
            body["load_after"] = os.getloadavg()[0]
            path.write_text(json.dumps(body, indent=1) + "\n")
            print(table(sample.name, found), flush=True)


if __name__ == "__main__":
    main()
