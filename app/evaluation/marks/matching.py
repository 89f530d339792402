"""Which facts of a reference an answer has, which it lacks, and which it says instead."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from app.evaluation.marks.facts.fact import Fact, Kind

SAME, _NEARLY, _PART = 3, 2, 1
_HALF_DAY, _DAY = 720, 1440
_COUNTED = {
    "person",
    "bed",
    "tablet",
    "capsule",
    "drop",
    "puff",
    "glass",
    "cup",
    "times",
    "percent",
}
# When each part of the day is, in minutes.
_PARTS = {
    "morning": (300, 720), "noon": (660, 840), "afternoon": (720, 1080),
    "evening": (1020, 1380), "night": (1200, 1800),
}  # fmt: skip
# "from 3 pm" is "after 3 pm", and "at least two years" is "from two years".
_SAME_BOUNDS = ({"", "≥"}, {"≥", ">"}, {"≥", "»"})
_NEAR_PARTS = ({"evening", "night"}, {"noon", "afternoon"})


@dataclass
class Matched:
    """How the facts of two texts go together."""

    same: list[tuple[Fact, Fact]] = field(default_factory=list)
    nearly: list[tuple[Fact, Fact]] = field(default_factory=list)  # where only a person can tell
    part: list[tuple[Fact, Fact]] = field(default_factory=list)  # 2 of "2 to 3"
    missing: list[Fact] = field(default_factory=list)
    added: list[Fact] = field(default_factory=list)


def match(
    reference: Sequence[Fact], answer: Sequence[Fact], question: Sequence[Fact] = ()
) -> Matched:
    """Pair the facts of an answer with those of its reference, the surest first.

    What the question says itself is neither missing nor added.
    """
    result = Matched()
    left = [fact for fact in reference if fact.kind != Kind.DAY]
    free = [fact for fact in answer if fact.kind != Kind.DAY]
    for least, pairs in ((SAME, result.same), (_NEARLY, result.nearly), (_PART, result.part)):
        for fact in list(left):
            # What the question says itself answers nothing, unless it is the very fact.
            other = next(
                (
                    one for one in free
                    if alike(fact, one) >= least
                    and (least == SAME or not _is_in(one, question))
                ),
                None,
            )  # fmt: skip
            if other is None:
                continue
            pairs.append((fact, other))
            left.remove(fact)
            # The same number may answer twice; it is taken out only once none needs it.
            free.remove(other)
    said = [one for pair in result.same + result.nearly for one in pair]
    left = [fact for fact in left if not _is_in(fact, said)]
    _match_days(reference, answer, question, result)
    known = [*question, *(fact for fact in reference if fact.kind != Kind.DAY)]
    result.missing += [fact for fact in left if not _is_in(fact, question)]
    result.added += [one for one in free if not _is_in(one, known)]
    return result


def _is_in(fact: Fact, others: Sequence[Fact]) -> bool:
    return any(alike(fact, other) == SAME or alike(other, fact) == SAME for other in others)


def _match_days(
    reference: Sequence[Fact], answer: Sequence[Fact], question: Sequence[Fact], result: Matched
) -> None:
    """Compare days as one set: Monday to Friday is every weekday."""
    facts = [fact for fact in reference if fact.kind == Kind.DAY]
    others = [fact for fact in answer if fact.kind == Kind.DAY]
    asked: set[int] = set().union(*(one.days for one in question if one.kind == Kind.DAY))
    days: set[int] = set().union(*(one.days for one in facts))
    said: set[int] = set().union(*(one.days for one in others))
    if not said and any(one.kind == Kind.RATE and one.low == 1 for one in answer) and facts:
        said = set(range(7))
    if days and days == said:
        result.same += [(facts[0], others[0] if others else facts[0])]
        return
    if days & said and not said - days:
        result.part.append((facts[0], others[0] if others else facts[0]))
    elif days & said and days < said:
        result.same.append((facts[0], others[0] if others else facts[0]))
    lacking = days - said - asked
    result.missing += [one for one in facts if one.days & lacking and not one.days & said]
    if lacking and not any(one.kind == Kind.DAY for one in result.missing):
        result.missing += [one for one in facts if one.days & lacking][:1]
    result.added += [one for one in others if one.days - days - asked]


def alike(fact: Fact, other: Fact) -> int:
    """Say how well a fact of an answer fits one of the reference: 0 not, 3 the same."""
    found = _alike(fact, other)
    if not found or fact.kind in (Kind.PHONE, Kind.CODE, Kind.PART, Kind.ORDINAL):
        return found
    bounds = {fact.bound, other.bound}
    if len(bounds) == 1 or bounds in _SAME_BOUNDS:
        return found
    if fact.kind == Kind.DURATION and bounds == {"", "»"}:
        return found  # "stay two hours and then", "after two hours"
    if "<" in bounds and "" not in bounds:
        return 0
    if bounds == {"»", ">"}:
        return found
    return min(found, _NEARLY)


def _alike(fact: Fact, other: Fact) -> int:
    kinds = {fact.kind, other.kind}
    if kinds == {Kind.TIME}:
        return _times(fact, other)
    if Kind.TIME in kinds:
        return _time_and(fact, other)
    if kinds == {Kind.DATE}:
        return _dates(fact, other)
    if Kind.DATE in kinds:
        return _date_and(fact, other)
    if Kind.PHONE in kinds:
        return _phones(fact, other)
    if kinds == {Kind.CODE}:
        return SAME if fact.unit == other.unit else 0
    if kinds == {Kind.PART}:
        if fact.unit == other.unit:
            return SAME
        return _NEARLY if any({fact.unit, other.unit} <= near for near in _NEAR_PARTS) else 0
    if kinds == {Kind.RATE}:
        return _ranges(fact, other)
    if Kind.RATE in kinds:
        is_count = fact.unit == "times" or other.unit == "times"
        return _NEARLY if is_count and fact.low == other.low else 0
    if kinds <= {Kind.NUMBER, Kind.ORDINAL}:
        return _numbers(fact, other)
    if kinds & {Kind.CODE, Kind.PART, Kind.ORDINAL}:
        return 0
    return _amounts(fact, other)


def _ranges(fact: Fact, other: Fact) -> int:
    if (fact.low, fact.high) == (other.low, other.high):
        return SAME
    if fact.low < fact.high and other.low == other.high and other.low in (fact.low, fact.high):
        return _PART
    return 0


def _numbers(fact: Fact, other: Fact) -> int:
    found = _ranges(fact, other)
    return _NEARLY if found == SAME and (fact.is_either or other.is_either) and (
        fact.text != other.text
    ) else found  # fmt: skip


def _amounts(fact: Fact, other: Fact) -> int:
    if fact.kind == other.kind or {fact.kind, other.kind} <= {Kind.AMOUNT, Kind.DURATION}:
        if fact.unit == other.unit:
            return _ranges(fact, other)
        if {fact.unit, other.unit} == {"celsius", "fahrenheit"}:
            return SAME if abs(_celsius(fact) - _celsius(other)) < Fraction(3, 10) else 0
        if {fact.unit, other.unit} == {"mass", "pound"} and "£" in fact.text + other.text:
            return SAME if fact.count == other.count else 0  # six pounds
        if {fact.unit, other.unit} <= {"celsius", "degrees"} or {fact.unit, other.unit} <= {
            "fahrenheit", "degrees",
        }:  # fmt: skip
            return _ranges(fact, other)
        return 0
    # One has no unit: "5" for "5 mg".
    if fact.count != other.count or (fact.low == fact.high) != (other.low == other.high):
        return 0
    unit = fact.unit or other.unit
    return SAME if unit in _COUNTED else _NEARLY


def _celsius(fact: Fact) -> Fraction:
    return fact.low if fact.unit == "celsius" else (fact.low - 32) * Fraction(5, 9)


def _times(fact: Fact, other: Fact) -> int:
    if (fact.low, fact.high) == (other.low, other.high):
        return SAME
    is_loose = fact.is_loose or other.is_loose
    is_turned = all(
        (one - two) % _HALF_DAY == 0
        for one, two in ((fact.low, other.low), (fact.high, other.high))
    )
    if is_turned and is_loose:
        return _NEARLY
    if fact.low < fact.high and other.low == other.high and other.low in (fact.low, fact.high):
        return _PART
    return 0


def _time_and(fact: Fact, other: Fact) -> int:
    time, one = (fact, other) if fact.kind == Kind.TIME else (other, fact)
    if one.kind == Kind.NUMBER or (one.kind == Kind.DURATION and one.unit == "duration"):
        size = 60 if one.kind == Kind.NUMBER else 1
        if (one.low * size, one.high * size) == (time.low, time.high):
            return SAME
        turned = (one.low * size + _HALF_DAY, one.high * size + _HALF_DAY)
        return _NEARLY if turned == (time.low, time.high) else 0
    if one.kind == Kind.PART and one.unit in _PARTS:
        start, end = _PARTS[one.unit]
        return _NEARLY if start <= time.low <= end or start <= time.low + _DAY <= end else 0
    return 0


def _dates(fact: Fact, other: Fact) -> int:
    if fact.date == other.date:
        return SAME
    (year, month, day), (year2, month2, day2) = fact.date, other.date
    if year and year2 and year != year2:
        return 0
    is_turned = (fact.is_either or other.is_either) and (month, day) == (day2, month2)
    if not is_turned and (month != month2 or (day and day2 and day != day2)):
        return 0
    if is_turned:
        return _NEARLY
    lacks = (day and not day2) or (year and not year2)
    return _PART if lacks else SAME


def _date_and(fact: Fact, other: Fact) -> int:
    date, one = (fact, other) if fact.kind == Kind.DATE else (other, fact)
    if one.kind != Kind.NUMBER or one.low.denominator != 1:
        return 0
    if date.date[0] and one.low == date.date[0]:
        return SAME if one is fact else _PART
    return 0


def _phones(fact: Fact, other: Fact) -> int:
    if not {fact.kind, other.kind} <= {Kind.PHONE, Kind.NUMBER}:
        return 0
    first, second = _digits(fact), _digits(other)
    if first == second:
        return SAME
    short, long = sorted((first, second), key=len)
    # +49 511 123456 is 0511 123456; without its area code only a person can tell.
    abroad = fact.text.startswith(("+", "(+", "00")) or other.text.startswith(("+", "(+", "00"))
    if abroad and short[0] == "0" and long.endswith(short[1:]) and len(long) - len(short) <= 4:
        return SAME
    return _NEARLY if len(short) >= 6 and long.endswith(short) else 0


def _digits(fact: Fact) -> str:
    return fact.unit if fact.kind == Kind.PHONE else str(fact.low)
