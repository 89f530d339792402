"""Attention within each example of a packed row.

Dimensions: T tokens of the row, H heads, K key/value heads, D head width, L tokens of one example.
"""

import importlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface

from worker.trainer.layers.padded_attention import PaddedAttention
from worker.trainer.packing import Row

varlen_attn: Callable[..., Any] | None
try:  # CUDA only; arrived and moved between torch versions
    varlen_attn = importlib.import_module("torch.nn.attention.varlen").varlen_attn
except (ImportError, AttributeError):
    varlen_attn = None

ATTENTION = "etude_packed"

_SCORES_UP_TO = 512  # tokens; a longer example's scores are not kept all at once


class _Current:
    """The lengths of the row in flight.

    Not passed through the model: an architecture that drops unknown arguments would let examples
    see each other without a word.
    """

    lengths: list[int] | None = None
    bounds: Tensor | None = None


def lengths_in_flight() -> list[int] | None:
    """Return how long the examples of the row in flight are, if there is one."""
    return _Current.lengths


@contextmanager
def in_flight(row: Row) -> Iterator[None]:
    """Tell attention where the examples of a row begin; around forward and backward alike.

    With checkpointing, backward computes attention once more.
    """
    _Current.lengths = row.lengths
    if row.token_ids_T.is_cuda:
        edges = torch.tensor([0, *row.lengths]).cumsum(0)
        _Current.bounds = edges.to(torch.int32).to(row.token_ids_T.device)
    try:
        yield
    finally:
        _Current.lengths = _Current.bounds = None


def packed_attention(
    _module: torch.nn.Module,
    q_1HTD: Tensor,
    k_1KTD: Tensor,
    v_1KTD: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend causally within each example of the row in flight: softmax(q kᵀ scaling) v.

    Args:
        q_1HTD: Queries, after their rotation.
        k_1KTD: Keys; each serves H / K heads (grouped-query attention, arXiv:2305.13245).
        v_1KTD: Values.
        attention_mask: None; which tokens see each other follows from the row.
        scaling: Of the scores; None is D ** -0.5.
        dropout: Share of the weights that are dropped.
        sliding_window: How many tokens each sees, itself included; None is all before it.
        softcap: Squeezes scores into (-softcap, softcap) (Gemma 2, arXiv:2408.00118, section 2).

    Returns:
        The result (1, T, H, D), as transformers wants it, and no weights.

    Raises:
        RuntimeError: no row is in flight.

    Source: Attention Is All You Need, arXiv:1706.03762, equation 1.
    """
    lengths = _Current.lengths
    if lengths is None or sum(lengths) != q_1HTD.shape[2] or attention_mask is not None:
        raise RuntimeError("packed attention was called without a packed row")
    window = sliding_window if sliding_window and sliding_window < max(lengths) else None
    is_plain = softcap is None and window is None
    qkv = q_1HTD, k_1KTD, v_1KTD
    if is_plain and q_1HTD.is_cuda and len(set(lengths)) == 1:
        y_1THD = _of_one_length(*qkv, lengths, scaling, dropout)
    elif is_plain and _can_use_varlen(q_1HTD, scaling):
        y_1THD = _varlen(*qkv, max(lengths))
    elif is_plain and not dropout and not q_1HTD.is_cuda and _is_even(lengths):
        scale = scaling or q_1HTD.shape[3] ** -0.5
        y_1HTD = PaddedAttention.apply(*qkv, lengths, scale)  # type: ignore[no-untyped-call]
        y_1THD = y_1HTD.transpose(1, 2)
    else:
        y_1THD = _example_by_example(*qkv, lengths, scaling, dropout, window, softcap)
    return y_1THD, None


def _example_by_example(
    q_1HTD: Tensor,
    k_1KTD: Tensor,
    v_1KTD: Tensor,
    lengths: list[int],
    scaling: float | None,
    dropout: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """Waste no work on tokens that may not see each other; any window and cap will do."""
    pieces = []
    for q, k, v in zip(*(x.split(lengths, dim=2) for x in (q_1HTD, k_1KTD, v_1KTD)), strict=True):
        if softcap is not None:
            pieces.append(_capped(q, k, v, scaling, window, softcap))
            continue
        pieces.append(
            functional.scaled_dot_product_attention(
                q,
                k,
                v,
                attn_mask=None if window is None else _band(q.shape[2], window, q.device),
                dropout_p=dropout,
                is_causal=window is None,
                scale=scaling,
                enable_gqa=q.shape[1] != k.shape[1],
            )
        )
    return torch.cat(pieces, dim=2).transpose(1, 2)


def _of_one_length(
    q_1HTD: Tensor,
    k_1KTD: Tensor,
    v_1KTD: Tensor,
    lengths: list[int],
    scaling: float | None,
    dropout: float,
) -> Tensor:
    """Attend within examples of one length, or within one alone: a batch, without bounds.

    The kernels for it come first that are the fastest where they exist: cuDNN's from Hopper on.
    """
    q, k, v = (
        x.squeeze(0).unflatten(1, (len(lengths), lengths[0])).transpose(0, 1)
        for x in (q_1HTD, k_1KTD, v_1KTD)
    )
    with sdpa_kernel(_backends(q_1HTD.device), set_priority=True):
        y: Tensor = functional.scaled_dot_product_attention(
            q,
            k,
            v,
            dropout_p=dropout,
            is_causal=True,
            scale=scaling,
            enable_gqa=q.shape[1] != k.shape[1],
        )
    return y.transpose(1, 2).flatten(0, 1)[None]


@cache
def _backends(device: torch.device) -> list[SDPBackend]:
    usual = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    has_hopper = torch.cuda.get_device_capability(device) >= (9, 0)
    return [SDPBackend.CUDNN_ATTENTION, *usual] if has_hopper else usual


def _is_even(lengths: list[int]) -> bool:
    """Tell whether examples are short and so much alike that padding costs little."""
    longest = max(lengths)
    useful = sum(length * length for length in lengths)
    return longest <= _SCORES_UP_TO and len(lengths) * longest * longest <= 4 * useful


def _capped(
    q_1HLD: Tensor,
    k_1KLD: Tensor,
    v_1KLD: Tensor,
    scaling: float | None,
    window: int | None,
    cap: float,
) -> Tensor:
    """Attend within one example with scores squeezed into (-cap, cap); no fused kernel does that.

    Some hundred queries at a time, whose scores are computed twice: memory grows with the
    length of an example and not with its square.
    """
    groups, length = q_1HLD.shape[1] // k_1KLD.shape[1], q_1HLD.shape[2]
    k, v = (x.repeat_interleave(groups, dim=1) for x in (k_1KLD, v_1KLD))
    scale = scaling or q_1HLD.shape[3] ** -0.5

    def attend(begin: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        end = begin + q.shape[2]
        distance = torch.arange(begin, end)[:, None] - torch.arange(end)[None, :]
        hidden = (distance < 0) | (distance >= (window or length))
        scores = cap * torch.tanh((q @ k.transpose(2, 3)).float() * (scale / cap))
        scores = scores.masked_fill(hidden.to(q.device), -torch.inf)
        return scores.softmax(-1).to(v.dtype) @ v

    results = []
    for begin in range(0, length, _SCORES_UP_TO):
        end = min(begin + _SCORES_UP_TO, length)
        part = (begin, q_1HLD[:, :, begin:end], k[:, :, :end], v[:, :, :end])
        if length <= _SCORES_UP_TO:
            results.append(attend(*part))
        else:
            results.append(checkpoint(attend, *part, use_reentrant=False))
    return torch.cat(results, dim=2)


def _band(length: int, window: int, device: torch.device) -> Tensor:
    """Return which tokens see which others (L, L, bool) of the last `window` ones."""
    position = torch.arange(length, device=device)
    distance = position[:, None] - position[None, :]
    return (distance >= 0) & (distance < window)


def _can_use_varlen(q: Tensor, scaling: float | None) -> bool:
    usual = scaling is None or abs(scaling - q.shape[-1] ** -0.5) < 1e-9
    half = q.dtype in (torch.bfloat16, torch.float16)
    return varlen_attn is not None and q.is_cuda and usual and half


def _varlen(q_1HTD: Tensor, k_1KTD: Tensor, v_1KTD: Tensor, longest: int) -> Tensor:
    """Attend with FlashAttention's kernel for examples of different lengths (arXiv:2307.08691)."""
    assert varlen_attn is not None
    heads = q_1HTD.shape[1]
    # squeeze(0) and not [0], whose backward fills a tensor with zeros and copies into it.
    q, k, v = (x.squeeze(0).transpose(0, 1) for x in (q_1HTD, k_1KTD, v_1KTD))
    options = dict(_varlen_options())
    if k.shape[1] == heads:
        options.pop("enable_gqa", None)
    bounds = _Current.bounds
    y: Tensor = varlen_attn(q, k, v, bounds, bounds, longest, longest, **options)
    return y[None]


@cache
def _varlen_options() -> dict[str, Any]:
    """Return how this torch is told that tokens see none behind them, and heads share keys.

    Before it asked for the latter (2.11), it took fewer key/value heads as they came.
    """
    assert varlen_attn is not None
    known = inspect.signature(varlen_attn).parameters
    options: dict[str, Any] = {"is_causal": True} if "is_causal" in known else {}
    if "window_size" in known:
        options = {"window_size": (-1, 0)}
    if "enable_gqa" in known:
        options["enable_gqa"] = True
    return options


AttentionInterface.register(ATTENTION, packed_attention)
