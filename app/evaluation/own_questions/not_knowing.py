"""Whether an answer says that it does not know, and nothing else.

An answer is cut into sentences, and these at commas and before words such as "but". Each piece has
to be one that does not know ("that is not in my documents"), sends the person to somebody else
("please ask at the desk"), goes on with such a piece ("which colour it is") or says nothing
("sorry"). Any other piece may be an answer, and then the whole is one.
"""

import re
import tomllib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from app.evaluation.marks.words import LANGUAGES

# Longer answers say more than that.
MAX_CHARS = 600
_FOLDER = Path(__file__).parent / "words"
_GAP = r"(?: \S+){0,6}?"
_GAP_FIRST = r"(?:\S+ ){0,6}?"
_ANY_END = r"\S{0,40}"
_SENTENCE = re.compile(r"[.!?;\n]")
_COMMA = re.compile(r"[,:()\[\]{}¿¡…|/–—=]|(?<=\s)-(?=\s)")
_NOT_WORDS = re.compile(r"[\W_]+")
_APOSTROPHES = str.maketrans("’‘ʼ`´", "'''''")
_SHORTENED = (
    ("cannot", "can not"),
    ("can't", "can not"),
    ("n't", " not"),
    ("dont ", "do not "),
    ("i'm ", "i am "),
    ("it's ", "it is "),
    ("no sé", "no lo sé"),  # without its accent "no se" is "it is not"
)


class _Piece(Enum):
    """What a piece of a sentence does."""

    UNKNOWN = auto()
    ASKS = auto()
    ASKS_WITH_NUMBER = auto()  # an answer, where nothing says that it is not known
    NO = auto()
    GOES_ON = auto()
    NOTHING = auto()
    ANSWER = auto()


@dataclass(frozen=True)
class _Words:
    """What the phrases of a language match."""

    unknown: re.Pattern[str]
    not_unknown: re.Pattern[str]
    ask: re.Pattern[str]
    not_ask: re.Pattern[str]
    closing: re.Pattern[str]
    question_words: re.Pattern[str]
    reasons: re.Pattern[str]
    breaks: re.Pattern[str]
    guesses: re.Pattern[str]
    joins: re.Pattern[str]
    filler: frozenset[str]
    no: frozenset[str]


def says_it_does_not_know(answer: str) -> bool:
    """Say whether an answer says in one of the five languages that it does not know.

    To have no information, not to be able to help, or to send the person to somebody else count,
    too. "No.", a guess, and "I don't know, but the code is 4711" do not.
    """
    if len(answer) > MAX_CHARS:
        return False
    return any(_is_unknown(answer, _words(language)) for language in LANGUAGES)


def _is_unknown(answer: str, words: _Words) -> bool:
    found: set[_Piece] = set()
    for sentence in _SENTENCE.split(_shortened_out(answer)):
        pieces = _pieces(sentence, words)
        kinds = [_kind(piece, words) for piece in pieces]
        if _Piece.GOES_ON in kinds and not _says_something(kinds):
            return False
        if _Piece.NO in kinds and not _is_no_to_knowing(pieces, kinds, words):
            return False
        found.update(kinds)
    if _Piece.ANSWER in found:
        return False
    return _Piece.UNKNOWN in found or (
        _Piece.ASKS in found and _Piece.ASKS_WITH_NUMBER not in found
    )


def _says_something(kinds: Sequence[_Piece]) -> bool:
    return bool({_Piece.UNKNOWN, _Piece.ASKS, _Piece.ASKS_WITH_NUMBER} & set(kinds))


def _is_no_to_knowing(pieces: Sequence[str], kinds: Sequence[_Piece], words: _Words) -> bool:
    """Whether "no" stands right before "I do not know"; else it is an answer."""
    said = [
        (piece, kind)
        for piece, kind in zip(pieces, kinds, strict=True)
        if kind is not _Piece.NOTHING
    ]
    return (
        [kind for _, kind in said[:2]] == [_Piece.NO, _Piece.UNKNOWN]
        and not words.breaks.match(said[1][0])  # "No, but I do not know why"
    )


def _pieces(sentence: str, words: _Words) -> list[str]:
    pieces = []
    for part in _COMMA.split(sentence):
        text = _fold(part)
        starts = [0, *(match.start() for match in words.breaks.finditer(text)), len(text)]
        pieces += [text[a:b].strip() for a, b in pairwise(starts)]
    return [piece for piece in pieces if piece]


def _kind(piece: str, words: _Words) -> _Piece:
    has_number = any(sign.isdigit() for sign in piece)
    if (match := words.unknown.search(piece)) and not words.not_unknown.search(piece):
        return _kind_of_unknown(piece, match.end(), has_number, words)
    if piece in words.no:
        return _Piece.NO
    if all(word in words.filler for word in piece.split()):
        return _Piece.NOTHING
    if words.closing.search(piece) and not has_number:
        return _Piece.NOTHING
    if words.ask.search(piece) and not words.not_ask.search(piece):
        return _Piece.ASKS_WITH_NUMBER if has_number else _Piece.ASKS
    if words.question_words.search(piece):
        return _Piece.GOES_ON
    if words.reasons.search(piece) and not has_number:
        return _Piece.GOES_ON
    return _Piece.ANSWER


def _kind_of_unknown(piece: str, end: int, has_number: bool, words: _Words) -> _Piece:
    if words.guesses.search(piece, end):
        return _Piece.ANSWER
    if has_number and words.joins.search(piece, end):
        return _Piece.ANSWER  # "I do not know and the code is 4711"
    return _Piece.UNKNOWN


def _shortened_out(text: str) -> str:
    text = unicodedata.normalize("NFC", text).translate(_APOSTROPHES).casefold()
    for short, long in _SHORTENED:
        text = text.replace(short, long)
    return text


def _fold(text: str) -> str:
    """Return words without case, accents and signs, one space between them."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(sign for sign in letters if not unicodedata.combining(sign))
    return _NOT_WORDS.sub(" ", plain).strip()


@lru_cache
def _words(language: str) -> _Words:
    lists = tomllib.loads((_FOLDER / f"{language}.toml").read_text(encoding="utf-8"))
    leads = "|".join(_phrase(lead) for lead in lists["leads"])
    start = rf"^(?:(?:{leads}) ){{0,4}}"

    def pattern(name: str, *, at_start: bool = False) -> re.Pattern[str]:
        found = [
            (start if at_start or phrase.startswith("^") else r"(?<!\S)")
            + _phrase(phrase)
            + r"(?!\S)"
            for phrase in lists[name]
        ]
        return re.compile("|".join(found))

    return _Words(
        unknown=pattern("unknown"),
        not_unknown=pattern("not_unknown"),
        ask=pattern("ask"),
        not_ask=pattern("not_ask"),
        closing=pattern("closing"),
        question_words=pattern("question_words", at_start=True),
        reasons=pattern("reasons", at_start=True),
        breaks=pattern("breaks"),
        guesses=pattern("guesses"),
        joins=pattern("joins"),
        filler=frozenset(word for entry in lists["filler"] for word in _fold(entry).split()),
        no=frozenset(map(_fold, lists["no"])),
    )


def _phrase(phrase: str) -> str:
    """Return the pattern of a phrase: "…" is up to six words, "*" any end of a word."""
    pattern = ""
    for word in phrase.removeprefix("^").replace("…", " … ").split():
        if word == "…":
            pattern += _GAP if pattern else _GAP_FIRST
            continue
        space = " " if pattern and pattern != _GAP_FIRST else ""
        pattern += space + re.escape(_fold(word)) + (_ANY_END if word.endswith("*") else "")
    return pattern
