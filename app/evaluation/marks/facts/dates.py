"""Dates and days of the week."""

from app.evaluation.marks.facts.cursor import Cursor
from app.evaluation.marks.facts.fact import Fact, Kind
from app.evaluation.marks.numerals import Number, number_at


def is_between(cursor: Cursor, fact: Fact) -> bool:
    start = fact.start
    while cursor.language and cursor.text(start - 1) in cursor.language.articles:
        start -= 1
    return cursor.is_before("calendar.between", start)


def date_at(cursor: Cursor, position: int) -> Fact | None:
    return written_date_at(cursor, position) or _spoken_date(cursor, position)


def written_date_at(cursor: Cursor, position: int) -> Fact | None:  # noqa: PLR0912
    token = cursor.tokens[position]
    if token.kind != "number":
        return None
    if cursor.language and cursor.text(position - 1) in cursor.language.place_nouns:
        return None  # room 2.14
    parts, end = token.text.split("."), position + 1
    if len(parts) == 1 and "," not in token.text and ":" not in token.text:
        for sign in ("/", "-", "."):
            joined = _joined(cursor, position, sign)
            if joined is not None:
                parts, end = joined
                if sign == "/" and len(parts) == 2 and len(parts[0]) + len(parts[1]) < 4:
                    return None
                if sign != "/" and len(parts) < 3:
                    return None
                break
    if not all(part.isdigit() and len(part) <= 4 for part in parts):
        return None
    if len(parts) == 3:
        if len(parts[0]) == 4:
            year, month, day = (int(part) for part in parts)
        else:
            day, month, year = (int(part) for part in parts)
            year += 2000 if year < 70 else 1900 if year < 100 else 0
    elif len(parts) == 2 and (
        _joined(cursor, position, "/") is not None
        or (
            cursor.text(end) == "." and cursor.tokens[end].is_glued and not is_point_decimal(cursor)
        )
    ):
        day, month, year = int(parts[0]), int(parts[1]), 0
        end += cursor.text(end) == "."
    else:
        return None
    if month > 12 >= day:
        day, month = month, day
    if not (1 <= day <= 31 and 1 <= month <= 12):
        return None
    is_either = is_point_decimal(cursor) and day <= 12 and len(parts[0]) <= 2
    return cursor.fact(Kind.DATE, position, end, date=(year, month, day), is_either=is_either)


def is_point_decimal(cursor: Cursor) -> bool:
    return cursor.language is None or cursor.language.is_point_decimal


def _joined(cursor: Cursor, position: int, sign: str) -> tuple[list[str], int] | None:
    parts, end = [cursor.tokens[position].text], position + 1
    while (
        end + 1 < len(cursor.tokens)
        and cursor.tokens[end].text == sign
        and cursor.tokens[end].is_glued
        and cursor.tokens[end + 1].kind == "number"
        and cursor.tokens[end + 1].is_glued
    ):
        parts.append(cursor.tokens[end + 1].text)
        end += 2
    return (parts, end) if 2 <= len(parts) <= 3 else None


def _month(cursor: Cursor, position: int) -> tuple[int, int] | None:
    if cursor.language is None:
        return None
    found = cursor.language.values["months"].at(cursor.tokens, position)
    if found is None:
        return None
    token = cursor.tokens[position]
    if (
        token.text in cursor.language.phrases["calendar.capital_months"]
        and not token.raw[0].isupper()
    ):
        return None
    end = found[1]
    if cursor.text(end) == "." and cursor.tokens[end].is_glued and len(token.text) <= 4:
        end += 1
    return int(found[0]), end


def _spoken_date(cursor: Cursor, position: int) -> Fact | None:
    if cursor.language is None:
        return None
    month = _month(cursor, position)
    if month is not None:
        return _month_first(cursor, position, month)
    day = _day_number(cursor, position)
    if day is None:
        return None
    end = day[1]
    while cursor.has("calendar.of", end):
        end += 1
    month = _month(cursor, end)
    if month is None:
        return None
    number, end = month
    while cursor.has("calendar.of", end) and _year(cursor, end + 1):
        end += 1
    year = _year(cursor, end)
    return cursor.fact(Kind.DATE, position, end + bool(year), date=(year or 0, number, day[0]))


def _month_first(cursor: Cursor, position: int, month: tuple[int, int]) -> Fact | None:
    number, end = month
    token = cursor.tokens[position]
    assert cursor.language is not None
    if token.text in cursor.language.phrases["calendar.capital_months"] and position == 0:
        after = cursor.tokens[end].kind if end < len(cursor.tokens) else "number"
        if after != "number":
            return None  # "May I …"
    day = _day_number(cursor, end) if cursor.language.code == "en" else None
    if day is not None:
        end = day[1]
    if cursor.text(end) == "," and _year(cursor, end + 1):
        end += 1
    year = _year(cursor, end)
    while year is None and cursor.has("calendar.of", end) and _year(cursor, end + 1):
        end += 1
        year = _year(cursor, end)
    date = (year or 0, number, day[0] if day else 0)
    return cursor.fact(Kind.DATE, position, end + bool(year), date=date)


def _day_number(cursor: Cursor, position: int) -> tuple[int, int] | None:
    number = number_at(cursor.tokens, position, cursor.language)
    if number is None and cursor.language is not None:
        found = cursor.language.values["ordinals"].at(cursor.tokens, position)
        number = Number(found[0], found[1]) if found else None
    if number is None or number.value.denominator != 1 or not 1 <= number.value <= 31:
        return None
    end = number.end
    if end < len(cursor.tokens) and cursor.tokens[end].is_glued and (
        cursor.tokens[end].text in (cursor.language.ordinal_endings if cursor.language else ())
        or cursor.tokens[end].text == "."
    ):  # fmt: skip
        end += 1
    return int(number.value), end


def _year(cursor: Cursor, position: int) -> int | None:
    text = cursor.text(position)
    if len(text) == 4 and text.isdigit() and 1000 <= int(text) <= 2100:
        return int(text)
    return None


def days_at(cursor: Cursor, position: int) -> Fact | None:
    language = cursor.language
    if language is None:
        return None
    if end := cursor.has("calendar.weekdays", position):
        return cursor.fact(Kind.DAY, position, end, days=frozenset(range(5)))
    if end := cursor.has("calendar.weekend", position):
        return cursor.fact(Kind.DAY, position, end, days=frozenset({5, 6}))
    found = language.values["days"].at(cursor.tokens, position)
    if found is None:
        return _short_days(cursor, position)
    first, end = int(found[0]), found[1]
    behind = end + 1 if cursor.text(end) == "-" else cursor.has("calendar.to", end)
    if behind is None and is_between(cursor, cursor.fact(Kind.DAY, position, end)):
        behind = cursor.has("calendar.range_and", end)
    while behind is not None and cursor.text(behind) in language.articles:
        behind += 1
    second = language.values["days"].at(cursor.tokens, behind) if behind is not None else None
    if second:
        return cursor.fact(Kind.DAY, position, second[1], days=_from_to(first, int(second[0])))
    return cursor.fact(Kind.DAY, position, end, days=frozenset({first}))


def _short_days(cursor: Cursor, position: int) -> Fact | None:
    """Read "Mon-Fri" and "Mo bis Fr"; alone such letters are other words."""
    assert cursor.language is not None
    short = cursor.language.values["short_days"]
    first = short.at(cursor.tokens, position)
    if first is None or (
        not cursor.tokens[position].raw[0].isupper() and cursor.language.code in ("en", "de")
    ):
        return None
    end = first[1] + (cursor.text(first[1]) == "." and cursor.tokens[first[1]].is_glued)
    behind = end + 1 if cursor.text(end) in ("-", "/", "&") else cursor.has("calendar.to", end)
    second = short.at(cursor.tokens, behind) if behind is not None else None
    if second is None:
        return None
    end = second[1] + (cursor.text(second[1]) == "." and cursor.tokens[second[1]].is_glued)
    days = _from_to(int(first[0]), int(second[0]))
    if cursor.text(first[1]) in ("/", "&"):
        days = frozenset({int(first[0]), int(second[0])})
    return cursor.fact(Kind.DAY, position, end, days=days)


def _from_to(first: int, last: int) -> frozenset[int]:
    return frozenset((first + step) % 7 for step in range((last - first) % 7 + 1))
