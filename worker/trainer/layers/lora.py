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
from typing import Any, Protocol

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn.modules import Linear4bit
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.variants import DoraLinearVariant
from torch import Tensor, nn
from torch.nn import functional

from worker.trainer.layers import kernels

_STATE = "etude_quant_state"


class Turn(Protocol):
    """A function of each number by itself, such as SiLU, and its slope."""

    def forward(self, x: Tensor) -> Tensor: ...

    def product(self, gate: Tensor, up: Tensor) -> Tensor:
        """Return the turned gate times `up`."""

    def slopes(self, slope: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the slopes of gate and `up`, and their product again; `slope` may be used up."""


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
        ValueError: a layer is neither LoRA nor DoRA on a linear layer.
    """
    gate = Gate()
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
        setattr(module, "forward", Forward(module, base, gate))  # noqa: B010
    return gate


class Forward:
    """Stands in for one layer's forward."""

    def __init__(self, layer: Any, base: nn.Linear, gate: Gate) -> None:
        self.layer = layer
        self.base = base
        self.gate = gate
        self.squares_O: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        layer = self.layer
        if layer.disable_adapters:
            return functional.linear(x, _weight(self.base), self.base.bias)
        # PEFT puts an Identity there where nothing is dropped.
        share = getattr(layer.lora_dropout["default"], "p", 0.0) if layer.training else 0.0
        mask = functional.dropout(torch.ones_like(x), p=share) if share else None
        sizes = layer.lora_magnitude_vector
        has_sizes = "default" in sizes
        result: Tensor = _LoraLinear.apply(  # type: ignore[no-untyped-call]
            x,
            layer.lora_A["default"].weight,
            layer.lora_B["default"].weight,
            mask,
            self.base,
            None if has_sizes else self.base.bias,
            layer.scaling["default"],
            self.gate.rows_B11,
        )
        return self._resize(result, sizes["default"].weight) if has_sizes else result

    def of_product(self, gate: Tensor, up: Tensor, turn: Turn) -> Tensor:
        """Return the same for the product of a turned gate with another input."""
        layer = self.layer
        share = getattr(layer.lora_dropout["default"], "p", 0.0) if layer.training else 0.0
        if layer.disable_adapters or share or "default" in layer.lora_magnitude_vector:
            return self(turn.forward(gate) * up)
        result: Tensor = _LoraOfProduct.apply(  # type: ignore[no-untyped-call]
            gate,
            up,
            turn,
            layer.lora_A["default"].weight,
            layer.lora_B["default"].weight,
            self.base,
            self.base.bias,
            layer.scaling["default"],
            self.gate.rows_B11,
        )
        return result

    def _resize(self, result: Tensor, size_O: Tensor) -> Tensor:
        """Give each output the learned size of its weights instead of the size they have.

        As PEFT does, but for dropout, which falls on the adapter's input alone.
        Source: DoRA, arXiv:2402.09353, equation 5; section 4.3 holds the norm constant.
        """
        factor = size_O / self._norm()  # float32: in bfloat16 what is learned would be rounded off
        if self.gate.rows_B11 is not None:
            factor = 1 + (factor - 1) * self.gate.rows_B11
        resized: Tensor = (result * factor).to(result.dtype)
        return resized if self.base.bias is None else resized + self.base.bias

    @torch.no_grad()
    def _norm(self) -> Tensor:
        """Return the length of each output's weights, base and adapter together.

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
        rows_B11: Tensor | None,
    ) -> Tensor:
        x_TI = x.reshape(-1, x.shape[-1])
        a_RI, b_OR = (a_RI * scale).to(x.dtype), b_OR.to(x.dtype)
        seen_TI = x_TI if mask is None else x_TI * mask.reshape(x_TI.shape)
        y_TO, low_TR = _both(x_TI, seen_TI, a_RI, b_OR, base, bias_O, rows_B11, x.shape)
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
                slope_x = _add_product(slope_x, slope_TR, a_RI)
            else:
                slope_x.addcmul_(slope_TR @ a_RI, mask.reshape(x_TI.shape))
            slope_x = slope_x.reshape(*slopes[0].shape[:-1], -1)
        return slope_x, slope_a, slope_b, None, None, None, None, None


class _LoraOfProduct(torch.autograd.Function):
    """The linear layer after a gate: its input is made again backwards and not kept."""

    @staticmethod
    def forward(
        ctx: Any,
        gate: Tensor,
        up: Tensor,
        turn: Turn,
        a_RI: Tensor,
        b_OR: Tensor,
        base: nn.Linear,
        bias_O: Tensor | None,
        scale: float,
        rows_B11: Tensor | None,
    ) -> Tensor:
        x_TI = turn.product(gate, up).reshape(-1, gate.shape[-1])
        a_RI, b_OR = (a_RI * scale).to(gate.dtype), b_OR.to(gate.dtype)
        y_TO, low_TR = _both(x_TI, x_TI, a_RI, b_OR, base, bias_O, rows_B11, gate.shape)
        ctx.save_for_backward(gate, up, low_TR, a_RI, b_OR)
        ctx.base, ctx.scale, ctx.turn = base, scale, turn
        return y_TO.reshape(*gate.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        gate, up, low_TR, a_RI, b_OR = ctx.saved_tensors
        slope_TO = slopes[0].reshape(-1, slopes[0].shape[-1])
        slope_TR = slope_TO @ b_OR
        slope_b = (slope_TO.T @ low_TR).float()
        slope_TI = _add_product(slope_TO @ _weight(ctx.base), slope_TR, a_RI)
        slope_gate, slope_up, x = ctx.turn.slopes(slope_TI.reshape(gate.shape), gate, up)
        slope_a = (slope_TR.T @ x.reshape(slope_TI.shape)).float().mul_(ctx.scale)
        return slope_gate, slope_up, None, slope_a, slope_b, None, None, None, None


def _both(
    x_TI: Tensor,
    seen_TI: Tensor,
    a_RI: Tensor,
    b_OR: Tensor,
    base: nn.Linear,
    bias_O: Tensor | None,
    rows_B11: Tensor | None,
    shape: torch.Size,
) -> tuple[Tensor, Tensor]:
    """Return what base and adapter make of an input together, and the adapter's narrow result."""
    y_TO = functional.linear(x_TI, _weight(base), bias_O)
    low_TR = seen_TI @ a_RI.T
    if rows_B11 is not None:
        low_TR = (low_TR.reshape(*shape[:-1], -1) * rows_B11).reshape(low_TR.shape)
    return _add_product(y_TO, low_TR, b_OR.T), low_TR


def _add_product(y_TO: Tensor, low_TR: Tensor, b_RO: Tensor) -> Tensor:
    if kernels.usable_for_low_rank(y_TO, low_TR):
        return kernels.add_low_rank_(y_TO, low_TR, b_RO)
    return y_TO.addmm_(low_TR, b_RO)


def _squares(base: nn.Linear) -> Tensor:
    """Return the square of the length of each output's weights, in float32."""
    length_O: Tensor = torch.linalg.vector_norm(_weight(base), dim=1, dtype=torch.float32)
    return length_O.square()


def _weight(base: nn.Linear) -> Tensor:
    """Return a frozen weight as it is computed with; NF4 is unpacked for the moment."""
    state = getattr(base, _STATE)
    if state is None:
        return base.weight
    unpacked: Tensor = dequantize_4bit(base.weight.data, state)
    return unpacked
