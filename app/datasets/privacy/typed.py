"""Whether what somebody types points to a person: a sentence before it is sent, nothing kept."""

from collections.abc import Sequence
from functools import lru_cache

from sqlalchemy.orm import Session

from app.core import settings
from app.core.confined import patterns as confined
from app.core.sentences import listed
from app.datasets.privacy import reviews
from app.datasets.privacy.findings import WORDS, Kind
from app.datasets.privacy.scanner import Scanner

# A question is short; of a text that was pasted the beginning is looked at.
MAX_CHARACTERS = 8_000
_MAX_SAID = 3


def sentence(db: Session, text: str) -> str:
    """Say what in a text points to a person; empty where nothing does, or the site has no gate."""
    if settings.get().privacy_gate == "off" or not text.strip():
        return ""
    patterns = tuple((one.pattern, one.kind) for one in reviews.patterns(db))
    (spans,) = _scanner(patterns).scan([text[:MAX_CHARACTERS]])
    counts: dict[Kind, int] = {}
    for span in spans:
        counts[span.kind] = counts.get(span.kind, 0) + 1
    if not counts:
        return ""
    # Of one kind the word as it is for one or for many; of more than three kinds the first three.
    words = [_one_of(kind, number) for kind, number in list(counts.items())[:_MAX_SAID]]
    return f"This looks like {listed(words)}. Is it needed for the answer? If not, leave it out."


@lru_cache(maxsize=1)
def _scanner(patterns: tuple[tuple[str, str], ...]) -> Scanner:
    """Return our own rules, with the site's patterns searched in the kept child."""

    def found(texts: Sequence[str]) -> list[list[tuple[int, int, str]]]:
        wanted = [pattern for pattern, _ in patterns]
        return [
            [(start, end, patterns[number][1]) for start, end, number in confined.find(wanted, one)]
            for one in texts
        ]

    return Scanner(recognizer=found if patterns else None)


def _one_of(kind: Kind, number: int) -> str:
    one, many = WORDS[kind]
    if number > 1:
        return many
    vowel = one[0] in "aeioAEIO"
    return f"{'an' if vowel else 'a'} {one}"
