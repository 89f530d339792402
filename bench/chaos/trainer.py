"""The trainer of the chaos run: no model, and yet a loss that shows a wrong resume.

Its whole memory is a hash that each step turns over, with the examples as the beginning: a step
left out, done twice or begun from the wrong checkpoint gives other losses and other weights ever
after. The job's name is the recipe, e.g. `steps=40 pause=0.05 every=10`.

It writes what it does into the machine's log beside the data directory, one line a write, so that
the checker can see from outside who was at work when.
"""

import fcntl
import hashlib
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from app.training import manifests
from app.training.config import TrainerSpec
from app.training.events import EXIT_CUT_OFF, EXIT_STOPPED
from worker.trainer import keeping
from worker.trainer.commands import Commands
from worker.trainer.deadline import CutOff, Deadline

_LOCK_SECONDS = 10
# Its presence in the run's folder: the negative control, in which nothing holds anybody back.
NO_LOCKS = "no-locks"


class History:
    """This machine's log, as one attempt writes it."""

    def __init__(self, job_dir: Path, spec: TrainerSpec) -> None:
        path = job_dir.parents[2] / "history" / f"{socket.gethostname()}.jsonl"
        self._spec = spec
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def note(self, kind: str, step: int = 0) -> None:
        line = {
            "kind": kind,
            "job": self._spec.job_id,
            "attempt": self._spec.attempt,
            "step": step,
            "ns": time.clock_gettime_ns(time.CLOCK_BOOTTIME),
            "pid": os.getpid(),
        }
        os.write(self._handle, json.dumps(line).encode() + b"\n")


class Trainer:
    """One attempt."""

    def __init__(self, job_dir: Path, spec: TrainerSpec, commands: Commands) -> None:
        self.job_dir = job_dir
        self.spec = spec
        self.commands = commands
        words = dict(word.split("=") for word in spec.job_name.split())
        self.steps, self.every = int(words["steps"]), int(words["every"])
        self.pause = float(words["pause"])
        self.lock = (job_dir / "run.lock").open("a")
        attempt_dir = job_dir / "attempts" / str(spec.attempt)
        self.deadline: Deadline | None = None
        if not (job_dir.parents[2] / NO_LOCKS).exists():
            self._wait_for_lock()
            self.deadline = Deadline(attempt_dir)
        self.note = History(job_dir, spec).note
        self.events = os.open(
            attempt_dir / "events.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644
        )

    def train(self) -> int:
        self.note("start")
        self.say("phase", phase="loading", message="Loading the starting model.")
        examples = (self.job_dir / "examples.arrow").read_bytes()
        state, first = hashlib.sha256(examples).hexdigest(), 0
        if self.spec.resume_from:
            saved = json.loads((self.job_dir / self.spec.resume_from / "state.json").read_text())
            state, first = saved["state"], saved["step"]
        counts = {"num_train": 20, "num_validation": 4, "num_truncated": 0}
        self.say("plan", total_steps=self.steps, plan={}, **counts)
        self.say("phase", phase="training", message="Training.")
        if first == 0:
            self.say("evaluation", step=0, loss=loss(state, 0) + 0.5, is_best=True)
        for step in range(first + 1, self.steps + 1):
            try:
                if self.deadline is not None:
                    self.deadline.keep()
            except CutOff:
                return EXIT_CUT_OFF
            state = hashlib.sha256(f"{state} {step}".encode()).hexdigest()
            time.sleep(self.pause)
            self.note("step", step)
            self.step(step, state)
            if step % self.every == 0:
                self.say("evaluation", step=step, loss=loss(state, step) + 0.5, is_best=True)
                self.checkpoint(step, state)
            if self.commands.asked_to_stop():
                self.checkpoint(step, state)
                self.note("end", step)
                return EXIT_STOPPED
        self.finish(state)
        self.note("end", self.steps)
        return 0

    def step(self, step: int, state: str) -> None:
        self.say(
            "step",
            step=step,
            epoch=step / 10,
            loss=loss(state, step),
            learning_rate=1e-3 * (1 - step / (self.steps + 1)),
            grad_norm=loss(state[::-1], step),
            num_tokens=100,
            tokens_per_second=1000.0,
        )

    def checkpoint(self, step: int, state: str) -> None:
        path = f"checkpoints/step-{step:05d}"
        (self.job_dir / "checkpoints").mkdir(exist_ok=True)
        with manifests.new_folder(self.job_dir / path) as folder:
            (folder / "state.json").write_text(json.dumps({"step": step, "state": state}))
            digest = manifests.write_manifest(folder)
        self.note("checkpoint", step)
        self.say("checkpoint", step=step, path=path, manifest_sha256=digest)
        keeping.tidy(self.job_dir, self.spec.attempt, step)

    def finish(self, state: str) -> None:
        sample = {"question": "q", "reference": "r", "base": "b", "tuned": "t"}
        self.say("samples", samples=[sample])
        with manifests.new_folder(self.job_dir / "result") as folder:
            (folder / "adapter_model.safetensors").write_bytes(bytes.fromhex(state) * 2000)
            (folder / "adapter_config.json").write_text("{}")
            (folder / "tokenizer.json").write_text("{}")
            about = {"job": self.spec.job_id, "attempt": self.spec.attempt}
            digest = manifests.write_manifest(folder, **about)
        self.say(
            "done",
            best_step=self.steps,
            validation_loss_before=3.5,
            validation_loss_after=loss(state, self.steps) + 0.5,
            train_loss=loss(state, self.steps),
            trained_tokens=100 * self.steps,
            peak_memory_bytes=1000,
            train_seconds=1.0,
            save_seconds=0.25,
            stopped_early=False,
            manifest_sha256=digest,
        )

    def say(self, kind: str, **fields: Any) -> None:
        """Tell the supervisor."""
        line = json.dumps({"kind": kind, "at": time.time(), **fields}) + "\n"
        os.write(self.events, line.encode())

    def _wait_for_lock(self) -> None:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                return fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


def loss(state: str, step: int) -> float:
    """Return a loss that falls, and whose last digits tell what was done before."""
    return 3.0 / (1 + step / 10) + int(state[:8], 16) / 2**32 / 10


def main() -> int:
    commands = Commands(os.fdopen(os.dup(0)))
    job_dir = commands.wait_for_job()
    commands.listen()
    spec = TrainerSpec.model_validate_json((job_dir / "config.json").read_bytes())
    return Trainer(job_dir, spec, commands).train()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # the thread that listens holds standard input for ever
