"""The memory that a trainer needs, from the model's shape and how it trains.

bench/memory.py holds that of a CPU against processes; on an H200 it was within 6 % of what was
measured (bench/results/train-gpu-2026-11-28.json).
"""

from typing import Literal

from app.training.config import OptimizerKind, TrainConfig
from app.training.plan.machine import DeviceInfo
from app.training.plan.shape import Candidate, LengthHistogram, Resident, Shape, num_parts

# NF4 with double quantization: 4 bits, and 0.127 bits of constants (QLoRA, arXiv:2305.14314, §3).
NF4_BYTES = (4 + 0.127) / 8
_WEIGHT_BYTES = {"nf4": NF4_BYTES, "bf16": 2.0, "fp32": 4.0}
# A trained weight, its gradient and its copy to compute with; AdamW's moments come on top.
_ADAPTER_BYTES = 12
# bitsandbytes leaves moments of smaller tensors in float32, or on the device (bitsandbytes 0.50).
_LEAST_FOR_8BIT, _LEAST_FOR_PAGES = 4096, 100_000
_SCORES_UP_TO = 512  # as worker/trainer/layers/attention.py
# glibc's heap grows beyond what is in use where blocks of many sizes come and go: fitted to the
# shapes of bench/memory.py; not where the trainer computes twice (worker/trainer/model.py).
_HEAP_SLACK = {"glibc": 1.38, "tcmalloc": 1.1}
# Interpreter, libraries and what they hold on to.
_PROCESS_BYTES = {"cpu": 750 * 1024**2, "cuda": 900 * 1024**2}
# What libraries take in the first step: plans of matrix products, stacks of threads.
_FIRST_USE_BYTES = {"cpu": 150 * 1024**2, "cuda": 0}


def idle_bytes(kind: Literal["cpu", "cuda"]) -> int:
    """Return what a trainer needs before it has a job."""
    return _PROCESS_BYTES[kind]


def peak_bytes(
    shape: Shape,
    histogram: LengthHistogram,
    config: TrainConfig,
    device: DeviceInfo,
    candidate: Candidate,
    packed: bool,
    from_adapter: bool = False,
) -> int:
    """Work out how much memory a candidate takes of each device."""
    resident, offloaded, strategy = candidate.resident, candidate.offloaded, candidate.strategy
    longest = min(max(histogram.max_tokens, 1), config.max_length_tokens)
    live_tokens = max(candidate.micro_batch_tokens, longest * num_parts(config))
    num_adapter = shape.num_adapter(config)
    float_bytes = 4 if resident == "fp32" else 2
    one_layer = kept_bytes(shape, resident, config, longest) * live_tokens
    if config.use_dora:
        # Each product before it is scaled, and its gradient.
        outputs = 2 * shape.hidden + shape.q_width + 2 * shape.kv_width + 2 * shape.intermediate
        one_layer += float_bytes * outputs * live_tokens
    kept = one_layer * shape.layers
    # In the backward pass: the gradients of the widest results of one layer.
    backward = 4 * float_bytes * shape.intermediate * live_tokens
    if candidate.checkpointing:
        # Elsewhere all but the one that is computed again and the one before it.
        num_inputs = min(2, shape.layers) if offloaded else shape.layers
        kept = float_bytes * shape.hidden * live_tokens * num_inputs
        backward += one_layer
    is_tight = candidate.checkpointing or device.kind == "cuda"
    slack = 1.0 if is_tight else _HEAP_SLACK[device.allocator]
    # Of a chunk; of all tokens, twice, where the model itself makes them.
    rows = candidate.loss_chunk_tokens if packed else 2 * live_tokens
    # Scores and their softmax in float32, besides the 16 bits of a product and of its gradient.
    logit_bytes = 8 if resident == "fp32" else 10 if packed else 12
    if packed and device.kind == "cuda" and not shape.caps_scores:
        logit_bytes = 2  # worker/trainer/layers/kernels.py turns one into the other
    logits = rows * shape.vocabulary * logit_bytes
    weight_bytes = _WEIGHT_BYTES["bf16" if shape.has_experts and resident == "nf4" else resident]
    linear_bytes = shape.num_linear * weight_bytes
    if strategy == "fsdp":
        # Its part of all layers, and two of them whole: one in use, one on its way.
        linear_bytes *= 1 / device.num_devices + 2 / shape.layers
    parts = [
        _PROCESS_BYTES[device.kind],
        _FIRST_USE_BYTES[device.kind],
        linear_bytes + (shape.num_embedding - offloaded * shape.num_lookup) * float_bytes,
        # Several devices add up their gradients in one piece.
        num_adapter
        * (
            _ADAPTER_BYTES
            + moment_bytes(shape, candidate.optimizer, config)
            + (0 if strategy == "single" else 4)
            + (4 if from_adapter else 0)  # the copy with which it is compared
        ),
        kept * slack,
        # A chunk's logits are gone before the backward pass begins.
        max(logits, backward * slack),
        # NF4 weights are unpacked one matrix at a time.
        2.0 * shape.hidden * shape.intermediate if resident == "nf4" else 0,
    ]
    return int(sum(parts))


def moment_bytes(shape: Shape, optimizer: OptimizerKind, config: TrainConfig) -> float:
    """Return what AdamW's two moments of an adapter's weight take on the device, on average."""
    attention = [shape.hidden, shape.q_width] * 2 + [shape.hidden, shape.kv_width] * 2
    feed_forward = [shape.hidden, shape.intermediate] * 3
    ends = {"attention": attention, "feed_forward": feed_forward}
    widths = ends.get(config.lora_targets, attention + feed_forward)
    sizes = [config.lora_rank * end for end in widths]
    total = 0.0
    for size in sizes:
        if not (optimizer.startswith("paged") and size >= _LEAST_FOR_PAGES):
            is_rounded = optimizer.endswith("8bit") and size >= _LEAST_FOR_8BIT
            # A byte each, and a scale for every 256.
            total += size * (2 * (1 + 4 / 256) if is_rounded else 8)
    return total / sum(sizes)


def kept_bytes(shape: Shape, resident: Resident, config: TrainConfig, length: int) -> int:
    """Count what one layer keeps of one token for the backward pass.

    Args:
        shape: The model's.
        resident: Says what is computed with: float32, or bfloat16.
        config: The adapter's.
        length: Of the longest example: up to 512 tokens what each pays to each other is kept
            (attention._Padded).
    """
    # What goes into the two norms and what comes out, queries, keys and values, what goes into
    # the last product of attention, the gate and what passes it, the adapter's narrow results;
    # counted with saved_tensors_hooks.
    kept = 4 * shape.hidden + 2 * (shape.q_width + shape.kv_width) + 7 * config.lora_rank
    kept += 2 * shape.intermediate
    # Only the fused last product of a feed-forward makes its input again (lora._LoraOfProduct).
    is_fused = not (shape.joins_gate or config.use_dora or config.lora_dropout)
    if config.lora_targets == "attention" or not is_fused:
        kept += 2 * shape.intermediate
    kept += shape.heads * length if length <= _SCORES_UP_TO else shape.q_width
    return kept * (4 if resident == "fp32" else 2)
