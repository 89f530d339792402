"""A linear layer and its LoRA adapter in one pass, forward and backward.

PEFT's own forward makes four to six more passes over each result and, without autocast, computes
in float32; on a small model that is most of the time. Weights stay float32 masters; they are
rounded to the compute type in each pass, as autocast would. Layers keep PEFT's structure, so what
is saved is an ordinary PEFT adapter.

Never calls `Linear4bit.forward`: on CPUs with AVX512-BF16 one evaluation through it repacks the
weights in place, after which training gets no gradient through them.

Dimensions: T tokens, I inputs, O outputs, R rank.
"""

from dataclasses import dataclass
from typing import Any

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn.modules import Linear4bit, Params4bit
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import functional


@dataclass
class Gate:
    """Which rows of a batch get the adapter's part; None means all. For comparing answers."""

    rows_B11: Tensor | None = None


def fuse(model: PeftModel, every_layer: bool = True) -> Gate:
    """Give every LoRA layer of a model the fused forward.

    Args:
        every_layer: Otherwise what is not a linear layer, such as fused experts, keeps PEFT's own
            forward, and the gate has no say there.

    Raises:
        ValueError: a layer is not plain LoRA on a linear layer.
    """
    gate = Gate()
    for name, module in model.named_modules():
        if not isinstance(module, LoraLayer):
            continue
        base = module.get_base_layer()
        if not isinstance(base, nn.Linear) or module.lora_variant or module.lora_bias["default"]:
            if not every_layer:
                continue
            raise ValueError(f"{name} is not a linear layer with a plain LoRA adapter")
        if isinstance(base, Linear4bit):
            base.support_avx512bf16_for_cpu = False  # a second lock on the same door
        # An attribute of the instance wins over the method; PEFT's class stays as it is.
        setattr(module, "forward", _Forward(module, base, gate))  # noqa: B010
    return gate


class _Forward:
    """Stands in for one layer's forward."""

    def __init__(self, layer: Any, base: nn.Linear, gate: Gate) -> None:
        self.layer = layer
        self.base = base
        self.gate = gate

    def __call__(self, x: Tensor) -> Tensor:
        layer = self.layer
        if layer.disable_adapters:
            return functional.linear(x, _weight(self.base), self.base.bias)
        # PEFT puts an Identity there where nothing is dropped.
        share = getattr(layer.lora_dropout["default"], "p", 0.0) if layer.training else 0.0
        mask = functional.dropout(torch.ones_like(x), p=share) if share else None
        result: Tensor = _LoraLinear.apply(  # type: ignore[no-untyped-call]
            x,
            layer.lora_A["default"].weight,
            layer.lora_B["default"].weight,
            mask,
            self.base,
            layer.scaling["default"],
            self.gate.rows_B11,
        )
        return result


class _LoraLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        a_RI: Tensor,
        b_OR: Tensor,
        mask: Tensor | None,
        base: nn.Linear,
        scale: float,
        rows_B11: Tensor | None,
    ) -> Tensor:
        x_TI = x.reshape(-1, x.shape[-1])
        a_RI, b_OR = (a_RI * scale).to(x.dtype), b_OR.to(x.dtype)
        y_TO = functional.linear(x_TI, _weight(base), base.bias)
        seen_TI = x_TI if mask is None else x_TI * mask.reshape(x_TI.shape)
        low_TR = seen_TI @ a_RI.T
        if rows_B11 is not None:
            low_TR = (low_TR.reshape(*x.shape[:-1], -1) * rows_B11).reshape(low_TR.shape)
        y_TO.addmm_(low_TR, b_OR.T)
        ctx.save_for_backward(x_TI, low_TR, a_RI, b_OR, mask)
        ctx.base, ctx.scale = base, scale
        return y_TO.reshape(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        x_TI, low_TR, a_RI, b_OR, mask = ctx.saved_tensors
        slope_TO = slopes[0].reshape(-1, slopes[0].shape[-1])
        slope_TR = slope_TO @ b_OR
        seen_TI = x_TI if mask is None else x_TI * mask.reshape(x_TI.shape)
        slope_a = (slope_TR.T @ seen_TI).float().mul_(ctx.scale)
        slope_b = (slope_TO.T @ low_TR).float()
        slope_x = None
        if ctx.needs_input_grad[0]:
            slope_x = slope_TO @ _weight(ctx.base)
            if mask is None:
                slope_x.addmm_(slope_TR, a_RI)
            else:
                slope_x.addcmul_(slope_TR @ a_RI, mask.reshape(x_TI.shape))
            slope_x = slope_x.reshape(*slopes[0].shape[:-1], -1)
        return slope_x, slope_a, slope_b, None, None, None, None


def _weight(base: nn.Linear) -> Tensor:
    """Return a frozen weight as it is computed with; NF4 is unpacked for the moment."""
    weight = base.weight
    if isinstance(weight, Params4bit):
        unpacked: Tensor = dequantize_4bit(weight.data, weight.quant_state)
        return unpacked
    return weight
