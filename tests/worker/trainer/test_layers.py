"""Shorter forwards of norms and feed-forwards give the numbers of the longer ones.

That every architecture still learns the same is tests/worker/trainer/test_architectures.py's.
"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from worker.trainer.layers import fused


class OddRMSNorm(LlamaRMSNorm):
    def forward(self, hidden_states: Tensor) -> Tensor:
        return super().forward(hidden_states) + 1


def _norm(kind: Any, dtype: torch.dtype) -> Any:
    torch.manual_seed(0)
    norm = kind(48, eps=1e-5).to(dtype)
    nn.init.normal_(norm.weight, std=0.5)
    return norm.requires_grad_(False)


@pytest.mark.parametrize("kind", [LlamaRMSNorm, Gemma3RMSNorm])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)], ids=["fp32", "bf16"]
)
def test_a_norm_and_its_slope_are_those_of_the_model(
    kind: Any, dtype: torch.dtype, tolerance: float
) -> None:
    x = torch.randn(1, 7, 48).to(dtype).requires_grad_()
    slope = torch.randn(1, 7, 48).to(dtype)
    own = _norm(kind, dtype)
    expected = own(x)
    [expected_slope] = torch.autograd.grad(expected, x, slope)
    fused.fuse(own, dtype)
    assert isinstance(own.__dict__["forward"], fused._Norm)
    found = own(x)
    [found_slope] = torch.autograd.grad(found, x, slope)
    assert torch.equal(found, expected)
    torch.testing.assert_close(found_slope, expected_slope, rtol=tolerance, atol=tolerance)


def test_a_norm_that_does_something_else_keeps_its_own_forward() -> None:
    odd = _norm(OddRMSNorm, torch.float32)
    fused.fuse(odd, torch.float32)
    assert "forward" not in odd.__dict__


@pytest.mark.parametrize("turn", fused._TURNS, ids=lambda turn: type(turn).__name__)
def test_a_turns_slope_is_that_of_its_values(turn: fused._Silu) -> None:
    x = torch.linspace(-4, 4, 33, dtype=torch.float64, requires_grad=True)
    [expected] = torch.autograd.grad(turn.forward(x).sum(), x)
    torch.testing.assert_close(turn.backward(torch.ones_like(x), x.detach()), expected)
