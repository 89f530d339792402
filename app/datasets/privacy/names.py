"""Names of people: capitalised words weighed by the words around them, lists and dictionaries.

A name has no shape of its own, so evidence is put together: a title, a relation ("my daughter"), a
label ("Patient:"), an introduction or a greeting before it is enough; so is a known given name. Two
capitalised words in a row that no dictionary knows are a name; one alone is, where the grammar
speaks for it. What was found in an example is found everywhere in it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from app.datasets.privacy.findings import Kind, Span
from app.datasets.privacy.words import (
    ALSO_WORDS,
    ARTICLES,
    BELONGINGS,
    CONTACTS,
    FUNCTION_WORDS,
    GERMAN_MATTER,
    GIVEN_NAMES,
    INTRODUCTIONS,
    NOT_NAMES,
    OF,
    ORG_HEADS,
    ORG_TAILS,
    PARTICLES,
    PERSON_VERBS,
    PLACE_PREPOSITIONS,
    RELATIONS,
    SURNAMES,
    TITLES,
)

_UPPER = "A-ZÀ-ÖØ-ÞĀĂĄĆĈĊČĎĐĒĔĖĘĚĜĞĠĢĤĦĨĪĬĮİĴĶĹĻĽĿŁŃŅŇŌŎŐŒŔŖŘŚŜŞŠŢŤŦŨŪŬŮŰŲŴŶŸŹŻŽ"
_WORD = re.compile(
    r"(?:[ldjnmstcLJNMSTC]|[Qq]u)['’](?=[^\W\d_]{2})"  # an elided word stands for itself
    rf"|(?<!\w)(?:[{_UPPER}]\.(?:-?[{_UPPER}]\.)*|[^\W\d_]+(?:['’‘-][^\W\d_]+)*)(?:['’]s(?!\w))?(?![\d_])"
)
_STAND_IN = re.compile(r"\[[^\]\n]{1,40} \d+\]")
# What stands before a colon that a name follows.
_LABELS = (
    r"(?:full |first |last |given |family |patient |pupil |student |child['’]?s |parent |mother['’]?s )?name"
    r"|surname|forename|patient(?:in)?|pupil|student|child|client|resident|parent|guardian|mother|father"
    r"|next of kin|policy ?holder|insured|holder|emergency contact|contact|teacher|gp|doctor|physician|nurse|from|to|attn|author"
    r"|vor- und nachname|vorname|nachname|familienname|schüler(?:in)?|kind|klient(?:in)?|bewohner(?:in)?"
    r"|mutter|vater|eltern(?:teil)?|ansprechpartner(?:in)?|kontakt(?:person)?|lehrer(?:in)?|hausarzt"
    r"|hausärztin|arzt|ärztin|von|an|erziehungsberechtigter?|angehörige[r]?|versicherte[r]?"
    r"|nom(?: et prénom)?|prénom|nom de famille|nom complet|patiente?|élève|étudiant(?:e)?|enfant|mère|père"
    r"|parent|responsable(?: légal)?|personne à prévenir|médecin(?: traitant)?|assurée?"
    r"|nombre(?: completo| y apellidos)?|apellidos?|paciente|alumn[oa]|estudiante|niñ[oa]|madre|padre"
    r"|tutor(?:a)?|contacto|médic[oa]|asegurad[oa]|titular"
    r"|naam|voornaam|achternaam|volledige naam|patiënte?|cliënt(?:e)?|leerling|scholier|bewoner|moeder"
    r"|vader|ouder|verzorger|contactpersoon|huisarts|verzekerde|mentor"
)
_LABELLED = re.compile(
    rf"(?:^|[^\w])(?:{_LABELS})\s*(?:\([^)\n]{{0,20}}\)\s*)?[:=]\s*$", re.IGNORECASE
)
_FIRST_LAST = rf"[{_UPPER}][^\W\d_]*(?:[ '’-](?:(?:van|von|de|der|den|la|le|du|di|da|el)\s)*[{_UPPER}][^\W\d_]*){{0,2}}"
_SURNAME_FIRST = re.compile(
    rf"(?:^|[^\w])(?i:{_LABELS})\s*[:=]\s*((?:(?:van|von|de|der|den|la|le|du|di|da|el)\s)*{_FIRST_LAST}, {_FIRST_LAST})"
    r"(?=\s*(?:\n|$|;|\())"
)
_FOLLOWED = re.compile(
    r"\s?[,(]{1,2}\s?(?:born|dob\b|d\.o\.b|geb|né|nacid|aged?\s\d|\*|year\s\d|klasse\s|class\s|clase\s"
    r"|\+?\(?\d[\d ()./-]{6}|\d{1,3}\s(?:years?|jahre?|ans|años|jaar)\b|\d{1,2}[./-]\d)",
    re.IGNORECASE,
)
_VOCATIVE = re.compile(
    r"(?:^|[^\w])(?:thanks|thank you|cheers|sorry|danke|vielen dank|merci|gracias|dank je|dank u|bedankt|yes|no|ja"
    r"|nein|oui|non|sí|nee|ok|okay),\s$",
    re.IGNORECASE,
)
_NUMBER_WORD = re.compile(r"(?:nummer|number|kennung|code|[-‑](?:nr|id|no))$", re.IGNORECASE)
_NEAR_ANCHOR = frozenset([", ", " (", " ", " – ", " - ", "; ", " / "])
# Endings of drugs' names; the dictionaries know few of them.
_DRUG = re.compile(
    r"(?:pril|sartan|statine?|olol|azole?|cilline?|mycine?|micina|oxacine?|oxacino|dipine?|dipino|formine?"
    r"|gliptine?|gliflozin|flozine?|tidine?|prazole?|mab|nib|parine?|parina|caine?|kain|cain|profen[eo]?|sone"
    r"|solone?|zepam|zolam|triptane?|setrone?|ciclovir|vir|dronate?|barbital|codone?|phylline?|terole?"
    r"|amide?|thyroxine?|cetamol|fenac|oxetine?|alopram|xaban|gatran|cyclin|ciclina|sporine?|xone?)$",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(
    r"(?:^|[.!?…:;\n•*|\t>](?:[\"'“”«»)\]]*)\s*|[-–—]\s+|[\"“„«(¿¡]\s*|\d[.)]\s+)$"
)
# Languages in which every noun has a capital: there, a dictionary's word alone tells nothing.
_NOUNS_IN_CAPITALS = frozenset(["de"])
_NOUN_ENDING = re.compile(
    r"(?:ung|ungen|heit|heiten|keit|keiten|schaft|tion|tionen|tät|täten|ismus|ik|iken|ur|uren|nis|nisse|ment"
    r"|tum|ling|linge|chen|lein|haus|zeit|zeiten|tag|tage|tagen|arzt|ärzte|plan|pläne|amt|ämter|buch|bücher|stelle|stellen"
    r"|karte|karten|schein|scheine|raum|räume|zimmer|termin|termine|dienst|dienste|kurs|kurse|arbeit|arbeiten|stunde|stunden"
    r"|mittel|mitteln|salbe|tropfen|tablette|tabletten|impfung|schmerz|schmerzen|krankheit|test|tests|gruppe|gruppen"
    r"|schule|schulen|klasse|klassen|nummer|nummern|daten|blatt|blätter|heft|hefte|brief|briefe|abend|woche|wochen)$"
)
MAX_TOKENS = 5


class Word:
    """One word of a text: where it is, and what it looks like."""

    __slots__ = ("end", "is_capital", "is_initial", "is_shouted", "low", "start", "text")

    def __init__(self, text: str, start: int) -> None:
        if text.endswith(("'s", "’s")):
            text = text[:-2]
        self.text, self.start, self.end = text, start, start + len(text)
        self.low = text.lower()
        self.is_capital = text[0].isupper()
        self.is_initial = self.is_capital and text.endswith(".")
        self.is_shouted = len(text) > 1 and not self.is_initial and text.isupper()


def language(text: str) -> str | None:
    """Tell a text's language by its small words; None where they are too few."""
    words = re.findall(r"[^\W\d_]+", text[:4000].lower())
    counts = {code: sum(word in known for word in words) for code, known in FUNCTION_WORDS.items()}
    best = max(counts, key=lambda code: counts[code])
    return best if counts[best] >= 1 else None


@lru_cache(maxsize=200_000)
def is_word(word: str, code: str) -> bool:
    """Say whether a language's dictionary has a word as a common one, and not as a proper name."""
    if code == "de" and _NOUN_ENDING.search(word):
        return True
    known, low = _dictionary(code), word.lower()
    if code == "de" and word in known:
        return True
    lemma = known.get(low)
    if lemma is not None and lemma[:1].islower():
        return True
    parts = [part for part in re.split(r"[-’']", word) if part]
    if len(parts) > 1:
        return all(is_word(part, code) for part in parts)
    return code in ("de", "nl") and _is_compound(low, known)


def _is_compound(low: str, known: Mapping[str, str]) -> bool:
    """Say whether a word is made of two that the dictionary knows: "Wanderschuhe"."""
    for cut in range(3, len(low) - 4):
        head, tail = low[:cut], low[cut:]
        if known.get(tail.title()) is None and known.get(tail) is None:
            continue
        for link in ("", "s", "n", "en"):
            stem = head.removesuffix(link)
            if len(stem) > 2 and any(
                form.title() in known for form in (stem, f"{stem}e", f"{stem}en")
            ):
                return True
    return False


@lru_cache(maxsize=200_000)
def _declines(word: str) -> bool:
    """Say whether a German word has a plural, or another form than the genitive that names have."""
    known = _dictionary("de")
    stem = word.removesuffix("e")
    return any(known.get(form) == word for form in (f"{word}en", f"{stem}en", f"{word}es", f"{word}er",
               f"{word}n", f"{word}nen", f"{word}e"))  # fmt: skip


@lru_cache
def _dictionary(code: str) -> Mapping[str, str]:
    # Loaded when a text of the language first has a word to judge: seconds and 100 MB for some.
    from simplemma.strategies.dictionaries.dictionary_factory import DefaultDictionaryFactory

    return DefaultDictionaryFactory().get_dictionary(code)


class _Text:
    """A text's words and what stands around them."""

    def __init__(self, text: str, code: str | None, anchors: Sequence[Span]) -> None:
        self.text = text
        self.code = code
        self.words = [Word(match.group(), match.start()) for match in _WORD.finditer(text)]
        self.has_tall_nouns = code in _NOUNS_IN_CAPITALS
        self.articles = ARTICLES.get(code or "", _ALL_ARTICLES)
        self.place_prepositions = PLACE_PREPOSITIONS.get(code or "", frozenset())
        self.anchors = anchors

    def is_title(self, word: Word) -> bool:
        # One letter is a title in one language and somebody's initial in the others.
        low = word.low.rstrip(".")
        return low in TITLES and _LETTER_TITLES.get(low, self.code) == self.code

    def starts_sentence(self, word: Word) -> bool:
        return _SENTENCE_END.search(self.text[max(0, word.start - 6) : word.start]) is not None

    def adjoins(self, position: int) -> bool:
        """Say whether a word follows the one before it at once."""
        if not 0 < position < len(self.words):
            return False
        last = self.words[position - 1]
        between = self.text[last.end : self.words[position].start]
        return between in (" ", "\u00a0") or (
            between == "" and (last.is_initial or last.text[-1] in "'’")
        )

    def before(self, position: int) -> Word | None:
        return self.words[position - 1] if self.adjoins(position) else None

    def after(self, position: int) -> Word | None:
        return self.words[position + 1] if self.adjoins(position + 1) else None

    # --- kinds of words ---

    def is_given(self, word: Word) -> bool:
        plain = _plain(word)
        return plain in GIVEN_NAMES or all(part in GIVEN_NAMES for part in plain.split("-"))

    def is_surname(self, word: Word) -> bool:
        return any(part in SURNAMES for part in [_plain(word), *_plain(word).split("-")])

    def is_other(self, word: Word) -> bool:
        """Say whether a capitalised word is something else than a person by our lists."""
        return (
            word.low in NOT_NAMES
            or word.low.removesuffix("s") in NOT_NAMES
            or word.low in ORG_TAILS
            or word.low in ORG_HEADS
            or (self.has_tall_nouns and word.low in GERMAN_MATTER)
            or (word.is_shouted and len(word.text) <= 4)
            or len(word.text) == 1
            or _NUMBER_WORD.search(word.text) is not None
        )

    def is_function(self, word: Word) -> bool:
        return word.low in self.articles or (
            word.low in FUNCTION_WORDS[self.code] if self.code else word.low in _ALL_FUNCTION_WORDS
        )

    def is_common(self, word: Word) -> bool:
        """Say whether a word is one of the language: a capital alone makes it no name."""
        if self.is_function(word):
            return True
        if len(word.text) > 5 and _DRUG.search(word.text) and not self.is_given(word):
            return True
        return self.code is not None and is_word(word.text, self.code)

    def is_person(self, word: Word) -> bool:
        """Say whether a word may well be a name: on a list, or unknown to the dictionary."""
        if word.is_initial:
            return False
        if self.is_given(word) or self.is_surname(word):
            return True
        return not self.is_other(word) and not self.is_common(word)

    # --- what stands around ---

    def cue(self, position: int) -> int:
        """Weigh what stands before: 3 a title, label or introduction, 2 a relation, 1 a hint."""
        word = self.words[position]
        before = self.text[max(0, word.start - 60) : word.start]
        bare = before.rstrip()
        if bare[-1:] in (":", "=") and _LABELLED.search(before):
            return 3
        if _is_introduced(bare):
            return 3
        if (
            before.endswith(", ")
            and _VOCATIVE.search(before)
            and self.text[word.end : word.end + 1]
            in (
                "",
                ".",
                "!",
                ",",
                "\n",
            )
        ):
            return 2
        if any(self.text[anchor.end : word.start] in _NEAR_ANCHOR for anchor in self.anchors):
            return 1
        if position == 0:
            return 0
        last = self.words[position - 1]
        between = self.text[last.end : word.start]
        if self.is_title(last) and between in (" ", ". ", "\u00a0", ": "):
            return 3
        if last.low in RELATIONS and between in (" ", ", ", "\u00a0"):
            # "Mein Kind Fieber": nouns stand there too.
            return 2
        if between not in (" ", "\u00a0", ""):
            return 0
        if (
            last.low in OF
            and position > 1
            and self.words[position - 2].low in BELONGINGS | RELATIONS
        ):
            return 2
        return 1 if last.low in CONTACTS else 0

    def tail(self, position: int) -> int:
        """Weigh what stands behind: 2 a birth, an age or a phone, 1 what people do or own."""
        word = self.words[position]
        if _FOLLOWED.match(self.text, word.end):
            return 2
        if any(self.text[word.end : anchor.start] in _NEAR_ANCHOR for anchor in self.anchors):
            return 2
        if self.text[word.end : word.end + 2] in ("'s", "’s"):
            return 1
        after = self.after(position)
        return 1 if after is not None and after.low in PERSON_VERBS else 0


def _is_introduced(before: str) -> bool:
    low = before.rstrip(" ,:;!.–-\n").lower()
    if not low.endswith(INTRODUCTIONS):
        return False
    return any(
        low.endswith(words) and not low[: -len(words)][-1:].isalnum() for words in INTRODUCTIONS
    )


_LETTER_TITLES = {"m": "fr", "d": "es"}
_ALL_FUNCTION_WORDS = frozenset().union(*FUNCTION_WORDS.values())
_ALL_ARTICLES = frozenset().union(*ARTICLES.values())


def _plain(word: Word) -> str:
    return word.text.title() if word.is_shouted else word.text


def find(text: str, code: str | None, anchors: Sequence[Span] = ()) -> list[Span]:
    """Find names in a text.

    Args:
        code: The text's language, where it is one of ours.
        anchors: What else was found in it: phones and births stand beside people.
    """
    passage = _Text(text, code, anchors)
    stand_ins = [match.span() for match in _STAND_IN.finditer(text)]
    spans: list[Span] = []
    if "," in text and (":" in text or "=" in text):
        spans = [Span(*match.span(1), Kind.NAME) for match in _SURNAME_FIRST.finditer(text)]
    known = {w for span in spans for w in re.findall(r"[^\W\d_]{3,}", text[span.start : span.end])}
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
        position = last + 1
        span = Span(passage.words[first].start, passage.words[last].end, Kind.NAME)
        if any(start < span.end and span.start < end for start, end in stand_ins):
            continue
        spans.append(span)
        if is_sure:
            words = passage.words[first : last + 1]
            known |= {w.text for w in words if len(w.text) > 2 and w.is_capital}
    spans += list(_again(passage, spans, known))
    return spans


def _run(passage: _Text, position: int) -> tuple[int, int] | None:
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
        if passage.is_title(word):
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


def _judge(passage: _Text, first: int, last: int) -> tuple[int, int, bool] | None:
    """Decide whether a run of capitalised words is a name, and which part of it."""
    words = passage.words
    cue = passage.cue(first)
    is_particle = cue == 3 and words[first].low in PARTICLES
    if (cue < 2 or passage.is_function(words[first])) and not is_particle:
        first = _skip_opening(passage, first, last)
        cue = passage.cue(first)
    last = _cut(passage, first, last, cue)
    while last > first and not words[last].is_capital:
        last -= 1
    head = words[first]
    names_in = [at for at in range(first, last + 1) if words[at].is_capital]
    if not names_in or (len(names_in) == 1 and words[names_in[0]].is_initial):
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
    return (first, last, is_sure) if is_name and not passage.is_title(head) else None


def _skip_opening(passage: _Text, first: int, last: int) -> int:
    """Pass over a word that has its capital from the sentence's start, or that leads to a name."""
    words = passage.words
    while first < last:
        word = words[first]
        leads = word.low in RELATIONS or word.low in ORG_HEADS
        opens = (
            passage.starts_sentence(word) and passage.is_common(word) and not passage.is_given(word)
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


def _cut(passage: _Text, first: int, last: int, cue: int) -> int:
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
        if passage.is_function(word) or (word.is_shouted and len(word.text) <= 4):
            return at - 1
        if cue >= 2 and at == first + 1:
            continue  # after "Mrs" or "the file of" a second word is the surname, whatever it means
        if word.low in ORG_TAILS or (
            passage.has_tall_nouns and passage.is_common(word) and _declines(word.text)
        ):
            return at - 1
    return last


def _several(
    passage: _Text, positions: list[int], cue: int, tail: int, *, has_article: bool
) -> tuple[bool, bool]:
    words = [passage.words[at] for at in positions]
    head = words[0]
    persons = [passage.is_person(word) for word in words]
    if cue >= 2 or tail == 2:
        return True, True
    if head.is_initial:
        before = passage.before(positions[0])
        return before is None or not before.is_capital, any(persons)
    if passage.is_given(head) and not (head.text in ALSO_WORDS and not any(persons[1:])):
        return True, True
    if passage.is_other(head) or has_article:
        return False, False
    if passage.has_tall_nouns:
        fits = [
            p or (passage.is_common(w) and not _declines(w.text))
            for p, w in zip(persons, words, strict=True)
        ]
        return (all(fits) and any(persons)) or (any(persons) and (cue > 0 or tail > 0)), all(
            persons
        )
    if any(persons):
        return True, all(persons)
    in_sentence = not passage.starts_sentence(head)
    is_plain = not any(passage.is_other(word) for word in words)
    if passage.code == "en":
        return in_sentence and is_plain and cue > 0 and tail > 0, False
    return in_sentence and is_plain and (cue > 0 or tail > 0), False


def _single(
    passage: _Text, position: int, cue: int, tail: int, *, has_article: bool
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
    if passage.is_given(word) and word.text not in ALSO_WORDS:
        return not (has_article and passage.has_tall_nouns and is_common), True
    if is_other and not (cue == 2 or (cue and tail and passage.is_given(word))):
        return False, False
    if cue == 2:
        if passage.has_tall_nouns and is_common:
            return not _declines(word.text), False
        return True, not is_common
    return not has_article and _alone(passage, position, cue, tail), False


def _alone(passage: _Text, position: int, cue: int, tail: int) -> bool:
    """Decide on one word that no list has and nothing announces, by the grammar around it."""
    word = passage.words[position]
    is_common = passage.is_common(word)
    before = passage.before(position)
    if before is None:
        # Behind a comma the capital says something; at a sentence's start it says nothing.
        is_tall = not passage.starts_sentence(word) and not passage.has_tall_nouns
        return tail > 0 and (is_tall or not is_common or _may_be_german_name(passage, word))
    if before.low in passage.place_prepositions:
        return False
    if passage.has_tall_nouns:
        if is_common:
            return (cue > 0 or tail > 0) and _may_be_german_name(passage, word)
        return not _looks_like_adjective(before)
    if is_common:
        if passage.code == "en":
            return cue > 0 and (tail > 0 or passage.is_given(word))
        return cue > 0 or tail > 0
    return passage.code is not None


def _may_be_german_name(passage: _Text, word: Word) -> bool:
    return (
        passage.has_tall_nouns
        and _dictionary("de").get(word.text) == word.text
        and not _NOUN_ENDING.search(word.text)
        and not _declines(word.text)
        and len(word.text) > 2
    )


def _is_org(passage: _Text, first: int, last: int) -> bool:
    words = passage.words
    if words[last].low in ORG_TAILS and last > first and not passage.is_given(words[first]):
        return True
    follows = passage.after(last)
    if follows is not None and follows.low in ORG_TAILS and follows.is_capital:
        return True
    leads = passage.before(first)
    return (
        leads is not None
        and leads.low in ORG_HEADS
        and leads.is_capital
        and (leads.low not in RELATIONS or words[first].low in NOT_NAMES)
    )


def _looks_like_adjective(word: Word) -> bool:
    return (
        word.text.islower()
        and re.search(r"(?:e|er|en|es|em)$", word.low) is not None
        and word.low not in FUNCTION_WORDS["de"]
        and word.low not in CONTACTS
        and word.low not in RELATIONS
        and word.low not in PERSON_VERBS
    )


def _again(passage: _Text, spans: list[Span], known: set[str]) -> Iterator[Span]:
    """Find the parts of sure names wherever else they stand in the text."""
    for word in passage.words:
        if word.text in known and not any(s.start < word.end and word.start < s.end for s in spans):
            yield Span(word.start, word.end, Kind.NAME)
