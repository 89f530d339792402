"""Which of the encodings of western Europe a text is in, by the letters that come out of it.

Each of them gives nearly every byte a letter, so that a wrong one goes unnoticed: “höchstens” of a
DOS program reads “hîchstens” as an old Mac would have it. The language is known by its short words,
which are the same in all of them; then the encoding is the one whose letters that language has,
small and capital ones in their places.
"""

import re
from collections import Counter
from typing import NamedTuple

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
# Languages of other encodings, by their words alone.
_OTHERS = {
    "pl": "i w na z nie do jest to sie jak co czy po ze od lub przy dla",
    "cs": "a je na se to si do v s z jak co pro po ale pri ve nebo",
    "hr": "je i u na se za da su od koji kako ne ili",
    "hu": "a az egy nem hogy is meg ha kell vagy mit van ez",
    "ro": "si de la cu pe ce nu un este sunt din mai pentru care cum",
    "tr": "ve bir bu ile ne mi kadar soru cevap olan var kez",
    "et": "ja on ei kas see kui ning ta oma",
    "lt": "ir yra ar kaip su ne kas kad",
    "lv": "un ir kas ar ka ja no par",
}
# Without letters beyond ASCII, and seldom words of another of these languages.
_WORDS = {
    "de": "der die das und ist nicht ein eine mit von zu den dem wie wird was auf bei wann im wenn "
    "sie ich kann bitte werden oder nach aus sind darf frage antwort viel am vor",
    "fr": "le la les des est et un une pour dans que qui pas du avec sur vous quel quelle comment "
    "il faut au question ou quand combien ne",
    "es": "el la los las es y un una para en que por con se del cuando no como cual hay pregunta "
    "respuesta debe al lo su o",
    "it": "il lo la i gli le che di un una per con non si del della quando come quale domanda "
    "risposta nel ogni deve sono o",
    "pt": "o os as e um uma para em que por com se do da quando qual pergunta resposta deve ao na "
    "no dos das ou seu",
    "nl": "de het een en is niet van voor met op wat hoe wanneer te bij zijn aan vraag antwoord "
    "wordt of moet naar ik dat",
    "sv": "och att det som en ett med till av inte om den var hur vad ska kan vid svar man",
    "da": "og at det som en et med til af ikke om den hvor hvad skal kan ved svar der er hvordan",
    "no": "og at det som en et med til av ikke om den hvor hva skal kan ved svar er hvordan jeg",
    "fi": "ja on ei se kun mutta tai joka ovat vastaus miten voi jos",
    "en": "the and of to is in for that with what how when are be should not on a if do you",
}
_COMMON = {language: frozenset(words.split()) for language, words in (_WORDS | _OTHERS).items()}
# What texts of any of these languages have, beside letters.
_SIGNS = frozenset("„“”‚‘’«»‹›–—…°§€£²³µ½¼¾±×·•®©™¿¡ªº‰†÷¹\u00a0\u00ad≥≤")
# Those that stand within words.
_BETWEEN = frozenset("’‘\u00ad–—·µªº")
_SIGN = re.compile(r"[^\x00-\x7f]")
_FRAMES = re.compile(r"[\u2500-\u259f\x80-\x9f]")
_WORD = re.compile(r"[^\W\d_]+")
_MIN_WORDS = 3
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
    words = Counter(re.findall(rb"(?<![\w\x80-\xff])[a-z]+(?![\w\x80-\xff])", sample.lower()))
    counts = {
        language: sum(words[word.encode()] for word in common)
        for language, common in _COMMON.items()
    }
    most = max(counts.values())
    if most < _MIN_WORDS:
        return []
    return [language for language, count in counts.items() if count * 3 >= most * 2]


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
