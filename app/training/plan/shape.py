"""What memory and speed depend on: the model's shape, the examples' lengths, a candidate."""

import json
import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel

from app.training.config import OptimizerKind, TrainConfig

Resident = Literal["nf4", "bf16", "fp32"]
# On one device, whole on each of several, or split between them.
Strategy = Literal["single", "ddp", "fsdp"]

# Proved to learn side by side what they learn alone (tests/worker/trainer/test_architectures.py);
# SmolLM and SmolLM2 are Llamas.
PACKED_MODELS = frozenset(
    {"llama", "qwen2", "qwen3", "mistral", "gemma2", "gemma3_text", "phi3", "smollm3"}
)

# Where no examples check, losses in between are measured on so many that are practised.
PRACTICE_CHECKED = 64

_EXPERT_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts")


class LengthHistogram(BaseModel):
    """How long a version's examples are in tokens of one base model, all parts together.

    It counts those that are practised and those that losses in between are measured on: the check
    part, or in versions of two parts the test part.
    """

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

    def of_so_many(self, num_train: int, num_validation: int) -> "LengthHistogram":
        """Return the same lengths for other numbers of examples."""
        total_tokens = round(self.mean_tokens * (num_train + num_validation))
        update = {"num_train": num_train, "num_validation": num_validation}
        return self.model_copy(update=update | {"total_tokens": total_tokens})

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


class Candidate(NamedTuple):
    """A way to train that memory and speed are worked out for."""

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


def num_steps(num_train: int, config: TrainConfig) -> int:
    """Count the optimizer updates; the last one may reach into the next pass over the data."""
    return config.num_steps or max(1, math.ceil(num_train * config.num_epochs / config.batch_size))


def num_passes(num_train: int, config: TrainConfig) -> float:
    """Return how often each example is seen, also where the config counts steps."""
    if config.num_steps:
        return config.num_steps * config.batch_size / max(1, num_train)
    return config.num_epochs


def num_parts(config: TrainConfig) -> int:
    """Count the sequences of an example: of a pair there are two."""
    return 2 if config.objective == "dpo" else 1


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
