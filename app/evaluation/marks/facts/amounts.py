"""Amounts with their units, and lengths of time."""

from fractions import Fraction

from app.evaluation.marks.facts.cursor import Cursor
from app.evaluation.marks.facts.fact import Fact, Kind
from app.evaluation.marks.numerals import Number, number_at
from app.evaluation.marks.words import common_units

_DAY_MINUTES = 24 * 60
_CURRENCIES = {"$": "dollar", "€": "euro", "£": "pound"}


def fixed_duration_at(cursor: Cursor, position: int) -> Fact | None:
    if cursor.language is None:
        return None
    start = position
    if cursor.text(position) in cursor.language.articles:
        start += 1
    for place in (position, start):
        found = cursor.language.values["half_hours"].at(cursor.tokens, place)
        if found:
            return cursor.fact(Kind.DURATION, position, found[1], found[0], "duration")
    return None


def unit_at(
    cursor: Cursor, position: int, is_spoken: bool = False
) -> tuple[str, Fraction, int] | None:
    """Return the unit at a position: dimension, size and where it ends."""
    if position >= len(cursor.tokens):
        return None
    units = cursor.language.units if cursor.language else common_units()
    token = cursor.tokens[position]
    if token.text == "°" and position + 1 < len(cursor.tokens):
        letter = cursor.text(position + 1)
        if letter in ("c", "f"):
            return {"c": "celsius", "f": "fahrenheit"}[letter], Fraction(1), position + 2
    found = units.at(cursor.tokens, position)
    if found is None:
        return None
    if is_spoken and found[0][0] == "duration":
        return found[0][0], found[0][1], found[1]
    return found[0][0], found[0][1], found[1]


def amount_at(cursor: Cursor, position: int) -> Fact | None:
    token = cursor.tokens[position]
    if token.text in _CURRENCIES:
        number = number_at(cursor.tokens, position + 1, cursor.language)
        if number is None:
            return None
        return cursor.fact(Kind.AMOUNT, position, number.end, number.value, _CURRENCIES[token.text])
    number = number_at(cursor.tokens, position, cursor.language)
    if number is None:
        number = _part_number(cursor, position)
    if number is None:
        return _article_unit(cursor, position)
    unit = unit_at(cursor, number.end)
    if unit is None and (between := cursor.has("between", number.end)):
        unit = unit_at(cursor, between)  # two full days
    if unit is None:
        return None
    dimension, size, end = unit
    if dimension == "duration" and size == 60:
        more = _more_minutes(cursor, end)
        if more is not None:
            return cursor.fact(
                Kind.DURATION, position, more[1], number.value * 60 + more[0], "duration"
            )
    kind = Kind.DURATION if dimension in ("duration", "months") else Kind.AMOUNT
    value = number.value * size
    coins = _coins(cursor, dimension, end)
    if coins is not None:
        dimension, value, end = coins[0], number.value + coins[1], coins[2]
    below = _below(cursor, end)
    if below is not None and kind == Kind.AMOUNT:
        dimension, value, end = f"{dimension}/{below[0]}", value / below[1], below[2]
    if cursor.language:
        half = cursor.language.phrases["clock.and_half"].at(cursor.tokens, end)
        if half and cursor.language.code in ("fr", "es", "nl", "de"):
            value, end = value + size / 2, half[1]
    return cursor.fact(kind, position, end, value, dimension, is_either=number.is_doubtful)


def _coins(cursor: Cursor, dimension: str, end: int) -> tuple[str, Fraction, int] | None:
    """Read the fifty of "three pounds fifty"."""
    is_pound = cursor.text(end - 1) in ("pound", "pounds")
    if not (is_pound or dimension in ("euro", "dollar", "pound")):
        return None
    number = number_at(cursor.tokens, end, cursor.language)
    if number is None or not 10 <= number.value < 100 or number.value.denominator != 1:
        return None
    if unit_at(cursor, number.end) is not None:
        return None
    return "pound" if is_pound else dimension, number.value / 100, number.end


def _more_minutes(cursor: Cursor, position: int) -> tuple[Fraction, int] | None:
    """Read the minutes of "1 h 30 min" and "1 hour and 30 minutes"."""
    start = position
    if cursor.language and cursor.has("and", start):
        start += 1
    number = number_at(cursor.tokens, start, cursor.language)
    unit = unit_at(cursor, number.end) if number else None
    if number and unit and unit[0] == "duration" and unit[1] == 1 and number.value < 60:
        return number.value, unit[2]
    return None


def _part_number(cursor: Cursor, position: int) -> Number | None:
    """Read "half a tablet" and "eine halbe Tablette"."""
    if cursor.language is None:
        return None
    start = position
    if cursor.text(position) in cursor.language.articles:
        start += 1
    found = cursor.language.values["halves"].at(cursor.tokens, start)
    if found is None:
        return None
    end = found[1]
    while cursor.text(end) in cursor.language.articles or cursor.text(end) in ("of", "de", "d"):
        end += 1
    return Number(found[0], end, is_word=True) if unit_at(cursor, end) else None


def _article_unit(cursor: Cursor, position: int) -> Fact | None:
    """Read "an hour" as one hour."""
    if cursor.language is None or not cursor.has("clock.article_one", position):
        return None
    unit = unit_at(cursor, position + 1)
    if (
        unit is None
        or unit[0] not in ("duration", "months")
        or cursor.text(position + 1) == "second"
    ):
        return None
    return cursor.fact(Kind.DURATION, position, unit[2], unit[1], unit[0])


def _below(cursor: Cursor, position: int) -> tuple[str, Fraction, int] | None:
    """Read what an amount is divided by: mg/kg, ml per hour."""
    if cursor.text(position) == "/":
        start: int | None = position + 1
    else:
        start = cursor.has("rate.per", position) if cursor.language else None
        if start is not None and cursor.text(position) in (
            cursor.language.articles if cursor.language else ()
        ):
            return None
    if start is None:
        return None
    unit = unit_at(cursor, start)
    if unit is None or (unit[0] == "duration" and unit[1] >= _DAY_MINUTES):
        return None
    return unit if unit[0] != "months" else None
