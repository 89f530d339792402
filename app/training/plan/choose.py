"""The choice: of all candidates the fastest that fits, and what it is expected to cost."""

import itertools
import math
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel

from app.training.config import OptimizerKind, TrainConfig
from app.training.plan import memory, speed
from app.training.plan.machine import DeviceInfo
from app.training.plan.shape import (
    Candidate,
    LengthHistogram,
    Resident,
    Shape,
    Strategy,
    can_pack,
    most_tokens,
    num_parts,
    num_steps,
)

# Longer chunks of logits save nothing on a CPU; a GPU wants enough to do.
_MOST_CHUNK_TOKENS = {"cpu": 256, "cuda": 1024}
_CHUNK_BYTES = 2**28
# Where other programs leave less of a CPU than this, the plan says so.
_BUSY_SHARE = 0.87


class Plan(BaseModel):
    """How a job will be trained and what that is expected to cost."""

    micro_batch_tokens: int
    resident: Resident
    checkpointing: bool
    optimizer: OptimizerKind
    loss_chunk_tokens: int
    strategy: Strategy = "single"
    packed: bool = True  # examples side by side, or padded through the model's own forward
    offloaded: bool = False  # layers' inputs and the token embeddings wait in the computer's memory
    num_steps: int
    num_tokens: int = 0  # trained on in all; 0: a plan from before it was kept
    peak_bytes: int  # on each device
    seconds: float
    tokens_per_second: float
    device: str = ""  # that it was made for, by its name; empty: an older plan
    num_devices: int = 1
    fits: Literal["yes", "tight", "no"]
    reasons: list[str]
    plain_reasons: list[str] = []  # of those the ones that anybody who starts a job should know
    # Without what else the machine does, and before like jobs corrected it; 0: an older plan.
    plain_tokens_per_second: float = 0
    correction: float = 1.0  # how much longer like jobs took than that

    def corrected(self, factor: float) -> "Plan":
        """Return the plan with the time that like jobs took beside theirs."""
        update = {
            "seconds": self.seconds * factor,
            "tokens_per_second": self.tokens_per_second / factor,
            "correction": self.correction * factor,
        }
        return self.model_copy(update=update)


def plan(
    model_config: dict[str, Any],
    num_parameters: int,
    histogram: LengthHistogram,
    config: TrainConfig,
    device: DeviceInfo,
    candidate: Candidate | None = None,
    *,
    from_adapter: bool = False,
) -> Plan:
    """Choose how to train: the fastest candidate that fits, or the smallest where none does.

    Args:
        model_config: The model's config.json.
        num_parameters: All of its weights.
        histogram: How long the examples are.
        config: What the person chose.
        device: Where it will run.
        candidate: Decided already; only memory and time are worked out.
        from_adapter: It begins with an adapter's weights, of which a copy is kept.
    """
    limit = most_tokens(config, model_config)
    config = config.model_copy(update={"max_length_tokens": limit})
    shape = Shape.of(model_config, num_parameters)
    histogram = histogram.in_pieces(config.max_length_tokens)
    mean = min(histogram.mean_tokens, config.max_length_tokens)
    step_tokens = math.ceil(mean * config.batch_size * num_parts(config) / device.num_devices)
    packed = can_pack(model_config, config.max_length_tokens)
    tried = _candidates(config, device, shape, max(step_tokens, 64))
    predicted = [
        _predict(shape, histogram, config, device, one, packed, from_adapter)
        for one in ([candidate] if candidate else tried)
    ]
    order = {"yes": 0, "tight": 1, "no": 2}
    best = min(order[c.fits] for c in predicted)
    fitting = [c for c in predicted if order[c.fits] == best]
    chosen = min(fitting, key=lambda c: c.peak_bytes if best == 2 else c.seconds)
    told = _plain_reasons(chosen, device)
    reasons = [*_reasons(chosen, config, device), *told]
    return chosen.model_copy(update={"reasons": reasons, "plain_reasons": told})


def _candidates(
    config: TrainConfig, device: DeviceInfo, shape: Shape, step_tokens: int
) -> Iterator[Candidate]:
    residents: list[Resident]
    if config.method == "lora":
        residents = ["bf16"] if device.has_bfloat16 else ["fp32"]
    elif device.has_bfloat16:
        residents = ["bf16", "nf4"]
    else:
        residents = ["fp32", "nf4"]
    # More than 1,024 tokens at once are no faster on a CPU, and keep more; unless they are a whole
    # step, which then is one pass and not a full one and a rest.
    most = 1024 if device.kind == "cpu" else 32768
    sizes = [most >> shift for shift in range(8) if most >> shift >= 256]
    whole_step = 128 * math.ceil(1.2 * step_tokens / 128)  # most steps are no longer than that
    if device.kind == "cpu" and most < whole_step <= 2 * most:
        sizes.insert(0, whole_step)
    if config.micro_batch_tokens:
        sizes = [config.micro_batch_tokens]
    else:
        # No step fills more than its own examples.
        sizes = [s for s in sizes if s < 2 * step_tokens] or sizes[-1:]
    optimizers: list[OptimizerKind] = ["adamw"]
    if device.kind == "cuda":
        optimizers = (
            list(speed.OPTIMIZER_SECONDS) if config.optimizer == "auto" else [config.optimizer]
        )
    # By the vocabulary alone: a job that goes on must add up in the same order.
    in_place = device.kind == "cuda" and not shape.caps_scores
    chunk = _CHUNK_BYTES // ((2 if in_place else 12) * max(1, shape.vocabulary))
    chunk = min(max(chunk, 64), _MOST_CHUNK_TOKENS[device.kind])
    strategies: tuple[Strategy, ...] = ("single",) if device.num_devices == 1 else ("ddp", "fsdp")
    for strategy, resident, checkpointing, size, optimizer in itertools.product(
        strategies, residents, (False, True), sizes, optimizers
    ):
        if strategy == "fsdp" and config.method == "qlora" and resident != "nf4":
            continue  # layers travel: a quarter of the bytes
        yield Candidate(resident, size, checkpointing, optimizer, chunk, strategy)
        can_offload = device.kind == "cuda" and strategy != "fsdp" and resident == "nf4"
        if can_offload and checkpointing:
            yield Candidate(resident, size, checkpointing, optimizer, chunk, strategy, True)


def _predict(
    shape: Shape,
    histogram: LengthHistogram,
    config: TrainConfig,
    device: DeviceInfo,
    candidate: Candidate,
    packed: bool,
    from_adapter: bool,
) -> Plan:
    peak = memory.peak_bytes(shape, histogram, config, device, candidate, packed, from_adapter)
    share = peak / max(1, device.free_bytes)
    per_token = speed.seconds_per_token(shape, histogram, config, device, candidate)
    return Plan(
        **candidate._asdict(),
        packed=packed,
        num_steps=num_steps(histogram.num_train, config),
        num_tokens=round(speed.trained_tokens(histogram, config)),
        peak_bytes=peak,
        seconds=speed.job_seconds(shape, histogram, config, device, per_token),
        tokens_per_second=1 / per_token,
        plain_tokens_per_second=1 / (per_token * device.share),
        device=device.name,
        num_devices=device.num_devices,
        fits="yes" if share <= 0.85 else "tight" if share <= 1 else "no",
        reasons=[],
    )


def _reasons(chosen: Plan, config: TrainConfig, device: DeviceInfo) -> list[str]:
    reasons = []
    if config.method == "lora":
        reasons.append("The starting model stays in 16 bits, as chosen.")
    elif chosen.resident == "nf4":
        reasons.append("The starting model stays packed in 4 bits to save memory.")
    else:
        reasons.append(
            "The starting model is rounded to 4 bits and unpacked once: the same results, faster."
        )
    one, several = ("GPU", "GPUs") if device.kind == "cuda" else ("process", "processes")
    if chosen.strategy == "ddp":
        reasons.append(
            f"Each of the {device.num_devices} {several} holds the whole starting model and takes "
            "a share of each step's examples. What is learned stays the same."
        )
    elif chosen.strategy == "fsdp":
        reasons.append(
            f"The starting model is too large for one {one}, so each of the {device.num_devices} "
            "holds a part of it and takes a share of each step's examples."
        )
    reasons += _memory_reasons(chosen)
    if not chosen.packed:
        reasons.append(
            "Etude has not been tested on models of this kind with several examples in a row, so "
            "examples are padded to one length: the same result, slower."
        )
    if device.kind == "cpu":
        reasons.append("The CPU trains with torch's AdamW.")
    elif chosen.optimizer != "adamw":
        if config.optimizer == "auto":
            reasons.append("The GPU is nearly full, so the optimizer saves memory.")
        if "8bit" in chosen.optimizer:
            reasons.append("The optimizer's memory is rounded to 8 bits (bitsandbytes).")
        if "paged" in chosen.optimizer:
            reasons.append(
                "The optimizer's memory moves out of the GPU when something else needs the space "
                "(bitsandbytes)."
            )
    return reasons


def _plain_reasons(chosen: Plan, device: DeviceInfo) -> list[str]:
    """Say what anybody who starts a job should know of its time and its room."""
    one = "GPU" if device.kind == "cuda" else "process"
    reasons = []
    if device.kind == "cpu":
        reasons.append("There is no graphics card (GPU) here, so training takes longer.")
    reasons += _busy_reasons(device)
    if chosen.fits == "no":
        need, free = chosen.peak_bytes / 1024**3, device.free_bytes / 1024**3
        reasons.append(
            f"It needs about {need:.1f} GB and {free:.1f} GB are free on each {one}: choose a "
            "smaller starting model or shorter examples."
            if device.num_devices > 1
            else f"It needs about {need:.1f} GB and {free:.1f} GB are free: choose a smaller "
            "starting model or shorter examples."
        )
    return reasons


def _busy_reasons(device: DeviceInfo) -> list[str]:
    if device.share >= _BUSY_SHARE:
        return []
    number, times = round(device.load), f"{1 / device.share:.1f}"
    return [
        "Another program keeps this machine busy. While that lasts, training takes about "
        f"{times} times as long; the time above counts it in."
        if number <= 1
        else f"Other programs keep this machine busy: just now {number} at once want a processor "
        f"core. While that lasts, training takes about {times} times as long; the time above "
        "counts it in."
    ]


def _memory_reasons(chosen: Plan) -> list[str]:
    reasons = []
    if chosen.checkpointing:
        reasons.append(
            "Intermediate results are computed twice, because they do not all fit at once."
        )
    if chosen.offloaded:
        reasons.append(
            "What a layer needs again later is kept in the computer's memory, not in the GPU's."
        )
    return reasons
