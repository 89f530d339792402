"""A gated feed-forward whose product of gate and up is made again in backward and not kept."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from worker.trainer.layers import lora
from worker.trainer.layers.activations import ACTIVATIONS, Activation


class FeedForward:
    """Stands in for the forward of a gated feed-forward: down(activation(gate(x)) up(x)).

    Args:
        module: With gate_proj and up_proj, and a down_proj that lora.fuse has been at.
        activation: Of the gate.
    """

    def __init__(self, module: Any, activation: Activation) -> None:
        self.module = module
        self.activation = activation

    @property
    def width(self) -> int:
        return int(self.module.up_proj.in_features)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the feed-forward's result, in the shape and type of x (..., D)."""
        down: lora.Forward = self.module.down_proj.forward
        return down.of_product(self.module.gate_proj(x), self.module.up_proj(x), self.activation)


def candidates(module: Any) -> list[Callable[[Any], FeedForward]]:
    """Return what a module's own forward may be the same as, once lora.fuse has been there."""
    parts = dict(module.named_children())
    if {"gate_proj", "up_proj", "down_proj", "act_fn"} <= parts.keys():
        down = parts["down_proj"].__dict__.get("forward")
        if isinstance(down, lora.Forward):
            return [partial(FeedForward, activation=activation) for activation in ACTIVATIONS]
    return []
