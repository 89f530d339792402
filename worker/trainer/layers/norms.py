"""Root mean square norms that keep less for backward, in fewer passes over memory.

Dimensions: D numbers of a token; x and its gradient have any others before it (..., D).
"""

from typing import Any

import torch
from torch import Tensor

from worker.trainer.layers import kernels


class Norm:
    """Stands in for the forward of a root mean square norm whose weight is frozen.

    Args:
        module: The norm; its weight has dimension D.
        offset: What is added to the weight: 1 as Gemma has it, 0 otherwise.
    """

    def __init__(self, module: Any, offset: float) -> None:
        self.module = module
        self.offset = offset
        self.eps = getattr(module, "variance_epsilon", None) or getattr(module, "eps", 0.0)

    @property
    def width(self) -> int:
        return int(self.module.weight.shape[0])

    def __call__(self, x: Tensor) -> Tensor:
        """Return the normed numbers (..., D), in the type of x."""
        y: Tensor = RmsNorm.apply(  # type: ignore[no-untyped-call]
            x, self.module.weight, self.eps, self.offset
        )
        return y


class RmsNorm(torch.autograd.Function):
    """y = w x / rms(x), or y = (1 + w) x / rms(x) as Gemma has it.

    The gradient of x is (g - n mean(g n)) / rms(x) with n = x / rms(x) and g the gradient of n.
    Source: Root Mean Square Layer Normalization, arXiv:1910.07467, equation 4.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_D: Tensor, eps: float, offset: float) -> Tensor:
        ctx.offset = offset
        if kernels.usable_for_norm(x):
            y, scale = kernels.rms_norm(x, weight_D, eps, offset)
            ctx.save_for_backward(x, scale, weight_D)
            return y
        wide = x.float()
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
        ctx.save_for_backward(x, scale, weight_D)
        wide = wide * scale if wide is x else wide.mul_(scale)
        if offset:
            return wide.mul_(weight_D.float() + offset).to(x.dtype)
        return weight_D * wide.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, weight_D = ctx.saved_tensors
        if scale.dim() == 1:  # a kernel's
            grad_x = kernels.rms_norm_back(grads[0], x, weight_D, scale, ctx.offset)
            return grad_x, None, None, None
        if ctx.offset:
            grad = grads[0].float() * (weight_D.float() + ctx.offset)
        else:
            grad = (grads[0] * weight_D).float()
        normed = x * scale
        shared = (grad * normed).mean(-1, keepdim=True)
        grad = grad.addcmul_(normed, shared, value=-1).mul_(scale)
        return grad.to(x.dtype), None, None, None
