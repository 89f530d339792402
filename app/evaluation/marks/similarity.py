"""How alike two texts are: token F1, chrF and ROUGE-L."""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from rapidfuzz.distance import LCSseq
from sacrebleu.metrics.chrf import CHRF

# chrF counts all n-grams of letters: what is longer says no more about likeness.
_MAX_CHRF_CHARS = 2000
_MAX_WORDS = 1500


class Similarity(NamedTuple):
    """Three measures between 0 and 1."""

    f1: float
    chrf: float
    rouge_l: float

    @property
    def mean(self) -> float:
        return (self.f1 + self.chrf + self.rouge_l) / 3


def similarity(reference: Sequence[str], answer: Sequence[str]) -> Similarity:
    """Compare two texts' words; rouge-score would drop letters that are not ASCII."""
    first, second = list(reference[:_MAX_WORDS]), list(answer[:_MAX_WORDS])
    if not first or not second:
        return Similarity(0, 0, 0)
    common = sum((Counter(first) & Counter(second)).values())
    longest = LCSseq.similarity(first, second)
    chrf = _chrf().sentence_score(
        " ".join(second)[:_MAX_CHRF_CHARS], [" ".join(first)[:_MAX_CHRF_CHARS]]
    )
    total = len(first) + len(second)
    return Similarity(2 * common / total, chrf.score / 100, 2 * longest / total)


@lru_cache
def _chrf() -> CHRF:
    return CHRF()
