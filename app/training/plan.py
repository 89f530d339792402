"""Memory and speed worked out before the first step: the page shows it, the trainer follows it.

Arithmetic, but for `this_cpu`, `tcmalloc` and `count_parameters`. The CPU's rate was measured (two
cores of an AMD EPYC with AVX512-BF16, SmolLM2-135M), and bench/memory.py holds its memory against
processes. Of GPUs an H200 was measured (bench/results/train-gpu-2026-11-28.json): memory within 6 %
and its rate; those of the others follow from the architecture.
"""

import itertools
import json
import math
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, Field

from app.training.config import OptimizerKind, TrainConfig

Resident = Literal["nf4", "bf16", "fp32"]
# On one device, whole on each of several, or split between them.
Strategy = Literal["single", "ddp", "fsdp"]

# Proved to learn side by side what they learn alone (tests/worker/trainer/test_architectures.py);
# SmolLM and SmolLM2 are Llamas.
PACKED_MODELS = frozenset(
    {"llama", "qwen2", "qwen3", "mistral", "gemma2", "gemma3_text", "phi3", "smollm3"}
)

_EXPERT_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts")

# NF4 with double quantization: 4 bits, and 0.127 bits of constants (QLoRA, arXiv:2305.14314, §3).
NF4_BYTES = (4 + 0.127) / 8
_WEIGHT_BYTES = {"nf4": NF4_BYTES, "bf16": 2.0, "fp32": 4.0}
# A trained weight, its gradient and its copy to compute with; AdamW's moments come on top.
_ADAPTER_BYTES = 12
# bitsandbytes leaves moments of smaller tensors in float32, or on the device (bitsandbytes 0.50).
_LEAST_FOR_8BIT, _LEAST_FOR_PAGES = 4096, 100_000
# An order, not measurements: torch updates all weights at once, and 8 bits round.
_OPTIMIZER_SECONDS: dict[OptimizerKind, float] = {
    "adamw": 1.0, "paged_adamw": 1.01, "adamw_8bit": 1.02, "paged_adamw_8bit": 1.03,
}  # fmt: skip
# Longer chunks of logits save nothing on a CPU; a GPU wants enough to do.
_MOST_CHUNK_TOKENS = {"cpu": 256, "cuda": 1024}
_CHUNK_BYTES = 2**28
_SCORES_UP_TO = 512  # as worker/trainer/layers/attention.py
# glibc's heap grows beyond what is in use where blocks of many sizes come and go: fitted to the
# shapes of bench/memory.py; not where the trainer computes twice (worker/trainer/model.py).
_HEAP_SLACK = {"glibc": 1.38, "tcmalloc": 1.1}
_TCMALLOC = ("libtcmalloc_minimal.so.4", "libtcmalloc.so.4")
_LIBRARIES = ("/usr/lib/*-linux-gnu", "/usr/lib64", "/usr/local/lib")
# Interpreter, libraries and what they hold on to.
_PROCESS_BYTES = {"cpu": 750 * 1024**2, "cuda": 900 * 1024**2}
# What libraries take in the first step: plans of matrix products, stacks of threads.
_FIRST_USE_BYTES = {"cpu": 150 * 1024**2, "cuda": 0}
_START_SECONDS = {"cpu": 12.0, "cuda": 20.0}
_SAMPLE_SECONDS = {"cpu": 8.0, "cuda": 6.0}
# Floating-point operations a second reached in whole steps: a core of a CPU, or a GPU by name.
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


class DeviceInfo(BaseModel):
    kind: Literal["cpu", "cuda"] = "cpu"
    name: str = ""
    free_bytes: int  # of one device; of several, the one with the least
    total_bytes: int = 0  # of the machine, where it has no GPU; 0: nobody asked
    num_devices: int = Field(default=1, ge=1)  # equal ones that a job gets together
    num_cores: int = Field(default=1, ge=1)  # physical ones that this process may use
    has_bfloat16: bool = True
    allocator: Literal["glibc", "tcmalloc"] = "glibc"


class LengthHistogram(BaseModel):
    """How long a version's examples are in tokens of one base model, both splits together."""

    upper_bounds: list[int]  # of each bin, inclusive
    counts: list[int]
    num_train: int
    num_validation: int
    total_tokens: int
    max_tokens: int
    is_text: bool = False  # plain texts, of which a long one becomes several examples

    @classmethod
    def from_lengths(
        cls, lengths: Sequence[int], num_train: int, num_validation: int, is_text: bool = False
    ) -> "LengthHistogram":
        """Sort lengths into bins of doubling width; a sample stands for the whole version."""
        longest = max(lengths, default=0)
        bounds = [16]
        while bounds[-1] < longest:
            bounds.append(bounds[-1] * 2)
        counts = [0] * len(bounds)
        for length in lengths:
            counts[next(i for i, bound in enumerate(bounds) if length <= bound)] += 1
        mean = sum(lengths) / max(1, len(lengths))
        return cls(
            upper_bounds=bounds,
            counts=counts,
            num_train=num_train,
            num_validation=num_validation,
            total_tokens=round(mean * (num_train + num_validation)),
            max_tokens=longest,
            is_text=is_text,
        )

    def in_pieces(self, max_length_tokens: int) -> "LengthHistogram":
        """Return about how long plain texts are once they are cut; others stay as they are."""
        if not self.is_text or self.max_tokens <= max_length_tokens:
            return self
        # A bin reaches from half of its bound to its bound.
        num_pieces = sum(
            count * max(1, math.ceil(0.75 * bound / max_length_tokens))
            for bound, count in zip(self.upper_bounds, self.counts, strict=True)
        )
        factor = num_pieces / max(1, sum(self.counts))
        update = {
            "num_train": round(self.num_train * factor),
            "num_validation": round(self.num_validation * factor),
            "max_tokens": max_length_tokens,
        }
        return self.model_copy(update=update)

    @property
    def mean_tokens(self) -> float:
        return self.total_tokens / max(1, self.num_train + self.num_validation)

    def seen_tokens(self, max_length_tokens: int) -> float:
        """Return about how long the example is, on average, in which a token lies."""
        middles = [min(0.75 * bound, max_length_tokens) for bound in self.upper_bounds]
        tokens = [count * middle for count, middle in zip(self.counts, middles, strict=True)]
        pairs = sum(one * middle for one, middle in zip(tokens, middles, strict=True))
        return pairs / max(1.0, sum(tokens))


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
    fits: Literal["yes", "tight", "no"]
    reasons: list[str]


class Way(NamedTuple):
    resident: Resident
    micro_batch_tokens: int
    checkpointing: bool
    optimizer: OptimizerKind = "adamw"
    loss_chunk_tokens: int = 256
    strategy: Strategy = "single"
    offloaded: bool = False


class Shape(BaseModel):
    """What memory and speed depend on, from a model's config.json."""

    hidden: int
    layers: int
    intermediate: int
    kv_width: int
    q_width: int
    heads: int
    vocabulary: int
    num_embedding: int
    num_linear: int
    has_experts: bool  # fused in one tensor, which bitsandbytes leaves in 16 bits
    joins_gate: bool  # the feed-forward's gate and what passes it are one product
    num_lookup: int  # embeddings that are looked up and never multiplied with
    caps_scores: bool  # before the loss, which then takes more passes and more memory

    @classmethod
    def of(cls, config: dict[str, Any], num_parameters: int) -> "Shape":
        heads = int(config.get("num_attention_heads") or 1)
        hidden = int(config["hidden_size"])
        head_dim = int(config.get("head_dim") or hidden // heads)
        vocabulary = int(config["vocab_size"])
        is_tied = bool(config.get("tie_word_embeddings"))
        num_lookup = 0 if is_tied else hidden * vocabulary
        return cls(
            hidden=hidden,
            layers=int(config["num_hidden_layers"]),
            intermediate=int(config.get("intermediate_size") or 4 * hidden),
            kv_width=head_dim * int(config.get("num_key_value_heads") or heads),
            q_width=head_dim * heads,
            heads=heads,
            vocabulary=vocabulary,
            num_embedding=hidden * vocabulary + num_lookup,
            num_linear=max(0, num_parameters - hidden * vocabulary - num_lookup),
            has_experts=any(config.get(key) for key in _EXPERT_COUNTS),
            joins_gate=config.get("model_type") == "phi3",
            num_lookup=num_lookup,
            caps_scores=bool(config.get("final_logit_softcapping")),
        )

    def num_adapter(self, config: TrainConfig) -> int:
        """Count the adapter's weights."""
        attention = 2 * (self.hidden + self.q_width) + 2 * (self.hidden + self.kv_width)
        feed_forward = 3 * (self.hidden + self.intermediate)
        widths = {"attention": attention, "feed_forward": feed_forward}
        width = widths.get(config.lora_targets, attention + feed_forward)
        return config.lora_rank * self.layers * width

    def moment_bytes(self, optimizer: OptimizerKind, config: TrainConfig) -> float:
        """Return what AdamW's two moments of an adapter's weight take on the device, on average."""
        attention = [self.hidden, self.q_width] * 2 + [self.hidden, self.kv_width] * 2
        feed_forward = [self.hidden, self.intermediate] * 3
        ends = {"attention": attention, "feed_forward": feed_forward}
        found = ends.get(config.lora_targets, attention + feed_forward)
        sizes = [config.lora_rank * end for end in found]
        total = 0.0
        for size in sizes:
            if not (optimizer.startswith("paged") and size >= _LEAST_FOR_PAGES):
                is_rounded = optimizer.endswith("8bit") and size >= _LEAST_FOR_8BIT
                # A byte each, and a scale for every 256.
                total += size * (2 * (1 + 4 / 256) if is_rounded else 8)
        return total / sum(sizes)

    def kept_bytes(self, resident: Resident, config: TrainConfig, length: int) -> int:
        """Count what one layer keeps of one token for the backward pass.

        Args:
            resident: Says what is computed with: float32, or bfloat16.
            config: The adapter's.
            length: Of the longest example: up to 512 tokens what each pays to each other is kept
                (attention._Padded).
        """
        # What goes into the two norms and what comes out, queries, keys and values, what goes into
        # the last product of attention, the gate and what passes it, the adapter's narrow results;
        # counted with saved_tensors_hooks.
        kept = 4 * self.hidden + 2 * (self.q_width + self.kv_width) + 7 * config.lora_rank
        kept += 2 * self.intermediate
        # Only the fused last product of a feed-forward makes its input again (lora._LoraOfProduct).
        is_fused = not (self.joins_gate or config.use_dora or config.lora_dropout)
        if config.lora_targets == "attention" or not is_fused:
            kept += 2 * self.intermediate
        kept += self.heads * length if length <= _SCORES_UP_TO else self.q_width
        return kept * (4 if resident == "fp32" else 2)


def can_pack(model_config: dict[str, Any], max_length_tokens: int) -> bool:
    """Tell whether a model is known to train on examples side by side in one row.

    Args:
        model_config: The model's config.json.
        max_length_tokens: Longer examples are cut.
    """
    if model_config.get("model_type") not in PACKED_MODELS:
        return False
    if model_config.get("use_bidirectional_attention"):
        return False
    rope = model_config.get("rope_parameters") or model_config.get("rope_scaling") or {}
    kind = rope.get("rope_type") or rope.get("type")
    if kind in ("longrope", "dynamic"):
        # Past this length the angles of all tokens in a row change with its longest example.
        turn = rope.get("original_max_position_embeddings") or model_config.get(
            "original_max_position_embeddings" if kind == "longrope" else "max_position_embeddings"
        )
        return turn is not None and max_length_tokens <= int(turn)
    return True


def context_tokens(model_config: dict[str, Any]) -> int | None:
    """Return how many tokens a model reads at once, if it says.

    Args:
        model_config: The model's config.json.
    """
    most = model_config.get("max_position_embeddings")
    return int(most) if most else None


def most_tokens(config: TrainConfig, model_config: dict[str, Any]) -> int:
    """Return the length at which examples are cut: the person's, or the model's own."""
    return min(config.max_length_tokens, context_tokens(model_config) or config.max_length_tokens)


def idle_bytes(kind: Literal["cpu", "cuda"]) -> int:
    """Return what a trainer needs before it has a job."""
    return _PROCESS_BYTES[kind]


def num_steps(num_train: int, config: TrainConfig) -> int:
    """Count the optimizer updates; the last one may reach into the next pass over the data."""
    return config.num_steps or max(1, math.ceil(num_train * config.num_epochs / config.batch_size))


def num_passes(num_train: int, config: TrainConfig) -> float:
    """Return how often each example is seen, also where the config counts steps."""
    if config.num_steps:
        return config.num_steps * config.batch_size / max(1, num_train)
    return config.num_epochs


def plan(
    model_config: dict[str, Any],
    num_parameters: int,
    histogram: LengthHistogram,
    config: TrainConfig,
    device: DeviceInfo,
    way: "Way | None" = None,
) -> Plan:
    """Choose how to train: the fastest way that fits, or the smallest where none does.

    Args:
        model_config: The model's config.json.
        num_parameters: All of its weights.
        histogram: How long the examples are.
        config: What the person chose.
        device: Where it will run.
        way: Decided already; only memory and time are worked out.
    """
    limit = most_tokens(config, model_config)
    config = config.model_copy(update={"max_length_tokens": limit})
    shape = Shape.of(model_config, num_parameters)
    histogram = histogram.in_pieces(config.max_length_tokens)
    mean = min(histogram.mean_tokens, config.max_length_tokens)
    step_tokens = math.ceil(mean * config.batch_size * _num_parts(config) / device.num_devices)
    packed = can_pack(model_config, config.max_length_tokens)
    candidates = [
        _predict(shape, histogram, config, device, way, packed)
        for way in ([way] if way else _ways(config, device, shape, max(step_tokens, 64)))
    ]
    order = {"yes": 0, "tight": 1, "no": 2}
    best = min(order[c.fits] for c in candidates)
    fitting = [c for c in candidates if order[c.fits] == best]
    chosen = min(fitting, key=lambda c: c.peak_bytes if best == 2 else c.seconds)
    return chosen.model_copy(update={"reasons": _reasons(chosen, config, device)})


def _ways(config: TrainConfig, device: DeviceInfo, shape: Shape, step_tokens: int) -> Iterator[Way]:
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
        optimizers = list(_OPTIMIZER_SECONDS) if config.optimizer == "auto" else [config.optimizer]
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
        yield Way(resident, size, checkpointing, optimizer, chunk, strategy)
        can_offload = device.kind == "cuda" and strategy != "fsdp" and resident == "nf4"
        if can_offload and checkpointing:
            yield Way(resident, size, checkpointing, optimizer, chunk, strategy, True)


def _predict(
    shape: Shape,
    histogram: LengthHistogram,
    config: TrainConfig,
    device: DeviceInfo,
    way: Way,
    packed: bool,
) -> Plan:
    resident, micro_batch_tokens, checkpointing, optimizer, chunk_tokens, strategy, offloaded = way
    longest = min(max(histogram.max_tokens, 1), config.max_length_tokens)
    live_tokens = max(micro_batch_tokens, longest * _num_parts(config))
    num_adapter = shape.num_adapter(config)
    float_bytes = 4 if resident == "fp32" else 2
    one_layer = shape.kept_bytes(resident, config, longest) * live_tokens
    if config.use_dora:
        # Each product before it is scaled, and its slope.
        outputs = 2 * shape.hidden + shape.q_width + 2 * shape.kv_width + 2 * shape.intermediate
        one_layer += float_bytes * outputs * live_tokens
    kept = one_layer * shape.layers
    # On the way back: the slopes of the widest results of one layer.
    backward = 4 * float_bytes * shape.intermediate * live_tokens
    if checkpointing:
        # Elsewhere all but the one that is computed again and the one before it.
        num_inputs = min(2, shape.layers) if offloaded else shape.layers
        kept = float_bytes * shape.hidden * live_tokens * num_inputs
        backward += one_layer
    is_tight = checkpointing or device.kind == "cuda"
    slack = 1.0 if is_tight else _HEAP_SLACK[device.allocator]
    # Of a chunk; of all tokens, twice, where the model itself makes them.
    rows = chunk_tokens if packed else 2 * live_tokens
    # Scores and their softmax in float32, besides the 16 bits of a product and of its slope.
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
            + shape.moment_bytes(optimizer, config)
            + (0 if strategy == "single" else 4)
        ),
        kept * slack,
        # A chunk's logits are gone before the way back begins.
        max(logits, backward * slack),
        # NF4 weights are unpacked one matrix at a time.
        2.0 * shape.hidden * shape.intermediate if resident == "nf4" else 0,
    ]
    peak = int(sum(parts))
    seconds_per_token = _seconds_per_token(shape, histogram, config, device, way)
    mean = min(histogram.mean_tokens, config.max_length_tokens) * _num_parts(config)
    train_tokens = mean * histogram.num_train * num_passes(histogram.num_train, config)
    # An evaluation runs forwards only, and is kept to a fair share of the training.
    seen = mean * histogram.num_validation * (config.num_evaluations + 1) / 3
    seconds = (train_tokens + min(seen, 0.25 * train_tokens)) * seconds_per_token
    start = _START_SECONDS[device.kind] + num_adapter / 30e6 + shape.num_linear / 150e6
    share = peak / max(1, device.free_bytes)
    return Plan(
        micro_batch_tokens=micro_batch_tokens,
        resident=resident,
        checkpointing=checkpointing,
        optimizer=optimizer,
        loss_chunk_tokens=chunk_tokens,
        strategy=strategy,
        packed=packed,
        offloaded=offloaded,
        num_steps=num_steps(histogram.num_train, config),
        num_tokens=round(train_tokens),
        peak_bytes=peak,
        seconds=seconds + start + _SAMPLE_SECONDS[device.kind],
        tokens_per_second=1 / seconds_per_token,
        fits="yes" if share <= 0.85 else "tight" if share <= 1 else "no",
        reasons=[],
    )


def _seconds_per_token(
    shape: Shape, histogram: LengthHistogram, config: TrainConfig, device: DeviceInfo, way: Way
) -> float:
    """Return what a trained token costs on all devices of a job together."""
    per_token = _operations(shape, shape.num_adapter(config), way.checkpointing)
    if device.kind == "cuda":
        # Scores and results, a product each forward and 2.5 times as much back; half is hidden.
        # On a CPU the measured rate has the share of short examples in it.
        seen = histogram.seen_tokens(config.max_length_tokens)
        per_token += 3.5 * 2 * seen * shape.q_width * shape.layers
    if config.objective == "dpo":
        per_token += 2 * shape.num_linear  # the starting model reads each answer as well
    rate = _rate(device, way.resident) * device.num_devices * _SHARED_RATE[way.strategy]
    seconds = per_token / rate * _OPTIMIZER_SECONDS[way.optimizer]
    if device.kind == "cpu":
        seconds *= 1 + _CPU_PASS_TOKENS / way.micro_batch_tokens
        seconds *= _CPU_TWICE if way.checkpointing else 1
    if way.offloaded:
        seconds *= _OFFLOADED
    if way.resident == "nf4":
        seconds *= 1 + _UNPACKING_TOKENS[device.kind] / way.micro_batch_tokens
    if device.kind == "cuda":
        mean = min(histogram.mean_tokens, config.max_length_tokens) * _num_parts(config)
        pass_tokens = min(
            way.micro_batch_tokens * device.num_devices, max(1.0, mean * config.batch_size)
        )
        seconds = max(seconds, _LAUNCH_SECONDS * shape.layers / pass_tokens)
    return seconds


def _num_parts(config: TrainConfig) -> int:
    """Count the sequences of an example: of a pair there are two."""
    return 2 if config.objective == "dpo" else 1


def _operations(shape: Shape, num_adapter: int, checkpointing: bool) -> float:
    """Floating-point operations of forward and backward, per token; frozen weights need no own."""
    # About half of the tokens are answers and meet the output embedding.
    head = 4 * 0.5 * shape.hidden * shape.vocabulary
    again = 2 * shape.num_linear if checkpointing else 0
    return 4.0 * shape.num_linear + 6 * num_adapter + head + again


def _rate(device: DeviceInfo, resident: Resident) -> float:
    if device.kind == "cpu":
        return _CPU_RATE[device.has_bfloat16 and resident != "fp32"] * device.num_cores
    return next((r for name, r in _GPU_RATES.items() if name in device.name), _UNKNOWN_GPU_RATE)


def _reasons(chosen: Plan, config: TrainConfig, device: DeviceInfo) -> list[str]:
    reasons = []
    if config.method == "lora":
        reasons.append("The starting model stays in 16 bits, as chosen.")
    elif chosen.resident == "nf4":
        reasons.append("The starting model stays packed in 4 bits to save memory.")
    else:
        reasons.append(
            "The starting model is rounded to 4 bits and unpacked once: the same numbers, faster."
        )
    one, several = ("GPU", "GPUs") if device.kind == "cuda" else ("process", "processes")
    if chosen.strategy == "ddp":
        reasons.append(
            f"Each of the {device.num_devices} {several} holds the whole starting model and takes "
            "a share of every step's examples: what is learned stays the same."
        )
    elif chosen.strategy == "fsdp":
        reasons.append(
            f"The starting model is too large for one {one}, so each of the {device.num_devices} "
            "holds a part of it and takes a share of every step's examples."
        )
    reasons += _memory_reasons(chosen)
    if not chosen.packed:
        reasons.append(
            "Etude has not been proved to train models of this kind on several examples in a row, "
            "so they are padded to one length: the same result, slower."
        )
    if device.kind == "cpu":
        reasons.append("There is no GPU here; the optimizer is torch's AdamW on the CPU.")
    elif chosen.optimizer != "adamw":
        does = []
        if "8bit" in chosen.optimizer:
            does.append("is rounded to 8 bits")
        if "paged" in chosen.optimizer:
            does.append("moves out of the GPU where something else needs the place")
        why = "as the GPU is nearly full" if config.optimizer == "auto" else "as chosen"
        reasons.append(f"The optimizer's memory {' and '.join(does)} (bitsandbytes), {why}.")
    if chosen.fits == "no":
        need, free = chosen.peak_bytes / 1024**3, device.free_bytes / 1024**3
        reasons.append(
            f"About {need:.1f} GB are needed and {free:.1f} GB are free"
            f"{f' on each {one}' if device.num_devices > 1 else ''}: choose a smaller starting "
            "model or shorter examples."
        )
    return reasons


def _memory_reasons(chosen: Plan) -> list[str]:
    reasons = []
    if chosen.checkpointing:
        reasons.append("Intermediate results are computed twice, because they do not fit at once.")
    if chosen.offloaded:
        reasons.append(
            "What a layer needs again later waits in the computer's memory, not in the GPU's."
        )
    return reasons


def count_parameters(folder: Path) -> int:
    """Count a model's weights from the headers of its safetensors files, without reading them."""
    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(size))
        total += sum(
            math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__"
        )
    return total


def this_cpu() -> DeviceInfo:
    """Look at the CPU and memory that this process may use (Linux)."""
    cpus = sorted(os.sched_getaffinity(0))
    siblings = {
        _read(f"/sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list") for n in cpus
    }
    # Where the topology is hidden, every logical CPU counts.
    cores = len(cpus) if "" in siblings else len(siblings)
    quota = _read("/sys/fs/cgroup/cpu.max").split()
    if len(quota) == 2 and quota[0] != "max":
        cores = min(cores, max(1, int(quota[0]) // int(quota[1])))
    info = _read("/proc/cpuinfo")
    name = next((x.split(":", 1)[1].strip() for x in info.splitlines() if "model name" in x), "CPU")
    flags = next((x for x in info.splitlines() if x.startswith("flags")), "").split()
    return DeviceInfo(
        kind="cpu",
        name=name,
        free_bytes=free_memory(),
        total_bytes=total_memory(),
        num_cores=max(1, cores),
        has_bfloat16="avx512_bf16" in flags or "amx_bf16" in flags,
        allocator="tcmalloc" if tcmalloc() else "glibc",
    )


def share_cpu(cpu: DeviceInfo, num_processes: int) -> DeviceInfo:
    """Describe what each of several processes has of a CPU: a way to try what several GPUs do."""
    if num_processes == 1:
        return cpu
    return cpu.model_copy(
        update={
            "free_bytes": cpu.free_bytes // num_processes,
            "num_cores": max(1, cpu.num_cores // num_processes),
            "num_devices": num_processes,
        }
    )


def tcmalloc() -> Path | None:
    """Find the allocator that a trainer on the CPU is started with, where it is installed.

    Beside glibc's own it took a third less memory and a tenth less time (docs/performance.md).
    """
    places = (Path("/").glob(f"{folder[1:]}/{name}") for name in _TCMALLOC for folder in _LIBRARIES)
    return next((path for found in places for path in found), None)


def total_memory() -> int:
    """Return all memory that processes here may use together, in bytes."""
    limit, total = _read("/sys/fs/cgroup/memory.max"), _meminfo("MemTotal")
    return min(total, int(limit)) if limit.isdigit() else total


def free_memory() -> int:
    """Return the memory that is free for another process, in bytes."""
    free = _meminfo("MemAvailable")
    limit = _read("/sys/fs/cgroup/memory.max")
    used = _read("/sys/fs/cgroup/memory.current")
    if limit.isdigit() and used.isdigit():
        free = min(free, int(limit) - int(used))
    return free


def _meminfo(name: str) -> int:
    lines = dict(x.split(":", 1) for x in _read("/proc/meminfo").splitlines() if ":" in x)
    return int(lines.get(name, "0 kB").split()[0]) * 1024


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""
