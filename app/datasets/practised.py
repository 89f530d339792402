"""Which rows somebody has practised, as fingerprints: enough to know a row again, not to read one.

A fingerprint is 64 bits of a hash under a key of this site, which stands in the secrets folder and
in no backup. Two rows have the same one where the split of a version, too, holds them for equal
(sameness.py). Reasons: docs/decisions/0021-an-adapter-remembers-which-rows-it-practised.md.
"""

import hashlib
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.core import secrets, settings
from app.datasets import sameness

_STORED = np.dtype("<u8")


def key() -> bytes:
    """Return the site's key for fingerprints."""
    return secrets.get(settings.get(), secrets.ROW_FINGERPRINTS).encode()


def key_id(of: bytes) -> str:
    """Name a key without telling it."""
    return hashlib.sha256(b"key " + of).hexdigest()[:16]


class Practised:
    """Rows that were practised, by their fingerprints."""

    def __init__(self, fingerprints: NDArray[np.uint64], under: bytes) -> None:
        self._sorted, self._key = fingerprints, under

    @classmethod
    def from_bytes(cls, stored: bytes, under: bytes) -> "Practised":
        """Read what `to_bytes` wrote."""
        return cls(np.frombuffer(stored, _STORED), under)

    def to_bytes(self) -> bytes:
        return self._sorted.astype(_STORED).tobytes()

    def __len__(self) -> int:
        return len(self._sorted)

    def __contains__(self, messages: Sequence[Mapping[str, Any]]) -> bool:
        """Say whether a row is one of them; by chance one of 64 bits is not."""
        for found in _fingerprints(messages, self._key):
            place = int(np.searchsorted(self._sorted, np.uint64(found)))
            if place < len(self._sorted) and int(self._sorted[place]) == found:
                return True
        return False

    def with_those_of(self, other: "Practised") -> "Practised":
        """Return the rows of both."""
        return Practised(np.union1d(self._sorted, other._sorted), self._key)


class Collector:
    """Takes rows one at a time, however many."""

    def __init__(self) -> None:
        self._key = key()
        self._found = array("Q")

    def add(self, messages: Sequence[Mapping[str, Any]]) -> None:
        """Count a row as practised."""
        self._found.extend(_fingerprints(messages, self._key))

    def rows(self) -> Practised:
        """Return all that were added."""
        return Practised(np.unique(np.frombuffer(self._found, np.uint64)), self._key)


def _fingerprints(messages: Sequence[Mapping[str, Any]], under: bytes) -> list[int]:
    """Return a row's fingerprints: one, and of a pair of answers that of its question as well.

    Who has practised the right answer knows the better one of a pair, and who has seen a pair knows
    what is asked for in another pair of the same question.
    """
    found = [sameness.whole(messages)]
    if any("rejected" in message for message in messages):
        found.append(sameness.question(messages))
    return [sameness.number(body, under) for body in found]
