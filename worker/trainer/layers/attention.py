"""Attention within each example of a packed row.

Dimensions: T tokens of the row, H heads, K key/value heads, D head width; B examples, L longest of
them, G query heads of a key/value head, N = B K.
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
    """Tell attention where the examples of a row begin; around forward and backward alike."""
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
    query_1HTD: Tensor,
    key_1KTD: Tensor,
    value_1KTD: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend causally within each example of the row in flight.

    Returns:
        The result with dimensions 1, T, H, D, as transformers wants it, and no weights.

    Raises:
        RuntimeError: no row is in flight.
    """
    lengths = _Current.lengths
    if lengths is None or sum(lengths) != query_1HTD.shape[2] or attention_mask is not None:
        raise RuntimeError("packed attention was called without a packed row")
    window = sliding_window if sliding_window and sliding_window < max(lengths) else None
    if softcap is None and window is None and query_1HTD.is_cuda and len(set(lengths)) == 1:
        parts = (query_1HTD, key_1KTD, value_1KTD)
        return _of_one_length(*parts, lengths, scaling, dropout), None
    if softcap is None and _can_use_varlen(query_1HTD, scaling, window):
        return _varlen(query_1HTD, key_1KTD, value_1KTD, max(lengths)), None
    plain = softcap is None and window is None and not dropout
    if plain and _is_even(lengths) and not query_1HTD.is_cuda:
        scale = scaling or query_1HTD.shape[3] ** -0.5
        found: Tensor = _Padded.apply(  # type: ignore[no-untyped-call]
            query_1HTD, key_1KTD, value_1KTD, lengths, scale
        )
        return found.transpose(1, 2), None
    groups = query_1HTD.shape[1] // key_1KTD.shape[1]
    pieces = []
    # A loop over examples wastes no work on pairs that may not see each other.
    for query, key, value in zip(
        query_1HTD.split(lengths, dim=2),
        key_1KTD.split(lengths, dim=2),
        value_1KTD.split(lengths, dim=2),
        strict=True,
    ):
        if softcap is not None:
            pieces.append(_capped(query, key, value, scaling, window, softcap))
            continue
        pieces.append(
            functional.scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask=None if window is None else _band(query.shape[2], window, query.device),
                dropout_p=dropout,
                is_causal=window is None,
                scale=scaling,
                enable_gqa=groups > 1,
            )
        )
    return torch.cat(pieces, dim=2).transpose(1, 2), None


def _of_one_length(
    query_1HTD: Tensor,
    key_1KTD: Tensor,
    value_1KTD: Tensor,
    lengths: list[int],
    scaling: float | None,
    dropout: float,
) -> Tensor:
    """Attend within examples of one length, or within one alone: a batch, without bounds.

    The kernels for it come first that are the fastest where they exist: cuDNN's from Hopper on.
    """
    query, key, value = (
        x.squeeze(0).unflatten(1, (len(lengths), lengths[0])).transpose(0, 1)
        for x in (query_1HTD, key_1KTD, value_1KTD)
    )
    with sdpa_kernel(_backends(query_1HTD.device), set_priority=True):
        found: Tensor = functional.scaled_dot_product_attention(
            query,
            key,
            value,
            dropout_p=dropout,
            is_causal=True,
            scale=scaling,
            enable_gqa=query_1HTD.shape[1] != key_1KTD.shape[1],
        )
    return found.transpose(1, 2).flatten(0, 1)[None]


@cache
def _backends(device: torch.device) -> list[SDPBackend]:
    found = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    has_hopper = torch.cuda.get_device_capability(device) >= (9, 0)
    return [SDPBackend.CUDNN_ATTENTION, *found] if has_hopper else found


def _is_even(lengths: list[int]) -> bool:
    longest = max(lengths)
    useful = sum(length * length for length in lengths)
    return longest <= _SCORES_UP_TO and len(lengths) * longest * longest <= 4 * useful


class _Padded(torch.autograd.Function):
    """Attend in plain matrix products, short examples of like length padded for this step alone.

    The CPU's fused kernel takes five times as long backwards on examples as short as these. Of what
    lies between, the weights alone are kept, in the type that is computed with.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query_1HTD: Tensor,
        key_1KTD: Tensor,
        value_1KTD: Tensor,
        lengths: list[int],
        scale: float,
    ) -> Tensor:
        padding = _Padding(lengths, key_1KTD.shape[1])
        query_NGLD, key_NLD, value_NLD = map(padding.put, (query_1HTD, key_1KTD, value_1KTD))
        longest = key_NLD.shape[1]
        # Causal alone is enough: an example's padding comes after it. Mask and scale within the
        # product save passes over the scores.
        later_LL = query_NGLD.new_full((longest, longest), -torch.inf).triu(1)
        mask = later_LL.repeat(query_NGLD.shape[1] // longest, 1)
        scores = torch.baddbmm(mask, query_NGLD, key_NLD.transpose(1, 2), alpha=scale)
        # Summed up in float32, whatever the scores' type.
        weights = scores.softmax(-1)
        ctx.save_for_backward(query_1HTD, key_1KTD, value_1KTD, weights)
        ctx.padding, ctx.scale = padding, scale
        return padding.take(weights @ value_NLD)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        query_1HTD, key_1KTD, value_1KTD, weights = ctx.saved_tensors
        padding = ctx.padding
        query_NGLD, key_NLD, value_NLD = map(padding.put, (query_1HTD, key_1KTD, value_1KTD))
        # What padding asks counts nothing.
        slope_NGLD = padding.put(slopes[0], fill=True)
        slope_value = weights.transpose(1, 2) @ slope_NGLD
        slope_scores = torch._softmax_backward_data(  # what softmax itself calls
            slope_NGLD @ value_NLD.transpose(1, 2), weights, -1, weights.dtype
        )
        slope_query = (slope_scores @ key_NLD).mul_(ctx.scale)
        slope_key = (slope_scores.transpose(1, 2) @ query_NGLD).mul_(ctx.scale)
        found = (padding.take(x) for x in (slope_query, slope_key, slope_value))
        return *found, None, None


class _Padding:
    """The way of a row's tokens to examples of equal length and back."""

    def __init__(self, lengths: list[int], num_kv: int) -> None:
        self.num_examples, self.longest, self.num_kv = len(lengths), max(lengths), num_kv
        inside_BL = torch.arange(self.longest)[None, :] < torch.tensor(lengths)[:, None]
        self.inside = inside_BL.flatten()
        # Padding repeats a neighbour.
        self.source = (self.inside.cumsum(0) - 1).clamp(min=0)
        self.places = self.inside.nonzero().squeeze(1)

    def put(self, x_1HTD: Tensor, fill: bool = False) -> Tensor:
        """Return (N, G L, D); the query heads of a key/value head one after another.

        Args:
            fill: With zeros, instead of repeating.
        """
        rows = x_1HTD[0].transpose(0, 1).index_select(0, self.source)
        if fill:
            rows.mul_(self.inside[:, None, None])
        shape = (self.num_examples, self.longest, self.num_kv, -1, x_1HTD.shape[3])
        spread = rows.reshape(shape).permute(0, 2, 3, 1, 4)
        return spread.reshape(self.num_examples * self.num_kv, -1, x_1HTD.shape[3])

    def take(self, x_NGLD: Tensor) -> Tensor:
        """Return (1, H, T, D)."""
        width = x_NGLD.shape[2]
        shape = (self.num_examples, self.num_kv, -1, self.longest, width)
        spread = x_NGLD.view(shape).permute(0, 3, 1, 2, 4)
        rows = spread.reshape(self.num_examples * self.longest, -1, width)
        return rows.index_select(0, self.places).transpose(0, 1)[None]


def _capped(
    query_1HLD: Tensor,
    key_1KLD: Tensor,
    value_1KLD: Tensor,
    scaling: float | None,
    window: int | None,
    cap: float,
) -> Tensor:
    """Attend within one example with scores squeezed into (-cap, cap); no fused kernel does that.

    Some hundred questions at a time, whose scores are computed twice: memory grows with the
    length of an example and not with its square.
    """
    groups, length = query_1HLD.shape[1] // key_1KLD.shape[1], query_1HLD.shape[2]
    key, value = (x.repeat_interleave(groups, dim=1) for x in (key_1KLD, value_1KLD))
    scale = scaling or query_1HLD.shape[3] ** -0.5

    def attend(begin: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        end = begin + query.shape[2]
        distance = torch.arange(begin, end)[:, None] - torch.arange(end)[None, :]
        hidden = (distance < 0) | (distance >= (window or length))
        scores = cap * torch.tanh((query @ key.transpose(2, 3)).float() * (scale / cap))
        scores = scores.masked_fill(hidden.to(query.device), -torch.inf)
        return scores.softmax(-1).to(value.dtype) @ value

    results = []
    for begin in range(0, length, _SCORES_UP_TO):
        end = min(begin + _SCORES_UP_TO, length)
        part = (begin, query_1HLD[:, :, begin:end], key[:, :, :end], value[:, :, :end])
        if length <= _SCORES_UP_TO:
            results.append(attend(*part))
        else:
            results.append(checkpoint(attend, *part, use_reentrant=False))
    return torch.cat(results, dim=2)


def _band(length: int, window: int, device: torch.device) -> Tensor:
    position = torch.arange(length, device=device)
    distance = position[:, None] - position[None, :]
    return (distance >= 0) & (distance < window)


def _can_use_varlen(query: Tensor, scaling: float | None, window: int | None) -> bool:
    usual = scaling is None or abs(scaling - query.shape[-1] ** -0.5) < 1e-9
    half = query.dtype in (torch.bfloat16, torch.float16)
    return varlen_attn is not None and query.is_cuda and usual and half and window is None


def _varlen(query_1HTD: Tensor, key_1KTD: Tensor, value_1KTD: Tensor, longest: int) -> Tensor:
    assert varlen_attn is not None
    heads = query_1HTD.shape[1]
    # squeeze(0) and not [0], whose way back fills a tensor with zeros and copies into it.
    query, key, value = (x.squeeze(0).transpose(0, 1) for x in (query_1HTD, key_1KTD, value_1KTD))
    options = dict(_varlen_options())
    if key.shape[1] == heads:
        options.pop("enable_gqa", None)
    bounds = _Current.bounds
    result: Tensor = varlen_attn(query, key, value, bounds, bounds, longest, longest, **options)
    return result[None]


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
