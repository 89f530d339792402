"""Lists: items as a set, steps in their order."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from app.evaluation.marks.matching import match
from app.evaluation.marks.reading import Reading, read
from app.evaluation.marks.words import Language

_MARKED_LINE = re.compile(r"^[ \t]*(?:[-*•·–]|\d{1,2}[.)])[ \t]+", re.MULTILINE)
_NUMBERED = re.compile(r"(?:^|[\s,;])\(?\d{1,2}[.)][ \t]+(?=[^\W\d_])")
_MAX_ITEMS = 40
_CLAUSE_WORDS = frozenset(
    [
        "you",
        "they",
        "we",
        "i",
        "he",
        "she",
        "it",
        "sie",
        "ihr",
        "wir",
        "man",
        "er",
        "es",
        "vous",
        "nous",
        "on",
        "il",
        "elle",
        "ils",
        "usted",
        "ustedes",
        "u",
        "je",
        "hij",
        "zij",
        "ze",
    ]
)
_MAX_INLINE_WORDS = 3


@dataclass(frozen=True)
class ListItems:
    """The items of a list; `is_numbered` where their order is written down."""

    items: tuple[str, ...]
    is_numbered: bool = False


def items_in(
    text: str,
    language: Language | None,
    *,
    asks_list: bool,
    asks_order: bool,
    question: Reading | None = None,
) -> ListItems | None:
    """Return a text's items; None where it is no list."""
    text = text.strip()
    if len(_MARKED_LINE.findall(text)) >= 2:
        body = text[_MARKED_LINE.search(text).start() :]  # type: ignore[union-attr]
        parts = _MARKED_LINE.split(body)
        return _kept(parts, is_numbered=bool(re.match(r"[ \t]*\d", body)))
    if len(_NUMBERED.findall(text)) >= 2:
        start = _NUMBERED.search(text)
        assert start is not None
        return _kept(_NUMBERED.split(text[start.start() :]), is_numbered=True)
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) >= 3 and all(len(line.split()) <= 12 for line in lines):
        return _kept(lines)
    if asks_order:
        return _steps(text, language)
    return _inline(text, language, question, asks_list=asks_list)


def _kept(parts: Sequence[str], *, is_numbered: bool = False) -> ListItems | None:
    items = tuple(part.strip(" \t\n,;.") for part in parts if part.strip(" \t\n,;."))
    return ListItems(items[:_MAX_ITEMS], is_numbered) if len(items) >= 2 else None


def _steps(text: str, language: Language | None) -> ListItems | None:
    """Cut sentences into steps, also at ", then"."""
    reading = read(text, language)
    cuts = [0]
    for place, token in enumerate(reading.tokens):
        if place and (
            reading.sentences[place] != reading.sentences[place - 1]
            or token.text in (";", ",")
            or (language is not None and language.phrases["and"].at(reading.tokens, place))
        ):
            cuts.append(place)
    parts = []
    for start, end in zip(cuts, [*cuts[1:], len(reading.tokens)], strict=True):
        tokens = reading.tokens[start:end]
        has_words = any(start <= word.position < end for word in reading.words) or any(
            start <= fact.start < end for fact in reading.facts
        )
        words = " ".join(token.raw for token in tokens)
        if has_words:
            parts.append(words)
        elif parts:
            parts[-1] += " " + words
    has_sequence = reading.has("sequence")
    return _kept(parts) if len(parts) >= (2 if has_sequence else 3) else None


def _inline(
    text: str, language: Language | None, question: Reading | None, *, asks_list: bool
) -> ListItems | None:
    """Read "fever, cough and a rash"."""
    body = (
        text.rpartition(":")[2] if text.count(":") == 1 and not re.search(r"\d:\d", text) else text
    )
    reading = read(body, language)
    if len(set(reading.sentences)) > 1 and len(set(reading.sentences[:-1])) > 1:
        return None
    cuts = [0]
    num_joints = 0
    for place, token in enumerate(reading.tokens):
        joint = language is not None and language.phrases["and"].at(reading.tokens, place)
        if (token.text in (",", ";") or joint) and not reading.in_fact(place):
            cuts.append(place + 1 if token.text in (",", ";") else place)
            num_joints += 1
    least = 1 if asks_list else 2
    if num_joints < least:
        return None
    behind = {token.text for token in reading.tokens[cuts[1] :]}
    if behind & _CLAUSE_WORDS or (language is not None and reading.has("sequence")):
        return None  # sentences, and no items
    parts: list[str] = []
    for start, end in zip(cuts, [*cuts[1:], len(reading.tokens)], strict=True):
        part = [t for t in reading.tokens[start:end] if t.text not in (",", ";")]
        words = [word for word in reading.words if start <= word.position < end]
        facts = [fact for fact in reading.facts if start <= fact.start < end]
        if not words and not facts:
            continue
        if question is not None and language is not None:
            known = question.stems | language.harmless
            if len([word for word in words if word.stem not in known]) > _MAX_INLINE_WORDS:
                return None
        parts.append(" ".join(token.raw for token in part))
    return _kept(parts)


@dataclass(frozen=True)
class ListMatch:
    """How the items of two lists go together."""

    num_same: int
    missing: tuple[str, ...]
    added: tuple[str, ...]
    is_in_order: bool
    doubtful: tuple[str, ...] = ()  # of the missing ones, what may be there in other words


def compare(
    reference: Sequence[str], answer: Sequence[str], question: Reading, language: Language | None
) -> ListMatch:
    """Pair the items of two lists."""
    left = [read(item, language) for item in reference]
    right = [read(item, language) for item in answer]
    places: list[int] = []
    missing: list[str] = []
    doubtful: list[str] = []
    said = set().union(*(other.stems for other in right))
    used: set[int] = set()
    for item, text in zip(left, reference, strict=True):
        expected = places[-1] + 1 if places else 0
        scores = [
            (_score(item, other, question), -abs(number - expected), number)
            for number, other in enumerate(right)
        ]
        best = max(scores, default=(0.0, 0, 0))
        free = [score for score in scores if score[2] not in used]
        if free and max(free)[0] >= best[0] - 1e-9:
            best = max(free)
        if best[0] < 0.6 and best[0] >= 0 and right and _is_within(item, right, question):
            best = (1.0, best[1], best[2])
        if best[0] >= 0.6:
            places.append(best[2])
            used.add(best[2])
        else:
            missing.append(text)
            key = item.stems - question.stems or item.stems
            has_facts = bool(item.facts) and any(
                not match(item.facts, other.facts, question.facts).missing for other in right
            )
            if has_facts or (len(key) > 1 and len(key & said) * 2 >= len(key)):
                doubtful.append(text)
    known = question.stems.union(*(item.stems for item in left))
    harmless = language.harmless if language else frozenset()
    added = [
        text
        for number, (other, text) in enumerate(zip(right, answer, strict=True))
        if number not in used and (other.stems - known - harmless or other.facts)
    ]
    return ListMatch(
        len(places), tuple(missing), tuple(added), places == sorted(places), tuple(doubtful)
    )


def _is_within(item: Reading, others: Sequence[Reading], question: Reading) -> bool:
    """Say whether all words of an item stand somewhere in an answer that is cut in another way."""
    key = item.stems - question.stems or item.stems
    if item.language is not None:
        key = key - item.language.harmless or key
    return bool(key) and not item.facts and key <= set().union(*(other.stems for other in others))


def _score(item: Reading, other: Reading, question: Reading) -> float:
    facts = match(item.facts, other.facts, question.facts)
    if item.facts and facts.missing:
        return 0
    key = item.stems - question.stems or item.stems
    if not key:
        return 1.0 if item.facts else 0.0
    weighty = key - item.language.harmless or key if item.language is not None else key
    share = len(weighty & other.stems) / len(weighty)
    # One word more may be another thing: "the left arm" is not "the left leg".
    return share if len(weighty) > 2 or share in (0, 1) else min(share, 0.55)
