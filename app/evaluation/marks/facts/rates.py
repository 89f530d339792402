"""How often: every other day, twice a day, 5 mg a day."""

from dataclasses import replace
from fractions import Fraction

from app.evaluation.marks.facts.cursor import Cursor
from app.evaluation.marks.facts.fact import Fact, Kind
from app.evaluation.marks.numerals import number_at


def rate_at(cursor: Cursor, position: int, last: Fact | None) -> Fact | None:
    language = cursor.language
    if language is None:
        return None
    return (
        _every(cursor, position)
        or _times(cursor, position)
        or _adverb(cursor, position)
        or _per(cursor, position, last)
    )


def _period(cursor: Cursor, position: int) -> tuple[Fraction, int] | None:
    assert cursor.language is not None
    found = cursor.language.values["periods"].at(cursor.tokens, position)
    return (found[0], found[1]) if found else None


def _every(cursor: Cursor, position: int) -> Fact | None:
    assert cursor.language is not None
    if end := cursor.has("calendar.every_day", position):
        return cursor.fact(Kind.RATE, position, end, Fraction(1))
    if end := cursor.has("rate.every_other", position):
        period = _period(cursor, end)
        if period:
            return cursor.fact(Kind.RATE, position, period[1], 1 / (2 * period[0]))
        if "day" in cursor.text(end - 1) or cursor.language.code in ("fr", "es", "nl"):
            return cursor.fact(Kind.RATE, position, end, Fraction(1, 2))
    if not (end := cursor.has("rate.every", position)):
        return None
    number = number_at(cursor.tokens, end, cursor.language)
    if number is None:
        period = _period(cursor, end)
        return cursor.fact(Kind.RATE, position, period[1], 1 / period[0]) if period else None
    after, high = number.end, number.value
    behind = after + 1 if cursor.text(after) == "-" else cursor.has("calendar.to", after)
    second = number_at(cursor.tokens, behind, cursor.language) if behind else None
    if second is not None:
        after, high = second.end, second.value
    period = _period(cursor, after)
    if period is None or number.value == 0 or high == 0:
        return None
    fact = cursor.fact(Kind.RATE, position, period[1], 1 / (high * period[0]))
    return replace(fact, high=1 / (number.value * period[0]))


def _times(cursor: Cursor, position: int) -> Fact | None:
    """Read "twice a day", "2x daily", "3 Mal pro Woche"."""
    language = cursor.language
    assert language is not None
    found = language.values["times"].at(cursor.tokens, position)
    high = None
    if found:
        count, end = found
        # "at once", and "once you have": only "once a day" and "once." count.
        if cursor.text(position) == "once" and _after_per(cursor, end) is None and (
            cursor.text(position - 1) == "at"
            or (end < len(cursor.tokens) and cursor.tokens[end].kind == "word"
                and language.values["adverbs"].at(cursor.tokens, end) is None)
        ):  # fmt: skip
            return None
    else:
        number = number_at(cursor.tokens, position, language)
        if number is None:
            return None
        count, end = number.value, number.end
        behind = end + 1 if cursor.text(end) == "-" else cursor.has("calendar.to", end)
        second = number_at(cursor.tokens, behind, language) if behind else None
        if second is not None and cursor.has("times_word", second.end):
            high, end = second.value, second.end
        if cursor.text(end) == "-":
            end += 1
        after = cursor.has("times_word", end)
        if after is None:
            return None
        end = after
    period = _after_per(cursor, end)
    if period is None:
        adverb = language.values["adverbs"].at(cursor.tokens, end)
        if adverb:
            period = (1 / adverb[0], adverb[1])
    if period is None:
        return cursor.fact(Kind.AMOUNT, position, end, count, "times")
    fact = cursor.fact(Kind.RATE, position, period[1], count / period[0])
    return replace(fact, high=high / period[0]) if high is not None else fact


def _after_per(cursor: Cursor, position: int) -> tuple[Fraction, int] | None:
    end = cursor.has("rate.per", position) or (
        position + 1 if cursor.text(position) == "/" else None
    )
    return _period(cursor, end) if end else None


def _adverb(cursor: Cursor, position: int) -> Fact | None:
    assert cursor.language is not None
    found = cursor.language.values["adverbs"].at(cursor.tokens, position)
    if found:
        return cursor.fact(Kind.RATE, position, found[1], found[0])
    number = number_at(cursor.tokens, position, cursor.language)  # 8-stündlich
    if number and cursor.text(number.end) == "-":
        every = cursor.language.values["compound"].at(cursor.tokens, number.end + 1)
        if every and number.value:
            return cursor.fact(Kind.RATE, position, every[1], 1 / (number.value * every[0]))
    return None


def _per(cursor: Cursor, position: int, last: Fact | None) -> Fact | None:
    """Read the "a day" of "5 mg a day"."""
    period = _after_per(cursor, position)
    if period is None or last is None or last.end < position - 1:
        return None
    if last.kind not in (Kind.AMOUNT, Kind.NUMBER):
        return None
    return cursor.fact(Kind.RATE, position, period[1], 1 / period[0])
