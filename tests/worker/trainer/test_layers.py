"""Shorter forwards of norms and feed-forwards give the numbers of the longer ones.

That every architecture still learns the same is tests/worker/trainer/test_architectures.py's.
"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from worker.trainer.layers import feed_forward, patching
from worker.trainer.layers.activations import ACTIVATIONS, Activation
from worker.trainer.layers.norms import Norm


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
def test_a_norm_and_its_gradient_are_those_of_the_model(
    kind: Any, dtype: torch.dtype, tolerance: float
) -> None:
    x = torch.randn(1, 7, 48).to(dtype).requires_grad_()
    grad = torch.randn(1, 7, 48).to(dtype)
    own = _norm(kind, dtype)
    expected = own(x)
    [expected_grad] = torch.autograd.grad(expected, x, grad)
    patching.shorten(own, dtype, feed_forward.candidates)
    assert isinstance(own.__dict__["forward"], Norm)
    y = own(x)
    [grad_x] = torch.autograd.grad(y, x, grad)
    assert torch.equal(y, expected)
    torch.testing.assert_close(grad_x, expected_grad, rtol=tolerance, atol=tolerance)


def test_a_norm_that_does_something_else_keeps_its_own_forward() -> None:
    odd = _norm(OddRMSNorm, torch.float32)
    patching.shorten(odd, torch.float32, feed_forward.candidates)
    assert "forward" not in odd.__dict__


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: type(a).__name__)
def test_an_activations_gradient_is_that_of_its_values(activation: Activation) -> None:
    x = torch.linspace(-4, 4, 33, dtype=torch.float64, requires_grad=True)
    [expected] = torch.autograd.grad(activation.forward(x).sum(), x)
    torch.testing.assert_close(activation.backward(torch.ones_like(x), x.detach()), expected)
