"""The words by which answers are marked: one text file a language in `words/`, read once.

In a file a phrase is joined with _; the lines of `opposites`, `contrasts` and `same` are sets of
groups, with | between what differs and a space between what is the same.
"""

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from app.evaluation.marks.normalise import Token, fold, tokenise

LANGUAGES = ("en", "de", "fr", "es", "nl")
_FOLDER = Path(__file__).parent / "words"

Value = TypeVar("Value")


class Phrases(Generic[Value]):
    """Words and phrases with what each stands for; the longest one counts."""

    def __init__(self, entries: Iterable[tuple[str, Value]]) -> None:
        self._by_first: dict[str, list[tuple[tuple[str, ...], Value]]] = {}
        for phrase, value in entries:
            texts = tuple(token.text for token in tokenise(phrase.replace("_", " ")))
            if texts:
                self._by_first.setdefault(texts[0], []).append((texts, value))
        for found in self._by_first.values():
            found.sort(key=lambda entry: -len(entry[0]))

    @property
    def first_words(self) -> set[str]:
        return set(self._by_first)

    def at(self, tokens: Sequence[Token], position: int) -> tuple[Value, int] | None:
        """Return what the phrase at a position stands for and where it ends."""
        if position >= len(tokens):
            return None
        for texts, value in self._by_first.get(tokens[position].text, ()):
            end = position + len(texts)
            if end <= len(tokens) and all(
                tokens[position + number].text == text for number, text in enumerate(texts)
            ):
                return value, end
        return None

    def before(self, tokens: Sequence[Token], position: int) -> Value | None:
        """Return what a phrase that ends right before a position stands for."""
        for start in range(max(0, position - 4), position):
            found = self.at(tokens, start)
            if found and found[1] == position:
                return found[0]
        return None

    def all_in(self, tokens: Sequence[Token]) -> list[tuple[Value, int, int]]:
        """Return what stands anywhere, with start and end, one behind the other."""
        result = []
        position = 0
        while position < len(tokens):
            if tokens[position].text not in self._by_first:
                position += 1
                continue
            found = self.at(tokens, position)
            if found:
                result.append((found[0], position, found[1]))
            position = found[1] if found else position + 1
        return result

    def __contains__(self, text: object) -> bool:
        return any(texts == (text,) for texts, _ in self._by_first.get(str(text), ()))

    def get(self, text: str) -> Value | None:
        """Return what one word stands for."""
        entries = self._by_first.get(text, ())
        return next((value for texts, value in entries if len(texts) == 1), None)


@dataclass(frozen=True, eq=False)
class Language:
    """What the rules know of a language."""

    code: str
    articles: frozenset[str]
    stop: frozenset[str]
    harmless: frozenset[str]  # stems
    phrases: dict[str, Phrases[bool]]
    values: dict[str, Phrases[Fraction]]
    names: dict[str, Phrases[str]]
    units: Phrases[tuple[str, Fraction]]
    opposites: Phrases[tuple[tuple[int, int], ...]]  # line and group, of every line that has it
    num_opposites: int  # lines up to here are pairs of opposites; those behind are contrasts
    synonyms: dict[str, str]  # stem -> the first stem of its line
    endings: tuple[str, ...]
    shortest: int
    joints: tuple[str, ...]
    is_point_decimal: bool
    ordinal_endings: frozenset[str]
    ordinal_nouns: frozenset[str]
    place_nouns: frozenset[str]  # a figure behind them names a place
    starters: frozenset[str]  # with what facts in words begin

    def stem(self, text: str) -> str:
        """Return a word without accents and ending, or the first of those that mean the same."""
        bare = _bare_stem(text, self.endings, self.shortest)
        return self.synonyms.get(bare, bare)

    def tail(self, text: str) -> tuple[tuple[int, int], ...]:
        """Return of a compound the contrasts of its last part: "Stationsarzt" is an "Arzt"."""
        return _tail(self, text)

    def has(self, name: str, text: str) -> bool:
        """Say whether a word is in one of the lists."""
        return text in self.phrases[name]


@lru_cache(maxsize=20_000)
def _tail(language: Language, text: str) -> tuple[tuple[int, int], ...]:
    for start in range(3, len(text) - 3):
        lines = language.opposites.get(text[start:])
        if lines:
            return tuple(line for line in lines if line[0] >= language.num_opposites)
    for end in range(6, len(text) - 2):
        lines = language.opposites.get(text[:end])
        if lines:
            return lines
    return ()


@lru_cache(maxsize=100_000)
def _bare_stem(text: str, endings: tuple[str, ...], shortest: int) -> str:
    word = fold(text)
    for ending in endings:
        if word.endswith(ending) and len(word) - len(ending) >= shortest:
            word = word[: -len(ending)]
            break
    if len(word) > shortest and word[-1] == word[-2] and word[-1] not in "aeiou":
        word = word[:-1]
    return word


@lru_cache
def language_of(code: str) -> Language:
    """Read a language's words."""
    with (_FOLDER / f"{code}.toml").open("rb") as file:
        table = tomllib.load(file)
    endings = tuple(sorted({fold(e) for e in table["endings"].split()}, key=len, reverse=True))
    shortest = int(table["short_endings"])
    synonyms: dict[str, str] = {}
    for line in table["words"]["same"]:
        stems = [_bare_stem(word, endings, shortest) for word in line.split()]
        first = next((synonyms[stem] for stem in stems if stem in synonyms), stems[0])
        for stem in stems:
            synonyms.setdefault(stem, first)
    flags = {
        key: _phrases(table[key])
        for key in ("polite", "yes", "no", "negations", "allowing", "forbidding", "restricting",
                    "hedges", "evasions", "or", "and", "sequence", "connectors", "agent",
                    "must", "need", "may", "only", "except", "optional", "conditions", "turning")
    }  # fmt: skip
    flags |= {f"ask.{key}": _phrases(words) for key, words in table["ask"].items()}
    number = table["numbers"]
    flags |= {
        key: _phrases(number[key])
        for key in ("link", "weak", "times_word", "point", "between", "none")
    }
    clock, calendar, rate = table["clock"], table["calendar"], table["rate"]
    flags |= {f"clock.{key}": _phrases(clock[key]) for key in clock if key != "half_hours"}
    flags |= {
        f"calendar.{key}": _phrases(calendar[key])
        for key in ("weekdays", "weekend", "every_day", "to", "between", "range_and", "of",
                    "capital_months")
    }  # fmt: skip
    flags |= {f"rate.{key}": _phrases(rate[key]) for key in ("per", "every", "every_other")}
    flags |= {f"bounds.{key}": _phrases(words) for key, words in table["bounds"].items()}
    values = {key: _values(number[key]) for key in ("words", "big", "ordinals", "times", "halves")}
    values["half_hours"] = _values(clock["half_hours"])
    values |= {key: _values(calendar[key]) for key in ("days", "short_days", "months")}
    values |= {key: _values(rate[key]) for key in ("periods", "adverbs", "compound")}
    lines = [*table["words"]["opposites"], *table["words"]["contrasts"]]
    harmless = [_bare_stem(word, endings, shortest) for word in table["harmless"].split()]
    return Language(
        code=code,
        articles=frozenset(token.text for token in tokenise(table["articles"].replace("_", " "))),
        stop=_texts(table["stop"]) | {"s", "t"} | _texts(table["sequence"]),
        harmless=frozenset(synonyms.get(stem, stem) for stem in harmless),
        phrases=flags,
        values=values,
        names={"parts": Phrases(_pairs(calendar["parts"]))},
        units=_units(table["units"]),
        opposites=_groups(lines),
        num_opposites=len(table["words"]["opposites"]),
        synonyms=synonyms,
        endings=endings,
        shortest=shortest,
        joints=tuple(number.get("joint", "").split()),
        is_point_decimal=number["decimal"] == ".",
        ordinal_endings=frozenset(number["ordinal_endings"].split()),
        ordinal_nouns=frozenset(number["ordinal_nouns"].split()),
        place_nouns=frozenset(number["place_nouns"].split()),
        starters=_starters(flags, values, calendar["parts"]),
    )


_FACT_WORDS = (
    "clock.noon", "clock.midnight", "clock.half", "clock.half_before", "clock.quarter",
    "clock.quarter_before", "clock.article_one", "calendar.weekdays", "calendar.weekend",
    "calendar.every_day", "rate.per", "rate.every", "rate.every_other",
)  # fmt: skip


def _starters(
    flags: dict[str, Phrases[bool]], values: dict[str, Phrases[Fraction]], parts: str
) -> frozenset[str]:
    found: set[str] = {"viertel", "dreiviertel"} | flags["none"].first_words
    lists: list[Phrases[Any]] = [*(flags[name] for name in _FACT_WORDS), *values.values()]
    for phrases in lists:
        found |= phrases.first_words
    return frozenset(found | Phrases(_pairs(parts)).first_words)


def _texts(words: str) -> frozenset[str]:
    return frozenset(
        token.text for word in words.split() for token in tokenise(word.replace("_", " "))
    )


def _phrases(words: str) -> Phrases[bool]:
    return Phrases((word, True) for word in words.split())


def _pairs(words: str) -> Iterable[tuple[str, str]]:
    for word in words.split():
        phrase, _, value = word.rpartition("=")
        yield phrase, value


def _values(words: str) -> Phrases[Fraction]:
    return Phrases((phrase, Fraction(value)) for phrase, value in _pairs(words))


def _common() -> list[tuple[str, tuple[str, Fraction]]]:
    with (_FOLDER / "units.toml").open("rb") as file:
        common: dict[str, dict[str, Any]] = tomllib.load(file)
    return [
        (spelling, (dimension, Fraction(size)))
        for dimension, sizes in common.items()
        for size, spellings in sizes.items()
        for spelling in spellings.split()
    ]


@lru_cache
def common_units() -> Phrases[tuple[str, Fraction]]:
    """Read the units that every language writes the same."""
    return Phrases(_common())


def _units(table: dict[str, str]) -> Phrases[tuple[str, Fraction]]:
    entries = _common()
    for dimension, words in table.items():
        for phrase, size in _pairs(words):
            entries.append((phrase, (dimension, Fraction(size))))
    return Phrases(entries)


def _groups(lines: Sequence[str]) -> Phrases[tuple[tuple[int, int], ...]]:
    found: dict[str, dict[int, int]] = {}
    for number, line in enumerate(lines):
        for group, words in enumerate(line.split("|")):
            for word in words.split():
                found.setdefault(word, {}).setdefault(number, group)
    return Phrases((word, tuple(lines.items())) for word, lines in found.items())
