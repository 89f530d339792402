"""Two processes that train jobs together; test_parallel.py starts them, both at this `main`."""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.tensor import DTensor

from app.training.config import TrainerSpec
from tests.worker.trainer.conftest import make_plan, never
from worker.trainer import failures, job, launch, loop
from worker.trainer.events import EventLog
from worker.trainer.group import Group, StartAgain, join
from worker.trainer.state import TrainingState

# What is trained to its end, and by which plan.
PLANS: dict[str, dict[str, Any]] = {
    "ddp": {"strategy": "ddp"},
    "fsdp": {"strategy": "fsdp", "checkpointing": True},
    "ddp-nf4": {"strategy": "ddp", "resident": "nf4"},
    "fsdp-nf4": {"strategy": "fsdp", "resident": "nf4"},
    "one-by-one": {"strategy": "fsdp"},
    "preference": {"strategy": "fsdp"},
    "unbroken": {"strategy": "ddp"},
    "further": {"strategy": "ddp"},
    "further-preference": {"strategy": "fsdp"},
}


def main(rank: int, folder: Path) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2"}
    torch.set_num_threads(1)
    group = join("cpu", folder / "store")
    told = {name: train(folder / name, group, plan) for name, plan in PLANS.items()}
    told["broken"] = stop_and_go_on(folder / "broken", group)
    told["odd"] = meet_an_odd_loss(folder / "odd", group)
    told["short"] = run_out_of_memory(folder / "short", group)
    told["stuck"] = run_out_within_a_layer(folder / "stuck", group)
    (folder / f"told-{rank}.json").write_text(json.dumps(told))


def make(
    folder: Path,
    group: Group,
    plan: dict[str, Any],
    asked_to_stop: Callable[[], bool] = never,
    **spec: Any,
) -> TrainingState:
    changed = TrainerSpec.model_validate_json((folder / "config.json").read_text())
    changed = changed.model_copy(update=spec)
    events = folder / "attempts" / str(changed.attempt) / "events.jsonl"
    log = EventLog(events if group.is_first else Path(os.devnull))
    return job.prepare(folder, changed, log, asked_to_stop, make_plan(changed, **plan), group)


def train(folder: Path, group: Group, plan: dict[str, Any]) -> Any:
    state = make(folder, group, plan)
    loop.train(state)
    weight = state.model.decoder.layers[0].self_attn.q_proj.base_layer.weight  # type: ignore
    held = weight.to_local() if isinstance(weight, DTensor) else weight
    return {
        "held": held.numel() * held.element_size(),
        "adapter": sum(p.double().sum().item() for p in state.model.adapter.values()),
    }


def stop_and_go_on(folder: Path, group: Group) -> Any:
    """The second process is asked to stop, before the sixth step; then both go on."""
    asked = iter([*[False] * 5, *[not group.is_first] * 2])
    with pytest.raises(failures.Stopped):
        loop.train(make(folder, group, PLANS["unbroken"], lambda: next(asked)))
    torch.manual_seed(12345 + group.rank)  # whatever came before must not matter
    (saved,) = folder.glob("checkpoints/step-*5")
    path = str(saved.relative_to(folder))
    loop.train(make(folder, group, PLANS["unbroken"], attempt=2, resume_from=path))
    return path


def meet_an_odd_loss(folder: Path, group: Group) -> Any:
    """In the second process alone the model's states are no numbers, once."""
    state = make(folder, group, {"strategy": "ddp", "micro_batch_tokens": 4096})
    count = 0

    def hook(_module: torch.nn.Module, _inputs: Any, output: Any) -> None:
        nonlocal count
        count += torch.is_grad_enabled()
        if torch.is_grad_enabled() and count == 8 and not group.is_first:
            with torch.no_grad():
                output.last_hidden_state.fill_(math.nan)

    state.model.decoder.register_forward_hook(hook)
    loop.train(state)
    return state.progress.learning_rate_scale


def run_out_of_memory(folder: Path, group: Group) -> Any:
    """The second process alone has too little for more than 130 tokens."""
    state = make(folder, group, {"strategy": "ddp", "micro_batch_tokens": 1024})
    limit_tokens(state, 10**6 if group.is_first else 130)
    loss = loop.fill_gradients(state, state.data.train[:6])
    return [loss, state.progress.micro_batch_tokens]


def run_out_within_a_layer(folder: Path, group: Group) -> Any:
    """The same where the other one waits for a layer's parts: nobody can go on."""
    state = make(folder, group, {"strategy": "fsdp", "micro_batch_tokens": 1024})
    limit_tokens(state, 10**6 if group.is_first else 130)
    try:
        loop.fill_gradients(state, state.data.train[:12])
    except StartAgain as wanted:
        launch.remember(folder, state.spec, wanted)
    except RuntimeError as error:  # the other one has left
        return str(error)
    return state.progress.micro_batch_tokens


def limit_tokens(state: TrainingState, most: int) -> None:
    def hook(_module: torch.nn.Module, _inputs: Any, named: dict[str, Any]) -> None:
        if named["input_ids"].shape[1] > most:
            raise torch.OutOfMemoryError("a small machine")

    state.model.decoder.register_forward_pre_hook(hook, with_kwargs=True)
