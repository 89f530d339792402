"""Rotary position embeddings by a fused kernel, where transformers has a function of its own.

Dimensions: B rows, H heads, T tokens, D head width.
Source: RoFormer, arXiv:2104.09864, equation 34, halves apart as in transformers' Llama.
"""

from typing import Any

import torch
from torch import Tensor

from worker.trainer.layers import kernels


def fuse(module: Any) -> bool:
    """Put a fused rotation in place of a modelling module's `apply_rotary_pos_emb`.

    Args:
        module: A Python module of transformers, whose attention calls the function by that name.

    Returns:
        Whether it is there: only where the own one does just that to random numbers.
    """
    if not kernels.HAS_TRITON:
        return False
    own = getattr(module, "apply_rotary_pos_emb", None)
    if own is None or isinstance(own, _Rotation):
        return own is not None
    rotation = _Rotation(own)
    if rotation.is_what_it_does():
        module.apply_rotary_pos_emb = rotation
        return True
    return False


class _Rotation:
    """Stands in for transformers' apply_rotary_pos_emb."""

    def __init__(self, own: Any) -> None:
        self.own = own

    def __call__(
        self, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *more: Any, **named: Any
    ) -> tuple[Tensor, Tensor]:
        """Return q and k (B, H, T, D), rotated by cos and sin (B or 1, T, D)."""
        fits = q.dim() == 4 and cos.dim() == 3 and cos.shape[-1] == q.shape[-1]
        rotated: tuple[Tensor, Tensor]
        if more or named or not fits or not kernels.usable(q):
            rotated = self.own(q, k, cos, sin, *more, **named)
        else:
            rotated = (
                _Rotate.apply(q, cos, sin),  # type: ignore[no-untyped-call]
                _Rotate.apply(k, cos, sin),  # type: ignore[no-untyped-call]
            )
        return rotated

    @torch.no_grad()
    def is_what_it_does(self) -> bool:
        """Try the own function on random numbers."""
        generator = torch.Generator().manual_seed(0)
        q, k = (torch.randn(1, h, 3, 8, generator=generator) for h in (4, 2))
        cos, sin = (torch.randn(1, 3, 8, generator=generator) for _ in range(2))
        expected = []
        for x in (q, k):
            first, second = x.chunk(2, dim=-1)
            expected.append(x * cos[:, None] + torch.cat((-second, first), -1) * sin[:, None])
        try:
            rotated = self.own(q, k, cos, sin)
        except Exception:  # another one's arguments
            return False
        pairs = zip(rotated, expected, strict=True)
        return all(torch.allclose(one, other, rtol=1e-5, atol=1e-6) for one, other in pairs)


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BHTD: Tensor, cos_BTD: Tensor, sin_BTD: Tensor) -> Tensor:
        ctx.save_for_backward(cos_BTD, sin_BTD)
        return kernels.rotate(x_BHTD, cos_BTD, sin_BTD)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        cos_BTD, sin_BTD = ctx.saved_tensors
        return kernels.rotate(grads[0], cos_BTD, sin_BTD, back=True), None, None
