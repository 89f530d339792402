"""The loss of the labelled tokens, against numbers worked out by hand and torch's own."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from app.training.chat import IGNORE_INDEX
from worker.trainer.loss import completion_loss, sequence_losses


def test_uniform_scores_cost_log_of_vocabulary() -> None:
    labels_T = torch.tensor([IGNORE_INDEX, IGNORE_INDEX, 3, 5])
    loss_sum, num_tokens = completion_loss(torch.zeros(4, 16), torch.zeros(8, 16), labels_T)
    assert num_tokens == 2
    assert loss_sum.item() == pytest.approx(2 * math.log(8))


@pytest.mark.parametrize("chunk_tokens", [1, 7, 100])
def test_loss_and_gradient_are_those_of_whole_logits(chunk_tokens: int) -> None:
    torch.manual_seed(0)
    hidden_TD = torch.randn(30, 16, requires_grad=True)
    head_VD, bias_V = torch.randn(50, 16), torch.randn(50)
    labels_T = torch.randint(0, 50, (30,))
    labels_T[torch.randperm(30)[:12]] = IGNORE_INDEX
    loss_sum, num_tokens = completion_loss(hidden_TD, head_VD, labels_T, bias_V, chunk_tokens)
    (3 * loss_sum).backward()
    grad, hidden_TD.grad = hidden_TD.grad, None
    logits = hidden_TD[:-1] @ head_VD.T + bias_V
    expected = cross_entropy(logits, labels_T[1:], ignore_index=IGNORE_INDEX, reduction="sum")
    (3 * expected).backward()
    assert num_tokens == (labels_T[1:] != IGNORE_INDEX).sum()
    torch.testing.assert_close(loss_sum, expected)
    torch.testing.assert_close(grad, hidden_TD.grad)


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="4 hidden states"):
        completion_loss(torch.zeros(4, 2), torch.zeros(8, 2), torch.zeros(5, dtype=torch.int64))


@pytest.mark.parametrize("chunk_tokens", [3, 100])
def test_each_sequence_has_a_loss_of_its_own(chunk_tokens: int) -> None:
    torch.manual_seed(0)
    hidden_TD = torch.randn(30, 16, requires_grad=True)
    head_VD = torch.randn(50, 16)
    labels_T = torch.randint(0, 50, (30,))
    lengths = [7, 12, 11]
    labels_T[[0, 1, 7, 8, 9, 19]] = IGNORE_INDEX
    weights = torch.tensor([1.0, -2.0, 0.5])
    losses = sequence_losses(hidden_TD, head_VD, labels_T, lengths, None, chunk_tokens)
    (losses * weights).sum().backward()
    gradient, hidden_TD.grad = hidden_TD.grad, None
    parts = zip(hidden_TD.split(lengths), labels_T.split(lengths), strict=True)
    expected = torch.stack([completion_loss(h, head_VD, labels)[0] for h, labels in parts])
    (expected * weights).sum().backward()
    torch.testing.assert_close(losses, expected)
    torch.testing.assert_close(gradient, hidden_TD.grad)
