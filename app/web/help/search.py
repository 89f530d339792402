"""Finds sections of the help by words: an index in memory, made at the first question.

A section counts by its heading, its chapter's title and its text, rare words more than common
ones; the guides, written for everybody, stand before the reference. A word may be unfinished.
"""

import math
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import lru_cache

from app.core import glossary
from app.web.help import markdown
from app.web.help.chapters import (
    CHAPTERS,
    FOR_ADMINISTRATORS,
    FOR_EVERYBODY,
    GLOSSARY,
    STEPS,
    Chapter,
)

MOST_FOUND = 12
MAX_QUERY = 100
_EXCERPT = 180
_IN_TITLE, _IN_CHAPTER = 2.0, 0.7
# Of a word that only begins like the one asked for.
_BEGINS = 0.6
_COMMON_WORDS = """
a about an after and are as at be by can did do does for from have how i if in is it its me my no
not of on or our so that the their them then there they this to up was we what when where which
while who why will with you your
"""
_COMMON = frozenset(_COMMON_WORDS.split())


@dataclass(frozen=True)
class Found:
    """A section that answers to the words."""

    chapter: Chapter
    title: str
    anchor: str
    excerpt: str

    @property
    def address(self) -> str:
        """Where it stands."""
        return f"/help/{self.chapter.name}" + (f"#{self.anchor}" if self.anchor else "")


@dataclass
class _Entry:
    chapter: Chapter
    title: str
    anchor: str
    text: str
    weight: float
    in_title: set[str] = field(default_factory=set)
    in_chapter: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Index:
    entries: list[_Entry]
    places: dict[str, list[int]]  # by word, the numbers of the entries that have it
    mean_length: float


def find(query: str) -> list[Found]:
    """Return the sections that fit best, the best first."""
    wanted = [word for word in stems(query[:MAX_QUERY]) if word not in _COMMON]
    if not wanted:
        return []
    index = _index()
    of_each = [_scores(word, index) for word in wanted]
    scored = []
    for number in set().union(*of_each):
        found = [scores[number] for scores in of_each if number in scores]
        # All of the words count for more than one of them often.
        covered = len(found) / len(wanted)
        scored.append((-sum(found) * covered**2 * index.entries[number].weight, number))
    best = [index.entries[number] for _, number in sorted(scored)[:MOST_FOUND]]
    return [Found(one.chapter, one.title, one.anchor, _excerpt(one.text, wanted)) for one in best]


def stems(text: str) -> list[str]:
    """Return the words of a text, without the endings that English adds to most of them."""
    return [_stem(word) for word in re.findall(r"\w+", text.lower())]


def _stem(word: str) -> str:
    for ending in ("ings", "ing", "ed", "es", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word.removesuffix(ending)
    return word


def _scores(word: str, index: _Index) -> dict[int, float]:
    """Return how well each entry answers to a word, by the entry's number."""
    best: dict[int, float] = {}
    for each, numbers in index.places.items():
        sure = 1.0 if each == word else _BEGINS if len(word) >= 3 and each.startswith(word) else 0
        if sure:
            rarity = math.log(1 + len(index.entries) / len(numbers))
            for number in numbers:
                score = sure * rarity * _weight(each, index.entries[number], index.mean_length)
                best[number] = max(score, best.get(number, 0.0))
    return best


def _weight(word: str, entry: _Entry, mean_length: float) -> float:
    count = entry.counts[word]
    # A long section has each word somewhere.
    saturation = 1.5 * (0.3 + 0.7 * entry.counts.total() / mean_length)
    return (
        2.2 * count / (count + saturation)
        + _IN_TITLE * (word in entry.in_title)
        + _IN_CHAPTER * (word in entry.in_chapter)
    )


@lru_cache(maxsize=1)
def _index() -> _Index:
    entries = [
        _entry(chapter, section.title, section.anchor, section.text)
        for chapter in CHAPTERS.values()
        if chapter.name != GLOSSARY
        for section in markdown.sections(chapter)
    ]
    entries += [
        _entry(CHAPTERS[GLOSSARY], term.word, markdown.term_anchor(term.word), term.meaning)
        for term in glossary.TERMS.values()
    ]
    places: dict[str, list[int]] = defaultdict(list)
    for number, one in enumerate(entries):
        for word in {*one.counts, *one.in_title, *one.in_chapter}:
            places[word].append(number)
    mean = sum(one.counts.total() for one in entries) / len(entries)
    return _Index(entries, dict(places), mean)


def _entry(chapter: Chapter, title: str, anchor: str, text: str) -> _Entry:
    weight = 1.0
    if chapter in STEPS or chapter in FOR_EVERYBODY:
        weight = 2.0
    elif chapter is FOR_ADMINISTRATORS[0]:
        weight = 1.5
    return _Entry(
        chapter,
        title,
        anchor,
        text,
        weight,
        set(stems(title)),
        set(stems(chapter.title)),
        Counter(stems(text)),
    )


def _excerpt(text: str, wanted: list[str]) -> str:
    """Return some words around the first that was asked for."""
    place = next(
        (
            match.start()
            for match in re.finditer(r"\w+", text)
            if any(_stem(match[0].lower()).startswith(word) for word in wanted)
        ),
        0,
    )
    start = max(0, place - _EXCERPT // 3)
    start = text.rfind(" ", 0, start) + 1 if start else 0
    shown = text[start : start + _EXCERPT]
    if start + _EXCERPT < len(text):
        shown = shown.rpartition(" ")[0] + " …"
    return ("… " if start else "") + shown
