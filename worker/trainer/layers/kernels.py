"""Fused kernels for a GPU: a pass over memory where torch's operations make five.

Besides the matrix products, what a step does is limited by the bytes it moves, not by arithmetic.
Written in Triton, which compiles them when they are first used and needs a C compiler for that;
where it cannot, `usable` says no, once in words to standard error, and torch's operations serve.
Each kernel's plain counterpart stands where it is called; tests hold one against the other, on a
CPU by Triton's interpreter.

Dimensions: T tokens, D numbers of a token, V vocabulary, H heads.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

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
    """Tell whether the kernels may work on a tensor."""
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
    """Tell the same for norms, of which one program holds a whole token."""
    return x.shape[-1] <= _WIDEST and x.stride(-1) == 1 and usable(x)


if HAS_TRITON:

    @triton.jit
    def _rms_norm_kernel(
        x, weight, y, scale, stride, width, eps, offset,
        HAS_OFFSET: tl.constexpr, BLOCK: tl.constexpr,
    ):  # fmt: skip
        row = tl.program_id(0).to(tl.int64)
        place = tl.arange(0, BLOCK)
        inside = place < width
        wide = tl.load(x + row * stride + place, mask=inside, other=0.0).to(tl.float32)
        factor = 1.0 / tl.sqrt(tl.sum(wide * wide, 0) / width + eps)
        tl.store(scale + row, factor)
        gain = tl.load(weight + place, mask=inside, other=0.0).to(tl.float32)
        normed = wide * factor
        if HAS_OFFSET:
            result = normed * (gain + offset)
        else:  # rounded before the product, as Llama's own does
            result = normed.to(y.dtype.element_ty).to(tl.float32) * gain
        tl.store(y + row * width + place, result.to(y.dtype.element_ty), mask=inside)

    @triton.jit
    def _rms_norm_back_kernel(
        slope, x, weight, scale, slope_x, slope_stride, stride, width, offset, BLOCK: tl.constexpr
    ):
        row = tl.program_id(0).to(tl.int64)
        place = tl.arange(0, BLOCK)
        inside = place < width
        factor = tl.load(scale + row)
        wide = tl.load(x + row * stride + place, mask=inside, other=0.0).to(tl.float32)
        gain = tl.load(weight + place, mask=inside, other=0.0).to(tl.float32) + offset
        steep = tl.load(slope + row * slope_stride + place, mask=inside, other=0.0).to(tl.float32)
        steep = steep * gain
        normed = wide * factor
        shared = tl.sum(steep * normed, 0) / width
        result = (steep - normed * shared) * factor
        tl.store(slope_x + row * width + place, result.to(slope_x.dtype.element_ty), mask=inside)

    @triton.jit
    def _turned(gate, IS_SILU: tl.constexpr):
        if IS_SILU:
            return gate * tl.sigmoid(gate)
        # tanh(z) = 2 sigmoid(2 z) - 1
        inner = 0.7978845608028654 * (gate + 0.044715 * gate * gate * gate)
        return gate * tl.sigmoid(2 * inner)

    @triton.jit
    def _turn_slope(gate, IS_SILU: tl.constexpr):
        if IS_SILU:
            share = tl.sigmoid(gate)
            return share * (1 + gate * (1 - share))
        inner = 0.7978845608028654 * (gate + 0.044715 * gate * gate * gate)
        steep = 0.7978845608028654 * (1 + 3 * 0.044715 * gate * gate)
        share = tl.sigmoid(2 * inner)
        return share + gate * 2 * share * (1 - share) * steep

    @triton.jit
    def _product_kernel(gate, up, x, num, IS_SILU: tl.constexpr, BLOCK: tl.constexpr):
        place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        inside = place < num
        a = tl.load(gate + place, mask=inside, other=0.0).to(tl.float32)
        b = tl.load(up + place, mask=inside, other=0.0).to(tl.float32)
        turned = _turned(a, IS_SILU).to(x.dtype.element_ty).to(tl.float32)
        tl.store(x + place, (turned * b).to(x.dtype.element_ty), mask=inside)

    @triton.jit
    def _product_back_kernel(
        slope, gate, up, slope_gate, slope_up, x, num, IS_SILU: tl.constexpr, BLOCK: tl.constexpr
    ):
        place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        inside = place < num
        steep = tl.load(slope + place, mask=inside, other=0.0).to(tl.float32)
        a = tl.load(gate + place, mask=inside, other=0.0).to(tl.float32)
        b = tl.load(up + place, mask=inside, other=0.0).to(tl.float32)
        turned = _turned(a, IS_SILU).to(x.dtype.element_ty).to(tl.float32)
        tl.store(x + place, (turned * b).to(x.dtype.element_ty), mask=inside)
        tl.store(slope_up + place, (steep * turned).to(x.dtype.element_ty), mask=inside)
        back = steep * b * _turn_slope(a, IS_SILU)
        tl.store(slope_gate + place, back.to(x.dtype.element_ty), mask=inside)

    @triton.jit
    def _rotate_kernel(
        x, cos, sin, y, stride_b, stride_h, stride_t, angle_b, num_tokens,
        IS_BACK: tl.constexpr, HEADS: tl.constexpr, HALF: tl.constexpr,
        BLOCK_H: tl.constexpr, BLOCK_D: tl.constexpr,
    ):  # fmt: skip
        token, row = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
        head = tl.arange(0, BLOCK_H)[:, None]
        place = tl.arange(0, BLOCK_D)[None, :]
        inside = (head < HEADS) & (place < HALF)
        known = place < HALF
        angle = row * angle_b + token * 2 * HALF + place
        cos_1 = tl.load(cos + angle, mask=known, other=0.0).to(tl.float32)
        cos_2 = tl.load(cos + angle + HALF, mask=known, other=0.0).to(tl.float32)
        sin_1 = tl.load(sin + angle, mask=known, other=0.0).to(tl.float32)
        sin_2 = tl.load(sin + angle + HALF, mask=known, other=0.0).to(tl.float32)
        source = x + row * stride_b + head * stride_h + token * stride_t + place
        first = tl.load(source, mask=inside, other=0.0).to(tl.float32)
        second = tl.load(source + HALF, mask=inside, other=0.0).to(tl.float32)
        if IS_BACK:  # the transposed rotation
            one = first * cos_1 + second * sin_2
            two = second * cos_2 - first * sin_1
        else:
            one = first * cos_1 - second * sin_1
            two = second * cos_2 + first * sin_2
        target = y + ((row * num_tokens + token) * HEADS + head) * 2 * HALF + place
        tl.store(target, one.to(y.dtype.element_ty), mask=inside)
        tl.store(target + HALF, two.to(y.dtype.element_ty), mask=inside)

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
        place = y + token * num_out + out
        inside = (token < num_tokens) & (out < num_out)
        total = product + tl.load(place, mask=inside, other=0.0).to(tl.float32)
        tl.store(place, total.to(y.dtype.element_ty), mask=inside)

    @triton.jit
    def _cross_entropy_kernel(
        logits, target, loss,
        VOCABULARY: tl.constexpr, NEEDS_SLOPE: tl.constexpr, BLOCK: tl.constexpr,
    ):  # fmt: skip
        row = tl.program_id(0).to(tl.int64)
        start = logits + row * VOCABULARY
        wanted = tl.load(target + row)
        # Before slopes take the scores' place; what comes between waits for all threads.
        picked = tl.load(start + wanted).to(tl.float32)
        most = -float("inf")
        total = 0.0
        for begin in range(0, VOCABULARY, BLOCK):
            place = begin + tl.arange(0, BLOCK)
            part = tl.load(start + place, mask=place < VOCABULARY, other=-float("inf"))
            part = part.to(tl.float32)
            higher = tl.maximum(most, tl.max(part, 0))
            total = total * tl.exp(most - higher) + tl.sum(tl.exp(part - higher), 0)
            most = higher
        log_sum = most + tl.log(total)
        tl.store(loss + row, log_sum - picked)
        if NEEDS_SLOPE:
            for begin in range(0, VOCABULARY, BLOCK):
                place = begin + tl.arange(0, BLOCK)
                inside = place < VOCABULARY
                part = tl.load(start + place, mask=inside, other=-float("inf")).to(tl.float32)
                slope = tl.exp(part - log_sum) - tl.where(place == wanted, 1.0, 0.0)
                tl.store(start + place, slope.to(logits.dtype.element_ty), mask=inside)


def rms_norm(x: Tensor, weight_D: Tensor, eps: float, offset: float) -> tuple[Tensor, Tensor]:
    """Do what layers._RmsNorm does forward; returns the result and 1 / rms (T, float32)."""
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
    slope: Tensor, x: Tensor, weight_D: Tensor, scale_T: Tensor, offset: float
) -> Tensor:
    """Return the slope of x, in its shape and type."""
    width = x.shape[-1]
    x_TD, slope_TD = x.reshape(-1, width), slope.reshape(-1, width)
    if slope_TD.stride(1) != 1:
        slope_TD = slope_TD.contiguous()
    slope_x = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    block = triton.next_power_of_2(width)
    _rms_norm_back_kernel[(x_TD.shape[0],)](
        slope_TD, x_TD, weight_D, scale_T, slope_x, slope_TD.stride(0), x_TD.stride(0), width,
        float(offset), BLOCK=block, num_warps=_warps(block),
    )  # fmt: skip
    return slope_x


def product(gate: Tensor, up: Tensor, is_silu: bool) -> Tensor:
    """Return the turned gate times `up`: SiLU, or GELU by tanh."""
    gate, up = gate.contiguous(), up.contiguous()
    x = torch.empty_like(gate)
    grid = (triton.cdiv(gate.numel(), 1024),)
    _product_kernel[grid](gate, up, x, gate.numel(), IS_SILU=is_silu, BLOCK=1024)
    return x


def product_back(
    slope: Tensor, gate: Tensor, up: Tensor, is_silu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the slopes of the gate and of `up`, and their product once more."""
    slope, gate, up = slope.contiguous(), gate.contiguous(), up.contiguous()
    slope_gate, slope_up, x = (torch.empty_like(gate) for _ in range(3))
    grid = (triton.cdiv(gate.numel(), 1024),)
    _product_back_kernel[grid](
        slope, gate, up, slope_gate, slope_up, x, gate.numel(), IS_SILU=is_silu, BLOCK=1024
    )
    return slope_gate, slope_up, x


def rotate(x_BHTD: Tensor, cos_BTD: Tensor, sin_BTD: Tensor, back: bool = False) -> Tensor:
    """Turn queries or keys by their positions, or back by the transposed rotation.

    Source: RoFormer, arXiv:2104.09864, equation 34, halves apart as in transformers' Llama.

    Returns:
        The same dimensions; in memory a token's heads lie together.
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
    """Tell whether `add_low_rank_` can add a product, and pays: its start takes longer."""
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
    """
    num_tokens, num_out = y_TO.shape
    grid = (triton.cdiv(num_out, 128), triton.cdiv(num_tokens, 128))  # to 8 million tokens
    _low_rank_kernel[grid](
        y_TO, low_TR, b_RO, num_tokens, num_out, b_RO.stride(0), b_RO.stride(1),
        RANK=low_TR.shape[1], BLOCK_T=128, BLOCK_O=128, num_warps=8,
    )  # fmt: skip
    return y_TO


def cross_entropy_(logits_TV: Tensor, targets_T: Tensor, losses_T: Tensor, slope: bool) -> None:
    """Put each token's loss into `losses_T` and, if asked, its slope in place of the logits."""
    _cross_entropy_kernel[(logits_TV.shape[0],)](
        logits_TV, targets_T, losses_T, VOCABULARY=logits_TV.shape[1], NEEDS_SLOPE=slope,
        BLOCK=_PIECE, num_warps=8,
    )  # fmt: skip


def _warps(block: int) -> int:
    return 16 if block >= 8192 else 8 if block >= 2048 else 4


def fuse_rotation(module: Any) -> bool:
    """Put a fused rotation in place of a modelling module's `apply_rotary_pos_emb`.

    Args:
        module: A Python module of transformers, whose attention calls the function by that name.

    Returns:
        Whether it is there: only where the own one does just that to random numbers.
    """
    if not HAS_TRITON:
        return False
    own = getattr(module, "apply_rotary_pos_emb", None)
    if own is None or isinstance(own, _Rotation):
        return own is not None
    rotation = _Rotation(own)
    if rotation.is_what_it_does():
        module.apply_rotary_pos_emb = rotation
        return True
    return False


class _Rotation:
    """Stands in for transformers' apply_rotary_pos_emb."""

    def __init__(self, own: Any) -> None:
        self.own = own

    def __call__(
        self, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *more: Any, **named: Any
    ) -> tuple[Tensor, Tensor]:
        fits = q.dim() == 4 and cos.dim() == 3 and cos.shape[-1] == q.shape[-1]
        if more or named or not fits or not usable(q):
            found: tuple[Tensor, Tensor] = self.own(q, k, cos, sin, *more, **named)
            return found
        turned: tuple[Tensor, Tensor] = (
            _Rotate.apply(q, cos, sin),  # type: ignore[no-untyped-call]
            _Rotate.apply(k, cos, sin),  # type: ignore[no-untyped-call]
        )
        return turned

    @torch.no_grad()
    def is_what_it_does(self) -> bool:
        generator = torch.Generator().manual_seed(0)
        q, k = (torch.randn(1, h, 3, 8, generator=generator) for h in (4, 2))
        cos, sin = (torch.randn(1, 3, 8, generator=generator) for _ in range(2))
        wanted = []
        for x in (q, k):
            first, second = x.chunk(2, dim=-1)
            wanted.append(x * cos[:, None] + torch.cat((-second, first), -1) * sin[:, None])
        try:
            found = self.own(q, k, cos, sin)
        except Exception:  # another one's arguments
            return False
        pairs = zip(found, wanted, strict=True)
        return all(torch.allclose(one, other, rtol=1e-5, atol=1e-6) for one, other in pairs)


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BHTD: Tensor, cos_BTD: Tensor, sin_BTD: Tensor) -> Tensor:
        ctx.save_for_backward(cos_BTD, sin_BTD)
        return rotate(x_BHTD, cos_BTD, sin_BTD)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        cos_BTD, sin_BTD = ctx.saved_tensors
        return rotate(slopes[0], cos_BTD, sin_BTD, back=True), None, None
