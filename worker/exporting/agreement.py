"""How near an export's words are to the reference's: its bounds, and what was found.

The reference is transformers with PEFT in float32 on the 16-bit weights. Words that sound well say
nothing: q and k whose rows were not turned passed the loose bounds of 8 bits, hence 16 bits are
judged first, by the strict ones (decision 38).
"""

import math
from collections.abc import Sequence

from pydantic import BaseModel, FiniteFloat

# Enough for a share to mean something; fewer are judged all the same, and said.
ENOUGH_POSITIONS = 300
Scores = Sequence[tuple[Sequence[int], Sequence[float]]]


class Bound(BaseModel):
    """At least so many of the likeliest tokens are the reference's, and so far is the loss."""

    same_share: float
    loss: float


_BOUNDS = {
    "as_trained": Bound(same_share=0.98, loss=0.02),
    "bf16": Bound(same_share=0.98, loss=0.02),
    "f16": Bound(same_share=0.98, loss=0.02),
    "q8_0": Bound(same_share=0.95, loss=0.05),
    "q4_k_m": None,  # shown without one: four bits are a choice
}


class Endings(BaseModel):
    """How many answers to held-out questions came to an end by themselves, said greedily."""

    num_asked: int
    num_ended: int
    reference_ended: int
    max_tokens: int  # of an answer; what is not over by then counts as without an end

    @property
    def is_fit(self) -> bool:
        """Say whether about as many ended: 5 fewer of 20 would be chance once in 32 times."""
        return self.reference_ended - self.num_ended <= max(1, self.num_asked // 5)


class Agreement(BaseModel):
    """What a program that is not ours found of the held-out answers, beside the reference."""

    program: str  # e.g. "transformers 5.23.0 and PEFT 0.19.1"
    quantization: str
    num_rows: int
    num_positions: int
    same_share: float  # of positions with the reference's likeliest token, from 0 to 1
    loss: FiniteFloat | None  # mean over positions, in nats; None: it is no number
    reference_loss: FiniteFloat | None
    bound: Bound | None
    endings: Endings | None = None  # None: it is only looked at on the way to another form

    @property
    def loss_difference(self) -> float | None:
        if self.loss is None or self.reference_loss is None:
            return None
        return self.loss - self.reference_loss

    @property
    def is_near(self) -> bool:
        if self.loss_difference is None:  # also where nothing else is asked for
            return False
        if self.bound is None:
            return True
        is_near = abs(self.loss_difference) <= self.bound.loss
        return is_near and self.same_share >= self.bound.same_share

    @property
    def is_fit(self) -> bool:
        return self.is_near and (self.endings is None or self.endings.is_fit)

    def shortfall(self) -> str:
        """Say by how much it falls short, for a person."""
        if self.reference_loss is None:
            return (
                "The adapter as it was trained finds no usable probability for some words, so "
                "nothing can be compared with it, and this is not offered; train it again, with a "
                "lower learning rate."
            )
        if self.loss is None:
            return (
                f"Opened by {self.program}, it finds no usable probability for some words: its "
                "numbers become too large for this form. So it is not offered; try another form, "
                "or the merged model."
            )
        if self.is_near:
            assert self.endings is not None
            return (
                f"Opened by {self.program}, {self.endings.num_ended} of "
                f"{self.endings.num_asked} answers come to an end within "
                f"{self.endings.max_tokens} words, and {self.endings.reference_ended} do with the "
                "adapter as it was trained. So it is not offered; please tell your administrator."
            )
        assert self.bound is not None
        assert self.loss_difference is not None
        return (
            f"Opened by {self.program}, {self.same_share * 100:.1f} % of its likeliest words are "
            f"the adapter's own (at least {self.bound.same_share * 100:.0f} % are wanted) and its "
            f"loss differs by {self.loss_difference:+.3f} (at most {self.bound.loss:.2f}), over "
            f"{self.num_positions:,} words. So it is not offered; please tell your administrator."
        )


def compare(program: str, quantization: str, found: Scores, reference: Scores) -> Agreement:
    """Hold what a program found against the reference, position by position."""
    positions = [
        (own, reference_own) for (own, _), (reference_own, _) in zip(found, reference, strict=True)
    ]
    same = sum(a == b for own, other in positions for a, b in zip(own, other, strict=True))
    num = sum(len(own) for own, _ in positions)
    return Agreement(
        program=program,
        quantization=quantization,
        num_rows=len(found),
        num_positions=num,
        same_share=same / num,
        loss=_mean_loss(found, num),
        reference_loss=_mean_loss(reference, num),
        bound=_BOUNDS[quantization],
    )


def _mean_loss(scores: Scores, num_positions: int) -> float | None:
    """Return the mean in nats; None where a weight or a probability is no number."""
    loss = -sum(sum(logprobs) for _, logprobs in scores) / num_positions
    return loss if math.isfinite(loss) else None
