"""Names as clinics note them: after "Pat.", in lists of beds, before a birth, whom to call back.

Such a note is hardly a sentence that could be weighed, and often has no small word by which its
language is told: what stands around the name is enough, and tells the language, too.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator
from operator import attrgetter

from app.datasets.privacy import evidence
from app.datasets.privacy.findings import Kind
from app.datasets.privacy.passage import NOUN_ENDING, Passage, Word
from app.datasets.privacy.words import (
    EPONYMS,
    FUNCTION_WORDS,
    ORG_HEADS,
    ORG_TAILS,
    PARTICLES,
    RELATIONS,
)


def _by_word(words: dict[str, str]) -> dict[str, str]:
    return {word: code for code, listed in words.items() for word in listed.split()}


# Each with the language that it tells where nothing else does.
_PATIENTS = _by_word({"de": "pat ptin", "en": "pt", "fr": "pte", "es": "pac", "it": "paz"})
_BEDS = _by_word(
    {
        "en": "room rm bed bay cubicle",
        "de": "zimmer zi zr bett",
        "fr": "chambre chbre ch lit",
        "es": "habitación hab cama",
        "nl": "kamer",
        "it": "stanza camera letto",
    }
)
# What is done to people alone; who is to do it says the verb first, or last.
_VERBS_FIRST = _by_word(
    {
        "en": "call phone ring telephone remind wake tell ask help",
        "de": "rufe rufen rückruf",
        "fr": "appeler appelez rappeler rappelez prévenir prévenez avertir avertissez réveiller "
        "réveillez",
        "es": "llamar llame llamen avisar avise avisen despertar despierte llamada",
        "nl": "bel",
        "it": "richiamare richiami chiamare chiami avvisare avvisi svegliare",
    }
)
_VERBS_LAST = _by_word(
    {
        "de": "zurückrufen zurückzurufen anrufen anzurufen verständigen benachrichtigen "
        "informieren wecken erinnern abholen mobilisieren umlagern",
        "nl": "terugbellen terug bellen waarschuwen inlichten wekken ophalen",
    }
)
ORDERS = frozenset(_VERBS_FIRST)
_LEADS = _PATIENTS | _BEDS | _VERBS_FIRST | _VERBS_LAST

_PATIENT = re.compile(
    r"(?:pat(?=[.:])|paz(?=\.)|pac(?=\.)|pte?|ptin)(?:\.(?:in\b)?)?\s?:?[ \u00a0]", re.I
)
_BED = re.compile(
    r"\w+\.?\s?(?:n[ro°º]\.?\s?)?\d{1,4}[a-z]?"
    r"(?:\s?[/.-]\s?\d{1,2}|[ ,]{1,2}(?:bed|bett|lit|cama|letto)\s\d{1,2})?"
    r"(?:\s?[:=–—-]\s?|,?\s)",
    re.I,
)
# "Rufen Sie", "llamar a", "bel met", "Rückruf an".
_BETWEEN = re.compile(r"\w+(?: (?:sie|bitte|an|bei|für|a|met|back))?[ \u00a0]", re.I)
_ASKED = frozenset(["please", "pls", "kindly", "you", "to", "must", "and", "then"])
_JOINED = re.compile(r",? ?(?:[,/&+]|\b(?:und|and|et|y|e|en)\b) ?")
_ENTRY_END = re.compile(r"\s*(?:[,;./)\n]|$)|\s(?:und|\(|-|–)")
_BORN = re.compile(
    r"[\s,;(]{0,3}(?:\*|[*(]*(?:born(?: on)?|d\.?o\.?b\b\.?|date of birth|geb\b\.?(?: am)?"
    r"|geboren(?: am| op)?|née?(?:\(e\))?(?: le)?|nacid[oa](?: el)?"
    r"|f(?:echa)?\.? ?(?:de )?nac(?:imiento|\.)?|nat[oa](?: il)?):?)\s*",
    re.I,
)
_DATE = re.compile(r"\d{1,2}[./-]\d{1,2}[./-](?:\d{4}|\d\d)(?![\d./-])")
_MAX_WORDS = 3
_MAX_STEPS = 8
# From so much likelier a name's letters than those of science on, a German noun may be somebody.
_LIKE_A_NAME = -0.1


def find(passage: Passage) -> Iterator[tuple[int, int]]:
    """Yield the first and the last word of each name."""
    leads = [at for at, word in enumerate(passage.words) if word.low in _LEADS]
    if leads:
        code = passage.code or _LEADS[passage.words[leads[0]].low]
        if code != passage.code and code in FUNCTION_WORDS:
            # Here alone: the weights were learned from sentences, in which a language shows.
            passage = Passage(passage.text, code, passage.anchors)
        for at in leads:
            yield from _led(passage, at)
    yield from _born(passage)


def _led(passage: Passage, lead: int) -> Iterator[tuple[int, int]]:
    text, word = passage.text, passage.words[lead]
    low = word.low
    if low in _PATIENTS and text[max(0, word.start - 2) : word.start].strip().isdigit():
        return  # "12 pt Helvetica"
    if low in _PATIENTS and (match := _PATIENT.match(text, word.start)):
        first = _at(passage, match.end())
        if first is not None and (last := _name(passage, first)) is not None:
            yield first, last
    elif low in _BEDS and (match := _BED.match(text, word.start)):
        if low == "ch" and passage.code != "fr":
            return  # a chapter
        yield from _list(passage, _at(passage, match.end()), is_bed=True)
    elif low in _VERBS_LAST:
        first = _object(passage, lead)
        yield from _list(passage, first, is_bed=False)
    elif low in _VERBS_FIRST and _is_order(passage, lead):
        match = _BETWEEN.match(text, word.start)
        if match:
            yield from _list(passage, _at(passage, match.end()), is_bed=False)


def _at(passage: Passage, start: int) -> int | None:
    """Return which word begins at a place."""
    at = bisect_left(passage.words, start, key=attrgetter("start"))
    return at if at < len(passage.words) and passage.words[at].start == start else None


def _is_order(passage: Passage, lead: int) -> bool:
    word = passage.words[lead]
    if _VERBS_FIRST[word.low] != "en":
        return True
    before = passage.before(lead)
    return passage.starts_sentence(word) or (before is not None and before.low in _ASKED)


def _object(passage: Passage, lead: int) -> int | None:
    """Return whom a verb at a sentence's end is about: the first there who has a name."""
    at = lead
    for _ in range(_MAX_STEPS):
        between = passage.text[passage.words[at - 1].end : passage.words[at].start]
        if at == 0 or re.search(r"[.!?;:\n]", between):
            break
        at -= 1
    while at < lead and not _is_somebody(passage, at):
        at += 1
    before = passage.before(at)
    if at == lead or (before is not None and before.low in passage.place_prepositions):
        return None
    return at


def _list(passage: Passage, first: int | None, *, is_bed: bool) -> Iterator[tuple[int, int]]:
    """Yield a name and those that are joined to it: "Zimmer 12: Obermoser, Hofreiter"."""
    last = _name(passage, first, is_bed=is_bed) if first is not None else None
    while first is not None and last is not None:
        yield first, last
        joined = _JOINED.match(passage.text, passage.words[last].end)
        first = _at(passage, joined.end()) if joined else None
        last = _name(passage, first, is_bed=is_bed) if first is not None else None


def _name(passage: Passage, first: int, *, is_bed: bool = False) -> int | None:
    """Return the last word of the name that begins at a word; None where none begins."""
    words = passage.words
    at = first
    while words[at].low in PARTICLES and passage.adjoins(at + 1):
        at += 1
    if not _is_somebody(passage, at):
        return at if is_bed and _may_be_called(passage, words[at]) else None
    last = at
    while last - at < _MAX_WORDS and passage.adjoins(last + 1):
        step = 2 if words[last + 1].low in PARTICLES and passage.adjoins(last + 2) else 1
        if not _is_somebody(passage, last + step) and not (
            is_bed and _may_be_called(passage, words[last + step])  # "Bett 4: Drago Steckel"
        ):
            break
        last += step
    if last > at and words[last].low in ORG_TAILS and not passage.is_given(words[at]):
        return None  # "Room 4 Reed Hall"
    return None if _is_more(passage, passage.after(last)) else last


def _is_more(passage: Passage, follows: Word | None) -> bool:
    """Say whether a name is only a part: "Okonkwo Suite". German nouns follow anybody."""
    if follows is None or not follows.is_capital:
        return False
    is_free = passage.has_tall_nouns or passage.is_function(follows) or passage.is_title(follows)
    return follows.low in ORG_TAILS or not is_free


def _is_somebody(passage: Passage, at: int) -> bool:
    word = passage.words[at]
    return (
        word.is_capital
        and passage.is_person(word)
        and not (passage.is_title(word) or passage.is_function(word))
        and word.text not in EPONYMS
        and not (word.low in RELATIONS or word.low in ORG_HEADS)
        and (word.is_shouted or not evidence.is_thing_by_look(passage, at, at))
    )


def _may_be_called(passage: Passage, word: Word) -> bool:
    """Say whether a German noun, alone in its entry, may be somebody: "Bett 2: Wachtel"."""
    return (
        passage.has_tall_nouns
        and word.is_capital
        and _ENTRY_END.match(passage.text, word.end) is not None
        and not (passage.is_other(word) or passage.is_title(word) or passage.is_function(word))
        and word.low not in RELATIONS
        and not evidence.is_science(word.low)
        and not NOUN_ENDING.search(word.low)
        and evidence.likeness(word.text) >= _LIKE_A_NAME
    )


def _born(passage: Passage) -> Iterator[tuple[int, int]]:
    """Yield who is named right before a birth: "OBERMOSER, KARLHEINZ * 01.02.1950"."""
    text = passage.text
    births = [anchor.start for anchor in passage.anchors if anchor.kind is Kind.BIRTH_DATE]
    bare = [match.start() for match in _DATE.finditer(text) if match.start() not in births]
    if not births and not bare:
        return
    for at, word in enumerate(passage.words):
        if not word.is_capital:
            continue
        match = _BORN.match(text, word.end)
        if match and match.end() in births:
            yield from _before_birth(passage, at, is_said=True)
        elif any(text[word.end : start] in (" ", ", ", " (", "; ") for start in bare):
            yield from _before_birth(passage, at, is_said=False)


def _before_birth(passage: Passage, last: int, *, is_said: bool) -> Iterator[tuple[int, int]]:
    words = passage.words
    given = _backwards(passage, last)
    if given > last:
        return
    comma = given - 1
    has_comma = comma >= 0 and passage.text[words[comma].end : words[given].start] == ", "
    first = _backwards(passage, comma) if has_comma else given
    while (
        first > 0
        and passage.adjoins(first)
        and words[first - 1].low in PARTICLES
        and (words[first - 1].is_capital)
    ):
        first -= 1
    persons = [
        passage.is_person(word)
        for word in words[first : last + 1]
        if not word.is_initial and word.low not in PARTICLES
    ]
    # A date alone stands behind a weekday, too, and behind what was done on it.
    is_plain = all(persons) and (passage.code is not None or words[first].is_shouted)
    if first <= comma and (any(persons) if is_said else is_plain):
        yield first, last
    elif is_said and persons and all(persons):
        yield given, last


def _backwards(passage: Passage, last: int) -> int:
    """Return the first of the capitalised words in a row that end here and may be called so."""
    first = last + 1
    while (
        last + 1 - first < _MAX_WORDS
        and first > 0
        and (first == last + 1 or passage.adjoins(first))
        and _fits(passage, passage.words[first - 1])
    ):
        first -= 1
    return first


def _fits(passage: Passage, word: Word) -> bool:
    return (
        word.is_capital
        and not (passage.is_title(word) or passage.is_function(word))
        and (word.is_initial or not passage.is_other(word))
        and word.low not in RELATIONS
    )
