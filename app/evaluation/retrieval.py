"""The practice rows that are most alike to a question, by words (BM25, with bm25s).

The words of what people asked are compared, in any language: there are no stop words and no stems.
Equal questions bring equal rows, whoever asks and whenever; of rows that are equally alike the
first in the file comes first.
"""

import random
import re
from array import array
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Self

import numpy as np
from bm25s import BM25
from bm25s.tokenization import Tokenized
from sqlalchemy.orm import Session

from app.core.models import DatasetVersion, Split
from app.datasets import examples, parts
from app.evaluation import arms

# Some 250 bytes a row while the index is made. Of larger data a seeded sample is looked through.
MAX_ROWS = 200_000
_MAX_LETTERS = 4000
_WORD = re.compile(r"\w+")


class PracticeRows:
    """An index of a version's practice rows."""

    def __init__(self, rows: Iterator[tuple[int, str]], num_rows: int) -> None:
        """
        Args:
            rows: Index and question of each row that is looked through.
            num_rows: How many there are in all.
        """
        self.num_rows = num_rows
        self._indices = array("i")
        vocabulary: dict[str, int] = {}
        held: list[Sequence[int]] = []
        for index, question in rows:
            self._indices.append(index)
            held.append(
                array("i", (vocabulary.setdefault(w, len(vocabulary)) for w in _words(question)))
            )
        self._vocabulary = vocabulary
        self._bm25: BM25 | None = None
        if vocabulary:
            self._bm25 = BM25(k1=1.2, b=0.75, method="lucene")
            tokens = Tokenized(ids=held, vocab=vocabulary)
            self._bm25.index(tokens, create_empty_token=False, show_progress=False)

    @classmethod
    def read(
        cls,
        db: Session,
        version: DatasetVersion,
        splits: Collection[Split] = (Split.TRAIN,),
        max_rows: int = MAX_ROWS,
    ) -> Self:
        """Read a version's practice rows; of more than `max_rows` a sample, always the same.

        Args:
            splits: Whose rows are practised.
        """
        num_rows = sum(parts.count(version, split) for split in splits)
        chosen: set[int] | None = None
        if num_rows > max_rows:
            draw = random.Random(0)  # noqa: S311 (a sample, no secret)
            chosen = set(draw.sample(range(num_rows), max_rows))
        return cls(_questions(db, version, splits, chosen), num_rows)

    @property
    def note(self) -> str:
        """Say where not all rows are looked through; empty where they are."""
        if len(self._indices) >= self.num_rows:
            return ""
        return (
            f"Looked up among {len(self._indices):,} of {self.num_rows:,} practice rows, which "
            "were drawn at random."
        )

    def nearest(self, question: str, k: int) -> list[int]:
        """Return the indices of up to `k` rows that share words with a question, the best first."""
        known = [w for w in dict.fromkeys(_words(question)) if w in self._vocabulary]
        if self._bm25 is None or not known:
            return []
        scores = self._bm25.get_scores([self._vocabulary[word] for word in known])
        # Stable, so of equals the first in the file.
        best = np.argsort(-scores, kind="stable")[:k]
        return [self._indices[place] for place in best if scores[place] > 0]


def _questions(
    db: Session, version: DatasetVersion, splits: Collection[Split], chosen: set[int] | None
) -> Iterator[tuple[int, str]]:
    place = 0
    for batch in examples.stream(db, version):
        for row in batch:
            if row["split"] not in splits:
                continue
            found = arms.last_turn(row["messages"])
            if found is not None and (chosen is None or place in chosen):
                yield row["index"], arms.question_of(found.before)
            place += 1


def _words(text: str) -> list[str]:
    return _WORD.findall(text[:_MAX_LETTERS].casefold())


def row_of(messages: Sequence[Any]) -> tuple[str, str]:
    """Return question and answer of a row as they stand in a prompt."""
    found = arms.last_turn(messages)
    if found is None:
        return "", ""
    return arms.question_of(found.before), arms.words_of(found.reference)
