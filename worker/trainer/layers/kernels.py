"""Fused kernels for a GPU: a pass over memory where torch's operations make five.

Besides the matrix products, what a step does is limited by the bytes it moves, not by arithmetic.
Written in Triton, which compiles them when they are first used and needs a C compiler for that;
where it cannot, `usable` says no, once in words to standard error, and torch's operations serve.
Each kernel's plain counterpart stands where it is called; tests hold one against the other, on a
CPU by Triton's interpreter.

Dimensions: T tokens, D numbers of a token or of a head, I numbers within a feed-forward,
V vocabulary, B rows, H heads, O outputs, R rank.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import torch
from torch import Tensor

_WIDEST = 16384  # numbers of a row that one program holds at once
_PIECE = 4096  # of a vocabulary, at a time

# A CPU's torch comes without, and has no use for it but to try the kernels.
_wanted = torch.version.cuda is not None or os.environ.get("TRITON_INTERPRET") == "1"
if _wanted and find_spec("triton") is not None:
    import triton
    import triton.language as tl

    HAS_TRITON = True
else:
    HAS_TRITON = False


class _State:
    works: bool | None = None  # None: nobody has tried
    off = 0
    least_for_low_rank = 2**26  # numbers of the larger factor's result


@contextmanager
def switched_off() -> Iterator[None]:
    """Let torch's own operations do it meanwhile: to compare, and to judge an architecture."""
    _State.off += 1
    try:
        yield
    finally:
        _State.off -= 1


def usable(x: Tensor) -> bool:
    """Tell whether the kernels may work on a tensor (of any shape): where it lies decides."""
    if not HAS_TRITON or _State.off or not (x.is_cuda or _is_interpreted()):
        return False
    if _State.works is None:
        _State.works = _try(x.device)
    return _State.works


def _is_interpreted() -> bool:
    return bool(triton.knobs.runtime.interpret)


def _try(device: torch.device) -> bool:
    try:
        rms_norm(torch.ones(1, 16, device=device), torch.ones(16, device=device), 0.0, 0.0)
    except Exception as error:  # no compiler, no headers, a GPU that Triton does not know
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        print(f"Triton does not work here, so steps take longer: {reason}", file=sys.stderr)
        return False
    return True


def usable_for_norm(x: Tensor) -> bool:
    """Tell the same for norms of x (..., D), of which one program holds a whole token."""
    return x.shape[-1] <= _WIDEST and x.stride(-1) == 1 and usable(x)


if HAS_TRITON:

    @triton.jit
    def _rms_norm_kernel(
        x, weight, y, scale, stride, width, eps, offset,
        HAS_OFFSET: tl.constexpr, BLOCK: tl.constexpr,
    ):  # fmt: skip
        row = tl.program_id(0).to(tl.int64)
        offsets = tl.arange(0, BLOCK)
        mask = offsets < width
        wide = tl.load(x + row * stride + offsets, mask=mask, other=0.0).to(tl.float32)
        factor = 1.0 / tl.sqrt(tl.sum(wide * wide, 0) / width + eps)
        tl.store(scale + row, factor)
        gain = tl.load(weight + offsets, mask=mask, other=0.0).to(tl.float32)
        normed = wide * factor
        if HAS_OFFSET:
            result = normed * (gain + offset)
        else:  # rounded before the product, as Llama's own does
            result = normed.to(y.dtype.element_ty).to(tl.float32) * gain
        tl.store(y + row * width + offsets, result.to(y.dtype.element_ty), mask=mask)

    @triton.jit
    def _rms_norm_back_kernel(
        grad_y, x, weight, scale, grad_x, grad_stride, stride, width, offset, BLOCK: tl.constexpr
    ):
        row = tl.program_id(0).to(tl.int64)
        offsets = tl.arange(0, BLOCK)
        mask = offsets < width
        factor = tl.load(scale + row)
        wide = tl.load(x + row * stride + offsets, mask=mask, other=0.0).to(tl.float32)
        gain = tl.load(weight + offsets, mask=mask, other=0.0).to(tl.float32) + offset
        grad = tl.load(grad_y + row * grad_stride + offsets, mask=mask, other=0.0).to(tl.float32)
        grad = grad * gain
        normed = wide * factor
        shared = tl.sum(grad * normed, 0) / width
        result = (grad - normed * shared) * factor
        tl.store(grad_x + row * width + offsets, result.to(grad_x.dtype.element_ty), mask=mask)

    @triton.jit
    def _activate(gate, IS_SILU: tl.constexpr):
        if IS_SILU:
            return gate * tl.sigmoid(gate)
        # tanh(z) = 2 sigmoid(2 z) - 1
        inner = 0.7978845608028654 * (gate + 0.044715 * gate * gate * gate)
        return gate * tl.sigmoid(2 * inner)

    @triton.jit
    def _activation_gradient(gate, IS_SILU: tl.constexpr):
        if IS_SILU:
            share = tl.sigmoid(gate)
            return share * (1 + gate * (1 - share))
        inner = 0.7978845608028654 * (gate + 0.044715 * gate * gate * gate)
        inner_grad = 0.7978845608028654 * (1 + 3 * 0.044715 * gate * gate)
        share = tl.sigmoid(2 * inner)
        return share + gate * 2 * share * (1 - share) * inner_grad

    @triton.jit
    def _product_kernel(gate, up, x, num, IS_SILU: tl.constexpr, BLOCK: tl.constexpr):
        offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        mask = offsets < num
        a = tl.load(gate + offsets, mask=mask, other=0.0).to(tl.float32)
        b = tl.load(up + offsets, mask=mask, other=0.0).to(tl.float32)
        activated = _activate(a, IS_SILU).to(x.dtype.element_ty).to(tl.float32)
        tl.store(x + offsets, (activated * b).to(x.dtype.element_ty), mask=mask)

    @triton.jit
    def _product_back_kernel(
        grad_x, gate, up, grad_gate, grad_up, x, num, IS_SILU: tl.constexpr, BLOCK: tl.constexpr
    ):
        offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        mask = offsets < num
        grad = tl.load(grad_x + offsets, mask=mask, other=0.0).to(tl.float32)
        a = tl.load(gate + offsets, mask=mask, other=0.0).to(tl.float32)
        b = tl.load(up + offsets, mask=mask, other=0.0).to(tl.float32)
        activated = _activate(a, IS_SILU).to(x.dtype.element_ty).to(tl.float32)
        tl.store(x + offsets, (activated * b).to(x.dtype.element_ty), mask=mask)
        tl.store(grad_up + offsets, (grad * activated).to(x.dtype.element_ty), mask=mask)
        back = grad * b * _activation_gradient(a, IS_SILU)
        tl.store(grad_gate + offsets, back.to(x.dtype.element_ty), mask=mask)

    @triton.jit
    def _rotate_kernel(
        x, cos, sin, y, stride_b, stride_h, stride_t, angle_b, num_tokens,
        IS_BACK: tl.constexpr, HEADS: tl.constexpr, HALF: tl.constexpr,
        BLOCK_H: tl.constexpr, BLOCK_D: tl.constexpr,
    ):  # fmt: skip
        token, row = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
        head = tl.arange(0, BLOCK_H)[:, None]
        offsets = tl.arange(0, BLOCK_D)[None, :]
        mask = (head < HEADS) & (offsets < HALF)
        known = offsets < HALF
        angle = row * angle_b + token * 2 * HALF + offsets
        cos_1 = tl.load(cos + angle, mask=known, other=0.0).to(tl.float32)
        cos_2 = tl.load(cos + angle + HALF, mask=known, other=0.0).to(tl.float32)
        sin_1 = tl.load(sin + angle, mask=known, other=0.0).to(tl.float32)
        sin_2 = tl.load(sin + angle + HALF, mask=known, other=0.0).to(tl.float32)
        source = x + row * stride_b + head * stride_h + token * stride_t + offsets
        first = tl.load(source, mask=mask, other=0.0).to(tl.float32)
        second = tl.load(source + HALF, mask=mask, other=0.0).to(tl.float32)
        if IS_BACK:  # the transposed rotation
            one = first * cos_1 + second * sin_2
            two = second * cos_2 - first * sin_1
        else:
            one = first * cos_1 - second * sin_1
            two = second * cos_2 + first * sin_2
        target = y + ((row * num_tokens + token) * HEADS + head) * 2 * HALF + offsets
        tl.store(target, one.to(y.dtype.element_ty), mask=mask)
        tl.store(target + HALF, two.to(y.dtype.element_ty), mask=mask)

    @triton.jit
    def _low_rank_kernel(
        y, low, b, num_tokens, num_out, b_stride_r, b_stride_o,
        RANK: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_O: tl.constexpr,
    ):  # fmt: skip
        token = tl.program_id(1).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)[:, None]
        out = tl.program_id(0) * BLOCK_O + tl.arange(0, BLOCK_O)[None, :]
        rank_1R = tl.arange(0, RANK)[None, :]
        rank_R1 = tl.arange(0, RANK)[:, None]
        narrow = tl.load(low + token * RANK + rank_1R, mask=token < num_tokens, other=0.0)
        factors = b + rank_R1 * b_stride_r + out * b_stride_o
        product = tl.dot(narrow, tl.load(factors, mask=out < num_out, other=0.0))
        target = y + token * num_out + out
        mask = (token < num_tokens) & (out < num_out)
        total = product + tl.load(target, mask=mask, other=0.0).to(tl.float32)
        tl.store(target, total.to(y.dtype.element_ty), mask=mask)

    @triton.jit
    def _cross_entropy_kernel(
        logits, target, loss,
        VOCABULARY: tl.constexpr, NEEDS_GRAD: tl.constexpr, BLOCK: tl.constexpr,
    ):  # fmt: skip
        row = tl.program_id(0).to(tl.int64)
        start = logits + row * VOCABULARY
        wanted = tl.load(target + row)
        # Before gradients take the scores' memory; what comes between waits for all threads.
        picked = tl.load(start + wanted).to(tl.float32)
        most = -float("inf")
        total = 0.0
        for begin in range(0, VOCABULARY, BLOCK):
            offsets = begin + tl.arange(0, BLOCK)
            part = tl.load(start + offsets, mask=offsets < VOCABULARY, other=-float("inf"))
            part = part.to(tl.float32)
            higher = tl.maximum(most, tl.max(part, 0))
            total = total * tl.exp(most - higher) + tl.sum(tl.exp(part - higher), 0)
            most = higher
        log_sum = most + tl.log(total)
        tl.store(loss + row, log_sum - picked)
        if NEEDS_GRAD:
            for begin in range(0, VOCABULARY, BLOCK):
                offsets = begin + tl.arange(0, BLOCK)
                mask = offsets < VOCABULARY
                part = tl.load(start + offsets, mask=mask, other=-float("inf")).to(tl.float32)
                grad = tl.exp(part - log_sum) - tl.where(offsets == wanted, 1.0, 0.0)
                tl.store(start + offsets, grad.to(logits.dtype.element_ty), mask=mask)


def rms_norm(x: Tensor, weight_D: Tensor, eps: float, offset: float) -> tuple[Tensor, Tensor]:
    """Do what norms.RmsNorm does forward.

    Args:
        x: Tokens (..., D), of at most `_WIDEST` numbers each.
        weight_D: Of the norm.
        eps: What is added to the mean square.
        offset: What is added to the weight.

    Returns:
        The result, in the shape and type of x, and 1 / rms (T, float32).

    Source: Root Mean Square Layer Normalization, arXiv:1910.07467, equation 4.
    """
    width = x.shape[-1]
    x_TD = x.reshape(-1, width)
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    scale_T = torch.empty(x_TD.shape[0], dtype=torch.float32, device=x.device)
    block = triton.next_power_of_2(width)
    _rms_norm_kernel[(x_TD.shape[0],)](
        x_TD, weight_D, y, scale_T, x_TD.stride(0), width, float(eps), float(offset),
        HAS_OFFSET=bool(offset), BLOCK=block, num_warps=_warps(block),
    )  # fmt: skip
    return y, scale_T


def rms_norm_back(
    grad: Tensor, x: Tensor, weight_D: Tensor, scale_T: Tensor, offset: float
) -> Tensor:
    """Return the gradient of x, in its shape and type.

    Args:
        grad: Of the result (..., D).
        x: As forward, like weight_D and offset.
        weight_D: Of the norm.
        scale_T: 1 / rms, from `rms_norm`.
        offset: What is added to the weight.
    """
    width = x.shape[-1]
    x_TD, grad_TD = x.reshape(-1, width), grad.reshape(-1, width)
    if grad_TD.stride(1) != 1:
        grad_TD = grad_TD.contiguous()
    grad_x = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    block = triton.next_power_of_2(width)
    _rms_norm_back_kernel[(x_TD.shape[0],)](
        grad_TD, x_TD, weight_D, scale_T, grad_x, grad_TD.stride(0), x_TD.stride(0), width,
        float(offset), BLOCK=block, num_warps=_warps(block),
    )  # fmt: skip
    return grad_x


def product(gate: Tensor, up: Tensor, is_silu: bool) -> Tensor:
    """Return activation(gate) up, both (..., I), in their shape and type.

    Args:
        gate: Before the activation.
        up: What it is multiplied with.
        is_silu: Whether the activation is SiLU; otherwise it is GELU by tanh.
    """
    gate, up = gate.contiguous(), up.contiguous()
    x = torch.empty_like(gate)
    grid = (triton.cdiv(gate.numel(), 1024),)
    _product_kernel[grid](gate, up, x, gate.numel(), IS_SILU=is_silu, BLOCK=1024)
    return x


def product_back(
    grad: Tensor, gate: Tensor, up: Tensor, is_silu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of gate and `up` (..., I), and their product once more.

    Args:
        grad: Of the product.
        gate: As forward, like `up` and is_silu.
        up: What the activated gate was multiplied with.
        is_silu: Whether the activation is SiLU.
    """
    grad, gate, up = grad.contiguous(), gate.contiguous(), up.contiguous()
    grad_gate, grad_up, x = (torch.empty_like(gate) for _ in range(3))
    grid = (triton.cdiv(gate.numel(), 1024),)
    _product_back_kernel[grid](
        grad, gate, up, grad_gate, grad_up, x, gate.numel(), IS_SILU=is_silu, BLOCK=1024
    )
    return grad_gate, grad_up, x


def rotate(x_BHTD: Tensor, cos_BTD: Tensor, sin_BTD: Tensor, back: bool = False) -> Tensor:
    """Rotate queries or keys by their positions, or back by the transposed rotation.

    Args:
        x_BHTD: Queries or keys.
        cos_BTD: Cosines of the angles; B may be 1. Both halves of D are read.
        sin_BTD: Sines of them.
        back: Whether x is the gradient of the result.

    Returns:
        The same dimensions; in memory a token's heads lie together.

    Source: RoFormer, arXiv:2104.09864, equation 34, halves apart as in transformers' Llama.
    """
    num_rows, heads, num_tokens, width = x_BHTD.shape
    if x_BHTD.stride(3) != 1:
        x_BHTD = x_BHTD.contiguous()
    cos_BTD, sin_BTD = cos_BTD.contiguous(), sin_BTD.contiguous()
    y_BTHD = torch.empty(
        (num_rows, num_tokens, heads, width), dtype=x_BHTD.dtype, device=x_BHTD.device
    )
    angle_stride = 0 if cos_BTD.shape[0] == 1 else num_tokens * width
    _rotate_kernel[(num_tokens, num_rows)](  # CUDA limits all but the first to 65,535
        x_BHTD, cos_BTD, sin_BTD, y_BTHD, x_BHTD.stride(0), x_BHTD.stride(1), x_BHTD.stride(2),
        angle_stride, num_tokens, IS_BACK=back, HEADS=heads, HALF=width // 2,
        BLOCK_H=triton.next_power_of_2(heads), BLOCK_D=triton.next_power_of_2(width // 2),
    )  # fmt: skip
    return y_BTHD.transpose(1, 2)


def usable_for_low_rank(y_TO: Tensor, low_TR: Tensor) -> bool:
    """Tell whether `add_low_rank_` can add a product, and pays: its start takes longer.

    Args:
        y_TO: What is added to.
        low_TR: The narrow factor.
    """
    return (
        low_TR.shape[1] in (16, 32, 64)
        and y_TO.dtype in (torch.bfloat16, torch.float16)
        and y_TO.numel() >= _State.least_for_low_rank
        and usable(y_TO)
        and y_TO.is_contiguous()
        and low_TR.is_contiguous()
    )


def add_low_rank_(y_TO: Tensor, low_TR: Tensor, b_RO: Tensor) -> Tensor:
    """Add a product of small rank in place, limited by reading and writing y alone.

    cuBLAS takes up to twice as long for so few multiplications of each number.

    Args:
        y_TO: What is added to, of a 16-bit type; sums are in float32.
        low_TR: The narrow factor, of the same type; `usable_for_low_rank` says whether both fit.
        b_RO: The other factor, in any memory order.

    Returns:
        y_TO.
    """
    num_tokens, num_out = y_TO.shape
    grid = (triton.cdiv(num_out, 128), triton.cdiv(num_tokens, 128))  # to 8 million tokens
    _low_rank_kernel[grid](
        y_TO, low_TR, b_RO, num_tokens, num_out, b_RO.stride(0), b_RO.stride(1),
        RANK=low_TR.shape[1], BLOCK_T=128, BLOCK_O=128, num_warps=8,
    )  # fmt: skip
    return y_TO


def cross_entropy_(
    logits_TV: Tensor, targets_T: Tensor, losses_T: Tensor, needs_grad: bool
) -> None:
    """Put each token's loss into `losses_T` and, if wanted, its gradient in place of the logits.

    Args:
        logits_TV: Scores; afterwards softmax - one-hot, in their type.
        targets_T: Token ids, int64.
        losses_T: Nats, float32.
        needs_grad: Whether the logits are to become gradients.

    Source: the maximum and the sum in one pass, arXiv:1805.02867, algorithm 3.
    """
    _cross_entropy_kernel[(logits_TV.shape[0],)](
        logits_TV, targets_T, losses_T, VOCABULARY=logits_TV.shape[1], NEEDS_GRAD=needs_grad,
        BLOCK=_PIECE, num_warps=8,
    )  # fmt: skip


def _warps(block: int) -> int:
    return 16 if block >= 8192 else 8 if block >= 2048 else 4
