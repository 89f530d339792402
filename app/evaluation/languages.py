"""Which of the five languages a text is in, by its commonest words."""

import re

from app.datasets.privacy.words import FUNCTION_WORDS

ENGLISH = "en"
_MAX_LETTERS = 20_000
_WORD = re.compile(r"[^\W\d_]+")


def of(text: str) -> str:
    """Return the language whose function words a text has most of; English where it has none."""
    words = [word.casefold() for word in _WORD.findall(text[:_MAX_LETTERS])]
    counts = {code: sum(word in known for word in words) for code, known in FUNCTION_WORDS.items()}
    best = max(counts, key=lambda code: counts[code])
    return best if counts[best] else ENGLISH
