"""What slots have read, as keys and values, and attention over it: a function for transformers.

A row holds the tokens of all chunks behind each other, without padding; transformers' models run
on it as on one text with positions given, and only attention knows whose token is whose. It writes
the new keys into their slots and looks at them there, so the memory is taken once, nothing is
copied from step to step, and a slot is cut back by reading from an earlier position.

transformers' own caches do not do that: DynamicCache copies all keys at each token and keeps rows
of one length only, StaticCache keeps one length for all rows and cannot be cut back, and both throw
away what a sliding window has passed. Its continuous batching has paged keys, but is a generation
loop of its own, which neither takes our chunks nor knows adapters by row.

Dimensions: T tokens of the row, B chunks of one length, N tokens of each, L keys that are looked
at, S slots, C tokens of a slot, H heads, K key/value heads, D head width.
"""

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface

from worker.inference.slots import held_tokens

ATTENTION = "etude_slots"

varlen_attn: Callable[..., Any] | None
try:  # as in worker/trainer/layers/attention.py; takes pages from torch 2.12 on
    varlen_attn = importlib.import_module("torch.nn.attention.varlen").varlen_attn
except (ImportError, AttributeError):
    varlen_attn = None


class SlotCache:
    """Keys and values of each layer (S, C, K, D), and how attention looks at them.

    Args:
        shape: Layers, key/value heads and head width.
        num_slots: How many there are.
        context_tokens: What one holds; the room for it is a little more.
        dtype: What is computed with.
        device: Where they lie.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        num_slots: int,
        context_tokens: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        layers, heads, width = shape
        self.num_slots, self.held_tokens = num_slots, held_tokens(context_tokens)
        size = (num_slots, self.held_tokens, heads, width)
        self.keys = [_zeros(size, dtype, device) for _ in range(layers)]
        self.values = [_zeros(size, dtype, device) for _ in range(layers)]
        self.uses_flash = device.type == "cuda" and _flash_works(width, heads, dtype, device)

    @property
    def num_bytes(self) -> int:
        return sum(x.numel() * x.element_size() for x in (*self.keys, *self.values))


@dataclass(frozen=True)
class Group:
    """Chunks of one length, whose tokens lie behind each other in the row."""

    begin: int  # of their tokens in the row
    length: int  # of each
    slots_B: Tensor  # int64
    first_B: Tensor  # position of each chunk's first token, int64
    block: slice | None  # of the slots where they follow each other: they are not copied then
    earliest: int  # no chunk begins before
    end: int  # no chunk reaches further

    @property
    def num_tokens(self) -> int:
        return self.slots_B.shape[0] * self.length


@dataclass
class Reading:
    """Which slots the row in flight is read into, and where."""

    cache: SlotCache
    groups: list[Group]
    slots_T: Tensor  # int64
    positions_T: Tensor  # int64
    masks: dict[tuple[int, int, int | None], Tensor | None] = field(default_factory=dict)
    pages: dict[int, "_Pages"] = field(default_factory=dict)

    def attend(
        self,
        layer: int,
        q_HTD: Tensor,
        scaling: float | None,
        window: int | None,
        softcap: float | None,
    ) -> Tensor:
        """Return what each token sees (T, H, D) of its slot, itself included."""
        results = []
        for group in self.groups:
            q_HBND = q_HTD[:, group.begin : group.begin + group.num_tokens].unflatten(
                1, (group.slots_B.shape[0], group.length)
            )
            if self.cache.uses_flash and softcap is None:
                results.append(self._flash(layer, group, q_HBND, scaling, window))
                continue
            low = max(0, group.earliest - window + 1) if window else 0
            k_BLKD, v_BLKD = (
                x[layer][group.block or group.slots_B, low : group.end]
                for x in (self.cache.keys, self.cache.values)
            )
            mask = self._mask(group, low, window)
            y_BHND = _grouped(q_HBND.transpose(0, 1), k_BLKD, v_BLKD, mask, scaling, softcap)
            results.append(y_BHND.transpose(1, 2).flatten(0, 1))
        return results[0] if len(results) == 1 else torch.cat(results)

    def _mask(self, group: Group, low: int, window: int | None) -> Tensor | None:
        """Return which keys from `low` on each token sees (B, 1, N, L); None is all of them."""
        key = (group.begin, low, window)
        if key not in self.masks:
            self.masks[key] = None
            if group.num_tokens > 1 or group.end - group.earliest > 1:
                steps_N = torch.arange(group.length, device=group.first_B.device)
                own_BN = group.first_B[:, None] + steps_N
                distance = own_BN[..., None] - torch.arange(low, group.end, device=steps_N.device)
                seen_BNL = distance >= 0
                if window:
                    seen_BNL &= distance < window
                self.masks[key] = seen_BNL[:, None]
        return self.masks[key]

    def _flash(
        self, layer: int, group: Group, q_HBND: Tensor, scaling: float | None, window: int | None
    ) -> Tensor:
        """Attend with FlashAttention's kernel, to which a slot is a page (arXiv:2307.08691)."""
        keys, values = self.cache.keys[layer], self.cache.values[layer]
        if group.begin not in self.pages:
            self.pages[group.begin] = _Pages.of(group, keys.shape[1])
        q_THD = q_HBND.flatten(1, 2).transpose(0, 1)
        return self.pages[group.begin].attend(q_THD, keys, values, scaling, window)


class _InFlight:
    """Not passed through the model: an architecture that drops unknown arguments would let texts
    see each other without a word.
    """

    reading: Reading | None = None


@contextmanager
def in_flight(reading: Reading) -> Iterator[None]:
    """Tell attention where the tokens of a row belong."""
    _InFlight.reading = reading
    try:
        yield
    finally:
        _InFlight.reading = None


def slot_attention(
    module: Any,
    q_1HTD: Tensor,
    k_1KTD: Tensor,
    v_1KTD: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Keep new keys and values in their slots and attend there: softmax(q kᵀ scaling) v.

    Args:
        module: Knows its layer.
        q_1HTD: Queries, after their rotation.
        k_1KTD: Keys; each serves H / K heads (grouped-query attention, arXiv:2305.13245).
        v_1KTD: Values.
        attention_mask: None; which tokens see each other follows from the slots.
        scaling: Of the scores; None is D ** -0.5.
        sliding_window: How many tokens each sees, itself included; None is all before it.
        softcap: Squeezes scores into (-softcap, softcap) (Gemma 2, arXiv:2408.00118, section 2).

    Returns:
        The result (1, T, H, D), as transformers wants it, and no weights.

    Raises:
        RuntimeError: no row is in flight.

    Source: Attention Is All You Need, arXiv:1706.03762, equation 1.
    """
    reading = _InFlight.reading
    if reading is None or len(reading.slots_T) != q_1HTD.shape[2] or attention_mask is not None:
        raise RuntimeError("attention over slots was called without a row")
    layer, where = module.layer_idx, (reading.slots_T, reading.positions_T)
    reading.cache.keys[layer][where] = k_1KTD[0].transpose(0, 1)
    reading.cache.values[layer][where] = v_1KTD[0].transpose(0, 1)
    return reading.attend(layer, q_1HTD[0], scaling, sliding_window, softcap)[None], None


def make_groups(
    slots: Sequence[int], firsts: Sequence[int], lengths: Sequence[int], device: torch.device
) -> list[Group]:
    """Sort chunks into groups; they come by length, and those of one length by slot."""
    groups, begin, at = [], 0, 0
    while at < len(slots):
        length = lengths[at]
        num = sum(other == length for other in lengths[at:])
        own = list(slots[at : at + num])
        follows = own == list(range(own[0], own[0] + num))
        groups.append(
            Group(
                begin,
                length,
                torch.tensor(own, device=device),
                torch.tensor(firsts[at : at + num], device=device),
                slice(own[0], own[0] + num) if follows else None,
                min(firsts[at : at + num]),
                max(firsts[at : at + num]) + length,
            )
        )
        begin, at = begin + num * length, at + num
    return groups


def _grouped(
    q_BHND: Tensor,
    k_BLKD: Tensor,
    v_BLKD: Tensor,
    mask_B1NL: Tensor | None,
    scaling: float | None,
    softcap: float | None,
) -> Tensor:
    """Attend (B, H, N, D); heads that share a key are read as more tokens, so no key is copied."""
    heads, groups = k_BLKD.shape[2], q_BHND.shape[1] // k_BLKD.shape[2]
    length = q_BHND.shape[2]
    q = q_BHND.unflatten(1, (heads, groups)).flatten(2, 3)
    k, v = k_BLKD.transpose(1, 2), v_BLKD.transpose(1, 2)
    mask = None if mask_B1NL is None else mask_B1NL.repeat(1, 1, groups, 1)
    if softcap is None:
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scaling)
    else:
        # No fused kernel caps scores.
        scale = scaling or q.shape[-1] ** -0.5
        scores = softcap * torch.tanh((q @ k.transpose(2, 3)).float() * (scale / softcap))
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        y = scores.softmax(-1).to(v.dtype) @ v
    y_BHND: Tensor = y.unflatten(2, (groups, length)).flatten(1, 2)
    return y_BHND


class _Pages(NamedTuple):
    """What FlashAttention's kernel wants to know of a group; all int32."""

    q_edges: Tensor
    k_edges: Tensor
    ends_B: Tensor
    table_B1: Tensor
    longest: int
    held: int

    @classmethod
    def of(cls, group: Group, held: int) -> "_Pages":
        num = group.slots_B.shape[0]
        edges = torch.arange(num + 1, device=group.slots_B.device, dtype=torch.int32)
        ends_B = (group.first_B + group.length).to(torch.int32)
        table_B1 = group.slots_B.to(torch.int32)[:, None]
        return cls(edges * group.length, edges * held, ends_B, table_B1, group.length, held)

    def attend(
        self,
        q_THD: Tensor,
        keys: Tensor,
        values: Tensor,
        scaling: float | None,
        window: int | None,
    ) -> Tensor:
        """Attend (T, H, D) in the slots' keys and values (S, C, K, D)."""
        assert varlen_attn is not None
        y: Tensor = varlen_attn(
            q_THD,
            keys,
            values,
            self.q_edges,
            self.k_edges,
            self.longest,
            self.held,
            scale=scaling,
            window_size=(window - 1 if window else -1, 0),
            enable_gqa=q_THD.shape[1] != keys.shape[2],
            seqused_k=self.ends_B,
            block_table=self.table_B1,
        )
        return y


def _flash_works(width: int, heads: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Try the kernel on random numbers: which torch brings it with pages, and for which GPU, its
    documentation does not say.
    """
    if varlen_attn is None or dtype == torch.float32:
        return False
    generator = torch.Generator(device).manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device).to(dtype)

    keys, values = draw(3, 256, heads, width), draw(3, 256, heads, width)
    try:
        for length, window in ((1, None), (64, None), (64, 16)):
            group = make_groups([0, 2], [70, 9], [length] * 2, device)[0]
            q_HBND = draw(2 * heads, 2, length, width)
            q_THD = q_HBND.flatten(1, 2).transpose(0, 1)
            found = _Pages.of(group, 256).attend(q_THD, keys, values, None, window)
            nothing: Any = None
            mask = Reading(nothing, [], nothing, nothing)._mask(group, 0, window)
            k, v = (x[group.slots_B, : group.end].float() for x in (keys, values))
            wanted = _grouped(q_HBND.transpose(0, 1).float(), k, v, mask, None, None)
            torch.testing.assert_close(
                found.float(), wanted.transpose(1, 2).flatten(0, 1), rtol=2e-2, atol=2e-2
            )
    except Exception as error:  # another torch's arguments, a GPU that it does not know
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        print(f"FlashAttention is not used here, so answers take longer: {reason}", file=sys.stderr)
        return False
    return True


def _zeros(size: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Make room whose numbers are finite: what no token sees is multiplied with 0."""
    if device.type == "cpu" and dtype == torch.float32:
        # NumPy's are the system's empty pages, which take memory when they are written to.
        return torch.from_numpy(np.zeros(size, np.float32))
    return torch.zeros(size, dtype=dtype, device=device)


AttentionInterface.register(ATTENTION, slot_attention)
