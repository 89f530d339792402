"""A trainer without a model: speaks the whole contract with the supervisor, quickly.

The job's name says what to do: `steps=40 pause=0.02 every=10 exit=12 at=15 deaf hang=9 crash=5`;
with `attempts=1` it misbehaves in the first attempt alone, from `hoard=5` on it takes memory, and
after `flood=5` it has printed 24 megabytes; with `tidy` it keeps no more checkpoints than the real
one. When all is done, `linger` does not end, `after=70` ends with that code, and `babble` writes
what is no event. With `hold=30,50` the first attempt stands still after step 30 and the second
after step 50, until it is stopped or killed.
Losses follow from the step alone, so a resumed job must show the same curve as an unbroken one.
"""

import fcntl
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from app.training import failpoints, manifests
from app.training.config import TrainerSpec
from app.training.events import EXIT_CUT_OFF, EXIT_ORPHANED, EXIT_STOPPED
from worker.trainer import keeping
from worker.trainer.commands import show_stacks_on_signal
from worker.trainer.deadline import CutOff, Deadline


def loss_at(step: int) -> float:
    return 3.0 / (1 + step / 10)


class StandIn:
    def __init__(self, job_dir: Path) -> None:
        self.job_dir = job_dir
        self.spec = TrainerSpec.model_validate_json((job_dir / "config.json").read_bytes())
        words = dict((word + "=1").split("=")[:2] for word in self.spec.job_name.split())
        self.steps, self.every = int(words.get("steps", 20)), int(words.get("every", 10))
        self.pause = float(words.get("pause", 0))
        self.words = words
        held = words.get("hold", "").split(",")
        self.holds = {attempt: int(step) for attempt, step in enumerate(held, 1) if step}
        self.hoard: list[bytearray] = []
        self.lock = (job_dir / "run.lock").open("w")
        fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.events = (job_dir / "attempts" / str(self.spec.attempt) / "events.jsonl").open("ab")
        self.deadline = Deadline(job_dir / "attempts" / str(self.spec.attempt))
        self.stop = threading.Event()

    def write(self, kind: str, **fields: Any) -> None:
        self.events.write(json.dumps({"kind": kind, "at": time.time(), **fields}).encode() + b"\n")
        self.events.flush()
        failpoints.hit("spool.written")

    def checkpoint(self, step: int) -> None:
        path = f"checkpoints/step-{step:05d}"
        (self.job_dir / "checkpoints").mkdir(exist_ok=True)
        with manifests.new_folder(self.job_dir / path) as folder:
            (folder / "state.json").write_text(json.dumps({"step": step}))
            digest = manifests.write_manifest(folder)
        failpoints.hit("checkpoint.written")
        self.write("checkpoint", step=step, path=path, manifest_sha256=digest)
        if "tidy" in self.words:
            keeping.tidy(self.job_dir, self.spec.attempt, step)

    def evaluate(self, step: int, wrong: float = 0) -> None:
        self.write("evaluation", step=step, loss=loss_at(step) + 0.5 + wrong, is_best=True)

    def train(self) -> int:
        start = 0
        self.write("phase", phase="loading", message="Loading the starting model.")
        if self.spec.resume_from:
            state = self.job_dir / self.spec.resume_from / "state.json"
            start = json.loads(state.read_text())["step"]
        self.write(
            "plan", total_steps=self.steps, num_train=20, num_validation=4, num_truncated=0, plan={}
        )
        self.write("phase", phase="training", message="Training.")
        if start == 0:
            self.evaluate(0)
        for step in range(start + 1, self.steps + 1):
            try:
                self.deadline.keep()
            except CutOff:
                return EXIT_CUT_OFF
            code = self.misbehave(step)
            if code is not None:
                return code
            self.step(step)
            if step % self.every == 0:
                self.evaluate(step)
                self.checkpoint(step)
            if step == self.holds.get(self.spec.attempt):
                self.hold()
            if self.stop.is_set() and "deaf" not in self.words:
                self.checkpoint(step)
                return EXIT_STOPPED
            time.sleep(self.pause)
        self.finish()
        if "babble" in self.words:
            self.events.write(b"this is no event\n")
            self.events.flush()
        if "linger" in self.words:
            time.sleep(3600)
        return int(self.words.get("after", 0))

    def hold(self) -> None:
        """Make no step, as one that takes long does; a deaf one waits to be killed."""
        while not self.stop.is_set() or "deaf" in self.words:
            time.sleep(0.02)

    def misbehave(self, step: int) -> int | None:
        if self.spec.attempt > int(self.words.get("attempts", 1_000)):
            return None
        if step == int(self.words.get("crash", 0)):
            print("a trainer that crashes", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGSEGV)
        if step == int(self.words.get("hang", 0)):
            time.sleep(3600)
        if step >= int(self.words.get("hoard", 1_000_000)):
            self.hoard += [bytearray(os.urandom(1) * 64 * 1024**2) for _ in range(4)]
        if step == int(self.words.get("flood", 0)):
            for number in range(24 * 1024):
                print(f"{number:06d} " + "x" * 1016, file=sys.stderr)
        if step == int(self.words.get("nan", 0)):
            self.evaluate(step, float("nan"))
        if step == int(self.words.get("garble", 0)):
            self.events.write(b"this is no event\n")
            self.events.flush()
        if step == int(self.words.get("at", 0)):
            if "say" in self.words:
                self.write("failed", code="out_of_memory", message="Choose a smaller model.")
            return int(self.words["exit"])
        return None

    def step(self, step: int) -> None:
        self.write(
            "step",
            step=step,
            epoch=step / 10,
            loss=loss_at(step),
            learning_rate=1e-3,
            grad_norm=1.0,
            num_tokens=100,
            tokens_per_second=1000.0,
        )

    def finish(self) -> None:
        sample = {"question": "q", "reference": "r", "base": "b", "tuned": "t"}
        self.write("samples", samples=[sample])
        with manifests.new_folder(self.job_dir / "result") as folder:
            (folder / "adapter_model.safetensors").write_bytes(b"weights " * 100)
            config = self.spec.config
            said: dict[str, Any] = {"r": config.lora_rank, "lora_alpha": config.lora_alpha}
            said |= {"use_rslora": config.use_rslora, "use_dora": config.use_dora}
            said |= {"target_modules": ["down_proj", "q_proj"]}
            (folder / "adapter_config.json").write_text(json.dumps(said))
            (folder / "tokenizer.json").write_text("{}")
            if "pickle" in self.words:
                (folder / "training_args.bin").write_bytes(b"\x80\x04.")
            about = {"job": self.spec.job_id, "attempt": self.spec.attempt}
            digest = manifests.write_manifest(folder, **about)
        failpoints.hit("result.written")
        self.write(
            "done",
            best_step=self.steps,
            validation_loss_before=3.5,
            validation_loss_after=loss_at(self.steps) + 0.5,
            train_loss=loss_at(self.steps),
            trained_tokens=100 * self.steps,
            peak_memory_bytes=1000,
            train_seconds=1.0,
            save_seconds=0.25,
            stopped_early=False,
            manifest_sha256=digest,
        )

    def listen(self) -> None:
        for line in sys.stdin:
            if line.strip() == "stop":
                self.stop.set()
        os._exit(EXIT_ORPHANED)


def main() -> int:
    show_stacks_on_signal()
    job_dir = Path(sys.stdin.readline().strip())
    (job_dir / "environment.json").write_text(json.dumps(dict(os.environ)))
    trainer = StandIn(job_dir)
    threading.Thread(target=trainer.listen, daemon=True).start()
    return trainer.train()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # the thread that listens holds standard input for ever
