"""The activations of gated feed-forwards, forward and backward.

Dimensions: gate and up have the same shape (..., I), I numbers of a token within a feed-forward.
"""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from worker.trainer.layers import kernels


class Activation(Protocol):
    """A function of each number by itself, and what a gated feed-forward needs of it.

    Source: GLU Variants Improve Transformer, arXiv:2002.05202, equation 5.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated numbers (..., I), in the type of x."""

    def backward(self, grad: Tensor, x: Tensor) -> Tensor:
        """Return the gradient of x (..., I) from that of the activated numbers, in its type."""

    def product(self, gate: Tensor, up: Tensor) -> Tensor:
        """Return activation(gate) up (..., I), in their type."""

    def product_gradients(
        self, grad: Tensor, gate: Tensor, up: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of gate and `up`, and their product again, all (..., I).

        Args:
            grad: Of the product; may be used up.
            gate: Before the activation.
            up: What it was multiplied with.
        """


class _Gated:
    """What both activations share."""

    is_silu: bool

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def backward(self, grad: Tensor, x: Tensor) -> Tensor:
        raise NotImplementedError

    def product(self, gate: Tensor, up: Tensor) -> Tensor:
        if kernels.usable(gate):
            return kernels.product(gate, up, self.is_silu)
        return self.forward(gate).mul_(up)

    def product_gradients(
        self, grad: Tensor, gate: Tensor, up: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        if kernels.usable(gate):
            return kernels.product_back(grad, gate, up, self.is_silu)
        activated = self.forward(gate)
        grad_gate = self.backward(grad * up, gate)
        grad_up = grad.mul_(activated)
        return grad_gate, grad_up, activated.mul_(up)


class Silu(_Gated):
    """x sigmoid(x), also called Swish (arXiv:1710.05941, section 2)."""

    is_silu = True

    def forward(self, x: Tensor) -> Tensor:
        return functional.silu(x)

    def backward(self, grad: Tensor, x: Tensor) -> Tensor:
        grad_x: Tensor = torch.ops.aten.silu_backward(grad, x)
        return grad_x


class GeluTanh(_Gated):
    """GELU by its approximation with tanh (arXiv:1606.08415, section 2)."""

    is_silu = False

    def forward(self, x: Tensor) -> Tensor:
        return functional.gelu(x, approximate="tanh")

    def backward(self, grad: Tensor, x: Tensor) -> Tensor:
        grad_x: Tensor = torch.ops.aten.gelu_backward(grad, x, approximate="tanh")
        return grad_x


ACTIVATIONS: tuple[Activation, ...] = (Silu(), GeluTanh())
