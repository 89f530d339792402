"""Numbers as they are written: in digits, in words, with fractions, as each language has them."""

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from app.evaluation.marks.normalise import Token, fold
from app.evaluation.marks.words import Language

_FRACTION_PARTS = {2, 3, 4, 5, 8, 10}


class Number(NamedTuple):
    value: Fraction
    end: int
    is_word: bool = False
    is_weak: bool = False  # "one", "ein": a number only beside a unit
    is_doubtful: bool = False  # 1.000 where the language is not known


def number_at(tokens: Sequence[Token], position: int, language: Language | None) -> Number | None:
    """Read the number that begins at a position."""
    if position >= len(tokens):
        return None
    if tokens[position].kind == "number":
        return _digits(tokens, position, language)
    if tokens[position].kind != "word" or language is None:
        return None
    return _words(tokens, position, language)


def _digits(tokens: Sequence[Token], position: int, language: Language | None) -> Number | None:
    text = tokens[position].text
    if ":" in text:
        return None
    end = position + 1
    # "1 000 mg": with a space only where the language writes it so.
    while (
        language is not None
        and not language.is_point_decimal
        and len(text) <= 7
        and text.isdigit()
        and not text.startswith("0")
        and end < len(tokens)
        and tokens[end].kind == "number"
        and len(tokens[end].text.partition(",")[0]) == 3
        and tokens[end].start == tokens[end - 1].end + 1
        and (len(text) <= 3 or end > position + 1)
    ):
        text += tokens[end].text
        end += 1
    value, is_doubtful = _value(text, language)
    if value is None:
        return None
    simple = _simple_fraction(tokens, end - 1)
    if simple is not None and text.isdigit():
        return Number(simple, end + 2)
    if end + 2 < len(tokens) and text.isdigit() and tokens[end].kind == "number":
        part = _simple_fraction(tokens, end)
        if part is not None:
            return Number(value + part, end + 3)
    if language and end < len(tokens):
        half = language.phrases["clock.and_half"].at(tokens, end)
        if half:
            return Number(value + Fraction(1, 2), half[1])
        if tokens[end].text in language.values["big"] and not tokens[end].is_glued:
            return Number(value * (language.values["big"].get(tokens[end].text) or 1), end + 1)
    return Number(value, end, is_doubtful=is_doubtful)


def _simple_fraction(tokens: Sequence[Token], position: int) -> Fraction | None:
    """Read 1/2 and 3/4; 120/80 and 7/12 are something else."""
    three = tokens[position : position + 3]
    if len(three) < 3 or three[1].text != "/" or not (three[1].is_glued and three[2].is_glued):
        return None
    if not (three[0].text.isdigit() and three[2].text.isdigit()):
        return None
    after = tokens[position + 3 : position + 4]
    if after and after[0].text == "/" and after[0].is_glued:
        return None
    if len(three[0].text) > 2 or len(three[2].text) > 2:
        return None
    top, bottom = int(three[0].text), int(three[2].text)
    if bottom in _FRACTION_PARTS and 0 < top < bottom:
        return Fraction(top, bottom)
    return None


def _value(text: str, language: Language | None) -> tuple[Fraction | None, bool]:
    """Read digits with points and commas; also say whether they could be read in two ways."""
    text = text.replace("'", "")
    if len(text) > 40:
        return None, False
    if text.isdigit():
        return _fraction(text), False
    points, commas = text.count("."), text.count(",")
    if points and commas:  # the last one is the decimal sign
        last = "." if text.rfind(".") > text.rfind(",") else ","
        other = "," if last == "." else "."
        return _fraction(text.replace(other, "").replace(last, ".")), False
    sign = "." if points else ","
    groups = text.split(sign)
    is_grouped = all(len(group) == 3 for group in groups[1:]) and 1 <= len(groups[0]) <= 3
    is_grouped = is_grouped and not groups[0].startswith("0")
    if len(groups) > 2:
        return (_fraction("".join(groups)) if is_grouped else None), False
    if is_grouped and language is None:
        return _fraction(text.replace(sign, ".")), True
    is_decimal = language is not None and (sign == ".") == language.is_point_decimal
    if is_grouped and not is_decimal:
        return _fraction("".join(groups)), False
    return _fraction(text.replace(sign, ".")), False


def _fraction(text: str) -> Fraction | None:
    try:
        return Fraction(text)
    except ValueError:  # digits of another script
        return None


def _words(  # noqa: PLR0912
    tokens: Sequence[Token], position: int, language: Language
) -> Number | None:
    values, big = language.values["words"], language.values["big"]
    total = current = Fraction(0)
    end = position
    is_weak = tokens[position].text in language.phrases["weak"]
    while end < len(tokens):
        start = end
        if end > position:
            if tokens[end].text == "-" and tokens[end].is_glued and end + 1 < len(tokens):
                start = end + 1
            elif tokens[end].text in language.phrases["link"] and end + 1 < len(tokens):
                start = end + 1
                if not _may_link(current, tokens[start].text, language):
                    break
            elif tokens[end].text == "-":
                break
        text = tokens[start].text
        if tokens[start].kind != "word":
            break
        multiple = big.get(text)
        value = values.get(text)
        if multiple is None and value is None:
            value = compound(text, language)
        if multiple is not None:
            if multiple == 100:
                current = (current or Fraction(1)) * 100
            else:
                total += (current or Fraction(1)) * multiple
                current = Fraction(0)
        elif value is not None and (
            end == position or _may_follow(total, current, value, language)
        ):
            is_score = language.code == "fr" and current == 4 and value == 20
            current = Fraction(80) if is_score else current + value
        else:
            break
        end = start + 1
    if end == position:
        return None
    value = total + current
    half = language.phrases["clock.and_half"].at(tokens, end)
    is_clock = position > 0 and tokens[position - 1].text in ("las", "la", "à")
    if half and not is_clock:
        return Number(value + Fraction(1, 2), half[1], is_word=True)
    point = language.phrases["point"].at(tokens, end)
    if point:
        digits = ""
        after = point[1]
        while (
            after < len(tokens)
            and (digit := values.get(tokens[after].text)) is not None
            and digit < 10
        ):
            digits += str(digit)
            after += 1
        if digits:
            return Number(value + Fraction(int(digits), 10 ** len(digits)), after, is_word=True)
    return Number(value, end, is_word=True, is_weak=is_weak and end == position + 1)


def _may_link(current: Fraction, text: str, language: Language) -> bool:
    value = language.values["words"].get(text)
    if value is None:
        return False
    if language.code == "en":
        return current >= 100 and current % 100 == 0
    if language.code == "fr":
        return current in (20, 30, 40, 50, 60) and value in (1, 11)
    return 30 <= current % 100 <= 90 and current % 10 == 0 and value < 10


def _may_follow(total: Fraction, current: Fraction, value: Fraction, language: Language) -> bool:
    if current == 0:
        return total > 0
    if current % 100 == 0 and current >= 100:
        return value < 100
    if language.code == "fr":
        if current == 4 and value == 20:
            return True
        if current % 100 in (60, 80):
            return value < 20
        if current % 100 in (10, 70, 90):
            return 7 <= value <= 9
    return 20 <= current % 100 <= 90 and current % 10 == 0 and 0 < value < 10


@lru_cache(maxsize=20_000)
def compound(text: str, language: Language) -> Fraction | None:
    """Read a number that German and Dutch write in one word: "zweihundertfünfzig"."""
    if not language.joints or len(text) > 60:
        return None
    values = language.values["words"]
    known = values.get(text)
    if known is not None:
        return known
    for word, size in (("tausend", 1000), ("duizend", 1000), ("hundert", 100), ("honderd", 100)):
        if word in text and word in language.values["big"]:
            head, _, tail = text.partition(word)
            before = compound(head, language) if head else Fraction(1)
            after = compound(tail.removeprefix("und"), language) if tail else Fraction(0)
            if before is None or after is None:
                return None
            return before * size + after
    for joint in language.joints:
        place = text.find(joint, 2)
        while place > 0:
            one, ten = values.get(text[:place]), values.get(text[place + len(joint) :])
            if one is not None and ten is not None and 0 < one < 10 and ten % 10 == 0 and ten > 10:
                return one + ten
            place = text.find(joint, place + 1)
    return None


def is_number_word(text: str, language: Language) -> bool:
    """Say whether a word is a number, accents or not."""
    return text in language.values["words"] or fold(text) in language.values["words"]
