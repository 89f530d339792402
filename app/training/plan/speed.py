"""How long a job takes, from the model's shape and how it trains.

A CPU's rate is measured where it is: a worker times a layer (worker/trainer/products.py), and like
jobs correct what follows from that (app/jobs/plans.py). Of GPUs an H200's was measured
(bench/results/train-gpu-2026-11-28.json); those of the others follow from the architecture.
"""

from app.training.config import OptimizerKind, TrainConfig
from app.training.plan.machine import DeviceInfo
from app.training.plan.shape import (
    PRACTICE_CHECKED,
    Candidate,
    LengthHistogram,
    Resident,
    Shape,
    num_parts,
    num_passes,
)

# An order, not measurements: torch updates all weights at once, and 8 bits round.
OPTIMIZER_SECONDS: dict[OptimizerKind, float] = {
    "adamw": 1.0, "paged_adamw": 1.01, "adamw_8bit": 1.02, "paged_adamw_8bit": 1.03,
}  # fmt: skip
_START_SECONDS = {"cpu": 6.0, "cuda": 20.0}
_SAMPLE_SECONDS = {"cpu": 8.0, "cuda": 6.0}
# What whole steps reach beside a layer that is timed alone (worker/trainer/products.py), whose
# passes between the products are torch's own: measured on two cores of an EPYC, in bfloat16 and in
# float32 (`make bench-estimate`).
_WHOLE_STEP = {True: 1.22, False: 1.05}
# Floating-point operations a second reached in whole steps: a core of a CPU on which nobody has
# timed a layer yet, or a GPU by name.
# In float32 79e9 were measured with 512-bit units, which most CPUs without bfloat16 lack.
_CPU_RATE = {True: 135e9, False: 68e9}  # with and without bfloat16 instructions
# What each pass over some tokens costs on a CPU besides, whatever their number: so many more.
_CPU_PASS_TOKENS = 120
# What unpacking NF4 weights in each pass costs: as much as so many tokens more.
_UNPACKING_TOKENS = {"cpu": 60, "cuda": 300}
# Out over the bus and back: 7,900 tokens/s of an 8B on an H200.
_OFFLOADED = 1.35
# The processor starts a layer's operations one by one, forward and back. A GPU that is done sooner
# waits for it: 3B on an H200, whose machine took 5 to 9 ms.
_LAUNCH_SECONDS = 7e-3
# A CPU that computes twice also fetches its memory anew (model._return_what_is_freed).
_CPU_TWICE = 1.3
_GPU_RATES = {
    "H200": 500e12, "H100": 450e12, "B200": 700e12, "A100": 130e12, "L40S": 80e12,
    "L4": 35e12, "5090": 95e12, "4090": 75e12, "3090": 32e12, "A10": 45e12,
}  # fmt: skip
_UNKNOWN_GPU_RATE = 25e12
# What is left of each device's speed once it waits for the others; from the literature, not yet
# measured (split layers are sent anew for each micro-batch, forward and backward).
_SHARED_RATE = {"single": 1.0, "ddp": 0.95, "fsdp": 0.8}


def trained_tokens(histogram: LengthHistogram, config: TrainConfig) -> float:
    """Return how many tokens are trained on in all."""
    mean = _mean_tokens(histogram, config)
    return mean * histogram.num_train * num_passes(histogram.num_train, config)


def job_seconds(
    shape: Shape,
    histogram: LengthHistogram,
    config: TrainConfig,
    device: DeviceInfo,
    per_token: float,
) -> float:
    """Return how long a job takes from its start to its last sample.

    Args:
        shape: The model's.
        histogram: How long the examples are.
        config: What the person chose.
        device: Where it will run.
        per_token: What `seconds_per_token` says.
    """
    train_tokens = trained_tokens(histogram, config)
    mean = _mean_tokens(histogram, config)
    # An evaluation runs forwards only; the first is of the model as it was.
    num_checked = histogram.num_validation or min(histogram.num_train, PRACTICE_CHECKED)
    seen = mean * num_checked * (config.num_evaluations + 1) / 3
    seconds = (train_tokens + seen) * per_token
    num_adapter = shape.num_adapter(config)
    start = _START_SECONDS[device.kind] + num_adapter / 30e6 + shape.num_linear / 150e6
    return seconds + (start + _SAMPLE_SECONDS[device.kind]) / device.share


def seconds_per_token(
    shape: Shape,
    histogram: LengthHistogram,
    config: TrainConfig,
    device: DeviceInfo,
    candidate: Candidate,
) -> float:
    """Return what a trained token costs on all devices of a job together."""
    per_token = operations(shape, shape.num_adapter(config), candidate.checkpointing)
    if device.kind == "cuda":
        # Scores and results, a product each forward and 2.5 times as much back; half is hidden.
        # On a CPU the measured rate has the share of short examples in it.
        seen = histogram.seen_tokens(config.max_length_tokens)
        per_token += 3.5 * 2 * seen * shape.q_width * shape.layers
    if config.objective == "dpo":
        per_token += 2 * shape.num_linear  # the starting model reads each answer as well
    rate = _rate(device, candidate.resident) * device.num_devices * _SHARED_RATE[candidate.strategy]
    seconds = per_token / rate * OPTIMIZER_SECONDS[candidate.optimizer]
    if device.kind == "cpu":
        seconds *= 1 + _CPU_PASS_TOKENS / candidate.micro_batch_tokens
        seconds *= _CPU_TWICE if candidate.checkpointing else 1
        seconds /= device.share
    if candidate.offloaded:
        seconds *= _OFFLOADED
    if candidate.resident == "nf4":
        seconds *= 1 + _UNPACKING_TOKENS[device.kind] / candidate.micro_batch_tokens
    if device.kind == "cuda":
        mean = _mean_tokens(histogram, config)
        pass_tokens = min(
            candidate.micro_batch_tokens * device.num_devices, max(1.0, mean * config.batch_size)
        )
        seconds = max(seconds, _LAUNCH_SECONDS * shape.layers / pass_tokens)
    return seconds


def _mean_tokens(histogram: LengthHistogram, config: TrainConfig) -> float:
    return min(histogram.mean_tokens, config.max_length_tokens) * num_parts(config)


def operations(shape: Shape, num_adapter: int, checkpointing: bool) -> float:
    """Floating-point operations of forward and backward, per token; frozen weights need no own."""
    # About half of the tokens are answers and meet the output embedding.
    head = 4 * 0.5 * shape.hidden * shape.vocabulary
    again = 2 * shape.num_linear if checkpointing else 0
    return 4.0 * shape.num_linear + 6 * num_adapter + head + again


def _rate(device: DeviceInfo, resident: Resident) -> float:
    if device.kind == "cpu":
        is_bfloat16 = device.has_bfloat16 and resident != "fp32"
        if device.layer_rate:
            return device.layer_rate * _WHOLE_STEP[is_bfloat16]
        return _CPU_RATE[is_bfloat16] * device.num_cores
    return next((r for name, r in _GPU_RATES.items() if name in device.name), _UNKNOWN_GPU_RATE)
