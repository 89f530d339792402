"""How many test questions a minute each arm answers, with the starter model on this CPU.

    python -m bench.evaluate [--questions N] [--adapter FOLDER]

The clinic sample's rows, a tenth of them for testing, asked as a worker asks them: blocks of eight,
temperature 0, the worker's own children and threads. Each arm alone, then all of them as an
evaluation asks them, with as many practised questions beside them. Aim: 150 test questions in 15
minutes, so 10 a minute. The adapter has small random numbers unless a trained one is named: what
one costs, not what it says.
"""

import argparse
import csv
import datetime
import json
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("ETUDE_WORKER_ID", "gpu-0@bench")

from app.adapters.answering import WantedAdapter, WantedBase
from app.core.models import Arm, Json
from app.evaluation import arms as asking
from app.evaluation.retrieval import PracticeRows
from app.training import manifests
from app.training.answers import AnswerRequest, Ended, Limits, Piece
from app.training.chat import ChatFormat
from bench import ask, comparison, workload
from worker.gpu.evaluating import longest_answer
from worker.gpu.evaluation_models import Ask, Models
from worker.leased import LeaseHolder

ROOT = Path(__file__).resolve().parents[1]
BLOCK = 8
AIM_A_MINUTE = 10.0
MODEL_ARMS = (Arm.TUNED, Arm.BASE, Arm.LOOKUP, Arm.TUNED_LOOKUP)
_USUAL = (Arm.TUNED, Arm.BASE, Arm.LOOKUP)
Row = tuple[str, str]


class Bench:
    """The sample, cut in two, and the models."""

    def __init__(self, models: Models, chat: ChatFormat) -> None:
        self.models, self.chat = models, chat
        with (ROOT / "examples" / "clinic-faq.csv").open(encoding="utf-8", newline="") as file:
            rows = [(row[0], row[1]) for row in list(csv.reader(file))[1:]]
        random.Random(0).shuffle(rows)
        number = len(rows) // 10
        self.tests, self.practice = rows[:number], rows[number:]
        lengths = [len(chat.tokenizer.encode(answer).ids) for _, answer in self.tests]
        self.limit = longest_answer(lengths)
        self.index = PracticeRows(
            ((place, row[0]) for place, row in enumerate(self.practice)), len(self.practice)
        )

    def asks(self, arm: Arm, rows: Sequence[Row]) -> list[Ask]:
        return [Ask(arm in asking.TUNED, self.request(arm, question)) for question, _ in rows]

    def request(self, arm: Arm, question: str) -> AnswerRequest:
        found = [
            asking.Row(place, *self.practice[place])
            for place in self.index.nearest(question, asking.NUM_LOOKED_UP)
        ]
        before: list[Json] = [{"role": "user", "content": question}]

        def fits(messages: Sequence[Json]) -> bool:
            return len(self.chat.encode_prompt(messages)) <= self.models.context_tokens // 2

        return AnswerRequest(
            base_model_id=0,
            account="bench",
            messages=asking.asked(arm, before, found, fits).messages,
            limits=Limits(max_new_tokens=self.limit),
        )

    def measure(self, arms: Sequence[Arm], num_questions: int, *, practised: bool) -> Json:
        """Have questions answered a block at a time; gives test questions a minute."""
        began, cpu_before = time.monotonic(), self.cpu_seconds()
        num_tokens = num_cut = num_answers = 0
        tests = (self.tests * (num_questions // len(self.tests) + 1))[:num_questions]
        for start in range(0, num_questions, BLOCK):
            block = tests[start : start + BLOCK]
            asks = self.asks(arms[0], block)
            if practised:
                asks += self.asks(Arm.TUNED, self.practice[start : start + len(block)])
            for arm in arms[1:]:
                asks += self.asks(arm, block)
            num_answers += len(asks)
            for _, event in self.models.ask(asks):
                if isinstance(event, Ended):
                    num_tokens += event.completion_tokens
                    num_cut += event.reason == "length"
                assert isinstance(event, Piece) or event.kind != "refused", event
        seconds = time.monotonic() - began
        return {
            "questions_a_minute": round(60 * num_questions / seconds, 1),
            "answers_a_minute": round(60 * num_answers / seconds, 1),
            "tokens_a_second": round(num_tokens / seconds, 1),
            "tokens_an_answer": round(num_tokens / max(1, num_answers), 1),
            "share_cut": round(num_cut / max(1, num_answers), 3),
            "seconds": round(seconds, 1),
            # On a machine that does something else besides, this says more than the time.
            "cpu_seconds_a_question": round((self.cpu_seconds() - cpu_before) / num_questions, 2),
        }

    def cpu_seconds(self) -> float:
        """Return how long cores have worked for the children."""
        ticks = 0
        for pid in self.models.pids:
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(words[11]) + int(words[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def nearest(self) -> Json:
        began = time.monotonic()
        for question, _ in self.tests:
            self.index.nearest(question, 1)
        seconds = time.monotonic() - began
        return {"questions_a_minute": round(60 * len(self.tests) / seconds)}


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--questions", type=int, default=24)
    options.add_argument("--adapter", type=Path, help="a published adapter's folder")
    chosen = options.parse_args()
    os.environ["ETUDE_DATA_DIR"] = str(workload.CACHE / "evaluate")
    files = ask.prepare()
    folder = chosen.adapter or Path(files["adapter_folder"])
    base_folder = Path(files["base"])
    base = WantedBase(
        id=1,
        name=workload.MODEL_NAME,
        label="the starter model",
        folder=base_folder,
        manifest_sha256=files["manifest_sha256"],
        size_bytes=sum(path.stat().st_size for path in base_folder.iterdir()),
        config=json.loads((base_folder / "config.json").read_text()),
    )
    digest = manifests.read_manifest(folder)[1]
    adapter = WantedAdapter(1, "bench", folder, digest)
    # No row is leased here: nobody takes anything away from it.
    holder = LeaseHolder(None)  # type: ignore[arg-type]
    body: dict[str, Any] = {
        "command": "make bench-evaluate",
        "kind": "evaluate-cpu",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "revision": comparison.revision(),
        "machine": comparison.machine(),
        "load_before": os.getloadavg()[0],
        "model": workload.MODEL_NAME,
        "adapter": "trained" if chosen.adapter else "random",
        "num_questions": chosen.questions,
        "aim_questions_a_minute": AIM_A_MINUTE,
        "arms": {},
    }
    with Models(holder, base, adapter, 1024) as models:
        models.open()
        bench = Bench(models, ChatFormat.load(base_folder))
        body |= {"engine": models.place.engine, "max_new_tokens": bench.limit}
        for arm in MODEL_ARMS:
            body["arms"][arm.value] = bench.measure([arm], chosen.questions, practised=False)
            print(f"{arm.value}: {json.dumps(body['arms'][arm.value])}", file=sys.stderr)
        body["arms"][Arm.NEAREST.value] = bench.nearest()
        body["evaluation"] = bench.measure(_USUAL, chosen.questions, practised=True)
    body["load_after"] = os.getloadavg()[0]
    path = ROOT / "bench" / "results" / f"evaluate-cpu-{body['date']}.json"
    path.write_text(json.dumps(body, indent=1) + "\n")
    print(json.dumps(body))
    sys.exit(0 if body["evaluation"]["questions_a_minute"] >= AIM_A_MINUTE else 1)


if __name__ == "__main__":
    main()
