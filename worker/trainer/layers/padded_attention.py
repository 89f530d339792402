"""Attention of short examples on a CPU, in plain matrix products.

Dimensions: T tokens of the row, H heads, K key/value heads, D head width; B examples, L longest of
them, G query heads of a key/value head, N = B K.
"""

from typing import Any

import torch
from torch import Tensor


class PaddedAttention(torch.autograd.Function):
    """Attend causally within each example, padded to the longest for this operation alone.

    softmax(q kᵀ scale) v. The CPU's fused kernel takes five times as long backwards on examples as
    short as these. Of what lies between, the weights alone are kept, in the type that is computed
    with.

    Source: Attention Is All You Need, arXiv:1706.03762, equation 1.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q_1HTD: Tensor,
        k_1KTD: Tensor,
        v_1KTD: Tensor,
        lengths: list[int],
        scale: float,
    ) -> Tensor:
        """Return the result (1, H, T, D)."""
        padding = _Padding(lengths, k_1KTD.shape[1])
        q_NGLD, k_NLD, v_NLD = map(padding.put, (q_1HTD, k_1KTD, v_1KTD))
        longest = k_NLD.shape[1]
        # Causal alone is enough: an example's padding comes after it. Mask and scale within the
        # product save passes over the scores.
        later_LL = q_NGLD.new_full((longest, longest), -torch.inf).triu(1)
        mask = later_LL.repeat(q_NGLD.shape[1] // longest, 1)
        scores = torch.baddbmm(mask, q_NGLD, k_NLD.transpose(1, 2), alpha=scale)
        # Summed up in float32, whatever the scores' type.
        weights = scores.softmax(-1)
        ctx.save_for_backward(q_1HTD, k_1KTD, v_1KTD, weights)
        ctx.padding, ctx.scale = padding, scale
        return padding.take(weights @ v_NLD)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q_1HTD, k_1KTD, v_1KTD, weights = ctx.saved_tensors
        padding = ctx.padding
        q_NGLD, k_NLD, v_NLD = map(padding.put, (q_1HTD, k_1KTD, v_1KTD))
        # What padding attends to counts nothing.
        grad_NGLD = padding.put(grads[0], fill=True)
        grad_v = weights.transpose(1, 2) @ grad_NGLD
        grad_scores = torch._softmax_backward_data(  # what softmax itself calls
            grad_NGLD @ v_NLD.transpose(1, 2), weights, -1, weights.dtype
        )
        grad_q = (grad_scores @ k_NLD).mul_(ctx.scale)
        grad_k = (grad_scores.transpose(1, 2) @ q_NGLD).mul_(ctx.scale)
        return *(padding.take(grad) for grad in (grad_q, grad_k, grad_v)), None, None


class _Padding:
    """Brings a row's tokens to examples of equal length, and back."""

    def __init__(self, lengths: list[int], num_kv: int) -> None:
        self.num_examples, self.longest, self.num_kv = len(lengths), max(lengths), num_kv
        inside_BL = torch.arange(self.longest)[None, :] < torch.tensor(lengths)[:, None]
        self.inside = inside_BL.flatten()
        # Padding repeats a neighbour.
        self.source = (self.inside.cumsum(0) - 1).clamp(min=0)
        self.positions = self.inside.nonzero().squeeze(1)

    def put(self, x_1HTD: Tensor, fill: bool = False) -> Tensor:
        """Return (N, G L, D); the query heads of a key/value head one after another.

        Args:
            x_1HTD: Queries, keys or values of a row.
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
        return rows.index_select(0, self.positions).transpose(0, 1)[None]
