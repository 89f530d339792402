"""The facts of a text: times, days, dates, amounts, rates, telephone numbers, codes, numbers."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

from app.evaluation.marks.facts import amounts, bounds, clock, codes, dates, numbers, ranges, rates
from app.evaluation.marks.facts.cursor import Cursor
from app.evaluation.marks.facts.fact import Fact, Kind
from app.evaluation.marks.normalise import Token, is_minus
from app.evaluation.marks.numerals import compound, number_at
from app.evaluation.marks.words import Language

_MAX_FACTS = 80
_MINUS = frozenset(["minus", "moins", "menos"])


def facts_of(tokens: Sequence[Token], language: Language | None) -> list[Fact]:
    """Find the facts of a text, from left to right, none over another."""
    return list(_settled(_read(Cursor(tokens, language)), tokens))


def _settled(facts: Sequence[Fact], tokens: Sequence[Token]) -> Iterator[Fact]:
    """Let the part of the day that stands before a time say which half of the day it is in."""
    position = 0
    while position < len(facts):
        fact = facts[position]
        following = facts[position + 1] if position + 1 < len(facts) else None
        if (
            fact.kind == Kind.PART
            and following is not None
            and following.kind == Kind.TIME
            and following.start - fact.end <= 2
            and following.is_loose
            and fact.unit in ("morning", "afternoon", "evening", "night")
            and not any(token.text in ",.;" for token in tokens[fact.end : following.start])
        ):
            shift = 0 if fact.unit == "morning" else 720
            if fact.unit == "night" and following.low < 5 * 60:
                shift = 0
            yield replace(
                following,
                low=_half(following.low, shift),
                high=_half(following.high, shift),
                is_loose=False,
                start=fact.start,
            )
            position += 2
            continue
        if (
            fact.kind == Kind.TIME
            and following is not None
            and following.kind == Kind.PART
            and following.start == fact.end
            and (following.unit == "noon") == (fact.low == 720)
        ):
            position += 1
        yield fact
        position += 1


def _half(minutes: Fraction, shift: int) -> Fraction:
    return minutes + shift if minutes < 720 else minutes


def _read(cursor: Cursor) -> list[Fact]:
    facts: list[Fact] = []
    position = 0
    while position < len(cursor.tokens) and len(facts) < _MAX_FACTS:
        fact = _at(cursor, position, facts[-1] if facts else None)
        if fact is None:
            position += 1
            continue
        fact = ranges.with_range(cursor, fact)
        facts.append(_finished(cursor, fact, position, facts[-1].end if facts else 0))
        position = fact.end
    return facts


def _may_start(cursor: Cursor, position: int) -> bool:
    """Say whether a fact may begin here; for most words it is not worth looking."""
    token = cursor.tokens[position]
    if token.kind == "sign":
        return token.text in "+($€£/"
    if token.kind != "word":
        return True
    behind = cursor.tokens[position + 1] if position + 1 < len(cursor.tokens) else None
    if behind is not None and (len(token.raw) == 1 or behind.text == "-"):
        return True
    if cursor.language is None:
        return False
    text = token.text
    return (
        text in cursor.language.starters
        or text in cursor.language.articles
        or compound(text, cursor.language) is not None
    )


def _at(cursor: Cursor, position: int, last: Fact | None) -> Fact | None:
    if not _may_start(cursor, position):
        return None
    return (
        codes.phone_at(cursor, position)
        or dates.date_at(cursor, position)
        or dates.days_at(cursor, position)
        or clock.time_at(cursor, position)
        or amounts.fixed_duration_at(cursor, position)
        or rates.rate_at(cursor, position, last)
        or amounts.amount_at(cursor, position)
        or codes.code_at(cursor, position)
        or numbers.ordinal_at(cursor, position)
        or numbers.part_at(cursor, position)
        or numbers.number_fact_at(cursor, position)
    )


def _finished(cursor: Cursor, fact: Fact, position: int, last_end: int) -> Fact:
    words: list[str] = []
    for token in cursor.tokens[position : fact.end]:
        if words and not token.is_glued:
            words.append(" ")
        words.append(token.raw)
    bound = bounds.bound_of(cursor, fact, position, last_end)
    number = number_at(cursor.tokens, position, cursor.language)
    count = number.value if number else fact.low
    is_number = fact.kind in (Kind.NUMBER, Kind.AMOUNT) and fact.low == fact.high
    if is_number and position > last_end and (
        (cursor.text(position - 1) == "-" and is_minus(cursor.tokens, position - 1))
        or cursor.text(position - 1) in _MINUS
    ):  # fmt: skip
        fact = replace(fact, low=-fact.low, high=-fact.high)
        count = -count
    return replace(fact, start=position, text="".join(words), bound=bound, count=count)
