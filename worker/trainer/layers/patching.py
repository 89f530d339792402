"""Puts shorter forwards in place of a loaded model's own.

What transformers' own layers keep for backward is most of what a step takes. A layer gets a shorter
forward where both give the same numbers, bit for bit, when they are tried; a kind that is not known
keeps its own.
"""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from worker.trainer.layers import kernels, lora, rotation
from worker.trainer.layers.activations import ACTIVATIONS
from worker.trainer.layers.feed_forward import FeedForward
from worker.trainer.layers.norms import Norm

_Candidate = Callable[[Any], Norm | FeedForward]


def shorten(model: nn.Module, dtype: torch.dtype) -> None:
    """Put shorter forwards in place of norms, feed-forwards and rotations.

    Args:
        model: With its adapters, after lora.fuse.
        dtype: What is computed with.
    """
    chosen: dict[type, _Candidate | None] = {}
    for module in model.modules():
        if hasattr(module, "q_proj") or hasattr(module, "qkv_proj"):
            rotation.fuse(sys.modules[type(module).__module__])
        candidates = _candidates(module)
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


def _candidates(module: Any) -> list[_Candidate]:
    """Return what a module's own forward may be the same as."""
    if type(module).__name__.endswith("RMSNorm") and hasattr(module, "weight"):
        return [partial(Norm, offset=offset) for offset in (0.0, 1.0)]
    parts = dict(module.named_children())
    if {"gate_proj", "up_proj", "down_proj", "act_fn"} <= parts.keys():
        down = parts["down_proj"].__dict__.get("forward")
        if isinstance(down, lora.Forward):
            return [partial(FeedForward, activation=activation) for activation in ACTIVATIONS]
    return []


@torch.no_grad()
def _is_same(module: Any, candidate: Norm | FeedForward, dtype: torch.dtype) -> bool:
    """Try both on numbers so small that what a norm adds to their square counts, too."""
    device = next(module.parameters()).device
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(1, 3, candidate.width, generator=generator) * 1e-3).to(device, dtype)
    with kernels.switched_off():  # they round elsewhere, and are judged by their own tests
        return torch.equal(type(module).forward(module, x), candidate(x))
