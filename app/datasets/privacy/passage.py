"""A text's words and what stands around them: what the rules for names ask of it."""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from app.datasets.privacy.findings import Span
from app.datasets.privacy.words import (
    ARTICLES,
    BELONGINGS,
    CALLED,
    CONTACTS,
    FUNCTION_WORDS,
    GERMAN_MATTER,
    GIVEN_NAMES,
    INTRODUCTIONS,
    MEDICAL,
    NAMES_TOO,
    NOT_NAMES,
    OF,
    ORG_HEADS,
    ORG_TAILS,
    PERSON_VERBS,
    PLACE_PREPOSITIONS,
    RELATIONS,
    SOMEBODY,
    SURNAMES,
    TITLES,
    WRITER,
)

UPPER = "A-ZÀ-ÖØ-ÞĀĂĄĆĈĊČĎĐĒĔĖĘĚĜĞĠĢĤĦĨĪĬĮİĴĶĹĻĽĿŁŃŅŇŌŎŐŒŔŖŘŚŜŞŠŢŤŦŨŪŬŮŰŲŴŶŸŹŻŽ"
_WORD = re.compile(
    r"(?:[ldjnmstcLJNMSTC]|[Qq]u)['’](?=[^\W\d_]{2})"  # an elided word stands for itself
    rf"|(?<!\w)(?:[{UPPER}]\.(?:-?[{UPPER}]\.)*|[^\W\d_]+(?:['’‘-][^\W\d_]+)*)(?:['’]s(?!\w))?(?![\d_])"
)
# What stands before a colon that a name follows.
LABELS = (
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
    rf"(?:^|[^\w])(?:{LABELS})\s*(?:\([^)\n]{{0,20}}\)\s*)?[:=]\s*$", re.IGNORECASE
)
FIRST_LAST = rf"[{UPPER}][^\W\d_]*(?:[ '’-](?:(?:van|von|de|der|den|la|le|du|di|da|el)\s)*[{UPPER}][^\W\d_]*){{0,2}}"
_FOLLOWED = re.compile(
    r"\s?[,(]{1,2}\s?(?:born|dob\b|d\.o\.b|geb|né|nacid|aged?\s\d|\*|year\s\d|klasse\s|class\s|clase\s"
    r"|\+?\(?\d(?:[ ()./-]{0,2}\d){6}|\d{1,3}\s(?:years?|jahre?|ans|años|jaar)\b|\d{1,2}[./-]\d)",
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
NOUN_ENDING = re.compile(
    r"(?:ung|ungen|heit|heiten|keit|keiten|schaft|tion|tionen|tät|täten|ismus|ik|iken|ur|uren|nis|nisse|ment"
    r"|tum|ling|linge|chen|lein|haus|zeit|zeiten|tag|tage|tagen|arzt|ärzte|plan|pläne|amt|ämter|buch|bücher|stelle|stellen"
    r"|karte|karten|schein|scheine|raum|räume|zimmer|termin|termine|dienst|dienste|kurs|kurse|arbeit|arbeiten|stunde|stunden"
    r"|mittel|mitteln|salbe|tropfen|tablette|tabletten|impfung|schmerz|schmerzen|krankheit|test|tests|gruppe|gruppen"
    r"|schule|schulen|klasse|klassen|nummer|nummern|daten|blatt|blätter|heft|hefte|brief|briefe|abend|woche|wochen)$"
)


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
    if code == "de" and NOUN_ENDING.search(word):
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
def declines(word: str) -> bool:
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


class Passage:
    """A text's words and what stands around them."""

    def __init__(self, text: str, code: str | None, anchors: Sequence[Span]) -> None:
        self.text = text
        self.code = code
        self.words = [Word(match.group(), match.start()) for match in _WORD.finditer(text)]
        self.has_tall_nouns = code in _NOUNS_IN_CAPITALS
        self.articles = ARTICLES.get(code or "", _ALL_ARTICLES)
        self.place_prepositions = PLACE_PREPOSITIONS.get(code or "", frozenset())
        self.anchors = anchors
        # Words that are no person here: eponyms, species (evidence.py).
        self.things: frozenset[str] = frozenset()
        # Where words stand that may be a name, first and last: not likely enough alone (names.py).
        self.unsure: list[tuple[int, int]] = []
        # Which words belong to a name by the way it is noted (notes.py).
        self.noted: set[int] = set()
        # Words that stand in small letters here: their capital elsewhere comes from the sentence.
        self.small = frozenset(word.text for word in self.words if word.text.islower())
        # How often each word stands here as it is written.
        self.times = Counter(word.text for word in self.words if word.is_capital)
        somebody = SOMEBODY.get(code or "", frozenset())
        self._somebody = [at for at, word in enumerate(self.words) if word.low in somebody]
        writer = WRITER.get(code or "", frozenset())
        self._writer = [at for at, word in enumerate(self.words) if word.low in writer]

    def is_title(self, word: Word) -> bool:
        # One letter is a title in one language and somebody's initial in the others.
        low = word.low.rstrip(".")
        return low in TITLES and _LETTER_TITLES.get(low, self.code) == self.code

    def starts_sentence(self, word: Word) -> bool:
        before = self.text[max(0, word.start - 6) : word.start]
        # A gap or a line's end is a heading's end.
        return (
            before.endswith(("  ", "\t", "\n", " \u00a0"))
            or _SENTENCE_END.search(before) is not None
        )

    def is_heading(self, first: int, last: int) -> bool:
        """Say whether common words beside these have capitals: "Wound Care and Dressings"."""
        if self.has_tall_nouns:
            return False
        return any(
            self.words[at].is_capital
            and not self.words[at].is_initial
            and self.is_common(self.words[at])
            and not self.starts_sentence(self.words[at])
            and self.words[at].low not in NOT_NAMES
            and not self.is_title(self.words[at])
            for at in self._line(first, last)
        )

    def num_capitals(self, first: int, last: int) -> int:
        """Count the common words with capitals near these, which titles have and sentences not."""
        return sum(
            word.is_capital
            and not word.is_initial
            and not self.starts_sentence(word)
            and self.is_common(word)
            for word in (self.words[at] for at in self._line(first, last))
        )

    def speaks_of_somebody(self, first: int, last: int) -> bool:
        """Say whether "he", "her" or the like stands near words."""
        return _is_near(self._somebody, first, last)

    def has_writer(self, first: int, last: int) -> bool:
        """Say whether "I", "our" or "please" stands near words."""
        return _is_near(self._writer, first, last)

    def _line(self, first: int, last: int) -> Iterator[int]:
        """Yield the words beside a run, up to five each way, in its own sentence."""
        at = first
        for _ in range(5):
            if not self.adjoins(at):
                break
            at -= 1
            yield at
        at = last
        for _ in range(5):
            at += 1
            if not self.adjoins(at):
                break
            yield at

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
        return word.low in MEDICAL or (self.code is not None and is_word(word.text, self.code))

    def is_nameless(self, word: Word) -> bool:
        """Say whether a word is one of English that nobody is called by: "Treatment"."""
        return (
            not word.is_initial
            and word.low not in NAMES_TOO
            and self.is_common(word)
            and not self.is_given(word)
            and not self.is_surname(word)
        )

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
        if self.is_title(last) and (
            between in (" ", "\u00a0", ": ")
            # "Mrs. Blomqvist", but "Ask your doctor. Treatment may help."
            or (between == ". " and len(last.low) <= MAX_SHORT_TITLE)
        ):
            return 3
        if last.low in CALLED:
            # "my son is called Ole", but "a protein called factor VIII".
            leads = {each.low for each in self.words[max(0, position - 4) : position - 1]}
            return 1 if leads.isdisjoint(RELATIONS | _WHO) else 2
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


MAX_SHORT_TITLE = 4
# So many words away a small word still speaks of the same thing.
_NEAR = 20
_WHO = frozenset(
    ["he", "she", "who", "i", "er", "sie", "ich", "il", "elle", "él", "ella", "hij", "zij"]
)


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


def _is_near(places: list[int], first: int, last: int) -> bool:
    """Say whether one of some places, in order, is near a run of words."""
    at = bisect_left(places, first - _NEAR)
    return at < len(places) and places[at] <= last + _NEAR


def _plain(word: Word) -> str:
    return word.text.title() if word.is_shouted else word.text
