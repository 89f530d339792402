"""Times of the day, in figures and as they are spoken."""

from fractions import Fraction

from app.evaluation.marks.facts import amounts, dates
from app.evaluation.marks.facts.cursor import Cursor
from app.evaluation.marks.facts.fact import Fact, Kind
from app.evaluation.marks.numerals import number_at

_ZERO = Fraction(0)
_BEFOREHAND = frozenset(
    ["avant", "antes", "tevoren", "après", "después", "antelación", "eerder", "later", "daarna"]
)
_DAY_MINUTES = 24 * 60


def may_be_hour(value: Fraction) -> bool:
    return value.denominator == 1 and 0 <= value <= 24


def time_at(cursor: Cursor, position: int) -> Fact | None:
    return _digital(cursor, position) or _spoken_time(cursor, position)


def _digital(cursor: Cursor, position: int) -> Fact | None:
    token = cursor.tokens[position]
    if token.kind != "number":
        return None
    sign = ":" if ":" in token.text else "."
    parts = token.text.split(sign)
    end = position + 1
    if len(parts) == 3 and sign == ":" and parts[2].isdigit():
        parts = parts[:2] if parts[2] == "00" else parts
    if len(parts) == 1:
        return _joined_hour(cursor, position)
    if len(parts) != 2 or not all(part.isdigit() for part in parts) or len(parts[1]) != 2:
        return None
    hours, minutes = int(parts[0]), int(parts[1])
    if len(parts[0]) > 2 or hours > 24 or minutes > 59:
        return None
    half, after = _half_of_day(cursor, end)
    oclock = cursor.has("clock.oclock", end) or cursor.has("clock.oclock_loose", end)
    if sign == "." and not (half or oclock):
        # 7.30 without more is a number, unless "at" or a range says otherwise
        if not cursor.is_before("clock.at", position) or amounts.unit_at(cursor, end) is not None:
            return None
        if cursor.language is None or (
            cursor.language.is_point_decimal is False and cursor.language.code != "de"
        ):
            return None
        if cursor.language.code == "de" and cursor.text(position - 1) not in ("um", "ab"):
            return None
    if oclock and not half:
        half, after = _half_of_day(cursor, oclock)
        after = after if half else oclock
    is_loose = not half and hours <= 12 and dates.is_point_decimal(cursor) and len(parts[0]) < 2
    if not half and dates.is_point_decimal(cursor) and hours in (10, 11, 12):
        is_loose = True
    return _clock(
        cursor, position, after if half or oclock else end, hours, minutes, half, is_loose
    )


def _joined_hour(cursor: Cursor, position: int) -> Fact | None:
    """Read 7h30, 19h and 19 h 30."""
    token = cursor.tokens[position]
    if not token.text.isdigit() or int(token.text[:4]) > 24 or position + 1 >= len(cursor.tokens):
        return None
    behind = cursor.tokens[position + 1]
    if (
        behind.is_glued
        and behind.kind == "code"
        and behind.text[0] in "hu"
        and behind.text[1:].isdigit()
    ):
        minutes = int(behind.text[1:3])
        if len(behind.text) <= 3 and minutes < 60:
            return _clock(cursor, position, position + 2, int(token.text), minutes, "", False)
    return None


def _half_of_day(cursor: Cursor, position: int) -> tuple[str, int]:
    if cursor.language is None:
        text = cursor.text(position)
        return (text, position + 1) if text in ("am", "pm") else ("", position)
    for name in ("am", "pm"):
        found = cursor.has(f"clock.{name}", position)
        if found and not (
            cursor.language.code == "de" and cursor.text(position) == "am" and found == position + 1
        ):
            return name, found
    return "", position


def _clock(
    cursor: Cursor, start: int, end: int, hours: int, minutes: int, half: str, is_loose: bool
) -> Fact | None:
    if half == "pm" and hours < 12:
        at_night = cursor.text(end - 1) in ("night", "nachts", "nacht", "noche", "nachts")
        hours += 0 if at_night and hours < 5 else 12
    elif half == "am" and hours == 12:
        hours = 0
    total = Fraction(hours * 60 + minutes)
    if total > _DAY_MINUTES or minutes < -60:
        return None
    return cursor.fact(Kind.TIME, start, end, total % _DAY_MINUTES if total != 1440 else _ZERO,
                      is_loose=is_loose and not half)  # fmt: skip


def _spoken_time(cursor: Cursor, position: int) -> Fact | None:
    language = cursor.language
    if language is None:
        return None
    for name, hours in (("noon", 12), ("midnight", 0)):
        if end := cursor.has(f"clock.{name}", position):
            if name == "noon" and language.code == "de" and not _is_clock_place(cursor, position):
                return None
            return _clock(cursor, position, end, hours, 0, "", False)
    for name, shift in (
        ("half", 30),
        ("half_before", -30),
        ("quarter", 15),
        ("quarter_before", -15),
    ):
        end = cursor.has(f"clock.{name}", position)
        hour = _hour(cursor, end) if end else None
        if hour is not None and amounts.unit_at(cursor, hour[1], is_spoken=True) is None:
            return _spoken(cursor, position, hour[1], hour[0], shift)
    if language.code == "de" and cursor.text(position) in ("viertel", "dreiviertel"):
        hour = _hour(cursor, position + 1)
        if hour is not None and amounts.unit_at(cursor, hour[1], is_spoken=True) is None:
            return _spoken(
                cursor,
                position,
                hour[1],
                hour[0],
                -45 if cursor.text(position) == "viertel" else -15,
            )
    return _minutes_past(cursor, position) or _full_hour(cursor, position)


def _is_clock_place(cursor: Cursor, position: int) -> bool:
    return cursor.text(position - 1) in ("bis", "ab", "um", "gegen", "zwölf")


def _hour(cursor: Cursor, position: int) -> tuple[int, int] | None:
    number = number_at(cursor.tokens, position, cursor.language)
    if number is None or not may_be_hour(number.value):
        return None
    return int(number.value), number.end


def _spoken(cursor: Cursor, start: int, end: int, hours: int, shift: int) -> Fact | None:
    end = cursor.has("clock.oclock", end) or cursor.has("clock.oclock_loose", end) or end
    half, after = _half_of_day(cursor, end)
    minutes = hours * 60 + shift
    if half == "pm" and minutes < 720:
        minutes += 720
    return cursor.fact(
        Kind.TIME, start, after if half else end, Fraction(minutes % _DAY_MINUTES),
        is_loose=not half and hours <= 12,
    )  # fmt: skip


def _minutes_past(cursor: Cursor, position: int) -> Fact | None:
    number = number_at(cursor.tokens, position, cursor.language)
    if number is None or number.value not in (5, 10, 15, 20, 25):
        return None
    for name, sign in (("past", 1), ("to", -1)):
        end = cursor.has(f"clock.{name}", number.end)
        if end is None or not (number.is_word or end > number.end + 1):
            continue
        middle = cursor.has("clock.half_before", end)
        hour = _hour(cursor, middle or end)
        if (
            hour is not None
            and hour[0] <= 12
            and amounts.unit_at(cursor, hour[1], is_spoken=True) is None
        ):
            shift = sign * int(number.value) - (30 if middle else 0)
            return _spoken(cursor, position, hour[1], hour[0], shift)
    return None


def _full_hour(cursor: Cursor, position: int) -> Fact | None:  # noqa: PLR0912
    hour = _hour(cursor, position)
    if hour is None:
        return None
    hours, end = hour
    language = cursor.language
    assert language is not None
    is_certain = False
    after = cursor.has("clock.oclock", end)
    if after is not None and not (language.code == "en" and cursor.text(end) in ("hours", "hrs")
                                  and len(cursor.text(position)) != 4):  # fmt: skip
        end, is_certain = after, True
    else:
        after = cursor.has("clock.oclock_loose", end)
        if after is not None and _is_clock_hour(cursor, position, hours, after):
            end, is_certain = after, True
    is_at = _is_clock_at(cursor, position)
    shift = 0
    for name, minutes in (("half_after", 30), ("quarter_after", 15), ("quarter_less", -15)):
        behind = cursor.has(f"clock.{name}", end)
        if behind and (is_certain or is_at) and amounts.unit_at(cursor, behind) is None:
            return _spoken(cursor, position, behind, hours, minutes)
    if is_certain or is_at:
        for name, sign in (("plus", 1), ("minus", -1)):
            behind = cursor.has(f"clock.{name}", end)
            number = number_at(cursor.tokens, behind, language) if behind else None
            if (
                number
                and number.value in (5, 10, 20, 25)
                and amounts.unit_at(cursor, number.end) is None
            ):
                return _spoken(cursor, position, number.end, hours, sign * int(number.value))
        minute = number_at(cursor.tokens, end, language) if is_certain else None
        if (
            minute
            and 1 <= minute.value <= 59
            and amounts.unit_at(cursor, minute.end) is None
            and minute.end
        ):
            if minute.value.denominator == 1 and (
                not cursor.text(end).startswith("0") or len(cursor.text(end)) == 2
            ):
                shift, end = int(minute.value), minute.end
        elif minute and cursor.text(end) == "00":
            end = minute.end
    half, behind = _half_of_day(cursor, end)
    if half and language.code != "en" and not (is_certain or is_at):
        half = half if cursor.tokens[position].kind == "number" or is_certain else ""
    if half:
        return _clock(cursor, position, behind, hours, shift, half, False)
    if not is_certain and not (is_at and _is_alone(cursor, end)):
        return None
    return _clock(cursor, position, end, hours, shift, "", hours <= 12)


def _is_clock_hour(cursor: Cursor, position: int, hours: int, end: int) -> bool:
    """Tell "à 8 heures" from "pendant 8 heures"."""
    before = cursor.text(position - 1)
    assert cursor.language is not None
    behind = cursor.text(end + 1) if cursor.text(end) in ("de", "van") else cursor.text(end)
    if behind in _BEFOREHAND:
        return False  # "24 heures avant"
    if _half_of_day(cursor, end)[0] or _is_clock_at(cursor, position):
        return True
    if cursor.has("clock.half_after", end) or cursor.has("clock.quarter_less", end):
        return cursor.is_before("clock.at", position)
    if before in ("après", "na", "tras"):
        return hours >= 7
    if cursor.text(position - 2) == "partir":
        return True
    if before in ("de", "van", "du"):  # the first of a range
        return cursor.has("calendar.to", end) is not None
    number = number_at(cursor.tokens, end, cursor.language)
    if (
        number is not None
        and cursor.text(end).isdigit()
        and len(cursor.text(end)) == 2
        and number.value < 60
    ):
        return True  # 19 h 30
    return cursor.is_before("clock.at", position)


def _is_clock_at(cursor: Cursor, position: int) -> bool:
    before = cursor.text(position - 1)
    assert cursor.language is not None
    if before == "la" and cursor.language.code == "es":
        return cursor.text(position) in ("1", "13", "una")  # "la 6" is a window, or a room
    return before in {
        "en": ("at",), "de": ("um",), "fr": ("à", "dès", "vers"), "es": ("las", "la"),
        "nl": ("om",),
    }[cursor.language.code]  # fmt: skip


def _is_alone(cursor: Cursor, end: int) -> bool:
    """Say whether no noun follows: "at 7", not "at 7 schools"."""
    if amounts.unit_at(cursor, end) is not None or cursor.text(end) in ("%", "/", "°"):
        return False
    if end >= len(cursor.tokens) or cursor.tokens[end].kind == "sign":
        return True
    assert cursor.language is not None
    return cursor.tokens[end].text in cursor.language.stop or dates.days_at(cursor, end) is not None
