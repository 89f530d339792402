"""Checkpoints: whole or passed over, the newest kept, and paid for by the time between them."""

import json
import os
import random
import shutil
import signal
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from app.training.events import EXIT_CHECKPOINT, Event, PhaseEvent
from app.training.manifests import new_folder, verify_manifest, write_manifest
from tests.worker.trainer.conftest import (
    events,
    losses,
    make_job,
    make_plan,
    make_state,
)
from tests.worker.trainer.test_loop import TWENTY, StopAfter, break_loss
from worker.gpu import endings
from worker.trainer import checkpoint, failures, keeping, loop, optimizers
from worker.trainer.events import EventLog


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def damage(folder: Path, step: int) -> None:
    """Change one bit of a weight."""
    weights = folder / f"checkpoints/step-{step:05d}/optimizer.safetensors"
    body = bytearray(weights.read_bytes())
    body[-1] ^= 1
    weights.write_bytes(body)


def test_checkpoints_hold_no_pickle_and_the_best_adapter_and_two_stay(
    tmp_path: Path, tiny_model: Path
) -> None:
    spec = make_job(tmp_path, tiny_model, **TWENTY | {"num_evaluations": 10})
    loop.train(make_state(tmp_path, spec))
    assert names(tmp_path) == ["step-00018", "step-00020"]
    for name in names(tmp_path):
        folder = tmp_path / "checkpoints" / name
        verify_manifest(folder)
        assert {file.suffix for file in folder.iterdir()} == {".safetensors", ".json"}
    best = checkpoint.best_adapter(folder, checkpoint.read_progress(folder))
    result = load_file(tmp_path / "result" / "adapter_model.safetensors")
    assert best is not None
    assert all(torch.equal(best[name], result[name]) for name in result)


def test_damaged_checkpoints_are_passed_over_and_what_follows_is_kept(
    tmp_path: Path, tiny_model: Path
) -> None:
    spec = make_job(tmp_path, tiny_model, **TWENTY | {"num_evaluations": 10, "lora_dropout": 0.1})
    loop.train(make_state(tmp_path, spec))
    whole = losses(tmp_path)
    shutil.copytree(
        tmp_path / "checkpoints" / "step-00018", tmp_path / "checkpoints" / "step-00014.tmp"
    )
    damage(tmp_path, 20)
    again = spec.model_copy(update={"attempt": 2, "resume_from": "checkpoints/step-00020"})
    state = make_state(tmp_path, again, asked_to_stop=StopAfter(1))
    assert names(tmp_path) == ["step-00018"]
    note = events(tmp_path, 2, "note")[0]["message"]
    assert note == "The checkpoint of step 20 is damaged; training goes on from step 18."
    with pytest.raises(failures.Stopped):
        loop.train(state)
    assert names(tmp_path) == ["step-00018", "step-00019"]
    damage(tmp_path, 18)
    damage(tmp_path, 19)
    last = spec.model_copy(update={"attempt": 3, "resume_from": "checkpoints/step-00019"})
    loop.train(make_state(tmp_path, last))
    assert losses(tmp_path, 2) == whole[18:19]
    assert losses(tmp_path, 3) == whole  # none was left: from the beginning
    assert "goes on from step 0" in events(tmp_path, 3, "note")[0]["message"]


def test_a_whole_checkpoint_that_cannot_be_used_makes_way_for_the_one_before(
    tmp_path: Path, tiny_model: Path
) -> None:
    spec = make_job(tmp_path, tiny_model, **TWENTY | {"num_evaluations": 10})
    loop.train(make_state(tmp_path, spec))
    whole = losses(tmp_path)
    for attempt, step in enumerate((20, 18), start=2):
        folder = tmp_path / f"checkpoints/step-{step:05d}"
        if step == 20:
            save_file({"moment": torch.zeros(3)}, folder / "optimizer.safetensors")
        else:
            (folder / "state.json").write_text('{"step": 18}')
        (folder / "MANIFEST.json").unlink()
        write_manifest(folder, step=step)
        again = spec.model_copy(
            update={"attempt": attempt, "resume_from": f"checkpoints/{folder.name}"}
        )
        with pytest.raises(failures.Failure) as ended:
            make_state(tmp_path, again)
        assert (ended.value.code, ended.value.exit_code) == ("checkpoint_unusable", EXIT_CHECKPOINT)
        assert not folder.exists()
    assert not endings.interruption(EXIT_CHECKPOINT, None).strike
    last = spec.model_copy(update={"attempt": 4})
    loop.train(make_state(tmp_path, last))
    assert losses(tmp_path, 4) == whole


def test_going_back_passes_over_a_damaged_checkpoint(tmp_path: Path, tiny_model: Path) -> None:
    spec = make_job(tmp_path, tiny_model, **TWENTY)

    def damage_the_second() -> bool:
        folder = tmp_path / "checkpoints" / "step-00010"
        if folder.exists() and state.progress.step == 10:
            damage(tmp_path, 10)
        return False

    plan = make_plan(spec, micro_batch_tokens=4096)
    state = make_state(tmp_path, spec, plan, asked_to_stop=damage_the_second)
    break_loss(state, {12})  # one pass a step
    loop.train(state)
    assert [e["step"] for e in events(tmp_path, kind="step")] == [*range(1, 12), *range(6, 21)]
    assert events(tmp_path, kind="done")


def test_the_present_and_the_committed_checkpoint_are_never_tidied_away(tmp_path: Path) -> None:
    steps = (9, 20, 30, 99_999, 100_000, 100_001)
    for step in steps:
        (tmp_path / "checkpoints" / f"step-{step:05d}").mkdir(parents=True)
    keeping.tidy(tmp_path, 1, 20)
    assert names(tmp_path) == sorted(f"step-{step:05d}" for step in steps)
    attempt = tmp_path / "attempts" / "1"
    attempt.mkdir(parents=True)
    with (attempt / "committed").open("wb") as file:
        keeping.write_committed(file.fileno(), 20)
        keeping.tidy(tmp_path, 1, 100_000)
        assert names(tmp_path) == ["step-00020", "step-100000", "step-100001", "step-99999"]
        keeping.write_committed(file.fileno(), 99_999)
    keeping.tidy(tmp_path, 1, 100_000)
    assert names(tmp_path) == ["step-100000", "step-100001", "step-99999"]
    checkpoint.forget_after(tmp_path, 99_999)
    assert names(tmp_path) == ["step-99999"]


def test_a_step_that_is_saved_whole_is_not_written_again(tmp_path: Path, tiny_model: Path) -> None:
    state = make_state(tmp_path, make_job(tmp_path, tiny_model, **TWENTY))

    def save() -> tuple[str, str]:
        return checkpoint.save(tmp_path, state.model, state.optimizer, state.progress)

    path, digest = save()
    first = (tmp_path / path).stat().st_ino
    state.progress.save_seconds = 3.0
    assert save() == (path, digest)
    assert (tmp_path / path).stat().st_ino == first
    state.progress.learning_rate_scale = 0.5  # after a loss that was no number
    assert save()[1] != digest
    assert checkpoint.read_progress(tmp_path / path).learning_rate_scale == 0.5
    assert names(tmp_path) == ["step-00000"]


def test_a_kill_while_a_folder_is_replaced_leaves_one_of_the_two(tmp_path: Path) -> None:
    folder, source = tmp_path / "x", random.Random(0)
    for _ in range(20):
        child = os.fork()
        if child == 0:
            while True:
                with new_folder(folder) as partial:
                    for name in "abcdefgh":
                        (partial / name).write_bytes(os.urandom(8))
                    write_manifest(partial)
        while not folder.exists():
            time.sleep(0.001)
        time.sleep(source.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        verify_manifest(folder)


class Clock:
    """Time that passes only where a test lets it."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class SlowLog(EventLog):
    """Each checkpoint takes this long."""

    def __init__(self, path: Path, clock: Clock, save_seconds: float) -> None:
        super().__init__(path)
        self.clock = clock
        self.save_seconds = save_seconds

    def write(self, kind: type[Event], **fields: Any) -> None:
        super().write(kind, **fields)
        if kind is PhaseEvent and fields["message"].startswith("Saving step"):
            self.clock.now += self.save_seconds


@pytest.mark.parametrize(
    ("step_seconds", "save_seconds", "saved"),
    [
        # Evaluations after steps 5, 10, 15 and 20. A save of 1 s is paid for by 50 s.
        (10, 1.0, [5, 10, 15, 20]),
        # The third evaluation comes 100 s after the first, which cost 2 s.
        (10, 2.0, [5, 15]),
        # Long between evaluations: every minute.
        (40, 0.5, [2, 4, 5, 7, 9, 10, 12, 14, 15, 17, 19, 20]),
        (1, 10.0, [5]),
    ],
)
def test_checkpoints_cost_at_most_two_percent_of_the_time(
    tmp_path: Path, tiny_model: Path, step_seconds: float, save_seconds: float, saved: list[int]
) -> None:
    spec = make_job(tmp_path, tiny_model, **TWENTY | {"lora_rank": 1})
    spec = spec.model_copy(update={"checkpoint_share": 0.02, "checkpoint_seconds": 60})
    state = make_state(tmp_path, spec)
    clock = state.clock = Clock()

    def step() -> bool:
        clock.now += step_seconds
        return False

    state.asked_to_stop = step  # asked before each step
    path = tmp_path / "attempts" / "1" / "events.jsonl"
    state.log = SlowLog(path, clock, save_seconds)
    loop.train(state)
    assert [e["step"] for e in events(tmp_path, kind="checkpoint")] == saved
    (done,) = events(tmp_path, kind="done")
    assert done["save_seconds"] == pytest.approx(save_seconds * len(saved))
    took = clock.now - Clock.now
    assert done["save_seconds"] <= 0.02 * took + save_seconds


def test_moments_go_with_the_weights_into_a_paged_optimizer() -> None:
    """What the last step of the ladder does on a GPU; on the CPU nothing is paged."""
    torch.manual_seed(0)
    start = [torch.randn(64, 128), torch.randn(8, 64)]
    gradients = [[torch.randn_like(weight) for weight in start] for _ in range(6)]

    def run(kinds: list[str]) -> list[torch.Tensor]:
        weights = [weight.clone().requires_grad_() for weight in start]
        kind: Any = kinds[0]
        optimizer = optimizers.make(kind, weights, 0.01)
        for index, gradient in enumerate(gradients):
            if index == 3 and kinds[1:]:
                kind, optimizer = optimizers.paged(optimizer, kind, 0.01)
                assert kind == kinds[1]
            for weight, grad in zip(weights, gradient, strict=True):
                weight.grad = grad.clone()
            optimizer.step()
        return weights

    with pytest.warns(UserWarning, match="not supported on CPU"):
        for kinds in (["adamw", "paged_adamw"], ["adamw_8bit", "paged_adamw_8bit"]):
            for moved, straight in zip(run(kinds), run(kinds[:1]), strict=True):
                # The two libraries' arithmetic differs in its last bits.
                assert torch.allclose(moved, straight, rtol=1e-4, atol=1e-6)


def test_names_in_a_checkpoint_stay_what_they_were(tmp_path: Path) -> None:
    """A job goes on with a newer Etude; renaming a field here would end it."""
    stored = {
        "step": 7, "micro_batch_tokens": 256, "checkpointing": False, "optimizer": "adamw",
        "learning_rate_scale": 1.0, "trained_tokens": 100, "train_seconds": 1.0,
        "processor_seconds": 0.9, "save_seconds": 0.5, "last_save_seconds": 0.5,
        "baseline_loss": 3.0, "evaluated_step": 5,
        "best_step": 5, "best_loss": 2.0, "best_preferred_share": None, "looks_since_best": 1,
        "stopped_early": False, "recent_losses": [2.5],
    }  # fmt: skip
    (tmp_path / "state.json").write_text(json.dumps({"progress": stored, "optimizer": {}}))
    assert asdict(checkpoint.read_progress(tmp_path)) == stored
