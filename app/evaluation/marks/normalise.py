"""A text as the rules read it: folded, cut into tokens, and in a language."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

# Longer answers are cut: the rules are for what people read, and a hostile text must not cost time.
MAX_CHARS = 8_000
KEYS = re.compile(r"\d[*#]|[*#]\d")  # of a door's code
_MAX_TOKENS = 1_500
_FRACTIONS = {"½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3", "⅛": "1/8", "⅕": "1/5"}
_QUOTES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "`": "'", "´": "'", "–": "-", "—": "-",
                         "−": "-", "‐": "-", "‑": "-", "⁄": "/", "“": '"', "”": '"', "„": '"',
                         "«": '"', "»": '"', "…": ".", "µ": "μ"})  # fmt: skip
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
_TOKEN = re.compile(
    r"(?P<word>(?<![^\W_])[apAP]\.\s?[mM](?:\.|(?![^\W_])))"
    r"|(?P<code>[^\W\d_]+\d[^\W_]*)"
    r"|(?P<number>\d+(?:[.,:]\d+|'\d{3}(?!\d))*)"
    r"|(?P<plain>[^\W\d_]+)"
    r"|(?P<sign>[^\s\w'*#_]|\n)"
)
_NOT = re.compile(
    r"\b(ca|wo|sha|do|does|did|is|are|was|were|has|have|had|must|need|could|would|should|might)"
    r"n't\b",
    re.IGNORECASE,
)
_CANNOT = re.compile(r"\b(can)not\b", re.IGNORECASE)
_SHORTENED = {"ca": "can", "wo": "will", "sha": "shall"}

Kind = Literal["word", "number", "code", "sign"]


@dataclass(frozen=True, slots=True)
class Token:
    text: str  # without case
    raw: str
    start: int
    end: int
    kind: Kind
    is_glued: bool  # nothing stands between it and the one before


def clean(text: str) -> str:
    """Return a text with one spelling of each sign: NFKC, plain quotes, written fractions."""
    text = text[:MAX_CHARS]
    for sign, written in _FRACTIONS.items():
        if sign in text:
            text = re.sub(rf"(?<=\d){sign}", f" {written}", text).replace(sign, written)
    text = unicodedata.normalize("NFKC", text).translate(_QUOTES)
    text = _INVISIBLE.sub("", text)
    return _CANNOT.sub(r"\1 not", _NOT.sub(_written_out, text))


def _written_out(match: re.Match[str]) -> str:
    word = match[1]
    return f"{_SHORTENED.get(word.lower(), word)} not"


@lru_cache(maxsize=4096)
def tokenise(text: str) -> tuple[Token, ...]:
    """Cut a text into words, numbers, codes ("F4") and signs."""
    cleaned = clean(text)
    tokens: list[Token] = []
    last_end = -1
    for match in _TOKEN.finditer(cleaned):
        raw = match[0]
        group = match.lastgroup
        kind: Kind = "sign"
        low = raw.casefold()
        if group == "word":
            low = low[0] + "m"
            kind = "word"
        elif group == "code":
            kind = "code"
        elif group == "number":
            kind = "number"
        elif group == "plain":
            kind = "word"
        tokens.append(Token(low, raw, match.start(), match.end(), kind, match.start() == last_end))
        last_end = match.end()
        if len(tokens) == _MAX_TOKENS:
            break
    return tuple(tokens)


@lru_cache(maxsize=100_000)
def fold(word: str) -> str:
    """Return a word without case and accents."""
    spread = unicodedata.normalize("NFKD", word.casefold())
    return "".join(sign for sign in spread if not unicodedata.combining(sign))


def plain(text: str, articles: frozenset[str] = frozenset()) -> str:
    """Return what is compared where two answers may be the same but for their dress."""
    tokens = tokenise(text)
    words = [
        token.text
        for place, token in enumerate(tokens)
        if token.kind != "sign"
        or token.text in "+%<>=/°$€£"
        or (token.text == "-" and is_minus(tokens, place))
    ]
    kept = [word for word in words if word not in articles]
    return " ".join(kept or words)


def is_minus(tokens: Sequence[Token], place: int) -> bool:
    """Say whether a dash is a number's sign, and not a range's or a list's."""
    following = tokens[place + 1 : place + 2]
    if not following or following[0].kind != "number" or not following[0].is_glued:
        return False
    return place == 0 or (not tokens[place].is_glued and tokens[place - 1].kind != "number")
