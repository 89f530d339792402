"""How sure a count is: intervals of a share, and of the difference between two models."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

NUM_RESAMPLES = 10_000
_SEED = 0
_Z = 1.959963984540054  # of 95 percent
# So many draws at once: a long test part does not fill the memory.
_MAX_DRAWS = 2_000_000


class Interval(NamedTuple):
    """A 95 % interval."""

    low: float
    high: float


def wilson(count: int, total: int) -> Interval:
    """Return the interval of a share, by Wilson's score (Wilson, 1927, JASA 22:209, eq. 4).

    Raises:
        ValueError: nothing was counted.
    """
    if total <= 0:
        raise ValueError("an interval of nothing")
    share, square = count / total, _Z**2 / total
    middle = (share + square / 2) / (1 + square)
    half = _Z / (1 + square) * math.sqrt(share * (1 - share) / total + square / (4 * total))
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def paired_difference(
    first: Sequence[float], second: Sequence[float], groups: Sequence[int]
) -> tuple[float, Interval]:
    """Return by how much one model does better on the same questions, and how sure that is.

    The paired percentile bootstrap (Efron and Tibshirani, 1993, chapters 8 and 13), which draws
    whole groups of questions: those of a group rise and fall together.

    Args:
        first, second: What each was worth to a question, from 0 to 1, shape (questions,).
        groups: To which group a question belongs.

    Raises:
        ValueError: there is no question.
    """
    if not first:
        raise ValueError("a difference of nothing")
    differences = np.asarray(first, float) - np.asarray(second, float)
    _, of = np.unique(np.asarray(groups), return_inverse=True)
    sums, sizes = np.bincount(of, weights=differences), np.bincount(of).astype(float)
    num_groups = len(sums)
    generator = np.random.default_rng(_SEED)
    at_once = max(1, _MAX_DRAWS // num_groups)
    means = np.empty(NUM_RESAMPLES)
    for start in range(0, NUM_RESAMPLES, at_once):
        number = min(at_once, NUM_RESAMPLES - start)
        drawn = generator.integers(0, num_groups, size=(number, num_groups))
        means[start : start + number] = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(differences.mean()), Interval(float(low), float(high))
