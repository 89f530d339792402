"""Each fused kernel gives what torch's own operations give in its place.

On a GPU as compiled; tests/worker/trainer/test_kernels.py has Triton's interpreter run the same on
a CPU.
"""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers.models.llama import modeling_llama

from tests.gpu.conftest import DEVICE, random_job
from tests.gpu.test_gpu import cosine, gradients
from worker.trainer import loop, loss
from worker.trainer.layers import kernels, lora, rotation
from worker.trainer.layers.activations import ACTIVATIONS, Activation
from worker.trainer.layers.norms import RmsNorm

TOLERANCES = {torch.float32: 2e-5, torch.bfloat16: 2e-2}
dtypes = pytest.mark.parametrize("dtype", TOLERANCES, ids=["fp32", "bf16"])
# The interpreter takes a millisecond for what a GPU does in one of its cycles.
IS_SLOW = DEVICE == "cpu"


@pytest.fixture(autouse=True)
def at_work() -> None:
    torch.manual_seed(0)
    if DEVICE == "cpu" and not kernels.HAS_TRITON:
        pytest.skip(
            "On a CPU Triton's interpreter is asked for by tests/worker/trainer/test_kernels.py."
        )
    assert kernels.usable(torch.ones(1, device=DEVICE))


def same(operation: Callable[[], list[Tensor]], dtype: torch.dtype) -> None:
    """Hold an operation with kernels against the same without."""
    with_kernels = operation()
    with kernels.switched_off():
        plain = operation()
    for one, other in zip(with_kernels, plain, strict=True):
        bound = TOLERANCES[dtype] * max(1.0, other.abs().max().item())
        torch.testing.assert_close(one, other, rtol=TOLERANCES[dtype], atol=bound)


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, device=DEVICE).to(dtype)


@dtypes
@pytest.mark.parametrize("offset", [0.0, 1.0], ids=["llama", "gemma"])
@pytest.mark.parametrize("width", [48, 576, 4096])
def test_a_norm_and_its_gradient(width: int, offset: float, dtype: torch.dtype) -> None:
    x = draw(2, 5, width, dtype=dtype).requires_grad_()
    weight, grad = draw(width, dtype=dtype), draw(2, width, 5, dtype=dtype).transpose(1, 2)

    def operation() -> list[Tensor]:
        y: Tensor = RmsNorm.apply(  # type: ignore[no-untyped-call]
            x, weight, 1e-5, offset
        )
        return [y.detach(), *torch.autograd.grad(y, x, grad)]

    same(operation, dtype)


@dtypes
def test_a_norm_of_a_part_of_each_token(dtype: torch.dtype) -> None:
    """Qwen3 has norms of each head's query."""
    x = draw(1, 7, 3, 40, dtype=dtype)[..., :24].requires_grad_()
    weight = draw(24, dtype=dtype)

    def operation() -> list[Tensor]:
        y: Tensor = RmsNorm.apply(x, weight, 1e-6, 0.0)  # type: ignore[no-untyped-call]
        return [y.detach(), *torch.autograd.grad(y.sum(), x)]

    same(operation, dtype)


@dtypes
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: type(a).__name__)
def test_an_activated_gate(activation: Activation, dtype: torch.dtype) -> None:
    gate, up, grad = (3 * draw(1, 7, 1333, dtype=dtype) for _ in range(3))

    def operation() -> list[Tensor]:
        gradients = activation.product_gradients(grad.clone(), gate, up)
        return [activation.product(gate, up), *gradients]

    same(operation, dtype)


@dtypes
@pytest.mark.parametrize("width", [24, 64, 128])
@pytest.mark.parametrize("rows", [1, 2])
def test_a_rotation(rows: int, width: int, dtype: torch.dtype) -> None:
    assert rotation.fuse(modeling_llama)
    q, k = (
        draw(2, 5, heads, width, dtype=dtype).transpose(1, 2).requires_grad_() for heads in (6, 2)
    )
    cos, sin = draw(rows, 5, width, dtype=dtype), draw(rows, 5, width, dtype=dtype)
    grads = [draw(2, heads, 5, width, dtype=dtype) for heads in (6, 2)]

    def operation() -> list[Tensor]:
        rotated = modeling_llama.apply_rotary_pos_emb(q, k, cos, sin)
        gradients = torch.autograd.grad(rotated, (q, k), grads)
        return [*(x.detach() for x in rotated), *gradients]

    same(operation, dtype)


def test_a_rotation_of_another_kind_stays() -> None:
    class Module:
        @staticmethod
        def apply_rotary_pos_emb(
            q: Tensor, k: Tensor, cos: Tensor, sin: Tensor
        ) -> tuple[Tensor, Tensor]:
            return q * cos[:, None], k * cos[:, None]

    own = Module.apply_rotary_pos_emb
    assert not rotation.fuse(Module)
    assert Module.apply_rotary_pos_emb is own


@dtypes
@pytest.mark.parametrize("each", [False, True], ids=["sum", "each"])
@pytest.mark.parametrize("vocabulary", [320, 5000] if IS_SLOW else [320, 5000, 128256])
def test_cross_entropy_and_its_gradient(vocabulary: int, each: bool, dtype: torch.dtype) -> None:
    hidden = draw(9, 16, dtype=dtype).requires_grad_()
    head = draw(vocabulary, 16, dtype=dtype)
    targets = torch.randint(vocabulary, (9,), device=DEVICE)
    weights = torch.arange(1, 10, device=DEVICE)

    def operation() -> list[Tensor]:
        losses: Tensor = loss._ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
            hidden, head, targets, None, 4, None, each
        )
        total = (losses * weights).sum() if each else losses
        return [losses.detach(), *torch.autograd.grad(total, hidden)]

    same(operation, dtype)


def test_nothing_labelled_loses_nothing() -> None:
    hidden = draw(0, 16).requires_grad_()
    targets = torch.zeros(0, dtype=torch.int64, device=DEVICE)
    total: Tensor = loss._ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden, draw(320, 16), targets, None, 4, None, False
    )
    assert total.item() == 0
    [grad] = torch.autograd.grad(total, hidden)
    assert grad.shape == (0, 16)


# The interpreter multiplies bfloat16's bits as if they were whole numbers.
@pytest.mark.parametrize("dtype", [torch.float16 if IS_SLOW else torch.bfloat16])
@pytest.mark.parametrize("rank", [16, 64])
@pytest.mark.parametrize("is_back", [False, True], ids=["forward", "back"])
def test_adding_a_product_of_small_rank(
    rank: int, is_back: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels._State, "least_for_low_rank", 0)
    y, low = (draw(150, width, dtype=dtype) for width in (200, rank))
    b = draw(rank, 200, dtype=dtype)
    b = b if is_back else b.T.contiguous().T
    assert kernels.usable_for_low_rank(y, low)
    same(lambda: [lora._add_product(y.clone(), low, b)], torch.bfloat16)


def test_a_step_is_the_same_with_and_without(tmp_path: Path) -> None:
    lengths = [4, 3] * 8 if IS_SLOW else [300, 64, 512, 77] * 4
    results = []
    for name in ("fused", "plain"):
        state = random_job(tmp_path / name, "small", lengths)
        with kernels.switched_off() if name == "plain" else nullcontext():
            results.append((loop.fill_gradients(state, state.data.train), gradients(state)))
    (one, ours), (other, theirs) = results
    assert one == pytest.approx(other, rel=2e-3)
    for name, gradient in ours.items():
        assert cosine(gradient, theirs[name]) > 0.995, name
