"""What an answer says at all: nothing, only its question again, or the same as all the others."""

import re
from array import array
from collections import Counter
from collections.abc import Iterable

from app.datasets.doctor.findings import CheckFinding
from app.datasets.doctor.rows import Row

# Said instead of an answer. Some may be a class's name: then many examples have them.
_STAND_INS = frozenset(
    [
        "n/a",
        "na",
        "none",
        "null",
        "nan",
        "nil",
        "tbd",
        "tba",
        "todo",
        "missing",
        "empty",
        "k.a.",
        "s.o.",
        "keine",
        "n.n.",
        "sin",
        "n.d.",
        "nvt",
    ]
)
_LONGEST_STAND_IN = 8
_A_CLASS = 0.05
_WORD = re.compile(r"\w")
_EDGES = " \t\n.,;:!?-–—_()[]{}\"'“”„«»*#/"
# An answer that so many examples share is worth a word; of a few classes, one that has most.
_COMMON = 0.1
_FEW_CLASSES, _MOST = 50, 0.6
_MIN_ROWS = 30
_MAX_DISTINCT = 200_000


class Answers:
    """Compares each answer with its question, and counts how often each is given."""

    def __init__(self) -> None:
        self._silent = array("i")
        self._stand_ins: dict[str, array[int]] = {}
        self._echoes = array("i")
        self._num_rows = 0
        self._counts: Counter[int] = Counter()
        self._is_full = False
        self._keys = array("q")
        self._indices = array("i")

    def check(self, rows: list[Row]) -> None:
        for row in rows:
            self._num_rows += 1
            answer = row.answer.strip()
            is_text = not row.question
            if not _WORD.search(answer) or not (is_text or _WORD.search(row.question)):
                self._silent.append(row.index)
            elif len(answer) <= _LONGEST_STAND_IN and (word := answer.casefold()) in _STAND_INS:
                self._stand_ins.setdefault(word, array("i")).append(row.index)
            elif not is_text and _is_echo(row.question, answer):
                self._echoes.append(row.index)
            self._count(row.index, hash(row.plain_answer))

    def _count(self, index: int, key: int) -> None:
        if self._is_full:
            return
        self._counts[key] += 1
        self._keys.append(key)
        self._indices.append(index)
        # So many different answers are no classes, and none of them outweighs the rest by much.
        self._is_full = len(self._counts) > _MAX_DISTINCT

    def findings(self) -> Iterable[CheckFinding]:
        empty = list(self._silent)
        for rows in self._stand_ins.values():
            if len(rows) <= max(_A_CLASS * self._num_rows, 1):
                empty += rows
        yield CheckFinding("empty", array("i", sorted(empty)))
        yield CheckFinding("echo", self._echoes)
        yield self._imbalance()

    def _imbalance(self) -> CheckFinding:
        if self._num_rows < _MIN_ROWS or self._is_full:
            return CheckFinding("imbalance")
        (key, count), *_ = self._counts.most_common(1)
        share = count / self._num_rows
        are_classes = len(self._counts) <= min(_FEW_CLASSES, self._num_rows // 4)
        if share < (_MOST if are_classes else _COMMON):
            return CheckFinding("imbalance")
        rows = array(
            "i",
            (index for index, other in zip(self._indices, self._keys, strict=True) if other == key),
        )
        return CheckFinding("imbalance", rows, detail={"share": f"{share:.0%}"})


def _is_echo(question: str, answer: str) -> bool:
    if len(answer) < 0.6 * len(question) or len(answer) > 1.4 * len(question):
        return False
    asked, said = _words(question), _words(answer)
    if asked == said:
        return True
    return len(said) >= max(4, 0.8 * len(asked)) and not Counter(said) - Counter(asked)


def _words(text: str) -> list[str]:
    return [word for part in text.casefold().split() if (word := part.strip(_EDGES))]
