"""What the examples are about: words that many of them share, and that come with the same others.

No model, and no names for topics: a topic is a word that many examples have, with the words that
stand beside it far more often than elsewhere. A common word without such company (when, please)
is none. Words of few examples, numbers and names of people are left out, so that what is shown of
all examples shows nobody in them.
"""

import re
from array import array
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from app.datasets.doctor.report import Topic
from app.datasets.doctor.rows import Row
from app.datasets.privacy import words as word_lists

MOST_TOPICS = 6
# Evenly spread, so many examples are looked at, the beginning of each.
_MOST_EXAMPLES = 5_000
_CHARACTERS = 1_000
_MIN_EXAMPLES = 20
# A topic's word stands in at least so many of them, and in no more than this share.
_FEWEST, _LEAST_SHARE, _MOST_SHARE = 4, 0.02, 0.4
# The commonest words that may be topics; companions come from among them.
_CANDIDATES = 500
_MOST_COMPANIONS = 3
# A companion is so many times as likely beside the word as anywhere, and stands there in such a
# share of the examples. It is no work of chance: the more pairs, the more standard deviations.
_LIFT, _LEAST_TOGETHER = 2.5, 0.01
_WORD = re.compile(r"[^\W\d_]{4,}")
_NOT_TOPICS = frozenset().union(*word_lists.FUNCTION_WORDS.values()) | {
    name.casefold() for name in word_lists.GIVEN_NAMES | word_lists.SURNAMES
}


class Topics:
    """Gathers words; `found` says which of them are topics."""

    def __init__(self, num_examples: int) -> None:
        self._every = max(1, -(-num_examples // _MOST_EXAMPLES))
        self._numbers: dict[str, int] = {}
        self._examples: list[array[int]] = []

    def check(self, rows: list[Row]) -> None:
        for row in rows:
            if row.index % self._every == 0:
                words = set(_WORD.findall(row.plain[:_CHARACTERS])) - _NOT_TOPICS
                numbers = (self._numbers.setdefault(word, len(self._numbers)) for word in words)
                self._examples.append(array("i", sorted(numbers)))

    @property
    def num_looked_at(self) -> int:
        """How many examples the counts are of."""
        return len(self._examples)

    def found(self) -> list[Topic]:
        """Return the topics, the one with most examples first; none where there are few."""
        if len(self._examples) < _MIN_EXAMPLES:
            return []
        words, has_DW = self._table()
        if not words:
            return []
        topics: list[Topic] = []
        left_D = np.ones(len(self._examples), dtype=bool)
        together_WW = has_DW.T @ has_DW
        lift_WW = _lift(together_WW, len(self._examples))
        while len(topics) < MOST_TOPICS:
            best, companions = _best(
                words, has_DW[left_D].sum(axis=0), lift_WW, together_WW, len(has_DW)
            )
            if best is None:
                break
            covered_D = has_DW[:, best] > 0
            topics.append(
                Topic(
                    words=[words[number] for number in (best, *companions)],
                    count=int(covered_D.sum()),
                )
            )
            # What has the word or most of its company is told of: the next topic is another one.
            left_D &= ~covered_D & (has_DW[:, companions].sum(axis=1) < max(1, len(companions) - 1))
        return sorted(topics, key=lambda topic: -topic.count)

    def _table(self) -> tuple[list[str], NDArray[np.float32]]:
        """Return the words that may be topics, and which example has which of them."""
        total = len(self._examples)
        counts = Counter(number for example in self._examples for number in example)
        fewest = max(_FEWEST, round(_LEAST_SHARE * total))
        names = list(self._numbers)
        chosen = [
            number
            for number, count in counts.most_common()
            if fewest <= count <= _MOST_SHARE * total
        ][:_CANDIDATES]
        places = {number: place for place, number in enumerate(chosen)}
        has_DW = np.zeros((total, len(chosen)), dtype=np.float32)
        for row, example in enumerate(self._examples):
            for number in example:
                if number in places:
                    has_DW[row, places[number]] = 1
        return [names[number] for number in chosen], has_DW


def _lift(together_WW: NDArray[np.float32], total: int) -> NDArray[np.float32]:
    """Say how many times as likely each word is beside another as anywhere."""
    alone_W = np.diag(together_WW)
    lift: NDArray[np.float32] = together_WW * total / np.outer(alone_W, alone_W)
    return lift


def _best(
    words: list[str],
    left_W: NDArray[np.float32],
    lift_WW: NDArray[np.float32],
    together_WW: NDArray[np.float32],
    num_examples: int,
) -> tuple[int | None, list[int]]:
    """Choose the word that tells most of what is left, with its companions."""
    sure = (4 * np.log(max(2, len(words)))) ** 0.5
    fewest_together = max(_FEWEST, _LEAST_TOGETHER * num_examples)
    best, best_score, best_companions = None, 0.0, list[int]()
    for number in range(len(words)):
        if left_W[number] < _FEWEST:
            continue
        together_W, lift_W = together_WW[number], lift_WW[number]
        by_chance_W = together_W / np.maximum(lift_W, 1e-9)
        is_sure_W = together_W - by_chance_W >= sure * np.sqrt(by_chance_W)
        is_companion_W = is_sure_W & (lift_W >= _LIFT) & (together_W >= fewest_together)
        log_lift_W = np.log(np.maximum(lift_W, 1))
        worth_W = np.where(is_companion_W, together_W * log_lift_W, 0)
        companions: list[int] = []
        for other in np.argsort(-worth_W, kind="stable"):
            if worth_W[other] <= 0 or len(companions) == _MOST_COMPANIONS:
                break
            if not any(_is_form_of(words[other], words[each]) for each in (number, *companions)):
                companions.append(int(other))
        company = float(sum(np.log(lift_WW[number][each]) for each in companions))
        score = float(left_W[number]) * company
        if companions and score > best_score:
            best, best_score, best_companions = number, score, companions
    return best, best_companions


def _is_form_of(one: str, other: str) -> bool:
    """Say whether two words are likely forms of one: exercise, exercises."""
    return one[:5] == other[:5]
