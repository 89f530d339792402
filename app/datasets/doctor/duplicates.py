"""Examples that repeat, almost repeat, contradict or give away each other.

Exact repeats are equal but for case and space. Near ones are proposed by MinHash over pieces of
text (rensa) and locality-sensitive hashing, and then compared word by word: what is said of a pair
is true of its texts, and not of their sketches. A pair in which a number or a “not” differs is no
repeat: 5 mg and 50 mg are two facts.
"""

from array import array
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from app.datasets.doctor import rows as reading
from app.datasets.doctor.findings import CheckFinding
from app.datasets.doctor.rows import PARTS, Row

# A sketch has 32 numbers in 8 bands of 4: of pairs that agree to four fifths, 98 % share a band.
_NUM_HASHES, _BAND = 32, 4
_SEED = 20261124
# Sketches of likely pairs agree by so much, and the texts themselves by so much.
_LIKELY, _NEAR = 0.6, 0.8
_MIN_WORDS, _MIN_CHARACTERS = 8, 40
# A sketch takes 128 bytes: of more examples, the first ones are compared.
MAX_SKETCHED = 2_000_000
# Comparing a pair takes some 50 microseconds.
_MAX_COMPARED = 300_000
# A question that is asked more often is a task (“Translate:”) and not a question.
_MAX_ASKED = 100
_NO_DIGITS = bytes(set(range(256)) - set(b"0123456789"))
# Words that turn a sentence round, in the languages of the samples.
_TURNS = frozenset(
    [
        "no",
        "not",
        "never",
        "none",
        "without",
        "nicht",
        "kein",
        "keine",
        "keinen",
        "keiner",
        "nie",
        "ohne",
        "ne",
        "pas",
        "jamais",
        "sans",
        "nunca",
        "sin",
        "non",
        "mai",
        "senza",
        "niet",
        "geen",
        "nooit",
        "zonder",
        "não",
        "nem",
        "sem",
        "nie",
        "bez",
        "ikke",
        "aldrig",
        "inte",
        "aldrig",
    ]
)


class Duplicates:
    """Keeps a few numbers for each example, and compares them at the end."""

    def __init__(self, file: int, num_examples: int) -> None:
        self._file = file
        self._indices = array("i")
        self._parts = array("b")
        self._offsets = array("q")
        self._whole = array("q")
        self._asked = array("q")  # 0: no single question
        self._answered = array("q")
        self._numbers = array("q")  # 0: too short to be compared with others but equals
        self._sketches = np.zeros((min(num_examples, MAX_SKETCHED), _NUM_HASHES), np.uint32)
        self.num_sketched = 0

    def check(self, rows: list[Row]) -> None:
        texts = []
        for row in rows:
            text = row.plain
            body = text.encode()
            self._indices.append(row.index)
            self._parts.append(row.part)
            self._offsets.append(row.offset)
            roles = tuple(message["role"] for message in row.messages)
            self._whole.append(
                hash((text, row.system, str(row.tools), roles if len(roles) > 3 else None))
            )
            turns = sum(role in ("user", "assistant") for role in roles)
            self._asked.append(
                hash((row.plain_question, row.system)) | 1 if row.question and turns == 2 else 0
            )
            self._answered.append(hash(row.plain_answer))
            is_long = len(text) >= _MIN_CHARACTERS and (
                text.count(" ") >= _MIN_WORDS or len(body) >= 2 * len(text)
            )
            digits = body.translate(None, _NO_DIGITS)
            self._numbers.append(hash(digits) | 1 if is_long else 0)
            texts.append(body)
        end = min(self.num_sketched + len(texts), len(self._sketches))
        if end > self.num_sketched:
            count = end - self.num_sketched
            self._sketches[self.num_sketched : end] = _sketch(texts[:count])
            self.num_sketched = end

    def findings(self) -> Iterable[CheckFinding]:
        whole, parts = np.array(self._whole), np.array(self._parts)
        given_away: dict[int, int] = {}
        repeats = dict(_repeats(whole, parts, given_away))
        yield self._finding("duplicate", repeats)
        yield self._finding("conflict", dict(self._conflicts()))
        near = self._near(parts, repeats, given_away)
        yield self._finding("near_duplicate", near)
        yield self._finding("leak", given_away)

    def _finding(self, kind: str, pairs: dict[int, int]) -> CheckFinding:
        numbers = sorted(pairs)
        rows = array("i", (self._indices[number] for number in numbers))
        partners = array("i", (self._indices[pairs[number]] for number in numbers))
        return CheckFinding(kind, rows, partners)

    def _conflicts(self) -> Iterator[tuple[int, int]]:
        answered = np.array(self._answered)
        for group in _groups(np.array(self._asked)):
            if len(group) > _MAX_ASKED:
                continue
            first = int(group[0])
            known = {int(answered[first])}
            for other in group[1:]:
                if (answer := int(answered[other])) not in known:
                    known.add(answer)
                    yield int(other), first

    # --- near ones ---------------------------------------------------------------------

    def _near(
        self, parts: NDArray[Any], repeats: dict[int, int], given_away: dict[int, int]
    ) -> dict[int, int]:
        near: dict[int, int] = {}
        left = _MAX_COMPARED
        for later, earlier in self._likely(parts):
            if left == 0:
                break
            if later in repeats or earlier in repeats:
                continue
            crosses = bool(parts[later] != parts[earlier])
            kept = later if parts[later] > parts[earlier] else earlier
            if kept in given_away if crosses else (later in near or earlier in near):
                continue
            left -= 1
            if self._agree(later, earlier):
                if crosses:
                    given_away[kept] = earlier if kept == later else later
                else:
                    near[later] = earlier
        return near

    def _likely(self, parts: NDArray[Any]) -> list[tuple[int, int]]:
        """Return pairs whose sketches agree and whose numbers are the same, in rising order."""
        count = self.num_sketched
        numbers = np.array(self._numbers)[:count]
        eligible = numbers != 0
        sketches = self._sketches[:count]
        pairs = [np.zeros((0, 2), np.int64)]
        for start in range(0, _NUM_HASHES, _BAND):
            key = numbers.astype(np.uint64)
            for column in range(start, start + _BAND):
                key = _mix(key ^ sketches[:, column].astype(np.uint64))
            pairs.append(_paired(key, eligible, parts[:count]))
        unique = np.unique(np.concatenate(pairs), axis=0)
        likely = []
        for begin in range(0, len(unique), 100_000):
            part = unique[begin : begin + 100_000]
            same = (sketches[part[:, 0]] == sketches[part[:, 1]]).mean(axis=1) >= _LIKELY
            likely += part[same].tolist()
        return [(later, earlier) for later, earlier in likely]

    def _agree(self, one: int, other: int) -> bool:
        first = reading.again(self._file, self._offsets[one])
        second = reading.again(self._file, self._offsets[other])
        if first.system != second.system:
            return False
        words, others = _bare(first.plain.split()), _bare(second.plain.split())
        if (set(words) ^ set(others)) & _TURNS:
            return False
        pieces, other_pieces = _pieces(words), _pieces(others)
        shared = len(pieces & other_pieces)
        return shared >= _NEAR * (len(pieces) + len(other_pieces) - shared)


def _repeats(
    whole: NDArray[Any], parts: NDArray[Any], given_away: dict[int, int]
) -> Iterator[tuple[int, int]]:
    """Yield what repeats an earlier example of its own set; note what stands in two."""
    for group in _groups(whole):
        of_group = parts[group]
        first: int | None = None  # of the parts before
        for part in PARTS.values():
            same = group[of_group == part]
            if not len(same):
                continue
            for other in same[1:]:
                yield int(other), int(same[0])
            if first is None:
                first = int(same[0])
            else:
                given_away |= dict.fromkeys(map(int, same), first)


def _groups(keys: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield the places of keys that are equal and not 0, each group in rising order."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    edges = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    starts = np.concatenate([[0], edges])
    ends = np.concatenate([edges, [len(keys)]])
    for group in np.flatnonzero(ends - starts > 1):
        if ordered[starts[group]] != 0:
            yield order[starts[group] : ends[group]]


def _paired(keys: NDArray[Any], eligible: NDArray[Any], parts: NDArray[Any]) -> NDArray[Any]:
    """Pair each example with the first of equal key, and with the first of each earlier part."""
    order = np.flatnonzero(eligible)
    order = order[np.argsort(keys[order], kind="stable")]
    if len(order) < 2:
        return np.zeros((0, 2), np.int64)
    ordered = keys[order]
    starts = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    group = np.cumsum(starts) - 1
    firsts = order[starts][group]
    pairs = [np.stack([order, firsts], axis=1)[order != firsts]]
    none = np.iinfo(np.int64).max
    for part in list(PARTS.values())[:-1]:
        of_part = np.where(parts[order] == part, order, none)
        first_of_part = np.minimum.reduceat(of_part, np.flatnonzero(starts))[group]
        crossing = (parts[order] > part) & (first_of_part < none)
        pairs.append(np.stack([order, first_of_part], axis=1)[crossing])
    all_pairs = np.concatenate(pairs)
    return np.stack([all_pairs.max(axis=1), all_pairs.min(axis=1)], axis=1)


def _mix(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    numbers = numbers * np.uint64(0x9E3779B97F4A7C15)
    return numbers ^ (numbers >> np.uint64(29))


def _sketch(texts: list[bytes]) -> NDArray[np.uint32]:
    """Sketch texts by pieces: sixteen bytes from the start of each word or far-eastern sign."""
    # Behind each text, room for the last piece.
    body = np.frombuffer(b"".join(b" " + text + b" " * 16 for text in texts), np.uint8)
    sizes = np.array([len(text) + 17 for text in texts])
    here, before = body[1:-15], body[:-16]
    starts = np.flatnonzero(((before == 32) & (here != 32)) | (here >= 0xE0)) + 1
    eights = np.lib.stride_tricks.sliding_window_view(body, 8)
    first = np.ascontiguousarray(eights[starts]).view("<u8").ravel()
    second = (
        np.ascontiguousarray(eights[np.minimum(starts + 8, len(eights) - 1)]).view("<u8").ravel()
    )
    hashes = _mix(_mix(first) ^ second)
    offsets = np.searchsorted(starts, np.concatenate([[0], np.cumsum(sizes)])).astype(np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets, _NUM_HASHES, _SEED)
    return np.array(matrix.to_rows(), np.uint32)


def _bare(words: list[str]) -> list[str]:
    return [bare for word in words if (bare := word.strip(".,;:!?()[]\"'“”„«»"))]


def _pieces(words: list[str]) -> set[Any]:
    """Cut a text into all runs of three words; one without spaces, of five letters."""
    text = " ".join(words)
    if len(text) > 15 * len(words):
        return {text[start : start + 5] for start in range(len(text) - 4)}
    return set(zip(words, words[1:], words[2:], strict=False))
