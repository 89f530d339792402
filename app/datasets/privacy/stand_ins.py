"""Stand-ins: the same name becomes the same stand-in throughout, e.g. [Name 3]."""

import hashlib
from collections import Counter
from collections.abc import Iterable

from app.datasets.privacy.findings import WORDS, Kind


def normal(value: str) -> str:
    """Return what counts as the same value: but for case and space."""
    return " ".join(value.casefold().split())


def key_of(kind: Kind, value: str) -> str:
    """Return a short hash by which equal values are known without being kept."""
    body = f"{kind.value}\n{normal(value)}".encode()
    return hashlib.blake2b(body, digest_size=12).hexdigest()


class StandIns:
    """Gives numbers out, in the order in which values first come."""

    def __init__(self, used: dict[str, int], names: Iterable[str] = ()) -> None:
        """`used`: the numbers that stand in the texts already; `names`: all that will come."""
        self.used = dict(used)
        self._given: dict[tuple[Kind, str], str] = {}
        self._whole = _whole_names(names)

    def of(self, kind: Kind, value: str) -> str:
        """Return the stand-in of a value."""
        known = normal(value)
        if kind is Kind.NAME:
            # "Thyra" and "Mrs Blomqvist" are Thyra Blomqvist where there is no other of that name.
            known = self._whole.get(known, known)
        if (kind, known) not in self._given:
            number = self.used[kind.value] = self.used.get(kind.value, 0) + 1
            word = WORDS[kind][0]
            self._given[kind, known] = f"[{word[0].upper()}{word[1:]} {number}]"
        return self._given[kind, known]


def _whole_names(names: Iterable[str]) -> dict[str, str]:
    whole = {normal(name) for name in names}
    parts: Counter[str] = Counter()
    owner: dict[str, str] = {}
    for name in sorted(whole):
        words = name.split()
        if len(words) > 1:
            for part in {words[0], words[-1], " ".join(words[1:])}:
                parts[part] += 1
                owner[part] = name
    return {part: owner[part] for part, number in parts.items() if number == 1}
