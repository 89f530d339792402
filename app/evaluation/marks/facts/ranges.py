"""Ranges: from one fact to another, as 8 to 10 o'clock and 2-3 tablets."""

from dataclasses import replace
from fractions import Fraction

from app.evaluation.marks.facts import amounts, clock, dates, numbers
from app.evaluation.marks.facts.cursor import Cursor
from app.evaluation.marks.facts.fact import Fact, Kind
from app.evaluation.marks.numerals import number_at

_RANGE_SIGNS = ("-",)


def with_range(cursor: Cursor, fact: Fact) -> Fact:
    if fact.kind not in (Kind.TIME, Kind.AMOUNT, Kind.DURATION, Kind.NUMBER, Kind.DATE):
        return fact
    behind = _range_sign(cursor, fact)
    if behind is None:
        return fact
    second = (
        dates.date_at(cursor, behind)
        or clock.time_at(cursor, behind)
        or amounts.fixed_duration_at(cursor, behind)
    )
    second = second or amounts.amount_at(cursor, behind) or numbers.number_fact_at(cursor, behind)
    if second is None or second.low != second.high:
        return fact
    if fact.kind == Kind.NUMBER and second.kind in (Kind.TIME, Kind.AMOUNT, Kind.DURATION):
        fact = _like(cursor, fact, second)
    elif fact.kind == Kind.TIME and second.kind == Kind.NUMBER and clock.may_be_hour(second.low):
        second = replace(second, kind=Kind.TIME, low=second.low * 60, high=second.low * 60)
    elif {fact.kind, second.kind} == {Kind.DURATION, Kind.TIME}:  # "de 8 heures à 10 heures"
        fact = replace(fact, kind=Kind.TIME, unit="")
        second = replace(second, kind=Kind.TIME, unit="")
    if fact.kind != second.kind or fact.unit != second.unit or fact.kind == Kind.DATE:
        return fact
    if _is_opening(cursor, fact, second):
        fact, second = (replace(one, kind=Kind.TIME, unit="") for one in (fact, second))
    low, high = fact.low, second.high
    is_half_said = fact.kind == Kind.TIME and fact.is_loose and not second.is_loose
    # 2 to 4 pm: both are pm; 9 to 5 pm: the first is am.
    if is_half_said and second.low >= 720 and low < 720 and low + 720 < high:
        low += 720
    if fact.kind != Kind.TIME and low > high:
        return fact
    return replace(fact, low=low, high=high, end=second.end,
                   is_loose=fact.is_loose and second.is_loose)  # fmt: skip


def _is_opening(cursor: Cursor, fact: Fact, second: Fact) -> bool:
    """Tell "de 12 a 14 h" from "de 2 a 3 h": nothing takes so many hours that is told so."""
    hours = (second.low / 60, second.high / 60)
    return (
        fact.kind == Kind.DURATION and fact.unit == "duration" and 9 <= hours[0] <= 24
        and hours[0].denominator == 1 and fact.low % 60 == 0
        and cursor.text(fact.start - 1) in ("de", "van", "entre", "tussen")
        and cursor.has("clock.oclock_loose", second.end - 1) is not None
    )  # fmt: skip


def _range_sign(cursor: Cursor, fact: Fact) -> int | None:
    end = fact.end
    if cursor.text(end) in _RANGE_SIGNS:
        return end + 1 if end + 1 < len(cursor.tokens) else None
    behind = cursor.has("calendar.to", end)
    if behind is None and dates.is_between(cursor, fact):
        behind = cursor.has("calendar.range_and", end)
    if behind is None:
        return None
    while cursor.text(behind) in (cursor.language.articles if cursor.language else ()):
        behind += 1
    return behind if behind < len(cursor.tokens) else None


def _like(cursor: Cursor, number: Fact, second: Fact) -> Fact:
    """Give the first number of a range the unit of the second one."""
    if second.kind == Kind.TIME:
        if not clock.may_be_hour(number.low):
            return number
        low = number.low * 60
        return replace(number, kind=Kind.TIME, low=low, high=low, is_loose=number.low <= 12)
    scale = _scale(cursor, second)
    low = number.low * scale
    return replace(number, kind=second.kind, low=low, high=low, unit=second.unit)


def _scale(cursor: Cursor, fact: Fact) -> Fraction:
    number = number_at(cursor.tokens, fact.start, cursor.language)
    return fact.low / number.value if number and number.value else Fraction(1)
