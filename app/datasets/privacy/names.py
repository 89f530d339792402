"""Names of people: capitalised words weighed by the words around them, lists and dictionaries.

A name has no shape of its own, so evidence is put together: a title, a relation ("my daughter"), a
label ("Patient:"), an introduction or a greeting before it is enough; so is a known given name. Where
none of these speaks, what stands around is weighed (evidence.py). What was found in an example is
found everywhere in it.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from app.datasets.privacy import evidence, notes
from app.datasets.privacy.findings import Kind, Span
from app.datasets.privacy.passage import FIRST_LAST, LABELS, UPPER, Passage, Word, declines
from app.datasets.privacy.words import (
    ADDRESSED,
    ALSO_WORDS,
    CONTACTS,
    NAMES_TOO,
    NOT_NAMES,
    OF,
    ORG_HEADS,
    ORG_TAILS,
    PARTICLES,
    PLACES,
    RELATIONS,
    ROOMS,
)

_SURNAME_FIRST = re.compile(
    rf"(?:^|[^\w])(?i:{LABELS})\s*[:=]\s*((?:(?:van|von|de|der|den|la|le|du|di|da|el)\s)*{FIRST_LAST}, {FIRST_LAST})"
    r"(?=\s*(?:\n|$|;|\())"
)
# Who wrote a work or sells it: "© 2014 Karger", "(Weathers, Litz & Keane, 1993)", "Foa et al. (1995)".
_AUTHOR = rf"(?:[{UPPER}]\.[ -]?)*[{UPPER}][\w'’-]+(?:, (?:[{UPPER}]\.[ -]?)+)?"
_CITED = re.compile(
    rf"(?:©|\(copyright\)|\b[Cc]opyright\b)(?:[^\n.;]|(?<=[{UPPER}])\.){{0,100}}"
    rf"|(?:(?<=[(;] )|(?<=\()){_AUTHOR}(?:,? (?:&|and|und|et|y|en) {_AUTHOR}|, {_AUTHOR}){{0,8}},? (?:19|20)\d\d[a-z]?(?=[;),])"
    rf"|{_AUTHOR},? et al\b\.?"
    rf"|{_AUTHOR} (?:&|and) {_AUTHOR}(?:['’]s)? \((?:19|20)\d\d[a-z]?\)"
)
# What English towns end in and few surnames do; those few are left out.
_TOWN = re.compile(
    r"^(?!(?:bes|bost|chad|fen|hard|ren|sedg)wick|(?:scar|yar)borough)\w{3,}"
    r"(?:mere|wick|wich|minster|haven|mouth|borough|chester|cester|pool|shire|quay)$"
)
_STAND_IN = re.compile(r"\[[^\]\n]{1,40} \d+\]")
# As likely as this, words are taken for a name; much likelier, for one wherever they stand.
LIKELY, SURE = 0.65, 0.9
# In English, texts that name nobody are many: by invented sentences more names are found than are
# wanted at least, and each wrong one costs people's trust (docs/privacy.md has the figures).
LIKELY_IN = {"en": 0.9}
# Where somebody is named for sure, others are named more often than in a textbook.
LIKELY_IN_COMPANY = 0.15
MAX_TOKENS = 5


def find(text: str, code: str | None, anchors: Sequence[Span] = ()) -> list[Span]:
    """Find names in a text.

    Args:
        code: The text's language, where it is one of ours.
        anchors: What else was found in it: phones and births stand beside people.
    """
    passage = Passage(text, code, anchors)
    passage.things = evidence.things(passage)
    stand_ins = [match.span() for match in _STAND_IN.finditer(text)]
    cited = _cited(text)
    spans: list[Span] = []
    if "," in text and (":" in text or "=" in text):
        spans = [Span(*match.span(1), Kind.NAME) for match in _SURNAME_FIRST.finditer(text)]
    known = {w for span in spans for w in re.findall(r"[^\W\d_]{3,}", text[span.start : span.end])}
    spans += _noted(passage, stand_ins)
    position = 0
    while position < len(passage.words):
        word = passage.words[position]
        if any(s.start <= word.start < s.end for s in spans):
            position += 1
            continue
        run = _run(passage, position)
        if run is None:
            position += 1
            continue
        first, last = run
        kept = _judge(passage, first, last)
        position = last + 1
        if kept is None:
            continue
        first, last, is_sure = kept
        is_titled = passage.cue(first) >= 2
        position = last + 1
        span = Span(passage.words[first].start, passage.words[last].end, Kind.NAME)
        if any(start < span.end and span.start < end for start, end in stand_ins):
            continue
        # A title or a relation makes a patient of an author.
        if not is_titled and any(start < span.end and span.start < end for start, end in cited):
            continue
        spans.append(span)
        if is_sure:
            known |= _parts(passage, range(first, last + 1))
    if known:
        for first, last in passage.unsure:
            start, end = passage.words[first].start, passage.words[last].end
            if not any(s.start < end and start < s.end for s in spans):
                spans.append(Span(start, end, Kind.NAME))
    # A note tells whose name it is, and nothing of what else has a capital.
    known |= _parts(passage, passage.noted)
    spans += list(_again(passage, spans, known))
    return spans


def _noted(passage: Passage, stand_ins: list[tuple[int, int]]) -> Iterator[Span]:
    for first, last in notes.find(passage):
        span = Span(passage.words[first].start, passage.words[last].end, Kind.NAME)
        if not any(start < span.end and span.start < end for start, end in stand_ins):
            passage.noted.update(range(first, last + 1))
            yield span


def _parts(passage: Passage, positions: Iterable[int]) -> set[str]:
    words = [passage.words[at] for at in positions]
    return {word.text for word in words if len(word.text) > 2 and word.is_capital}


def _cited(text: str) -> list[tuple[int, int]]:
    """Return where a text names who wrote or sells a work, which points to no patient."""
    if not any(sign in text for sign in ("©", "opyright", "et al", "19", "20")):
        return []
    return [match.span() for match in _CITED.finditer(text)]


def _run(passage: Passage, position: int) -> tuple[int, int] | None:
    """Return the first and last of the capitalised words in a row that begin here."""
    words = passage.words
    word = words[position]
    if passage.is_title(word) and passage.adjoins(position + 1):
        return None
    if not word.is_capital:
        is_particle = word.low in PARTICLES and passage.cue(position) == 3
        if not is_particle or passage.after(position) is None:
            return None
    last = position
    at = position + 1
    while passage.adjoins(at) and at - position < MAX_TOKENS + 2:
        word = words[at]
        if passage.is_title(word) or at in passage.noted:
            break
        if word.is_capital:
            last = at
        elif (
            word.low not in PARTICLES
            or not passage.adjoins(at + 1)
            # "der Blutdruck von Thyra": only a name goes on behind a particle.
            or not (
                passage.is_person(words[last]) or (last == position and passage.cue(position) == 3)
            )
        ):
            break
        at += 1
    return (position, last) if words[last].is_capital else None


def _judge(passage: Passage, first: int, last: int) -> tuple[int, int, bool] | None:
    """Decide whether a run of capitalised words is a name, and which part of it."""
    words = passage.words
    cue = passage.cue(first)
    is_particle = cue == 3 and words[first].low in PARTICLES
    if (cue < 2 or passage.is_function(words[first])) and not is_particle:
        opened = first
        first = _skip_opening(passage, first, last)
        if _is_whole(passage, opened, first, last):
            first = opened
        elif _is_opened_room(passage, opened, first, last):
            return None
        cue = passage.cue(first)
    last = _cut(passage, first, last, cue)
    while last > first and not words[last].is_capital:
        last -= 1
    head = words[first]
    names_in = [at for at in range(first, last + 1) if words[at].is_capital]
    if not names_in or (len(names_in) == 1 and words[names_in[0]].is_initial):
        return None
    if passage.is_title(head):  # "Hr. Öztürk": the stop parts it from the name
        return None
    # "Dear Colleagues", "Schönen Tag": who is called "Mr Day" has a title.
    is_nobody = all(words[at].low in ADDRESSED or words[at].low in RELATIONS for at in names_in)
    if is_nobody and not _is_titled(passage, first):
        return None
    if cue < 2 and _is_org(passage, first, last):
        return None
    tail = passage.tail(last)
    before = passage.before(first)
    has_article = before is not None and before.low in passage.articles
    if len(names_in) > 1:
        is_name, is_sure = _several(passage, names_in, cue, tail, has_article=has_article)
    else:
        is_name, is_sure = _single(passage, names_in[0], cue, tail, has_article=has_article)
    if passage.is_function(head) and not (cue == 3 and head.low in PARTICLES and last > first):
        return None
    return (first, last, is_sure) if is_name else None


def _is_titled(passage: Passage, first: int) -> bool:
    before = passage.before(first)
    return before is not None and passage.is_title(before)


def _skip_opening(passage: Passage, first: int, last: int) -> int:
    """Pass over a word that has its capital from the sentence's start, or that leads to a name."""
    words = passage.words
    while first < last:
        word = words[first]
        leads = word.low in RELATIONS or word.low in ORG_HEADS
        opens = (
            passage.starts_sentence(word)
            and (passage.is_common(word) or word.low in notes.ORDERS)
            and not passage.is_given(word)
        )
        stands_alone = passage.text[words[last].end : words[last].end + 1] in ("", "\n", ",") and (
            passage.is_person(words[last])
        )
        if not (passage.is_function(word) or leads or (opens and not stands_alone)):
            break
        first += 1
        while first < last and not words[first].is_capital:
            first += 1
    return first


def _is_whole(passage: Passage, opened: int, first: int, last: int) -> bool:
    """Say whether the words passed over are a part of the name: "Grace Baker refused the soup."."""
    passed = passage.words[opened:first]
    if not passed or not all(
        word.is_capital
        and not (passage.is_function(word) or passage.is_other(word) or passage.is_title(word))
        and word.low not in RELATIONS
        and word.low not in notes.ORDERS
        for word in passed
    ):
        return False
    if _is_org(passage, opened, last) or evidence.is_thing(passage, opened, last):
        return False
    positions = [at for at in range(opened, last + 1) if passage.words[at].is_capital]
    cue, tail = passage.cue(opened), passage.tail(last)
    return evidence.chance(passage, positions, cue, tail, has_article=False) >= LIKELY


def _cut(passage: Passage, first: int, last: int, cue: int) -> int:
    """Cut a run off before a word that belongs to no name."""
    words = passage.words
    for at in range(first + 1, last + 1):
        word = words[at]
        if (
            not word.is_capital
            or word.is_initial
            or passage.is_given(word)
            or passage.is_surname(word)
        ):
            continue
        if word.low in PARTICLES and at < last and words[at + 1].is_capital:  # "Anne Le Goff"
            continue
        if passage.is_function(word) or (word.is_shouted and len(word.text) <= 4):
            return at - 1
        if cue >= 2 and at == first + 1:
            continue  # after "Mrs" or "the file of" a second word is the surname, whatever it means
        if (word.low in ORG_TAILS and not _is_name_too(passage, word)) or (
            passage.has_tall_nouns and passage.is_common(word) and declines(word.text)
        ):
            return at - 1
    return last


def _several(
    passage: Passage, positions: list[int], cue: int, tail: int, *, has_article: bool
) -> tuple[bool, bool]:
    words = [passage.words[at] for at in positions]
    head = words[0]
    persons = [passage.is_person(word) for word in words]
    # "Child Posttraumatic Stress": what a relation or a birth stands beside may be a thing's name.
    if cue == 3 or ((cue == 2 or tail == 2) and any(persons)):
        return True, cue == 3 or any(persons)
    if evidence.is_thing_by_look(passage, positions[0], positions[-1]):
        return False, False
    is_thing = evidence.is_thing(passage, positions[0], positions[-1]) or any(
        word.text in passage.things for word in words
    )
    # What names nobody was learned from in English alone.
    if is_thing and passage.code != "en":
        return False, False
    if (
        not is_thing
        and passage.is_given(head)
        and not (head.text in ALSO_WORDS and not any(persons[1:]))
    ):
        return True, True
    return _weighed(passage, positions, cue, tail, has_article=has_article)


def _single(
    passage: Passage, position: int, cue: int, tail: int, *, has_article: bool
) -> tuple[bool, bool]:
    word = passage.words[position]
    if passage.is_function(word) or (word.is_shouted and len(word.text) <= 4):
        return False, False
    is_other, is_common = passage.is_other(word), passage.is_common(word)
    if cue == 3:
        leads = position - 1
        while leads > 0 and passage.words[leads].low in PARTICLES:
            leads -= 1
        titled = leads >= 0 and passage.is_title(passage.words[leads])
        return titled or not (is_other or is_common), not is_common
    if evidence.is_thing_by_look(passage, position, position):
        return False, False
    if cue < 2 and tail < 2 and _is_place(passage, position):
        return False, False
    is_thing = word.text in passage.things
    if is_thing and passage.code != "en":
        return False, False
    if (
        not is_thing
        and passage.is_given(word)
        and word.text not in ALSO_WORDS
        and not word.is_shouted
    ):
        return not (has_article and passage.has_tall_nouns and is_common), True
    if is_other and not (
        cue == 2 or (cue and tail and passage.is_given(word)) or _is_name_too(passage, word)
    ):
        return False, False
    before = passage.before(position)
    if cue == 2 and not (is_common and before is not None and before.low in OF):
        if passage.has_tall_nouns and is_common:
            return not declines(word.text), False
        return True, not is_common
    if has_article or passage.code is None:
        return False, False
    return _weighed(passage, [position], cue, tail, has_article=has_article)


def _weighed(
    passage: Passage, positions: list[int], cue: int, tail: int, *, has_article: bool
) -> tuple[bool, bool]:
    if all(  # "Guten Morgen"
        passage.words[at].low in NOT_NAMES and not _is_name_too(passage, passage.words[at])
        for at in positions
        if not passage.words[at].is_initial
    ):
        return False, False
    chance = evidence.chance(passage, positions, cue, tail, has_article=has_article)
    likely = LIKELY_IN.get(passage.code or "", LIKELY)
    if LIKELY_IN_COMPANY <= chance < likely:
        passage.unsure.append((positions[0], positions[-1]))
    is_sure = chance >= SURE and all(passage.is_person(passage.words[at]) for at in positions)
    return chance >= likely, is_sure


def _is_name_too(passage: Passage, word: Word) -> bool:
    """Say whether somebody may be called by a month's, a place's or a building's name."""
    return passage.code == "en" and word.low in NAMES_TOO and not word.is_shouted


def _is_org(passage: Passage, first: int, last: int) -> bool:
    words = passage.words
    if (
        words[last].low in ORG_TAILS
        and last > first
        and not passage.is_given(words[first])
        and not _may_be_called_so(passage, first, last)
    ):
        return True
    follows = passage.after(last)
    if follows is not None and follows.low in ORG_TAILS and follows.is_capital:
        return True
    leads = passage.before(first)
    if leads is not None and leads.low in ROOMS:
        return True
    return (
        leads is not None
        and leads.low in ORG_HEADS
        and leads.is_capital
        and (leads.low not in RELATIONS or words[first].low in NOT_NAMES)
    )


def _may_be_called_so(passage: Passage, first: int, last: int) -> bool:
    """Say whether somebody may: "Thyra Hall", but not "Linden Ward" and "the Thyra Wing"."""
    head, before = passage.words[first], passage.before(first)
    return (
        _is_name_too(passage, passage.words[last])
        and passage.is_person(head)
        and not passage.is_common(head)
        and not (
            before is not None
            and (before.low in passage.articles or before.low in passage.place_prepositions)
        )
    )


def _is_opened_room(passage: Passage, opened: int, first: int, last: int) -> bool:
    """Say whether all but the kind of a room was passed over: "Reed Hall has lockers."."""
    word = passage.words[opened]
    return (
        opened < first == last
        and passage.words[last].low in ORG_TAILS
        and not passage.is_function(word)
        and not passage.is_title(word)
        and not (word.low in CONTACTS or word.low in RELATIONS or word.low in notes.ORDERS)
    )


def _is_place(passage: Passage, position: int) -> bool:
    """Say whether one word is a town by its ending in English, or by what stands before it."""
    word = passage.words[position]
    is_listed = word.low in PLACES
    is_town = passage.code == "en" and _TOWN.search(word.low) is not None
    if not (is_listed or is_town) or passage.is_given(word) or passage.is_surname(word):
        return False
    before = passage.before(position)
    # "Sit next to Georgia."
    in_it = before is not None and before.low in passage.place_prepositions and before.low != "to"
    return is_town or in_it


def _again(passage: Passage, spans: list[Span], known: set[str]) -> Iterator[Span]:
    """Find the parts of sure names wherever else they stand in the text."""
    for word in passage.words:
        if word.text in known and not any(s.start < word.end and word.start < s.end for s in spans):
            yield Span(word.start, word.end, Kind.NAME)
