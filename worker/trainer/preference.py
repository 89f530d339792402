"""Preference tuning (DPO): the better of two answers is to become likelier than the worse.

How likely they were before the first step is the reference. The model of that moment is this one
with its adapter switched off, or with the weights of the adapter that it began with: no second
model is in memory. Both answers of a pair lie in one row.

Source: Direct Preference Optimization, arXiv:2305.18290, equation 7.

Dimensions: S sequences, of each pair the better answer and then the worse; P pairs.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

from worker.trainer.group import ALONE, Group


class Preferences(NamedTuple):
    """How pairs fared beside the model from before the first step."""

    share: float  # of pairs whose better answer is preferred; one that is not decided is a half
    margin: float  # by how much, on average: in nats, times beta


@dataclass
class Tally:
    """Sums over the pairs that were seen since it was last taken."""

    num: int = 0
    num_preferred: float = 0.0
    margin: float = 0.0

    def add(self, margin_P: Tensor | None) -> None:
        """Count the pairs of a row by their margins (P, nats times beta); None has no pairs."""
        if margin_P is None:
            return
        self.num += margin_P.shape[0]
        self.num_preferred += ((margin_P > 0).sum() + 0.5 * (margin_P == 0).sum()).item()
        self.margin += margin_P.sum().item()

    def take(self, group: Group = ALONE) -> Preferences | None:
        """Return what all processes saw, and begin anew; None where there were no pairs."""
        num = group.sum(self.num)
        preferred, margin = group.sum(self.num_preferred), group.sum(self.margin)
        self.clear()
        return Preferences(preferred / num, margin / num) if num else None

    def clear(self) -> None:
        self.num, self.num_preferred, self.margin = 0, 0.0, 0.0


def pair_loss(losses_S: Tensor, reference_S: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Sum the loss of some pairs.

    Args:
        losses_S: Of each answer, the better and the worse one in turn, in nats: negative
            log-probabilities; float32.
        reference_S: The same before the first step, without gradient.
        beta: How much it costs to leave the reference.

    Returns:
        The sum in nats (float32 scalar), and each pair's margin (P, float32, without gradient):
        how much more the better answer has gained than the worse one, times beta.

    Source: Direct Preference Optimization, arXiv:2305.18290, equation 7.
    """
    gain_S = reference_S - losses_S
    margin_P = beta * (gain_S[0::2] - gain_S[1::2])
    return -functional.logsigmoid(margin_P).sum(), margin_P.detach()
