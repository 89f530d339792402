"""Puts shorter forwards in place of a loaded model's own.

What transformers' own layers keep for backward is most of what a step takes. A layer gets a shorter
forward where both give the same numbers, bit for bit, when they are tried; a kind that is not known
keeps its own.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from worker.trainer.layers import kernels, rotation
from worker.trainer.layers.norms import Norm


class Shorter(Protocol):
    """Stands in for the forward of a module that takes numbers of some width (..., D)."""

    @property
    def width(self) -> int: ...

    def __call__(self, x: Tensor) -> Tensor: ...


# Of a module, what its own forward may be the same as.
Candidates = Callable[[Any], Sequence[Callable[[Any], Shorter]]]


def shorten(model: nn.Module, dtype: torch.dtype, feed_forwards: Candidates) -> None:
    """Put shorter forwards in place of norms, feed-forwards and rotations.

    Args:
        model: With its adapters.
        dtype: What is computed with.
        feed_forwards: Those of feed-forwards; they depend on what its linear layers are.
    """
    chosen: dict[type, Callable[[Any], Shorter] | None] = {}
    for module in model.modules():
        if hasattr(module, "q_proj") or hasattr(module, "qkv_proj"):
            rotation.fuse(sys.modules[type(module).__module__])
        candidates = _norms(module) or feed_forwards(module)
        if not candidates:
            continue
        # Layers of one class differ in their weights alone.
        kind = type(module)
        if kind not in chosen:
            same = (make for make in candidates if _is_same(module, make(module), dtype))
            chosen[kind] = next(same, None)
        make = chosen[kind]
        if make is not None:
            # An attribute of the instance wins over the method.
            setattr(module, "forward", make(module))  # noqa: B010


def _norms(module: Any) -> list[Callable[[Any], Shorter]]:
    if type(module).__name__.endswith("RMSNorm") and hasattr(module, "weight"):
        return [partial(Norm, offset=offset) for offset in (0.0, 1.0)]
    return []


@torch.no_grad()
def _is_same(module: Any, candidate: Shorter, dtype: torch.dtype) -> bool:
    """Try both on numbers so small that what a norm adds to their square counts, too."""
    device = next(module.parameters()).device
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(1, 3, candidate.width, generator=generator) * 1e-3).to(device, dtype)
    with kernels.switched_off():  # they round elsewhere, and are judged by their own tests
        return torch.equal(type(module).forward(module, x), candidate(x))
