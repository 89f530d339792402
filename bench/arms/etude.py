"""The arm "etude": the trainer itself, through worker.trainer.job and worker.trainer.loop.

    python -m bench.arms.etude ORDER.json

A variant takes one optimization away, for the ablation; its losses must stay those of "etude".
"""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.arms import measure
from worker.trainer import runtime

# What is switched off: the planner's own choices here, stand-ins for plain code below.
PLAN_CHANGES: dict[str, dict[str, Any]] = {
    "nf4-resident": {"resident": "nf4"},
    "checkpointing": {"checkpointing": True},
    "one-by-one": {"micro_batch_tokens": 1},
    "whole-logits": {"loss_chunk_tokens": 1 << 30},
}
# What libraries do where nobody tells them otherwise.
OTHERWISE = {
    "long-spin": {"GOMP_SPINCOUNT": "300000"},
    "many-shapes": {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "1024"},
}
VARIANTS = (
    "full",
    *PLAN_CHANGES,
    *OTHERWISE,
    "all-logits",
    "peft-lora",
    "own-layers",
    "sdpa-loop",
    "no-varlen",
    "no-kernels",
)


def main() -> None:
    order = measure.read_order()
    variant = order.get("variant", "full")
    assert variant in VARIANTS, variant
    # As worker/trainer/__main__.py, before torch is loaded.
    os.environ |= OTHERWISE.get(variant, {})
    runtime.prepare()
    from worker.trainer import job  # noqa: F401 - the imports that count as idle

    watch = measure.Watch(order)
    state = _random_state(order) if order.get("shape") else _job_state(order)
    measure.fill_adapter(state.model.adapter)
    switch_off(variant, state)
    watch.loaded()
    _assert_same_examples(state, watch.examples)
    run(state, watch, order["num_steps"])
    plan = state.plan.model_dump(mode="json") | {
        "micro_batch_tokens": state.progress.micro_batch_tokens,
        "checkpointing": state.progress.checkpointing,
    }
    watch.write(plan=plan, attention=_attention(state))


def run(state: Any, watch: measure.Watch, num_steps: int) -> None:
    """Let the loop do some steps; it asks before each whether to stop, which we note."""
    from worker.trainer import failures, loop

    def asked_to_stop() -> bool:
        watch.edge()
        return len(watch.edges) > num_steps

    state.asked_to_stop = asked_to_stop
    # The baseline evaluation is no part of a step; a resumed job leaves it out, too.
    state.progress.baseline_loss = 0.0
    with suppress(failures.Stopped):
        loop.train(state)
    watch.losses = [event["loss"] for event in _steps(state.job_dir)]


def switch_off(variant: str, state: Any) -> None:
    """Put plain code in the place of one optimization."""
    from worker.trainer import model
    from worker.trainer.layers import attention, kernels, lora
    from worker.trainer.layers.feed_forward import FeedForward
    from worker.trainer.layers.norms import Norm

    own = {
        "peft-lora": (lora.Forward, FeedForward),
        "own-layers": (Norm, FeedForward),
    }
    if variant in own:
        for module in state.model.peft.modules():
            if isinstance(module.__dict__.get("forward"), own[variant]):
                del module.__dict__["forward"]
    elif variant == "sdpa-loop":
        setattr(attention, "_is_even", lambda _lengths: False)  # noqa: B010 - a stand-in, to mypy
    elif variant == "no-varlen":  # on a GPU: example by example, as on the CPU where it pays
        attention.varlen_attn = None
    elif variant == "no-kernels":
        kernels.HAS_TRITON = False
    elif variant == "all-logits":
        setattr(model, "completion_loss", _plain_loss)  # noqa: B010


def _plain_loss(
    hidden_TD: Any, head_VD: Any, labels_T: Any, head_bias_V: Any = None, *_: Any
) -> tuple[Any, Any]:
    import torch
    from torch.nn import functional

    logits_TV = functional.linear(hidden_TD, head_VD, head_bias_V).float()
    loss = functional.cross_entropy(logits_TV[:-1], labels_T[1:], reduction="sum")
    return loss, (labels_T[1:] != measure.IGNORE_INDEX).sum().to(torch.int64)


def _job_state(order: dict[str, Any]) -> Any:
    """Prepare the job as the supervisor's trainer would, with its own plan unless changed."""
    from app.training.config import TrainerSpec
    from worker.trainer import data, job
    from worker.trainer.events import EventLog

    job_dir = Path(order["job_dir"])
    spec = TrainerSpec.model_validate_json((job_dir / "config.json").read_text())
    log = EventLog(Path(order["scratch"]) / "attempts" / "1" / "events.jsonl")
    changes = PLAN_CHANGES.get(order.get("variant", "full"), {}) | order.get("plan", {})
    plan: Any = None
    if changes:
        import torch

        from app.training.chat import ChatFormat

        folder = Path(spec.base_model_dir)
        examples = data.prepare(job_dir / "examples.arrow", ChatFormat.load(folder), spec.config, 0)
        machine = job.describe_device(torch.device(spec.device))
        plan = job.make_plan(folder, examples, spec, machine).model_copy(update=changes)
    state = job.prepare(job_dir, spec, log, _never, plan)
    state.job_dir = Path(order["scratch"])  # the checkpoint at the end goes there
    return state


def _random_state(order: dict[str, Any]) -> Any:
    from bench.arms import shapes

    changes = PLAN_CHANGES.get(order.get("variant", "full"), {}) | order.get("plan", {})
    return shapes.make_state(order, changes, _never)


def _assert_same_examples(state: Any, examples: measure.Examples) -> None:
    from worker.trainer.data import step_examples

    train, size = state.data.train, examples.step_size
    for step in range(len(train) // size):
        for position, index in enumerate(step_examples(len(train), state.config, step)):
            actual, expected = train[index], step * size + position
            assert actual.token_ids == examples.token_ids[expected], expected
            assert actual.labels == examples.labels[expected], expected


def _attention(state: Any) -> str:
    from worker.trainer.layers import attention

    if state.model.device.type != "cuda":
        return "packed, per example"
    if len({len(example.token_ids) for example in state.data.train}) == 1:
        return "sdpa, a batch of one length"
    return "varlen" if attention.varlen_attn is not None else "sdpa, per example"


def _steps(scratch: Path) -> list[dict[str, Any]]:
    lines = (scratch / "attempts" / "1" / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["kind"] == "step"]


def _never() -> bool:
    return False


if __name__ == "__main__":
    main()
