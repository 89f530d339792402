"""The trainer's fused layers where a model only answers: on a GPU a few kernels for many.

They need nothing of a job's state. Left out are packed attention, which knows examples and no
slots, and the linear layers with one adapter, whose place mixed_lora has.

Dimensions: D numbers of a token.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from worker.trainer.layers import patching
from worker.trainer.layers.activations import ACTIVATIONS, Activation


def shorten(model: nn.Module, dtype: torch.dtype) -> None:
    """Put fused norms, rotations and feed-forwards in place of a model's own.

    Args:
        model: Before adapters come.
        dtype: What is computed with.
    """
    patching.shorten(model, dtype, _feed_forwards)


class _FeedForward:
    """Stands in for the forward of a gated feed-forward: down(activation(gate(x)) up(x))."""

    def __init__(self, module: Any, activation: Activation) -> None:
        self.module = module
        self.activation = activation

    @property
    def width(self) -> int:
        return int(self.module.up_proj.in_features)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the feed-forward's result, in the shape and type of x (..., D)."""
        module = self.module
        y: Tensor = module.down_proj(
            self.activation.product(module.gate_proj(x), module.up_proj(x))
        )
        return y


def _feed_forwards(module: Any) -> list[Callable[[Any], _FeedForward]]:
    parts = dict(module.named_children())
    if {"gate_proj", "up_proj", "down_proj", "act_fn"} <= parts.keys():
        return [partial(_FeedForward, activation=activation) for activation in ACTIVATIONS]
    return []
