"""How likely capitalised words are a name where no title, list or relation says so.

What stands around the words and what they look like are features; each has a weight that
tests/app/datasets/privacy/learn.py learned from invented sentences (a logistic regression, in
weights.json). What a feature is called here is what it is called there.
"""

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from app.datasets.privacy.passage import UPPER, Passage, Word
from app.datasets.privacy.words import (
    AND,
    BELONGINGS,
    CONTACTS,
    DEVICES,
    EPONYMS,
    GERMAN_MATTER,
    GIVEN_NAMES,
    MEDICAL,
    NOT_NAMES,
    OF,
    ORG_HEADS,
    ORG_TAILS,
    OWN,
    PERSON_VERBS,
    SIGNS,
    SUCH,
    SURNAMES,
    THING_HEADS,
    THING_LEADS,
    WITH,
)

_ORGANISATIONS = ORG_TAILS | ORG_HEADS | THING_HEADS
WEIGHTS = Path(__file__).with_name("weights.json")
# Endings of the words of medicine and of other sciences, in the five languages.
_SCIENCE = re.compile(
    r"(?:osis|oses|itis|itid|iasis|oma|omas|omen|omes?|emi[ae]|émie|ämie|path(?:y|ie|ía|ies)|plas(?:ia|ie|ty)|troph(?:y|ie|ia|in)"
    r"|tom(?:y|ie|ía)|scop(?:y|ie|ia)|graph(?:y|ie|ía)|grafía?|grafie|gram|gramm|log(?:y|ie|ía)|alg(?:ia|ie)|pleg(?:ia|ie)"
    r"|peni[ae]|phil(?:ia|ie)|uri[ae]|rrh(?:ea|oea|ée|ö)|sclerosis|ceph?al(?:y|ie|ia)|genesis|lys(?:is|e)|stas(?:is|e)|therap(?:y|ie)"
    r"|terapia|mycin|myces|bacter|coccus|cocci|monas|bacillus|virus|plasma|zoa|toxin|globulin|kinase|ase|sterone?|ectom|stom[ay]"
    r"|sthenia|mnesia|gnosia|phasia|praxia|lexia|lalia|phagia|pnea|pnoe|cardia|genic|gen|oid|oids|phyte|spora|ella|ella[es]?|cyte|blast"
    r"|derm[ai]a?|phobia|mania|esthesia|ästhesie|kinesia|tonia|rexia|dipsia|acea[en]?|idae|ium|ii|ens|ensis|icus|ica|icum|oides)$"
)
_SURELY_SCIENCE = re.compile(
    r"\w{3}(?:osis|itis|ectomy|otomy|emia|coccus|bacter|virus|mycin|cillin|zumab|ximab|limumab|tinib|zomib|ciclib|plasty|scopy"
    r"|graphy|pathy|plasia|trophy|algia|sclerosis|therapy|genesis|lysis|thrin|thic|statin|sartan|trexate|prazole|gliptin)$"
)
_INNER_CAPITAL = re.compile(
    r"(?<!\bMc)(?<!\bMac)(?<!\bDe)(?<!\bLe)(?<!\bLa)(?<!\bDi)(?<!\bDu)(?<!\bFitz)(?<=[a-z])[A-Z]|[A-Z]{2}s?$|^[A-Z]{2}"
)
# How the result of a test is noted behind its name: "Babinski bds. neg.", "Lasègue: –".
_SIDE = r"(?:bds?\.?|beid(?:er)?seits|bilat\w*\.?|re(?:chts)?\b\.?|li(?:nks)?\b\.?|(?:test|sign)\b)"
_RESULT = re.compile(
    rf"(?:(?:,| and| und| et| y| en) [{UPPER}]\w+){{0,4}}[\s:(]{{1,3}}(?:{_SIDE}\s)?"
    r"(?:(?:pos(?:iti\w+|\b)|neg(?:ati\w+|\b)|négati\w+|unauffällig|absente?|présente?|o\.? ?B\b)"
    r"(?!\w| (?:getestet|tested|testé|für|for|about|auf|pour|para|voor))|(?:[+–−-]+|[∅ø])(?=[\s,.;)]|$))"
)
_PEOPLES = re.compile(
    r"(?:ians|eans|icans|ans|ese|ish|ites|isch|ische[nrs]?|aner|anern|aises?|iennes?|iens|eños|eñas|anos|anas|enses|anen|ezen|aars|ers)$"
)
_LATIN = re.compile(
    r"(?:us|um|is|ii|ae|ans|ens|ella|ica|osa|ata|ina|ola|alis|ensis|oides|cruzi|aris|a)$"
)
_EN_ADJECTIVE = re.compile(
    r"-(?:like|type|positive|negative|based|related|associated|funded|supported|approved|free|specific|resistant|dependent|linked|induced|\w+ed|\w+ing)$"
)


def is_thing_by_look(passage: Passage, first: int, last: int) -> bool:
    """Say whether capitalised words are an abbreviation or a word of science by their letters."""
    words = passage.words
    head, tail = words[first], words[last]
    if all(_is_abbreviation(word.text) for word in words[first : last + 1] if word.is_capital):
        return not any(
            passage.is_given(w) or passage.is_surname(w) for w in words[first : last + 1]
        )
    if _EN_ADJECTIVE.search(tail.text):
        return True
    return (
        first == last
        and _SURELY_SCIENCE.search(head.low) is not None
        and not passage.is_surname(head)
    )


def is_thing(passage: Passage, first: int, last: int) -> bool:
    """Say whether capitalised words are an abbreviation, an eponym or a species, as it seems.

    "Thyra's test" and "Thyra Blomqvist slept" may seem so, too: what is a thing by its neighbours
    is weighed.
    """
    if is_thing_by_look(passage, first, last):
        return True
    head = passage.words[first]
    follows, before = passage.after(last), passage.before(first)
    if head.low in DEVICES or _is_sign(passage, head):
        return True
    if _names_a_thing(passage, last):
        return True
    if before is not None and before.is_capital and is_science(before.low):
        return True
    # "Escherichia coli": Latin behind it that the language does not know. Spanish looks like it.
    return (
        first == last
        and follows is not None
        and follows.text.islower()
        and len(follows.text) > 3
        and _LATIN.search(follows.text) is not None
        and passage.code != "es"
        and not passage.is_common(follows)
        and not passage.is_given(head)
        and follows.low not in PERSON_VERBS
    )


def things(passage: Passage) -> frozenset[str]:
    """Return the words that are an eponym or a species somewhere in a text, and so throughout."""
    found = set()
    for at, word in enumerate(passage.words):
        if (
            word.is_capital
            and not passage.is_function(word)
            and passage.cue(at) < 2
            and is_thing(passage, at, at)
        ):
            found.add(word.text)
    return frozenset(found)


def _is_sign(passage: Passage, word: Word) -> bool:
    """Say whether a test called so has a result: "Babinski positiv"."""
    return (word.text in EPONYMS or word.text in SIGNS) and (
        _RESULT.match(passage.text, word.end) is not None
    )


def _names_a_thing(passage: Passage, last: int) -> bool:
    """Say whether a thing called so follows: "Hodgkin lymphoma", "Merkel cell carcinoma"."""
    words = passage.words
    text = passage.text
    word = words[last]
    at = last + 1
    between = text[word.end : words[at].start] if at < len(words) else ""
    if between not in (" ", "\u00a0", "'s ", "’s ", "' ", "’ ", "-"):
        return False
    owns = between.strip() not in ("", "-")
    for step in range(3):
        if at >= len(words):
            return False
        low = words[at].low
        if low in THING_HEADS or (
            len(low) > 5
            and _SCIENCE.search(low)
            and (low in MEDICAL or not passage.is_person(words[at]))
        ):
            # "Thyra's test" is hers.
            return not (owns and low in OWN)
        if passage.is_function(words[at]) or low in PERSON_VERBS or not passage.adjoins(at + 1):
            return False
        if step == 0 and passage.code not in ("en", None):
            return False
        at += 1
    return False


def is_science(low: str) -> bool:
    return low in MEDICAL or (len(low) > 5 and _SCIENCE.search(low) is not None)


def _is_abbreviation(text: str) -> bool:
    if len(text) > 1 and text.isupper() and not text.endswith("."):
        return True
    return any(
        _INNER_CAPITAL.search(part) or (len(part) == 1 and "-" in text)
        for part in re.split(r"[-']", text)
        if part
    )


# --- what they look like ---------------------------------------------------------------------


def likeness(word: str) -> float:
    """Return how much more a word's letters are a name's than those of science, in nats each."""
    names, others = _letters()
    return sum(names[g] - others[g] for g in _trigrams(word)) / (len(word) + 1)


def _trigrams(word: str) -> list[str]:
    whole = f"^{word.lower()}$"
    return [whole[i : i + 3] for i in range(len(whole) - 2)]


class _Logs(dict[str, float]):
    def __init__(self, words: Iterable[str]) -> None:
        counts = Counter(g for word in words for g in _trigrams(word))
        total = sum(counts.values()) + 4000
        super().__init__({g: math.log((n + 0.5) / total) for g, n in counts.items()})
        self._rest = math.log(0.5 / total)

    def __missing__(self, key: str) -> float:
        return self._rest


@cache
def _letters() -> tuple[_Logs, _Logs]:
    return _Logs(GIVEN_NAMES | SURNAMES), _Logs(MEDICAL | GERMAN_MATTER | NOT_NAMES | THING_HEADS)


# --- what stands around ----------------------------------------------------------------------


def features(
    passage: Passage, positions: list[int], cue: int, tail: int, *, has_article: bool
) -> Iterator[str]:
    """Yield what speaks for and against capitalised words being a name."""
    words = [passage.words[at] for at in positions]
    first, last = positions[0], positions[-1]
    yield f"cue={cue}"
    yield f"tail={tail}"
    yield f"n={min(len(words), 4)}"
    yield f"persons={_how_many([passage.is_person(word) for word in words])}"
    commons = [passage.is_common(word) for word in words]
    yield f"commons={_how_many(commons)}"
    like = sum(likeness(word.text) for word in words if not word.is_initial) / len(words)
    yield f"like={max(-4, min(4, round(like * 4)))}"
    parts = [part for word in words for part in re.split("[-]", word.text)]
    lows = [part.lower() for part in parts]
    small = passage.small
    said = {
        "head=common": commons[0],
        "last=common": commons[-1],
        "given": any(map(passage.is_given, words)),
        "surname": passage.is_surname(words[-1]),
        "other": any(map(passage.is_other, words)),
        "organisation": any(word.low in _ORGANISATIONS for word in words),
        "eponym": any(part in EPONYMS for part in parts),
        "medical": any(low in MEDICAL for low in lows),
        "science": any(len(low) > 5 and _SCIENCE.search(low) for low in lows),
        "peoples": any(len(low) > 5 and _PEOPLES.search(low) for low in lows),
        "thing": any(word.text in passage.things for word in words),
        "short": len(words[-1].text) < 3,
        "shouted": any(word.is_shouted for word in words),
        "initial": any(word.is_initial for word in words),
        "hyphen": len(parts) > len(words),
        "nameless": passage.code == "en" and any(map(passage.is_nameless, words)),
        "all nameless": passage.code == "en" and all(map(passage.is_nameless, words)),
        "thing here": is_thing(passage, first, last),
        "somebody": passage.speaks_of_somebody(first, last),
        "writer": passage.has_writer(first, last),
        "twin": any(low in small or low.removesuffix("s") in small for low in lows),
        "heading": passage.is_heading(first, last),
        "article": has_article,
    }
    yield from (name for name, holds in said.items() if holds)
    before, behind = list(_before(passage, first)), list(_behind(passage, last))
    yield from before
    yield from behind
    # Together they say more than each by itself: "told Grace that", and a common word amid a line.
    yield f"{before[0]} {behind[0]}"
    place = "start" if before[0] == "before=start" else "amid"
    yield f"{place} commons={_how_many(commons)}"
    yield f"{place} capitals={min(passage.num_capitals(first, last), 3)}"
    yield f"times={min(passage.times[words[-1].text], 4)}"
    yield from _words_beside(passage, first, last)


def _how_many(flags: list[bool]) -> str:
    return "all" if all(flags) else "some" if any(flags) else "none"


def _before(passage: Passage, first: int) -> Iterator[str]:
    word = passage.words[first]
    if passage.starts_sentence(word):
        yield "before=start"
        return
    if first == 0:
        yield "before=mark"
        return
    last = passage.words[first - 1]
    between = passage.text[last.end : word.start]
    if between.strip(" \u00a0'’s") or not between:
        yield f"before={between.strip()[:1] or 'mark'}"
        return
    yield f"before={_kind(passage, last)}"
    if last.low in CONTACTS:
        yield "before=contact"
    if last.low in OF | CONTACTS or passage.is_function(last):
        at = first - 2
        if at >= 0 and passage.adjoins(first - 1):
            yield f"lead={_kind(passage, passage.words[at])}"


def _behind(passage: Passage, last: int) -> Iterator[str]:
    word = passage.words[last]
    at = last + 1
    rest = passage.text[word.end : word.end + 3]
    if rest[:2] in ("'s", "’s"):
        yield "behind=owns"
        if at < len(passage.words) and rest[2:] in (" ", "\u00a0"):
            yield f"owned={_kind(passage, passage.words[at])}"
            if passage.words[at].low in OWN:
                yield "owned=own"
        return
    if at >= len(passage.words) or rest[:1] not in (" ", "\u00a0"):
        yield f"behind={rest.strip()[:1] or 'end'}"
        return
    follows = passage.words[at]
    if passage.text[word.end : follows.start].strip():
        yield "behind=mark"
        return
    yield f"behind={_kind(passage, follows)}"
    # Verbs are told by their endings: "slipped", "resbaló".
    if follows.text.islower() and len(follows.text) > 3:
        yield f"ending={passage.code}.{follows.low[-2:]}"


def _words_beside(passage: Passage, first: int, last: int) -> Iterator[str]:
    """Yield small words and verbs right before and behind, by the language they are of."""
    before, behind = passage.before(first), passage.after(last)
    if before is not None and before.text.islower():
        yield f"word before={passage.code}.{before.low}"
    if behind is not None and behind.text.islower():
        yield f"word behind={passage.code}.{behind.low}"


def _kind(passage: Passage, word: Word) -> str:
    low = word.low
    for name, known in _KINDS:
        if low in known:
            return name
    if low in passage.articles:
        return "article"
    if low in passage.place_prepositions:
        return "place"
    if passage.is_function(word):
        return "function"
    if word.is_capital:
        return "capital" if passage.is_person(word) else "thing"
    if low in MEDICAL or (len(low) > 5 and _SCIENCE.search(low)):
        return "medical"
    return "word" if passage.is_common(word) else "unknown"


_KINDS = (
    ("and", AND),
    ("such", SUCH),
    ("of", OF),
    ("verb", PERSON_VERBS),
    ("with", WITH),
    ("contact", CONTACTS),
    ("lead", THING_LEADS),
    ("belonging", BELONGINGS),
    ("head", THING_HEADS),
)


@cache
def _weights() -> dict[str, float]:
    return {name: float(weight) for name, weight in json.loads(WEIGHTS.read_text()).items()}


@cache
def _sum(sets: tuple[str, ...]) -> dict[str, float]:
    """Add up what sets of weights say of each feature."""
    total: defaultdict[str, float] = defaultdict(float)
    for name, weight in _weights().items():
        group, _, feature = name.partition(" ")
        if group in sets:
            total[feature] += weight
    return dict(total)


def groups(passage: Passage, number: int) -> tuple[str, ...]:
    """Name the sets of weights that count: one word or several, German or not, which language."""
    size = "one" if number == 1 else "many"
    language = "de" if passage.has_tall_nouns else "other"
    return (size, f"{language}.{size}", f"in_{passage.code}.{size}")


def chance(
    passage: Passage, positions: list[int], cue: int, tail: int, *, has_article: bool
) -> float:
    """Return how likely capitalised words are a name, by the weights learned."""
    known = _sum(groups(passage, len(positions)))
    total = known.get("", 0.0)
    for feature in features(passage, positions, cue, tail, has_article=has_article):
        total += known.get(feature, 0.0)
    return 1 / (1 + math.exp(-total))
