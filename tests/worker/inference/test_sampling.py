"""Which tokens a draw is among, against the definition: sort all, take until the sum is there."""

import numpy as np
import pytest

from app.training.answers import Limits
from worker.inference.sampling import Sampler


@pytest.mark.parametrize("top_p", [0.3, 0.9, 0.99999999])
@pytest.mark.parametrize("width", [0.0, 1.0, 5.0])
def test_a_draw_is_among_the_likeliest_that_make_up_top_p(top_p: float, width: float) -> None:
    """From scores that are all equal, where nobody is likely, to a few far above all others."""
    scores_V = np.random.default_rng(3).normal(size=3000).astype(np.float32) * np.float32(width)
    weights_V = np.exp((scores_V.astype(np.float64) - float(scores_V.max())) / 0.7)
    weights_V /= weights_V.sum()
    order = np.argsort(-weights_V, kind="stable")
    order = order[: int(np.searchsorted(np.cumsum(weights_V[order]), top_p)) + 1]
    shares = np.cumsum(weights_V[order] / weights_V[order].sum())
    limits = Limits(temperature=0.7, top_p=top_p, seed=4)
    sampler, draws = Sampler(limits), np.random.default_rng([4, 0])
    for _ in range(40):
        place = int(np.searchsorted(shares, draws.random(), side="right"))
        assert sampler.next(scores_V) == order[min(place, len(order) - 1)]
