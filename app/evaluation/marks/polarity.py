"""Yes and no, negation, opposites, hedges: what turns an answer round however alike the rest is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from app.evaluation.marks.normalise import Token
from app.evaluation.marks.reading import Reading
from app.evaluation.marks.words import Language

Says = Literal["yes", "no"]

_MAX_CLAUSES = 60
_ENDS = frozenset(".,;:!?\n-()")
CERTAIN = frozenset(
    [
        "yes",
        "yeah",
        "yep",
        "ja",
        "jawohl",
        "nein",
        "oui",
        "sí",
        "nee",
        "neen",
        "nope",
        "non",
        "jawel",
        "jazeker",
    ]
)
_NO_WITHOUT_SIGN = frozenset(["you", "it", "they", "we", "i", "that", "there", "this", "he", "she"])
_AFTER_NO = frozenset(
    ["ningún", "ninguno", "ninguna", "nunca", "nada", "nadie", "ni", "tampoco", "jamás"]
)
_PAIRED = frozenset(["ni", "neither", "nor", "weder", "noch"])  # both of them are one "not"


@dataclass(frozen=True)
class Polarity:
    """What an answer says to a question for yes or no."""

    says: Says | None
    is_said: bool  # by a word for yes or no, and not by what the sentence says
    is_both: bool
    is_limited: bool  # "only if", "after 15:00"
    end: int  # where the word for yes or no ends


def opening(reading: Reading) -> tuple[Says | None, int]:
    """Return whether a text opens with yes or no, and where that word ends."""
    language, tokens = reading.language, reading.tokens
    if language is None:
        return None, 0
    start = _skip(tokens, language)
    for says, name in (("no", "no"), ("yes", "yes")):
        found = language.phrases[name].at(tokens, start)
        if not found or not _is_particle(tokens, start, found[1], says):
            continue
        if says == "yes" and found[1] > start + 1 and _is_negated(tokens, found[1], language):
            return "no", start  # "Das geht am Sonntag nicht"
        return ("yes" if says == "yes" else "no"), found[1]
    return None, 0


def _is_negated(tokens: Sequence[Token], start: int, language: Language) -> bool:
    end = start
    while end < len(tokens) and tokens[end].kind != "sign":
        end += 1
    return bool(negation_places(tokens[start:end], language))


def _skip(tokens: Sequence[Token], language: Language) -> int:
    """Go past greetings and signs."""
    start = 0
    while start < len(tokens):
        if tokens[start].kind == "sign":
            start += 1
            continue
        if any(language.phrases[name].at(tokens, start) for name in ("yes", "no")):
            break
        polite = language.phrases["polite"].at(tokens, start)
        if polite is None:
            break
        start = polite[1]
    return start


def _is_particle(tokens: Sequence[Token], start: int, end: int, says: str) -> bool:
    text = tokens[start].text
    if text in CERTAIN or end >= len(tokens):
        return True
    if end - start > 1:
        return True
    following = tokens[end]
    if following.kind == "sign":
        return following.text in _ENDS
    return says == "no" and text == "no" and following.text in _NO_WITHOUT_SIGN


def polarity(
    reading: Reading, question: Reading, *, is_permission: bool, is_duty: bool = False
) -> Polarity:
    """Say whether an answer means yes or no; to "must I?" that it is voluntary means no."""
    says, end = opening(reading)
    language = reading.language
    if language is None:
        return Polarity(None, False, False, False, 0)
    rest = reading.tokens[end:]
    is_limited = bool(language.phrases["restricting"].all_in(rest))
    if says is not None:
        return Polarity(says, True, _says_both(reading, says, end), is_limited, end)
    first = [place for place, sentence in enumerate(reading.sentences) if sentence == 0]
    tokens = reading.tokens[: first[-1] + 1] if first else ()
    num = sum(
        language.phrases["forbidding"].at(tokens, place) is None
        for place in negation_places(tokens, language)
    )
    forbids = bool(language.phrases["forbidding"].all_in(tokens))
    allows = bool(language.phrases["allowing"].all_in(tokens))
    shared = reading.stems & question.stems
    inferred: Says | None = None
    sides, asked = sides_of(reading), sides_of(question)
    turned = [line for line in sides.keys() & asked.keys() if line < language.num_opposites
              and sides[line].isdisjoint(asked[line])]  # fmt: skip
    kept = [line for line in sides.keys() & asked.keys() if sides[line] == asked[line]]
    if is_duty and language.phrases["optional"].all_in(tokens):
        return Polarity("no", True, False, is_limited, 0)
    if turned and not forbids:
        return Polarity("yes" if num % 2 else "no", False, False, is_limited, 0)
    if kept and shared and not num and not is_permission:
        return Polarity("yes", False, False, is_limited, 0)
    if is_permission and (num or forbids):
        return Polarity("yes" if forbids and num % 2 else "no", forbids, False, is_limited, 0)
    if is_permission and allows:
        inferred = "yes"
    elif num % 2 and shared:
        inferred = "no"
    return Polarity(inferred, False, False, is_limited, 0)


def _says_both(reading: Reading, says: Says, end: int) -> bool:
    language = reading.language
    assert language is not None
    name = "no" if says == "yes" else "yes"
    tokens = reading.tokens
    place = end
    while place < len(tokens):
        starts = place == end or tokens[place - 1].text in _ENDS or (
            language.phrases["and"].before(tokens, place) is not None
            or language.phrases["or"].before(tokens, place) is not None
        )  # fmt: skip
        found = language.phrases[name].at(tokens, place) if starts else None
        if found and tokens[place].text in CERTAIN | {"no"} and (
            found[1] >= len(tokens) or tokens[found[1]].kind == "sign"
        ):  # fmt: skip
            return True
        place += 1
    return False


def negation_places(tokens: Sequence[Token], language: Language) -> list[int]:
    """Return where a text negates or forbids; "ne … pas" counts once, as its second word."""
    places = {
        start
        for name in ("negations", "forbidding")
        for _, start, _ in language.phrases[name].all_in(tokens)
    }
    # "no more than four" limits, and negates nothing.
    for name in ("most", "least"):
        for _, start, end in language.phrases[f"bounds.{name}"].all_in(tokens):
            places -= set(range(start, end))
    if language.code == "es":  # "no … ningún" says it once
        places -= set(_doubled(tokens, places))
    pairs = [place for place in sorted(places) if tokens[place].text in _PAIRED]
    return sorted(places - set(pairs[1:]))


def _doubled(tokens: Sequence[Token], places: set[int]) -> Iterator[int]:
    has_no = False
    for place, token in enumerate(tokens):
        if token.kind == "sign":
            has_no = False
        elif token.text == "no":
            has_no = True
        elif has_no and place in places and token.text in _AFTER_NO:
            yield place


@dataclass(frozen=True)
class Clause:
    """A clause with what turns it round."""

    stems: frozenset[str]
    num_negations: int
    heads: frozenset[str]  # the words that are negated
    sides: dict[int, frozenset[int]]  # of each line of opposites, the groups that are said


def clauses_of(reading: Reading) -> list[Clause]:
    """Cut a text into clauses, without the yes or no that opens it."""
    language = reading.language
    if language is None:
        return []
    _, start = opening(reading)
    places: dict[int, list[int]] = {}
    for place, number in enumerate(reading.clauses[start:], start):
        places.setdefault(number, []).append(place)
    numbers = sorted(places)[:_MAX_CLAUSES]
    negations = set(negation_places(reading.tokens, language))
    result = []
    for number in numbers:
        own = places[number]
        words = [word for word in reading.words if word.clause == number and word.position >= start]
        negated = [place for place in own if place in negations]
        heads: set[str] = set()
        for place in negated:
            after = [word.stem for word in words if word.position > place]
            before = [word.stem for word in words if word.position < place]
            heads |= set(after[:1] or before[-1:])
        result.append(
            Clause(
                frozenset(word.stem for word in words), len(negated), frozenset(heads),
                _sides(reading, own, language),
            )
        )  # fmt: skip
    return result


def _sides(
    reading: Reading, places: Sequence[int], language: Language
) -> dict[int, frozenset[int]]:
    found: dict[int, set[int]] = {}
    if not places:
        return {}
    tokens = reading.tokens[places[0] : places[-1] + 1]
    limits = {
        place
        for name in ("most", "least")
        for _, start, end in language.phrases[f"bounds.{name}"].all_in(tokens)
        for place in range(start, end)
        if language.phrases["negations"].at(tokens, start)
    }  # "not before", "no more than"
    for lines, start, end in _opposites(tokens, language):
        # To forbid is to negate, and so is "never": counted there.
        if any(language.phrases[name].at(tokens, start) for name in ("forbidding", "negations")):
            continue
        if start in limits or any(
            reading.in_fact(place + places[0]) for place in range(start, end)
        ):
            continue
        for line, group in lines:
            found.setdefault(line, set()).add(group)
    return {line: frozenset(groups) for line, groups in found.items()}


def _opposites(
    tokens: Sequence[Token], language: Language
) -> list[tuple[tuple[tuple[int, int], ...], int, int]]:
    found = language.opposites.all_in(tokens)
    if language.code in ("de", "nl"):
        places = {place for _, start, end in found for place in range(start, end)}
        for place, token in enumerate(tokens):
            if place not in places and len(token.text) > 7:
                lines = language.tail(token.text)
                if lines:
                    found.append((lines, place, place + 1))
    return found


def sides_of(reading: Reading) -> dict[int, frozenset[int]]:
    """Return of a whole text which sides of each pair of opposites it names."""
    if reading.language is None:
        return {}
    _, start = opening(reading)
    return _sides(reading, range(start, len(reading.tokens)), reading.language)
