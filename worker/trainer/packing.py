"""Examples side by side in one row without padding, none of which sees another.

Dimensions: T tokens of the row, H heads, K key/value heads, D head width.
"""

import importlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface

from app.chat import IGNORE_INDEX, Encoded

varlen_attn: Callable[..., Any] | None
try:  # CUDA only; arrived and moved between torch versions
    varlen_attn = importlib.import_module("torch.nn.attention.varlen").varlen_attn
except (ImportError, AttributeError):
    varlen_attn = None

ATTENTION = "etude_packed"

_SCORES_UP_TO = 512  # tokens; a longer example's scores are not kept all at once


@dataclass(frozen=True)
class Row:
    """One micro-batch: the tokens of some examples in a row."""

    token_ids_T: Tensor
    position_ids_T: Tensor  # begin at 0 with each example
    labels_T: Tensor  # IGNORE_INDEX where an example begins
    lengths: list[int]
    is_pairs: bool = False  # a better and a worse answer in turn, each an example here
    is_filler: bool = False  # weighs nothing

    @property
    def num_tokens(self) -> int:
        return self.token_ids_T.shape[0]

    def padded(self) -> Tensor:
        """Return the token ids with dimensions B, L: an example a row, filled up on the right."""
        return pad_sequence(list(self.token_ids_T.split(self.lengths)), batch_first=True)


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Sort examples into rows of at most `capacity` tokens, first fit, longest first.

    An example longer than the capacity gets a row of its own.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        length = lengths[index]
        place = next((r for r, free in enumerate(room) if free >= length), None)
        if place is None:
            rows.append([])
            room.append(capacity)
            place = len(rows) - 1
        rows[place].append(index)
        room[place] -= length
    return rows


def pack_padded(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Sort examples into batches of at most `capacity` tokens with their padding, longest first.

    An example longer than the capacity gets a batch of its own.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= capacity:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def make_row(examples: Sequence[Encoded], device: torch.device) -> Row:
    """Put examples behind each other."""
    token_ids: list[int] = []
    position_ids: list[int] = []
    labels: list[int] = []
    lengths: list[int] = []
    for example in examples:
        token_ids += example.token_ids
        lengths += example.lengths
        begin = 0
        for length in example.lengths:
            position_ids += range(length)
            # Nothing may predict the first token: before it stands another example.
            labels += [IGNORE_INDEX, *example.labels[begin + 1 : begin + length]]
            begin += length
    return Row(
        torch.tensor(token_ids, device=device),
        torch.tensor(position_ids, device=device),
        torch.tensor(labels, device=device),
        lengths,
        is_pairs=any(example.num_better_tokens for example in examples),
    )


def filler(device: torch.device, is_pairs: bool) -> Row:
    """Make a row from which nothing is learned; it passes through the model as others do."""
    empty = Encoded([0, 0], [IGNORE_INDEX] * 2, 0, num_better_tokens=int(is_pairs))
    return replace(make_row([empty], device), is_filler=True)


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
    if softcap is None and _can_use_varlen(query_1HTD, scaling, window):
        return _varlen(query_1HTD, key_1KTD, value_1KTD, max(lengths)), None
    plain = softcap is None and window is None and not dropout
    if plain and _is_even(lengths) and not query_1HTD.is_cuda:
        return _padded(query_1HTD, key_1KTD, value_1KTD, lengths, scaling), None
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


def _is_even(lengths: list[int]) -> bool:
    longest = max(lengths)
    useful = sum(length * length for length in lengths)
    return longest <= _SCORES_UP_TO and len(lengths) * longest * longest <= 4 * useful


def _padded(
    query_1HTD: Tensor,
    key_1KTD: Tensor,
    value_1KTD: Tensor,
    lengths: list[int],
    scaling: float | None,
) -> Tensor:
    """Attend in plain matrix products, short examples of like length padded for this step alone.

    The CPU's fused kernel takes five times as long backwards on examples as short as these.
    Dimensions: B examples, L longest of them, G query heads of a key/value head.
    """
    longest, num_kv = max(lengths), key_1KTD.shape[1]
    inside_BL = torch.arange(longest)[None, :] < torch.tensor(lengths)[:, None]
    place_BL = (inside_BL.flatten().cumsum(0) - 1).clamp(min=0)  # padding repeats a neighbour
    split = (len(lengths), longest, num_kv, -1, query_1HTD.shape[3])

    def pad(x_1HTD: Tensor) -> Tensor:
        rows = x_1HTD[0].transpose(0, 1).reshape(x_1HTD.shape[2], -1)
        spread: Tensor = rows.index_select(0, place_BL).view(split)
        return spread

    query = pad(query_1HTD).permute(0, 2, 3, 1, 4).reshape(len(lengths) * num_kv, -1, split[4])
    key, value = (
        pad(x).permute(0, 2, 3, 1, 4).reshape(len(lengths) * num_kv, longest, split[4])
        for x in (key_1KTD, value_1KTD)
    )
    # Causal alone is enough: an example's padding comes after it. Mask and scale within the product
    # save passes over the scores, here and backwards.
    later_LL = query.new_full((longest, longest), -torch.inf).triu(1)
    mask = later_LL.repeat(query.shape[1] // longest, 1)
    scores = torch.baddbmm(mask, query, key.transpose(1, 2), alpha=scaling or split[4] ** -0.5)
    weights = scores.softmax(-1, dtype=torch.float32).to(value.dtype)
    result = weights @ value
    result = result.view(len(lengths), num_kv, -1, longest, split[4]).permute(0, 3, 1, 2, 4)
    flat = result.reshape(len(lengths) * longest, -1, split[4])
    return flat.index_select(0, inside_BL.flatten().nonzero().squeeze(1))[None]


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
    query, key, value = (x[0].transpose(0, 1) for x in (query_1HTD, key_1KTD, value_1KTD))
    known = inspect.signature(varlen_attn).parameters
    options: dict[str, Any] = {"is_causal": True} if "is_causal" in known else {}
    if "window_size" in known:
        options = {"window_size": (-1, 0)}
    if key.shape[1] != heads:
        if "enable_gqa" in known:
            options["enable_gqa"] = True
        else:
            key, value = (x.repeat_interleave(heads // x.shape[1], dim=1) for x in (key, value))
    bounds = _Current.bounds
    result: Tensor = varlen_attn(query, key, value, bounds, bounds, longest, longest, **options)
    return result[None]


AttentionInterface.register(ATTENTION, packed_attention)
