"""A gated feed-forward whose product of gate and up is made again in backward and not kept."""

from typing import Any

from torch import Tensor

from worker.trainer.layers import lora
from worker.trainer.layers.activations import Activation


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
