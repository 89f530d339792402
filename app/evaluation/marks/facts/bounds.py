"""Limits of a fact: at most, at least, before, after, from."""

from app.evaluation.marks.facts import amounts
from app.evaluation.marks.facts.cursor import Cursor
from app.evaluation.marks.facts.fact import Fact, Kind

_AGO = frozenset(["ago", "geleden", "hace"])
_OVER = frozenset(["over", "zu", "sur", "op", "sobre", "über"])
_AFTER = frozenset(["after", "nach", "après", "después", "na", "tras"])
_AT = frozenset(["um", "om"])  # "spätestens um 7"
_CALLED_AT = frozenset(["unter", "onder", "sous"])  # "unter 5500" is no limit


def bound_of(cursor: Cursor, fact: Fact, position: int, last_end: int) -> str:
    if cursor.language is None or fact.low != fact.high or fact.kind in (
        Kind.PHONE, Kind.CODE, Kind.PART, Kind.ORDINAL, Kind.RATE
    ):  # fmt: skip
        return ""
    if fact.kind == Kind.DURATION and (
        cursor.text(fact.end) in _AGO or cursor.text(position - 1) in _AGO
    ):
        return "<"
    sign = _bound_before(cursor, fact, (position,), last_end)
    if sign:
        return sign
    start = position
    # "no later than the 5th", "before about 5", "nach der 12. Woche"
    for _ in range(2):
        text = cursor.text(start - 1)
        is_small = text in cursor.language.articles or text in _AT
        if is_small or cursor.is_before("bounds.about", start):
            start -= 1
    if cursor.text(position - 1) in _CALLED_AT and _is_dialled(cursor, fact):
        return ""
    sign = _bound_before(cursor, fact, (start, position), last_end)
    if sign:
        return sign
    for name, sign in (("most", "<"), ("least", ">")):
        if cursor.has(f"bounds.{name}_after", fact.end):
            return sign
        end = cursor.has(f"bounds.{name}", fact.end)
        if end and (end >= len(cursor.tokens) or cursor.tokens[end].kind == "sign"):
            return sign
    return ""


def _bound_before(cursor: Cursor, fact: Fact, ends: tuple[int, ...], last_end: int) -> str:
    """Return the limit that a phrase sets which ends at a position."""
    start = ends[0]
    # From the longest phrase down: "not more than" holds "more than".
    for begin in range(max(last_end, start - 4), start):
        for name, sign in (("most", "<"), ("least", ">"), ("from", "≥")):
            if cursor.has(f"bounds.{name}", begin) not in ends:
                continue
            if fact.kind == Kind.DURATION and cursor.text(begin) in _OVER:
                return ""  # "over five days": as long as that
            return "»" if cursor.text(begin) in _AFTER else sign
    return ""


def _is_dialled(cursor: Cursor, fact: Fact) -> bool:
    """Say whether digits without a unit may be a number to call: 421, 116 116."""
    figures = [token.text for token in cursor.tokens[fact.start : fact.end]]
    is_plain = fact.kind == Kind.NUMBER and all(text.isdigit() for text in figures)
    return is_plain and len("".join(figures)) >= 3 and amounts.unit_at(cursor, fact.end) is None
