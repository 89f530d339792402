"""Telephone numbers and codes, such as those of rooms and forms."""

from app.evaluation.marks.facts import amounts, clock, dates
from app.evaluation.marks.facts.cursor import Cursor
from app.evaluation.marks.facts.fact import Fact, Kind

_OVER = frozenset(["over", "zu", "sur", "op", "sobre", "über"])


def phone_at(cursor: Cursor, position: int) -> Fact | None:
    first = cursor.tokens[position]
    if first.text not in ("+", "(") and first.kind != "number":
        return None
    digits, groups, end = "", 0, position
    marks = ""
    while end < len(cursor.tokens) and len(digits) <= 20:
        token = cursor.tokens[end]
        if token.kind == "number" and token.text.replace(".", "").isdigit():
            if "." in token.text and not all(len(g) == 2 for g in token.text.split(".")):
                break
            space = end > position and not token.is_glued
            if space and token.start > cursor.tokens[end - 1].end + 1:
                break
            groups += token.text.count(".") + 1
            digits += token.text.replace(".", "")
            marks += " " if space else ""
        elif token.text in ("+", "-", "/", "(", ")"):
            marks += token.text
        else:
            break
        end += 1
    while end > position and cursor.tokens[end - 1].kind != "number":
        end -= 1
    if len(digits) < 6 or len(digits) > 15:
        return None
    is_phone = (
        first.text == "+"
        or (len(digits) >= 7 and groups == 1 and "." not in first.text)
        or (digits[0] == "0" and groups >= 2)
        or ("(" in marks and groups >= 2)
        or (groups >= 2 and "-" in marks and not _is_range(cursor, position, end))
        or groups >= 4
        or (groups == 2 and len(digits) == 7 and len(first.text) == 3)
    )  # fmt: skip
    if (
        not is_phone
        or amounts.unit_at(cursor, end) is not None
        or dates.written_date_at(cursor, position) is not None
    ):
        return None
    return cursor.fact(Kind.PHONE, position, end, unit=digits)


def _is_range(cursor: Cursor, position: int, end: int) -> bool:
    texts = [token.text for token in cursor.tokens[position:end]]
    return len(texts) == 3 and (
        len(texts[0]) == len(texts[2]) or (int(texts[0]) < int(texts[2]) and len(texts[0]) > 3)
    )


def code_at(cursor: Cursor, position: int) -> Fact | None:
    token = cursor.tokens[position]
    if token.kind == "code" or (token.kind == "number" and ":" in token.text):
        return cursor.fact(Kind.CODE, position, position + 1, unit=token.text)
    behind = cursor.tokens[position + 1] if position + 1 < len(cursor.tokens) else None
    if token.kind == "number" and behind is not None and behind.is_glued:
        # 4b; 120/80; 1-2-3
        if behind.kind in ("word", "code") and len(behind.text) <= 2 and token.text.isdigit():
            if cursor.language and behind.text in cursor.language.ordinal_endings:
                return None
            return cursor.fact(Kind.CODE, position, position + 2, unit=token.text + behind.text)
        after = cursor.tokens[position + 2] if position + 2 < len(cursor.tokens) else None
        if behind.text == "/" and after and after.is_glued and after.kind == "number":
            return cursor.fact(Kind.CODE, position, position + 3, unit=f"{token.text}/{after.text}")
    # A blood pressure: 120 over 80
    if (
        token.kind == "number" and behind is not None and behind.text in _OVER
        and token.text.isdigit() and position + 2 < len(cursor.tokens)
        and cursor.tokens[position + 2].text.isdigit() and 60 <= int(token.text[:5]) <= 260
        and amounts.unit_at(cursor, position + 3) is None
    ):  # fmt: skip
        unit = f"{token.text}/{cursor.tokens[position + 2].text}"
        return cursor.fact(Kind.CODE, position, position + 3, unit=unit)
    # Gate B 12
    if (
        token.kind == "word" and len(token.raw) == 1 and token.raw.isupper() and behind
        and behind.kind == "number" and behind.text.isdigit() and position > 0
        and amounts.amount_at(cursor, position + 1) is None
        and clock.time_at(cursor, position + 1) is None
        and token.raw not in "AIOY"
    ):  # fmt: skip
        return cursor.fact(Kind.CODE, position, position + 2, unit=token.text + behind.text)
    # Covid-19, Type-2
    if (
        token.kind == "word"
        and behind is not None
        and behind.text == "-"
        and behind.is_glued
        and position + 2 < len(cursor.tokens)
        and cursor.tokens[position + 2].kind == "number"
        and cursor.tokens[position + 2].is_glued
        and cursor.tokens[position + 2].text.isdigit()
    ):
        unit = token.text + cursor.tokens[position + 2].text
        return cursor.fact(Kind.CODE, position, position + 3, unit=unit)
    return None
