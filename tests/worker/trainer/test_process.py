"""The trainer as the supervisor starts it: JOB_DIR on standard input, exit codes out."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.training import events as train_events
from app.training.config import TrainerSpec
from app.training.manifests import verify_manifest
from tests import patience
from tests.worker.trainer.conftest import events, make_job

WALLS = {"ETUDE_WALLS": os.environ.get("ETUDE_WALLS", "auto")}
LONG: dict[str, Any] = {"num_epochs": 50, "batch_size": 1, "num_evaluations": 1}


@contextmanager
def trainer(folder: Path, **variables: str) -> Iterator["subprocess.Popen[str]"]:
    with (
        (folder / "log.txt").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-m", "worker.trainer"],
            stdin=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
            env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", **WALLS, **variables},
            cwd=Path(__file__).parents[3],
        ) as process,
    ):
        assert process.stdin is not None
        process.stdin.write(f"{folder}\n")
        process.stdin.flush()
        try:
            yield process
        finally:
            process.kill()


def wait_until(true: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + patience.seconds(seconds)
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def has_trained(folder: Path, attempt: int = 1) -> bool:
    file = folder / "attempts" / str(attempt) / "events.jsonl"
    return file.exists() and '"kind": "step"' in file.read_text()


def test_stop_saves_and_the_next_attempt_goes_on(tmp_path: Path, tiny_model: Path) -> None:
    spec = make_job(tmp_path, tiny_model, **LONG)
    with trainer(tmp_path) as process:
        assert process.stdin is not None
        wait_until(lambda: has_trained(tmp_path))
        process.stdin.write("stop\n")
        process.stdin.flush()
        assert process.wait(patience.seconds(60)) == train_events.EXIT_STOPPED
    saved = events(tmp_path, kind="checkpoint")[-1]
    assert saved["step"] == events(tmp_path, kind="step")[-1]["step"] < 1200
    verify_manifest(tmp_path / saved["path"])
    again = spec.model_copy(update={"attempt": 2, "resume_from": saved["path"]})
    (tmp_path / "config.json").write_text(again.model_dump_json())
    with trainer(tmp_path) as process:
        wait_until(lambda: has_trained(tmp_path, attempt=2))
        process.terminate()  # a drain asks by SIGTERM
        assert process.wait(patience.seconds(60)) == train_events.EXIT_STOPPED
    assert events(tmp_path, 2, "step")[0]["step"] == saved["step"] + 1


def test_a_trainer_ends_with_its_supervisor(tmp_path: Path, tiny_model: Path) -> None:
    make_job(tmp_path, tiny_model, **LONG)
    with trainer(tmp_path) as process:
        assert process.stdin is not None
        wait_until(lambda: has_trained(tmp_path))
        process.stdin.close()
        # Two seconds where nothing else wants the processors.
        assert process.wait(patience.seconds(10)) == train_events.EXIT_ORPHANED


def test_what_cannot_be_trained_ends_with_a_sentence(tmp_path: Path, tiny_model: Path) -> None:
    spec: TrainerSpec = make_job(tmp_path, tiny_model)
    (tmp_path / "examples.arrow").write_bytes(b"torn")
    with trainer(tmp_path) as process:
        assert process.wait(patience.seconds(120)) == train_events.EXIT_DATASET
    (failed,) = events(tmp_path, spec.attempt, "failed")
    assert failed["code"] == "dataset_invalid"
    assert "start the job again" in failed["message"].lower()


def test_a_gpu_that_is_not_there_is_named(tmp_path: Path, tiny_model: Path) -> None:
    spec = make_job(tmp_path, tiny_model).model_copy(update={"device": "cuda:0"})
    (tmp_path / "config.json").write_text(spec.model_dump_json())
    with trainer(tmp_path, CUDA_VISIBLE_DEVICES="") as process:
        assert process.wait(patience.seconds(120)) == train_events.EXIT_DEVICE
    (failed,) = events(tmp_path, spec.attempt, "failed")
    assert failed["code"] == "device_failed"
    assert failed["message"].startswith("PyTorch finds no usable GPU")
