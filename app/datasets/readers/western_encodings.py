"""Which of the encodings of western Europe a text is in, by the letters that come out of it.

Each of them gives nearly every byte a letter, so that a wrong one goes unnoticed: “höchstens” of a
DOS program reads “hîchstens” as an old Mac would have it. The language is known by its short words,
which are the same in all of them; then the encoding is the one whose letters that language has,
small and capital ones in their places.
"""

import re
from collections import Counter
from typing import NamedTuple

from app.datasets.readers import common_words

# The commonest first: of those that give the same text the first is named.
NAMES = ("cp1252", "iso8859-15", "cp850", "cp437", "mac_roman")
_LETTERS = {
    "de": "äöüß",
    "fr": "éèêëàâçùûîïôœæÿü",
    "es": "áéíóúñü",
    "it": "àèéìòùî",
    "pt": "ãõáéíóúâêôçàü",
    "nl": "ëïéèöüáóê",
    "sv": "åäöé",
    "da": "æøåéö",
    "no": "æøåéòôê",
    "fi": "äöå",
    "en": "éèïöçñ",
}
# What texts of any of these languages have, beside letters.
_SIGNS = frozenset("„“”‚‘’«»‹›–—…°§€£²³µ½¼¾±×·•®©™¿¡ªº‰†÷¹\u00a0\u00ad≥≤")
# Those that stand within words.
_BETWEEN = frozenset("’‘\u00ad–—·µªº")
_SIGN = re.compile(r"[^\x00-\x7f]")
_FRAMES = re.compile(r"[\u2500-\u259f\x80-\x9f]")
_WORD = re.compile(r"[^\W\d_]+")
_GOOD_SHARE, _CLEAR = 0.9, 0.15


class Likely(NamedTuple):
    """An encoding, and whether another one fits as well."""

    name: str
    is_doubtful: bool


def likeliest(sample: bytes) -> Likely | None:
    """Return the encoding whose letters fit the text; none where no western one does.

    Args:
        sample: A part of the text with bytes beyond ASCII.
    """
    texts: dict[str, str] = {}
    for name in NAMES:
        try:
            text = sample.decode(name)
        except UnicodeDecodeError:
            continue
        if text not in texts.values():
            texts[name] = text
    languages = _languages(sample)
    if not languages or not texts:
        return None
    scores = {
        # Frames and control characters stand in no text of a person.
        name: _score(text, languages) / (2 if _FRAMES.search(text) else 1)
        for name, text in texts.items()
    }
    best = max(scores, key=lambda name: scores[name])
    if scores[best] < _GOOD_SHARE:
        return None
    others = [score for name, score in scores.items() if name != best]
    return Likely(best, max(others, default=0) > scores[best] - _CLEAR)


def _languages(sample: bytes) -> list[str]:
    """Return the language that the plain words are in, and those that are nearly as likely."""
    words = re.findall(rb"(?<![\w\x80-\xff])[a-z]+(?![\w\x80-\xff])", sample.lower())
    return common_words.languages(word.decode() for word in words)


def _score(text: str, languages: list[str]) -> float:
    """Return which share of the letters and signs beyond ASCII stand where the language has them.

    Of several languages the one counts that they fit best.
    """
    right: Counter[str] = Counter()
    wrong = num_signs = 0
    for word in _WORD.findall(text):
        letters = [c for c in word if not c.isascii() and c not in _SIGNS]
        if letters and _is_cased_wrong(word):
            wrong += len(letters)
        else:
            right.update(letter.lower() for letter in letters)
    for found in _SIGN.finditer(text):
        sign = found[0]
        before, after = text[found.start() - 1 : found.start()], text[found.end() : found.end() + 1]
        if sign.isalpha() and sign not in _SIGNS:
            continue
        is_within = before.isalpha() and after.isalpha() and sign not in _BETWEEN
        if sign in _SIGNS and not is_within:
            num_signs += 1
        else:
            wrong += 1
    # A sign is worth less than a letter: there are so many that may stand anywhere.
    total = right.total() + wrong + num_signs / 4
    if not total:
        return 0
    fitting = (sum(right[letter] for letter in _LETTERS.get(each, "")) for each in languages)
    return (max(fitting) + num_signs / 4) / total


def _is_cased_wrong(word: str) -> bool:
    """Say whether a capital letter beyond ASCII stands behind small ones, or a small among them."""
    plain = [c for c in word if c.isascii()]
    if any(c.isupper() for c in word[1:] if not c.isascii()):
        return any(map(str.islower, plain))
    is_capital = len(plain) > 1 and all(map(str.isupper, plain))
    return is_capital and any(c.islower() for c in word if not c.isascii() and c not in "ßµ")
