"""From scores to the next token: penalties, grammar, temperature, top-p, a seeded draw.

Dimensions: V vocabulary.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from app.training.answers import Limits

_NO_NUMBERS = "the model's scores are not numbers"
_UNLIKELY = 1e-5


class Grammar(Protocol):
    """Which tokens may come next."""

    def mask(self) -> NDArray[np.bool_]:
        """Return which of the vocabulary (V) may."""

    def accept(self, token_id: int) -> None: ...


@dataclass
class Sampler:
    """Draws one answer's tokens; the same scores and seed bring the same tokens."""

    limits: Limits
    grammar: Grammar | None = None
    index: int = 0  # which of several answers to one question
    _counts: Counter[int] = field(default_factory=Counter)
    _draw: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        seed = self.limits.seed
        # Without a seed each answer is another; with one, each of several has its own.
        self._draw = np.random.default_rng(None if seed is None else [seed, self.index])

    def next(self, scores_V: NDArray[np.float32]) -> int:
        """Choose the next token.

        Args:
            scores_V: The model's own logits; left as they are.

        Raises:
            ValueError: none is a number.
        """
        limits = self.limits
        changed_V = self._penalized(scores_V)
        if self.grammar is not None:
            changed_V = np.where(self.grammar.mask(), changed_V, np.float32(-np.inf))
        best = int(np.argmax(changed_V))
        if not np.isfinite(changed_V[best]):
            raise ValueError(_NO_NUMBERS)
        token_id = best if limits.temperature == 0 else self._drawn(changed_V, changed_V[best])
        self._counts[token_id] += 1
        if self.grammar is not None:
            self.grammar.accept(token_id)
        return token_id

    def _penalized(self, scores_V: NDArray[np.float32]) -> NDArray[np.float32]:
        limits = self.limits
        if not self._counts or not (limits.frequency_penalty or limits.presence_penalty):
            return scores_V
        ids = np.fromiter(self._counts.keys(), np.int64)
        nums = np.fromiter(self._counts.values(), np.float32)
        changed_V = scores_V.copy()
        changed_V[ids] -= limits.frequency_penalty * nums + limits.presence_penalty
        return changed_V

    def _drawn(self, scores_V: NDArray[np.float32], best: np.float32) -> int:
        weights_V = np.exp((scores_V.astype(np.float64) - float(best)) / self.limits.temperature)
        weights_V /= weights_V.sum()
        ids = _core(weights_V, self.limits.top_p) if self.limits.top_p < 1 else None
        if ids is not None:
            weights_V = weights_V[ids] / weights_V[ids].sum()
        drawn = int(np.searchsorted(np.cumsum(weights_V), self._draw.random(), side="right"))
        drawn = min(drawn, len(weights_V) - 1)  # rounding may leave the sum below the draw
        return drawn if ids is None else int(ids[drawn])


def _core(weights_V: NDArray[np.float64], top_p: float) -> NDArray[np.int64]:
    """Return the likeliest tokens that make up top_p together; the first always stays."""
    # To sort a whole vocabulary takes longer than a small model's next word, and these are enough
    # nearly always.
    for some in (np.flatnonzero(weights_V > _UNLIKELY), np.arange(len(weights_V))):
        ids = some[np.argsort(-weights_V[some], kind="stable")]
        num = int(np.searchsorted(np.cumsum(weights_V[ids]), top_p)) + 1
        if num <= len(ids):
            break
    return ids[:num]


def log_probabilities(scores_V: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the natural logarithm of each token's probability (V), before anything is drawn.

    Raises:
        ValueError: the scores are not numbers.
    """
    best = float(scores_V.max())
    if not np.isfinite(best):
        raise ValueError(_NO_NUMBERS)
    shifted_V = scores_V.astype(np.float64) - best
    logs_V: NDArray[np.float64] = shifted_V - np.log(np.exp(shifted_V).sum())
    return logs_V


def likeliest(logs_V: NDArray[np.float64], num: int) -> list[int]:
    """Return the ids of the likeliest tokens, the likeliest first."""
    if num == 0:
        return []
    some = np.argpartition(-logs_V, min(num, len(logs_V) - 1))[:num]
    return [int(i) for i in some[np.argsort(-logs_V[some], kind="stable")]]
