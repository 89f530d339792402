"""A linear layer and its LoRA adapter in one pass, forward and backward.

PEFT's own forward makes four to six more passes over each result and, without autocast, computes
in float32; on a small model that is most of the time. Weights stay float32 masters; they are
rounded to the compute type in each pass, as autocast would. Layers keep PEFT's structure, so what
is saved is an ordinary PEFT adapter.

Never calls `Linear4bit.forward`: on CPUs with AVX512-BF16 one evaluation through it repacks the
weights in place, after which training gets no gradient through them.

Dimensions: T tokens, I inputs, O outputs, R rank, B rows of a batch.
"""

from dataclasses import dataclass
from typing import Any

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn.modules import Linear4bit
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.variants import DoraLinearVariant
from torch import Tensor, nn
from torch.nn import functional

from worker.trainer.layers import kernels
from worker.trainer.layers.activations import Activation

_STATE = "etude_quant_state"


@dataclass
class AdapterRows:
    """Which rows of a batch get the adapter's part, as 0 and 1 in the compute type.

    None means all. For answers with and without the adapter in one batch.
    """

    mask_B11: Tensor | None = None


def fuse(model: PeftModel, every_layer: bool = True) -> AdapterRows:
    """Give every LoRA layer of a model the fused forward.

    Args:
        model: With PEFT's layers; they change in place.
        every_layer: Otherwise what is not a linear layer, such as fused experts, keeps PEFT's own
            forward, and the mask of rows does not count there.

    Returns:
        The mask that all of these layers look up in each pass.

    Raises:
        ValueError: a layer is neither LoRA nor DoRA on a linear layer.
    """
    adapter_rows = AdapterRows()
    for name, module in model.named_modules():
        if not isinstance(module, LoraLayer):
            continue
        base = module.get_base_layer()
        others = [v for v in module.lora_variant.values() if not isinstance(v, DoraLinearVariant)]
        if not isinstance(base, nn.Linear) or others or module.lora_bias["default"]:
            if not every_layer:
                continue
            raise ValueError(f"{name} is not a linear layer with a LoRA or DoRA adapter")
        if isinstance(base, Linear4bit):
            base.support_avx512bf16_for_cpu = False  # a second lock on the same door
        # FSDP2 puts a plain tensor in the weight's place, which does not know how it is unpacked.
        setattr(base, _STATE, getattr(base.weight, "quant_state", None))
        if "default" in module.lora_magnitude_vector:
            # PEFT measures in the weights' own type: in bfloat16 a fresh adapter would act already.
            module.lora_magnitude_vector["default"].weight.data = _squares(base).sqrt()
        # An attribute of the instance wins over the method; PEFT's class stays as it is.
        setattr(module, "forward", Forward(module, base, adapter_rows))  # noqa: B010
    return adapter_rows


class Forward:
    """Stands in for one layer's forward: y = W x + b + scale B A dropout(x).

    Source: LoRA, arXiv:2106.09685, equation 3.
    """

    def __init__(self, layer: Any, base: nn.Linear, adapter_rows: AdapterRows) -> None:
        self.layer = layer
        self.base = base
        self.adapter_rows = adapter_rows
        self.squares_O: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Return the layer's result (..., O) of x (..., I), in the type of x."""
        layer = self.layer
        if layer.disable_adapters:
            return functional.linear(x, _weight(self.base), self.base.bias)
        # PEFT puts an Identity there where nothing is dropped.
        share = getattr(layer.lora_dropout["default"], "p", 0.0) if layer.training else 0.0
        mask = functional.dropout(torch.ones_like(x), p=share) if share else None
        magnitudes = layer.lora_magnitude_vector
        has_magnitudes = "default" in magnitudes
        result: Tensor = _LoraLinear.apply(  # type: ignore[no-untyped-call]
            x,
            layer.lora_A["default"].weight,
            layer.lora_B["default"].weight,
            mask,
            self.base,
            None if has_magnitudes else self.base.bias,
            layer.scaling["default"],
            self.adapter_rows.mask_B11,
        )
        return self._scaled(result, magnitudes["default"].weight) if has_magnitudes else result

    def of_product(self, gate: Tensor, up: Tensor, activation: Activation) -> Tensor:
        """Return the layer's result (..., O) of the product activation(gate) up.

        Args:
            gate: Before the activation (..., I).
            up: Of the same shape.
            activation: Of the gate.
        """
        layer = self.layer
        share = getattr(layer.lora_dropout["default"], "p", 0.0) if layer.training else 0.0
        if layer.disable_adapters or share or "default" in layer.lora_magnitude_vector:
            return self(activation.forward(gate) * up)
        result: Tensor = _LoraOfProduct.apply(  # type: ignore[no-untyped-call]
            gate,
            up,
            activation,
            layer.lora_A["default"].weight,
            layer.lora_B["default"].weight,
            self.base,
            self.base.bias,
            layer.scaling["default"],
            self.adapter_rows.mask_B11,
        )
        return result

    def _scaled(self, result: Tensor, magnitude_O: Tensor) -> Tensor:
        """Give each output the learned magnitude of its weights instead of the one they have.

        As PEFT does, but for dropout, which falls on the adapter's input alone.
        Source: DoRA, arXiv:2402.09353, equation 5; section 4.3 holds the norm constant.
        """
        # In float32: in bfloat16 what is learned would be rounded off.
        factor = magnitude_O / self._norm()
        if self.adapter_rows.mask_B11 is not None:
            factor = 1 + (factor - 1) * self.adapter_rows.mask_B11
        resized: Tensor = (result * factor).to(result.dtype)
        return resized if self.base.bias is None else resized + self.base.bias

    @torch.no_grad()
    def _norm(self) -> Tensor:
        """Return the length of each output's weights (O, float32), base and adapter together.

        |w + v|² = |w|² + 2 w·v + |v|² with v = scale B A: no matrix as large as w is made.
        """
        if self.squares_O is None:
            self.squares_O = _squares(self.base)
        weight_OI, scale = _weight(self.base), self.layer.scaling["default"]
        a_RI, b_OR = (getattr(self.layer, f"lora_{x}")["default"].weight for x in "AB")
        cross_O = ((weight_OI @ a_RI.T.to(weight_OI.dtype)).float() * b_OR).sum(1)
        own_O = ((b_OR @ (a_RI @ a_RI.T)) * b_OR).sum(1)
        squares_O: Tensor = self.squares_O + 2 * scale * cross_O + scale * scale * own_O
        return squares_O.sqrt()


class _LoraLinear(torch.autograd.Function):
    """y = W x + b + scale B A (mask x); W and b are frozen and get no gradient.

    With g the gradient of y: that of B is scale g (A x)ᵀ, of A scale Bᵀ g xᵀ, of x Wᵀ g + scale
    Aᵀ Bᵀ g.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        a_RI: Tensor,
        b_OR: Tensor,
        mask: Tensor | None,
        base: nn.Linear,
        bias_O: Tensor | None,
        scale: float,
        mask_B11: Tensor | None,
    ) -> Tensor:
        x_TI = x.reshape(-1, x.shape[-1])
        a_RI, b_OR = (a_RI * scale).to(x.dtype), b_OR.to(x.dtype)
        seen_TI = x_TI if mask is None else x_TI * mask.reshape(x_TI.shape)
        y_TO, low_TR = _both(x_TI, seen_TI, a_RI, b_OR, base, bias_O, mask_B11, x.shape)
        ctx.save_for_backward(x_TI, low_TR, a_RI, b_OR, mask)
        ctx.base, ctx.scale = base, scale
        return y_TO.reshape(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x_TI, low_TR, a_RI, b_OR, mask = ctx.saved_tensors
        grad_TO = grads[0].reshape(-1, grads[0].shape[-1])
        grad_TR = grad_TO @ b_OR
        seen_TI = x_TI if mask is None else x_TI * mask.reshape(x_TI.shape)
        grad_a = (grad_TR.T @ seen_TI).float().mul_(ctx.scale)
        grad_b = (grad_TO.T @ low_TR).float()
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad_TO @ _weight(ctx.base)
            if mask is None:
                grad_x = _add_product(grad_x, grad_TR, a_RI)
            else:
                grad_x.addcmul_(grad_TR @ a_RI, mask.reshape(x_TI.shape))
            grad_x = grad_x.reshape(*grads[0].shape[:-1], -1)
        return grad_x, grad_a, grad_b, None, None, None, None, None


class _LoraOfProduct(torch.autograd.Function):
    """The linear layer after a gate: its input is made again in backward and not kept.

    y = W x + b + scale B A x with x = activation(gate) up; gradients as _LoraLinear's.
    """

    @staticmethod
    def forward(
        ctx: Any,
        gate: Tensor,
        up: Tensor,
        activation: Activation,
        a_RI: Tensor,
        b_OR: Tensor,
        base: nn.Linear,
        bias_O: Tensor | None,
        scale: float,
        mask_B11: Tensor | None,
    ) -> Tensor:
        x_TI = activation.product(gate, up).reshape(-1, gate.shape[-1])
        a_RI, b_OR = (a_RI * scale).to(gate.dtype), b_OR.to(gate.dtype)
        y_TO, low_TR = _both(x_TI, x_TI, a_RI, b_OR, base, bias_O, mask_B11, gate.shape)
        ctx.save_for_backward(gate, up, low_TR, a_RI, b_OR)
        ctx.base, ctx.scale, ctx.activation = base, scale, activation
        return y_TO.reshape(*gate.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gate, up, low_TR, a_RI, b_OR = ctx.saved_tensors
        grad_TO = grads[0].reshape(-1, grads[0].shape[-1])
        grad_TR = grad_TO @ b_OR
        grad_b = (grad_TO.T @ low_TR).float()
        grad_TI = _add_product(grad_TO @ _weight(ctx.base), grad_TR, a_RI)
        grad_gate, grad_up, x = ctx.activation.product_gradients(
            grad_TI.reshape(gate.shape), gate, up
        )
        grad_a = (grad_TR.T @ x.reshape(grad_TI.shape)).float().mul_(ctx.scale)
        return grad_gate, grad_up, None, grad_a, grad_b, None, None, None, None


def _both(
    x_TI: Tensor,
    seen_TI: Tensor,
    a_RI: Tensor,
    b_OR: Tensor,
    base: nn.Linear,
    bias_O: Tensor | None,
    mask_B11: Tensor | None,
    shape: torch.Size,
) -> tuple[Tensor, Tensor]:
    """Return what base and adapter make of an input together, and the adapter's narrow result.

    Args:
        x_TI: What the base sees.
        seen_TI: What the adapter sees: the same, with dropout.
        a_RI: Scaled, in the type of x, as is b_OR.
        b_OR: Zero in a fresh adapter.
        base: The frozen layer.
        bias_O: Of the frozen layer, unless it is added later.
        mask_B11: Of the rows of `shape`.
        shape: Of x before its tokens were put behind each other.
    """
    y_TO = functional.linear(x_TI, _weight(base), bias_O)
    low_TR = seen_TI @ a_RI.T
    if mask_B11 is not None:
        low_TR = (low_TR.reshape(*shape[:-1], -1) * mask_B11).reshape(low_TR.shape)
    return _add_product(y_TO, low_TR, b_OR.T), low_TR


def _add_product(y_TO: Tensor, low_TR: Tensor, b_RO: Tensor) -> Tensor:
    """Add low_TR b_RO to y_TO in place and return it; all of one type."""
    if kernels.usable_for_low_rank(y_TO, low_TR):
        return kernels.add_low_rank_(y_TO, low_TR, b_RO)
    return y_TO.addmm_(low_TR, b_RO)


def _squares(base: nn.Linear) -> Tensor:
    """Return the square of the length of each output's weights (O, float32)."""
    length_O: Tensor = torch.linalg.vector_norm(_weight(base), dim=1, dtype=torch.float32)
    return length_O.square()


def _weight(base: nn.Linear) -> Tensor:
    """Return a frozen weight (O, I) as it is computed with; NF4 is unpacked for the moment.

    Source: QLoRA, arXiv:2305.14314, equation 6.
    """
    state = getattr(base, _STATE)
    if state is None:
        return base.weight
    unpacked: Tensor = dequantize_4bit(base.weight.data, state)
    return unpacked
