"""Norms and gated feed-forwards that keep less for the way back, in fewer passes over memory.

What PEFT's and transformers' own layers keep is most of what a step takes. A shorter forward is put
in the place of a layer's own where both give the same numbers, bit for bit, when they are tried;
a kind that is not known keeps its own.
"""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from worker.trainer.layers import kernels, lora

_Way = Callable[[Tensor], Tensor]


class _Turn:
    """A gate's function; what both share is lora.Turn's."""

    is_silu: bool

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def backward(self, slope: Tensor, x: Tensor) -> Tensor:
        raise NotImplementedError

    def product(self, gate: Tensor, up: Tensor) -> Tensor:
        if kernels.usable(gate):
            return kernels.product(gate, up, self.is_silu)
        return self.forward(gate).mul_(up)

    def slopes(self, slope: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if kernels.usable(gate):
            return kernels.product_back(slope, gate, up, self.is_silu)
        turned = self.forward(gate)
        slope_gate = self.backward(slope * up, gate)
        slope_up = slope.mul_(turned)
        return slope_gate, slope_up, turned.mul_(up)


class _Silu(_Turn):
    is_silu = True

    def forward(self, x: Tensor) -> Tensor:
        return functional.silu(x)

    def backward(self, slope: Tensor, x: Tensor) -> Tensor:
        found: Tensor = torch.ops.aten.silu_backward(slope, x)
        return found


class _GeluTanh(_Turn):
    is_silu = False

    def forward(self, x: Tensor) -> Tensor:
        return functional.gelu(x, approximate="tanh")

    def backward(self, slope: Tensor, x: Tensor) -> Tensor:
        found: Tensor = torch.ops.aten.gelu_backward(slope, x, approximate="tanh")
        return found


_TURNS: tuple[lora.Turn, ...] = (_Silu(), _GeluTanh())


def fuse(model: nn.Module, dtype: torch.dtype) -> None:
    """Put shorter forwards in place of norms and feed-forwards; call it after lora.fuse.

    Args:
        model: With its adapters.
        dtype: What is computed with.
    """
    known: dict[type, Callable[[Any], _Way] | None] = {}
    for module in model.modules():
        _fuse_rotation(module)
        ways = list(_ways(module))
        if not ways:
            continue
        # Layers of one class differ in their weights alone.
        kind = type(module)
        if kind not in known:
            known[kind] = next((way for way in ways if _is_same(module, way(module), dtype)), None)
        chosen = known[kind]
        if chosen is not None:
            # An attribute of the instance wins over the method.
            setattr(module, "forward", chosen(module))  # noqa: B010


def _fuse_rotation(module: nn.Module) -> None:
    if hasattr(module, "q_proj") or hasattr(module, "qkv_proj"):
        kernels.fuse_rotation(sys.modules[type(module).__module__])


def _ways(module: Any) -> list[Callable[[Any], _Way]]:
    """Return what a module's own forward may be the same as."""
    if type(module).__name__.endswith("RMSNorm") and hasattr(module, "weight"):
        return [partial(_Norm, offset=offset) for offset in (0.0, 1.0)]
    parts = dict(module.named_children())
    if {"gate_proj", "up_proj", "down_proj", "act_fn"} <= parts.keys():
        down = parts["down_proj"].__dict__.get("forward")
        if isinstance(down, lora.Forward):
            return [partial(_FeedForward, turn=turn) for turn in _TURNS]
    return []


@torch.no_grad()
def _is_same(module: Any, way: _Way, dtype: torch.dtype) -> bool:
    """Try both on numbers so small that what a norm adds to their square counts, too."""
    width = module.weight.shape[0] if isinstance(way, _Norm) else module.up_proj.in_features
    device = next(module.parameters()).device
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(1, 3, width, generator=generator) * 1e-3).to(device, dtype)
    with kernels.switched_off():  # they round elsewhere, and are judged by their own tests
        return torch.equal(type(module).forward(module, x), way(x))


class _Norm:
    """Stands in for the forward of a root mean square norm whose weight is frozen."""

    def __init__(self, module: Any, offset: float) -> None:
        self.module = module
        self.offset = offset
        self.eps = getattr(module, "variance_epsilon", None) or getattr(module, "eps", 0.0)

    def __call__(self, x: Tensor) -> Tensor:
        found: Tensor = _RmsNorm.apply(  # type: ignore[no-untyped-call]
            x, self.module.weight, self.eps, self.offset
        )
        return found


class _RmsNorm(torch.autograd.Function):
    """y = w x / rms(x), or y = (1 + w) x / rms(x) as Gemma has it; of each token D numbers.

    The slope of x is (s - n mean(s n)) / rms(x) with n = x / rms(x) and s the slope of n.
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
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, weight_D = ctx.saved_tensors
        if scale.dim() == 1:  # a kernel's
            slope_x = kernels.rms_norm_back(slopes[0], x, weight_D, scale, ctx.offset)
            return slope_x, None, None, None
        if ctx.offset:
            slope = slopes[0].float() * (weight_D.float() + ctx.offset)
        else:
            slope = (slopes[0] * weight_D).float()
        normed = x * scale
        shared = (slope * normed).mean(-1, keepdim=True)
        slope = slope.addcmul_(normed, shared, value=-1).mul_(scale)
        return slope.to(x.dtype), None, None, None


class _FeedForward:
    """Stands in for the forward of a gated feed-forward."""

    def __init__(self, module: Any, turn: lora.Turn) -> None:
        self.module = module
        self.turn = turn

    def __call__(self, x: Tensor) -> Tensor:
        down: lora.Forward = self.module.down_proj.forward
        return down.of_product(self.module.gate_proj(x), self.module.up_proj(x), self.turn)
