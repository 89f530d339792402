"""The example of a practice set whose question is most like one that somebody asks.

By words and not by meaning: each counts the more the fewer questions have it (BM25), and of long
ones the first letters count, so that “tests” finds “test”. Of a small version all questions are
compared, from an index of numbers that is kept; of a large one those in the few blocks that hold
most of the asked words (app/datasets/search.py).
"""

import math
import re
import threading
import zlib
from array import array
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from app.core.models import DatasetVersion, Split
from app.datasets import examples, search, search_bits

# Numbers kept for each version, and for how many: some 100 bytes a question.
_MAX_INDEXED = search.MIN_INDEXED
_NUM_KEPT = 8
# Of a large version: this many blocks of 64 examples are read.
_NUM_BLOCKS = 12
_MAX_ASKED_WORDS = 40
_STEM_LETTERS = 6
# Of the weight of all words in both questions, those that they share carry at least so much. Two
# questions about one thing in the clinic's sample nearly always reach it, others hardly ever.
_MIN_SHARE = 0.2
_SATURATION, _LENGTH_SHARE = 1.2, 0.75  # k1 and b of BM25
_WORD = re.compile(r"\w+")


class _Index:
    """Questions by the words that they hold; words are numbers here."""

    def __init__(self, questions: Iterable[tuple[int, str]]) -> None:
        self._indices = array("i")
        self._words: list[array[int]] = []  # of each question, every word once
        # Of each word the questions that hold it, and how often each does.
        self._positions: dict[int, array[int]] = {}
        self._times: dict[int, array[int]] = {}
        lengths = array("i")
        for index, question in questions:
            words = Counter(_words(question))
            if not words:
                continue
            for word, times in words.items():
                self._positions.setdefault(word, array("i")).append(len(self._indices))
                self._times.setdefault(word, array("i")).append(times)
            self._indices.append(index)
            self._words.append(array("I", words))
            lengths.append(words.total())
        length = np.array(lengths, dtype=np.float64)
        mean_length = length.mean() if len(length) else 1.0
        self._damping = _SATURATION * (1 - _LENGTH_SHARE + _LENGTH_SHARE * length / mean_length)

    def num_with(self, word: int) -> int:
        """Return how many questions hold a word."""
        return len(self._positions.get(word, ()))

    def best(self, asked: Sequence[int], known: Mapping[int, float] | None = None) -> int | None:
        """Return the index of the example that is most like what was asked, if one is like it.

        Args:
            asked: The words, each once.
            known: What a word counts, where that is not to be worked out from these questions.
        """
        known = known or {}
        scores = np.zeros(len(self._indices))
        for word in asked:
            if word in self._positions:
                at = np.frombuffer(self._positions[word], dtype=np.intc)
                times = np.frombuffer(self._times[word], dtype=np.intc)
                gain = times * (_SATURATION + 1) / (times + self._damping[at])
                scores[at] += self._weight(word, known) * gain
        if not scores.any():
            return None
        position = int(scores.argmax())  # of equals the first in the file
        words = self._words[position]
        both = {word: self._weight(word, known) for word in {*asked, *words}}
        shared = sum(both[word] for word in asked if word in words)
        return self._indices[position] if shared >= _MIN_SHARE * sum(both.values()) else None

    def _weight(self, word: int, known: Mapping[int, float]) -> float:
        if word in known:
            return known[word]
        return _weight(self.num_with(word), len(self._words))


# By the moment of its making as well: ids begin anew in a database that was set up anew.
_kept: OrderedDict[tuple[int, datetime], _Index] = OrderedDict()
_lock = threading.Lock()


def find(db: Session, version: DatasetVersion, question: str) -> int | None:
    """Return the index of the practice example whose question is most like this one.

    Returns:
        None where no question is like it.
    """
    asked = list(dict.fromkeys(_words(question)))[:_MAX_ASKED_WORDS]
    if not asked:
        return None
    if is_indexed(version):
        return _index_of(db, version).best(asked)
    return _in_blocks(db, version, question, asked)


def is_indexed(version: DatasetVersion) -> bool:
    """Say whether looking takes little: all questions of a small version are kept in memory."""
    return version.num_rows < _MAX_INDEXED


def num_with(db: Session, version: DatasetVersion, word: str) -> int:
    """Return how many practice questions of a small version hold a word, or one that begins so."""
    return _index_of(db, version).num_with(_words(word)[0])


def question_of(messages: Sequence[Any]) -> tuple[str, str]:
    """Return the first question of an example and the answer to it; empty where there is none."""
    question = ""
    for message in messages:
        content = message.get("content")
        if not isinstance(content, str):
            continue
        if message["role"] == "user" and not question:
            question = content
        elif message["role"] == "assistant" and question:
            return question, content
    return question, ""


def _index_of(db: Session, version: DatasetVersion) -> _Index:
    # A version that is ready never changes.
    key = version.id, version.created_at
    with _lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    index = _Index(
        (row["index"], question_of(row["messages"])[0])
        for batch in examples.stream(db, version, Split.TRAIN)
        for row in batch
    )
    with _lock:
        _kept[key] = index
        while len(_kept) > _NUM_KEPT:
            _kept.popitem(last=False)
    return index


def _in_blocks(
    db: Session, version: DatasetVersion, question: str, asked: Sequence[int]
) -> int | None:
    """Search the blocks that hold most of the words, by weight."""
    size = search_bits.BLOCK_EXAMPLES
    num_blocks = -(-version.num_rows // size)
    weights = dict.fromkeys(asked, _weight(num_blocks, num_blocks))
    sums: dict[int, float] = {}
    for stem in dict.fromkeys(_stems(question)):
        word = _number(stem)
        if word not in weights or len(stem.encode()) < search_bits.NUM_BYTES:
            continue
        blocks = search.blocks(db, version, [stem])
        holding = list(_numbers(blocks, num_blocks))
        weights[word] = _weight(len(holding), num_blocks)
        if len(holding) < num_blocks:
            for block in holding:
                sums[block] = sums.get(block, 0.0) + weights[word]
    chosen = sorted(sums, key=lambda block: (-sums[block], block))[:_NUM_BLOCKS]
    indices = [block * size + offset for block in chosen for offset in range(size)]
    found = [
        (row.index, question_of(row.messages)[0])
        for row in examples.at(db, version, indices)
        if row.split is Split.TRAIN
    ]
    return _Index(found).best(asked, weights)


def _numbers(blocks: search.Blocks, end: int) -> Iterable[int]:
    block = blocks.following(0, end)
    while block < end:
        yield block
        block = blocks.following(block + 1, end)


def _weight(num_with: int, total: int) -> float:
    # A word that no question has says no more than one that a single question has.
    num_with = max(1, num_with)
    return math.log(1 + (total - num_with + 0.5) / (num_with + 0.5))


def _words(text: str) -> list[int]:
    return [_number(stem) for stem in _stems(text)]


def _stems(text: str) -> list[str]:
    return [word[:_STEM_LETTERS] for word in _WORD.findall(text[:4000].casefold())]


def _number(stem: str) -> int:
    return zlib.crc32(stem.encode())
