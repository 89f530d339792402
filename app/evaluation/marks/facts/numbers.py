"""What is left once the rest is read: ordinal numbers, parts of the day, bare numbers."""

from fractions import Fraction

from app.evaluation.marks.facts.cursor import Cursor
from app.evaluation.marks.facts.fact import Fact, Kind
from app.evaluation.marks.numerals import number_at

_ZERO = Fraction(0)
_EACH = frozenset(["per", "pro", "par", "por", "each", "je", "für"])


def ordinal_at(cursor: Cursor, position: int) -> Fact | None:
    language = cursor.language
    if language is None:
        return None
    found = language.values["ordinals"].at(cursor.tokens, position)
    if found:
        is_first = position == 0 or cursor.tokens[position - 1].kind == "sign"
        is_spoken = cursor.tokens[position].kind == "word"
        if is_spoken and (is_first or cursor.text(found[1]) in (",", ":")) and (
            cursor.text(found[1]) not in language.ordinal_nouns
        ):  # fmt: skip
            return None  # "First, wash your hands"
        if is_spoken and cursor.text(found[1]) == "-":
            return None  # "sixth-formers"
        if is_spoken and _is_adverb(cursor, position, found[1]):
            return None  # "without asking a nurse first"
        return cursor.fact(Kind.ORDINAL, position, found[1], found[0])
    token = cursor.tokens[position]
    behind = cursor.tokens[position + 1] if position + 1 < len(cursor.tokens) else None
    if token.kind == "number" and token.text.isdigit() and behind and behind.is_glued:
        number = Fraction(int(token.text[:6]))
        if behind.text in language.ordinal_endings:
            return cursor.fact(Kind.ORDINAL, position, position + 2, number)
        after = cursor.tokens[position + 2] if position + 2 < len(cursor.tokens) else None
        if (
            language.code == "de"
            and behind.text == "."
            and after
            and after.kind == "word"
            and not after.is_glued
        ) and after.text in language.ordinal_nouns:
            return cursor.fact(Kind.ORDINAL, position, position + 2, number)
    return None


def _is_adverb(cursor: Cursor, position: int, end: int) -> bool:
    """Say whether an ordinal ends its sentence, and no article goes before it."""
    assert cursor.language is not None
    is_last = end >= len(cursor.tokens) or cursor.tokens[end].text in (".", ";", "!")
    before = cursor.text(position - 1)
    is_adverb = cursor.tokens[position].text in ("first", "second", "primero", "segundo")
    return is_adverb and is_last and before not in cursor.language.articles | {"on", "al", "el"}


def part_at(cursor: Cursor, position: int) -> Fact | None:
    if cursor.language is None:
        return None
    found = cursor.language.names["parts"].at(cursor.tokens, position)
    return cursor.fact(Kind.PART, position, found[1], unit=found[0]) if found else None


def number_fact_at(cursor: Cursor, position: int) -> Fact | None:
    if (end := cursor.has("none", position)) and _is_whole(cursor, position, end):
        return cursor.fact(Kind.NUMBER, position, end, _ZERO)
    number = number_at(cursor.tokens, position, cursor.language)
    if number is None:
        return None
    if number.is_weak and not _is_whole(cursor, position, number.end):
        return None
    end = number.end
    if cursor.text(end) == "%":
        return cursor.fact(Kind.AMOUNT, position, end + 1, number.value, "percent")
    return cursor.fact(Kind.NUMBER, position, end, number.value, is_either=number.is_doubtful)


def _is_whole(cursor: Cursor, start: int, end: int) -> bool:
    if cursor.text(start - 1) in ("", ".", ":") and cursor.text(end) in _EACH:
        return True  # "One per child"
    others = [t for n, t in enumerate(cursor.tokens) if not start <= n < end and t.kind != "sign"]
    return not others
