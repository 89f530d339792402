"""A text as it is compared: its language, clauses, facts, and the words that carry meaning."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from app.datasets.privacy.words import ALSO_WORDS, FUNCTION_WORDS, GIVEN_NAMES, SURNAMES, TITLES
from app.evaluation.marks.facts.fact import Fact
from app.evaluation.marks.facts.reader import facts_of
from app.evaluation.marks.normalise import Token, fold, tokenise
from app.evaluation.marks.numerals import is_number_word
from app.evaluation.marks.words import LANGUAGES, Language, language_of

_BREAKS = frozenset(".;:!?\n,()[]")
_SENTENCE = frozenset(".!?\n")
_TITLES = TITLES | {
    "dr",
    "prof",
    "st",
    "nr",
    "no",
    "tel",
    "ca",
    "bzw",
    "tbl",
    "approx",
    "fr",
    "hr",
    "z",
    "b",
    "s",
}
_PEOPLE = (GIVEN_NAMES | SURNAMES) - ALSO_WORDS
_MIN_LETTERS = 25


@dataclass(frozen=True, slots=True)
class Word:
    """A word that carries meaning."""

    stem: str
    raw: str
    position: int
    clause: int
    is_name: bool


@dataclass(frozen=True)
class Reading:
    """A text and what the rules see in it."""

    tokens: tuple[Token, ...]
    language: Language | None
    facts: tuple[Fact, ...]
    words: tuple[Word, ...]
    clauses: tuple[int, ...]  # of each token
    sentences: tuple[int, ...]

    @cached_property
    def stems(self) -> set[str]:
        return {word.stem for word in self.words}

    def has(self, name: str) -> bool:
        """Say whether the text has a phrase of a list."""
        return self.language is not None and bool(self.language.phrases[name].all_in(self.tokens))

    def in_fact(self, position: int) -> bool:
        return any(fact.start <= position < fact.end for fact in self.facts)


def read(text: str, language: Language | None) -> Reading:
    """Read a text."""
    tokens = tokenise(text)
    facts = tuple(facts_of(tokens, language))
    covered = {place for fact in facts for place in range(fact.start, fact.end)}
    clauses, sentences = _clauses(tokens, language, covered)
    words = tuple(_words(tokens, language, covered, clauses, sentences))
    return Reading(tokens, language, facts, words, clauses, sentences)


def _clauses(
    tokens: Sequence[Token], language: Language | None, covered: set[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    clauses: list[int] = []
    sentences: list[int] = []
    clause = sentence = 0
    for place, token in enumerate(tokens):
        is_break = token.kind == "sign" and token.text in _BREAKS and place not in covered
        if token.text == "." and place and _is_abbreviation(tokens, place):
            is_break = False
        if language is not None and token.kind == "word" and place not in covered:
            # "then" begins another clause, "and" and "or" do too
            for name in ("and", "or"):
                if language.phrases[name].at(tokens, place):
                    clause += 1
                    break
        clauses.append(clause)
        sentences.append(sentence)
        if is_break:
            clause += 1
            sentence += token.text in _SENTENCE
    return tuple(clauses), tuple(sentences)


def _is_abbreviation(tokens: Sequence[Token], place: int) -> bool:
    before = tokens[place - 1]
    if not tokens[place].is_glued:
        return False
    if before.text in ("no", "nr"):  # "No. 5", and not "No. You may"
        following = tokens[place + 1 : place + 2]
        return bool(following) and following[0].kind == "number"
    return before.text in _TITLES or (len(before.raw) == 1 and before.kind == "word")


def _words(tokens: Sequence[Token], language: Language | None, covered: set[int],
           clauses: Sequence[int], sentences: Sequence[int]) -> list[Word]:  # fmt: skip
    words: list[Word] = []
    seen_sentences: set[int] = set()
    for place, token in enumerate(tokens):
        if token.kind != "word":
            continue
        is_first = sentences[place] not in seen_sentences
        seen_sentences.add(sentences[place])
        if place in covered:
            continue
        letter = len(token.raw) == 1 and token.raw.isupper() and not is_first
        is_title = language is not None and language.code == "fr" and token.raw == "M" and (
            place + 1 < len(tokens) and tokens[place + 1].text == "."
        )  # fmt: skip
        if is_title:
            continue
        letter = letter and not (
            language is not None and language.code == "en" and token.raw == "I"
        )
        if letter:
            words.append(Word(f"={token.text}", token.raw, place, clauses[place], False))
            continue
        if language is None:
            if len(token.text) > 1:
                words.append(Word(fold(token.text), token.raw, place, clauses[place], False))
            continue
        if (token.raw not in _PEOPLE and token.text in language.stop) or (
            is_number_word(token.text, language) and token.text in language.phrases["weak"]
        ):
            continue
        stem = language.stem(token.text)
        words.append(
            Word(stem, token.raw, place, clauses[place], _is_name(token, language, is_first))
        )
    return words


def _is_name(token: Token, language: Language, is_first: bool) -> bool:
    if not token.raw[0].isupper():
        return False
    if token.raw in _PEOPLE:
        return True
    return not is_first and language.code != "de" and len(token.raw) > 1


def tell_language(*texts: str) -> Language | None:
    """Tell which of the five languages texts are in; None where it is another one.

    The question comes first: an answer in other words must not change what it is read in.
    """
    text = " ".join(text[:600] for text in texts)
    code = _told(text)
    return language_of(code) if code else None


@lru_cache(maxsize=4096)
def _told(text: str) -> str | None:
    words = [token.text for token in tokenise(text) if token.kind == "word"]
    if not words:
        return "en"
    letters = sum(len(word) for word in words)
    latin = sum(len(word) for word in words if all(fold(sign) < "\u0250" for sign in word[:3]))
    if latin * 2 < letters:
        return None
    counts = {
        code: sum(word in FUNCTION_WORDS[code] or word in language_of(code).stop for word in words)
        for code in LANGUAGES
    }
    best = max(counts, key=lambda code: counts[code])
    if letters < _MIN_LETTERS:
        return best
    guess, chance = _identifier().classify(text)
    if guess in counts:
        return str(guess) if counts[guess] * 2 >= counts[best] else best
    # Another language shares some small words with ours; ours has many of them.
    is_ours = counts[best] >= (0.6 if chance > 0.9 else 0.35) * len(words)
    return best if is_ours else None


@lru_cache
def _identifier() -> Any:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
