"""How much memory slots take for what they have read. Without torch: the parent asks it, too."""

from typing import Any

# FlashAttention finds keys by pages of a multiple of that many tokens; a slot is one page.
PAGE_TOKENS = 256

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def kv_shape(config: dict[str, Any]) -> tuple[int, int, int]:
    """Return a model's layers, key/value heads and head width.

    Args:
        config: The model's config.json.
    """
    heads = int(config["num_attention_heads"])
    width = int(config.get("head_dim") or int(config["hidden_size"]) // heads)
    kv_heads = int(config.get("num_key_value_heads") or heads)
    return int(config["num_hidden_layers"]), kv_heads, width


def held_tokens(context_tokens: int) -> int:
    """Return for how many tokens a slot has room: whole pages."""
    return -(-context_tokens // PAGE_TOKENS) * PAGE_TOKENS


def kv_bytes(config: dict[str, Any], context_tokens: int, num_slots: int, dtype: str) -> int:
    """Return what the keys and values of all slots take when they are full.

    Layers with a sliding window keep all, too: a slot can be cut back to any position.

    Args:
        config: The model's config.json.
        context_tokens: What one slot holds.
        num_slots: How many there are.
        dtype: What is computed with, by torch's name for it.
    """
    layers, heads, width = kv_shape(config)
    return 2 * layers * heads * width * held_tokens(context_tokens) * num_slots * _BYTES[dtype]


def longest_context(config: dict[str, Any]) -> int | None:
    """Return up to which length a token's keys do not depend on what comes after it.

    Args:
        config: The model's config.json.

    Returns:
        What the model reads at once; less where its angles change with the length of the text
        (LongRoPE, arXiv:2402.13753), since keys that were kept had the others. None: it does not
        say.
    """
    most = config.get("max_position_embeddings")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if (rope.get("rope_type") or rope.get("type")) == "longrope":
        most = (
            rope.get("original_max_position_embeddings")
            or config.get("original_max_position_embeddings")
            or most
        )
    return int(most) if most else None
