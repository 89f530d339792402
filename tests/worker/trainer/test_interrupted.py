"""Twenty jobs broken off at random end like the one that nobody disturbed, bit for bit."""

import json
import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from app.training import events as train_events
from app.training.config import TrainerSpec
from app.training.manifests import verify_manifest
from tests import patience
from tests.worker.trainer.conftest import events, make_job

CONFIG: dict[str, Any] = {
    "num_epochs": 3, "batch_size": 2, "num_evaluations": 4, "lora_dropout": 0.1,
    "learning_rate": 2e-3, "seed": 7,
}  # fmt: skip
# 12 steps and 4 evaluations: about 45 events.
NUM_TRAIN, NUM_VALIDATION, NUM_EVENTS = 8, 2, 40


def train(folder: Path, orders: Connection) -> None:
    """Run in the other process, which has this module already."""
    from tests.worker.trainer import forked

    forked.train(folder, orders)


@pytest.fixture
def start(fork_server: Any) -> Callable[[Path], tuple[BaseProcess, Connection]]:
    """Start a trainer on a job; returns it and where it takes its orders."""

    def run(folder: Path) -> tuple[BaseProcess, Connection]:
        theirs, ours = fork_server.Pipe(duplex=False)
        process = fork_server.Process(target=train, args=(folder, theirs))
        process.start()
        theirs.close()
        ours.send(f"{folder}\n")
        return process, ours

    return run


def make(folder: Path, model: Path) -> TrainerSpec:
    spec = make_job(folder, model, num_train=NUM_TRAIN, num_validation=NUM_VALIDATION, **CONFIG)
    return spec.model_copy(update={"num_samples": 0})  # a third of the time


def write(folder: Path, spec: TrainerSpec) -> None:
    (folder / "config.json").write_text(spec.model_dump_json())


def lines(folder: Path, attempt: int) -> int:
    file = folder / "attempts" / str(attempt) / "events.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def is_saving(folder: Path) -> bool:
    return any((folder / "checkpoints").glob("*.tmp"))


def go_on_from(folder: Path, last: int) -> tuple[int, str | None]:
    """Choose the newest checkpoint that was told of and is whole, as the supervisor does."""
    told: dict[int, dict[str, Any]] = {}
    for attempt in range(1, last + 1):
        if lines(folder, attempt):
            told |= {
                e["step"]: e for e in whole_events(folder, attempt) if e["kind"] == "checkpoint"
            }
    for step in sorted(told, reverse=True):
        try:
            if verify_manifest(folder / told[step]["path"]) == told[step]["manifest_sha256"]:
                return step, told[step]["path"]
        except ValueError:
            continue
    return 0, None


def whole_events(folder: Path, attempt: int) -> list[dict[str, Any]]:
    """Read what an attempt said; a line broken off by a kill is not there yet."""
    body = (folder / "attempts" / str(attempt) / "events.jsonl").read_text()
    return [json.loads(line) for line in body.splitlines(keepends=True) if line.endswith("\n")]


def numbers(folder: Path, begins: list[int]) -> dict[tuple[str, int], list[float]]:
    """Merge the attempts' numbers: what came after the step gone on from counts anew."""
    told: dict[tuple[str, int], list[float]] = {}
    for attempt, begin in enumerate(begins, start=1):
        told = {key: value for key, value in told.items() if key[1] <= begin}
        for event in whole_events(folder, attempt) if lines(folder, attempt) else []:
            if event["kind"] == "step":
                values = [event[key] for key in ("loss", "grad_norm", "learning_rate", "epoch")]
                told["step", event["step"]] = values
            elif event["kind"] == "evaluation":
                told["evaluation", event["step"]] = [event["loss"], float(event["is_best"])]
    return told


def break_off(
    folder: Path, attempt: int, process: BaseProcess, orders: Connection, chance: random.Random
) -> str:
    """End a trainer by one of four means at a random moment; returns by which."""
    how = chance.choice(["kill", "kill in a save", "SIGTERM", "stop"])
    after, wait = chance.randrange(1, NUM_EVENTS), chance.uniform(0, 0.003)
    while process.is_alive():
        if lines(folder, attempt) >= after and (how != "kill in a save" or is_saving(folder)):
            break
        time.sleep(0.0005)
    time.sleep(wait)
    assert process.pid is not None
    if how == "stop":
        with suppress(BrokenPipeError):  # it has just ended
            orders.send("stop\n")
    elif process.is_alive():
        os.kill(process.pid, signal.SIGTERM if how == "SIGTERM" else signal.SIGKILL)
    return how


@pytest.mark.parametrize("num_runs", [10, pytest.param(40, marks=pytest.mark.long)])
def test_interrupted_jobs_equal_the_unbroken_one(
    tmp_path: Path,
    tiny_model: Path,
    start: Callable[[Path], tuple[BaseProcess, Connection]],
    num_runs: int,
) -> None:
    whole = tmp_path / "whole"
    write(whole, make(whole, tiny_model))
    process, _orders = start(whole)
    process.join(patience.seconds(200))
    assert process.exitcode == train_events.EXIT_DONE
    wanted = numbers(whole, [0])
    assert len(wanted) == 12 + 5  # one evaluation without the adapter, too
    result = (whole / "result" / "adapter_model.safetensors").read_bytes()
    done = events(whole, kind="done")[0]

    ended: list[tuple[str, int | None]] = []
    for seed in range(num_runs):
        folder, chance = tmp_path / str(seed), random.Random(seed)
        spec, begins, left = make(folder, tiny_model), [0], chance.randint(1, 3)
        write(folder, spec)
        while True:
            process, orders = start(folder)
            how = break_off(folder, spec.attempt, process, orders, chance) if left else "left alone"
            left -= 1
            process.join(patience.seconds(200))
            ended.append((how, process.exitcode))
            if process.exitcode == train_events.EXIT_DONE:
                break
            begin, path = go_on_from(folder, spec.attempt)
            begins.append(begin)
            spec = spec.model_copy(update={"attempt": spec.attempt + 1, "resume_from": path})
            write(folder, spec)
        assert numbers(folder, begins) == wanted, seed
        assert (folder / "result" / "adapter_model.safetensors").read_bytes() == result, seed
        told = events(folder, spec.attempt, "done")[0]
        for key in ("best_step", "validation_loss_before", "validation_loss_after", "train_loss"):
            assert told[key] == done[key], (seed, key)
    # The moments are left to chance; that each of them was met is not.
    assert {how for how, code in ended if code == -signal.SIGKILL} == {"kill", "kill in a save"}
    assert {how for how, code in ended if code == train_events.EXIT_STOPPED} == {"SIGTERM", "stop"}
