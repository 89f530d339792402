"""What every arm of a comparison trains on: the same token ids, labels and groups of examples.

A workload is one .npz: `token_ids` and `labels` (examples behind each other, labels not shifted),
`lengths`, and `step_size`: step s takes examples s * step_size and following. Needs no torch.
"""

import csv
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from app.training.chat import IGNORE_INDEX, ChatFormat, Encoded
from app.training.config import TrainConfig, TrainerSpec
from app.training.manifests import read_manifest
from worker.trainer.data import step_examples

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / "bench" / ".cache"
STEP_SIZE = 16
ROW_TOKENS = 1024  # TRL's default max_length
MODEL_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
# Workload B's lengths: like Alpaca's, many short and a few long (mean about 200).
_SHORT_MEAN, _SHORT_MOST = 200, 1024


def starter_model() -> Path:
    """Return the starter model's folder, made by Etude's own import where it is missing."""
    folder = CACHE / "models" / "smollm2-135m-instruct"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        program = (
            "import sys; from pathlib import Path; "
            "from worker.cpu.model_conversion import convert; "
            "convert({'kind': 'starter'}, Path(sys.argv[1]))"
        )
        # Beside it, and then all at once: another test or bench may need it just now, too.
        with tempfile.TemporaryDirectory(dir=folder.parent) as beside:
            made = Path(beside, folder.name)
            subprocess.run(
                [sys.executable, "-W", "ignore", "-c", program, str(made)],
                cwd=ROOT,
                check=True,
                stdout=subprocess.DEVNULL,
            )
            try:
                made.rename(folder)
            except OSError:
                if not folder.exists():  # else it has come meanwhile
                    raise
    return folder


def data_file() -> Path:
    """Return ETUDE_BENCH_DATA, else GSM8K where it lies, else the sample in the repository."""
    named = os.environ.get("ETUDE_BENCH_DATA")
    choices = [ROOT.parent / "shared/data/gsm8k/train.jsonl", ROOT / "examples/clinic-faq.csv"]
    return Path(named) if named else next(path for path in choices if path.exists())


def make_job(source: Path, model_dir: Path, num_steps: int, device: str = "cpu") -> Path:
    """Write a JOB_DIR as the supervisor does, and workload.npz in the order of its steps.

    Steps are drawn so that each one's examples fill the same number of rows of ROW_TOKENS, the
    most frequent one: a trainer that accumulates a fixed number of packed rows per step then
    makes its updates on the same examples as the others.
    """
    import pyarrow as pa

    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:8]
    folder = CACHE / f"job-{source.stem}-{digest}-{num_steps}-{device.replace(':', '')}"
    if (folder / "workload.npz").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    conversations = _conversations(source)
    chat = ChatFormat.load(model_dir)
    encoded = chat.encode_many(conversations, ROW_TOKENS)
    drawn, num_rows = _draw([len(e.token_ids) for e in encoded], num_steps)
    # The trainer goes through the examples in an order of its own, which we undo beforehand.
    config = TrainConfig(num_epochs=1, batch_size=STEP_SIZE, num_evaluations=1, warmup_share=0)
    order = [i for step in range(num_steps) for i in step_examples(len(drawn), config, step)]
    placed = [0] * len(drawn)
    for example, place in zip(drawn, order, strict=True):
        placed[place] = example
    table = pa.table(
        {
            "index": pa.array(range(len(placed)), pa.int32()),
            "split": ["train"] * len(placed),
            "kind": ["chat"] * len(placed),
            "messages": [json.dumps(conversations[i]) for i in placed],
        }
    )
    with pa.ipc.new_file(str(folder / "examples.arrow"), table.schema) as writer:
        writer.write_table(table)
    spec = TrainerSpec(
        job_id=1,
        attempt=1,
        job_name="bench",
        config=config,
        device=device,
        base_model_name=MODEL_NAME,
        base_model_dir=str(model_dir),
        base_model_manifest_sha256=read_manifest(model_dir)[1],
    )
    (folder / "config.json").write_text(spec.model_dump_json())
    save(folder / "workload.npz", [encoded[i] for i in drawn], num_rows)
    return folder


def save(
    path: Path, examples: list[Encoded], rows_per_step: int, step_size: int = STEP_SIZE
) -> None:
    np.savez(
        path,
        token_ids=np.concatenate([e.token_ids for e in examples]).astype(np.int32),
        labels=np.concatenate([e.labels for e in examples]).astype(np.int32),
        lengths=np.array([len(e.token_ids) for e in examples], np.int32),
        step_size=step_size,
        rows_per_step=rows_per_step,
        row_tokens=max(ROW_TOKENS, *(len(e.token_ids) for e in examples)),
    )


def describe(path: Path) -> dict[str, Any]:
    """Say what a workload holds."""
    with np.load(path) as found:
        lengths, labels = found["lengths"], found["labels"]
        return {
            "examples": len(lengths),
            "examples_per_step": int(found["step_size"]),
            "rows_per_step": int(found["rows_per_step"]),
            "mean_tokens": round(float(lengths.mean()), 1),
            "max_tokens": int(lengths.max()),
            "labelled_share": round(float((labels != IGNORE_INDEX).mean()), 3),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }


def lengths(path: Path) -> list[int]:
    with np.load(path) as found:
        return [int(length) for length in found["lengths"]]


def make_synthetic(
    path: Path, kind: str, num_steps: int, vocabulary: int, step_size: int, shrink: int = 1
) -> None:
    """Write random ids of workload A (uniform 2,048), B (short, mixed) or C (16k long).

    Each step's B examples fill the same number of rows; `shrink` divides lengths, for a trial.
    """
    source = random.Random(0)
    num = num_steps * step_size
    if kind == "B":
        # Log-normal, as lengths of instructions and answers are; sigma 0.8 is a guess.
        pool = [
            min(_SHORT_MOST, max(16, round(source.lognormvariate(5.0, 0.8))))
            for _ in range(40 * num)
        ]
        drawn, rows = _draw(pool, num_steps)
        whole_lengths = [pool[i] for i in drawn]
    else:
        whole_lengths = [2048 if kind == "A" else 16384] * num
        rows = step_size
    examples = []
    for length in [max(8, whole // shrink) for whole in whole_lengths]:
        ids = [source.randrange(vocabulary) for _ in range(length)]
        # A third is the question, as in chat data.
        asked = length // 3
        examples.append(Encoded(ids, [IGNORE_INDEX] * asked + ids[asked:], 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    save(path, examples, rows, step_size)


def num_rows(lengths: list[int], capacity: int) -> int:
    """Count the rows of best-fit decreasing packing."""
    room: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [i for i, free in enumerate(room) if free >= length]
        if fitting:
            room[min(fitting, key=lambda i: room[i])] -= length
        else:
            room.append(capacity - length)
    return len(room)


def _draw(lengths: list[int], num_steps: int) -> tuple[list[int], int]:
    """Draw examples for steps that fill equally many rows; returns them and the number of rows."""
    source = random.Random(0)
    order: list[int] = []
    steps: list[list[int]] = []
    usual = 0
    while True:
        while len(order) < STEP_SIZE:
            more = list(range(len(lengths)))
            source.shuffle(more)
            order += more
        candidate, order = order[:STEP_SIZE], order[STEP_SIZE:]
        steps.append(candidate)
        if len(steps) < 4 * num_steps:
            continue
        counts = [num_rows([lengths[i] for i in step], ROW_TOKENS) for step in steps]
        usual = usual or Counter(counts).most_common(1)[0][0]
        good = [s for s, count in zip(steps, counts, strict=True) if count == usual][:num_steps]
        if len(good) == num_steps:
            return [i for step in good for i in step], usual


def _conversations(path: Path) -> list[list[dict[str, str]]]:
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            rows: list[dict[str, Any]] = list(csv.DictReader(file))
    else:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if rows and "messages" in rows[0]:
        return [row["messages"] for row in rows]
    return [
        [
            {"role": "user", "content": row["question"]},
            {"role": "assistant", "content": row["answer"]},
        ]
        for row in rows
    ]
