"""Number formats of spreadsheets: from a stored number to the text that the sheet shows.

A format is up to four sections (positive; negative; zero; text), each with conditions, literals and
placeholders. Source: ECMA-376 part 1, 18.8.30 and 18.8.31. What cannot be told from the file (the
language and currency of the computer that shows it) or is not known here is unsure: the number is
given as well as it can be, and the caller counts it.
"""

import datetime
import math
import re
from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from app.datasets.mapping import Separators
from app.datasets.readers.month_names import DAYS, MONTHS, SHORT_DAYS, SHORT_MONTHS, language_of

MAX_CODE_CHARACTERS = 400
# Excel's last day, and how many digits it keeps of a number.
_LAST_DAY = 2958466
_NUM_DIGITS = 15

# The sign before the decimals, and the one between groups of three digits.
SIGNS: dict[Separators, tuple[str, str]] = {
    "english": (".", ","),
    "german": (",", "."),
    "french": (",", "\u202f"),
    "swiss": (".", "’"),
}
# Both while a number is written: in literals the same signs stand for themselves.
_POINT, _GROUP = "\ue000", "\ue001"
_ENGLISH: tuple[Separators, ...] = ("english",)

# By number: formats that a file may use without spelling them out.
BUILT_IN = {
    0: "General",
    1: "0",
    2: "0.00",
    3: "#,##0",
    4: "#,##0.00",
    9: "0%",
    10: "0.00%",
    11: "0.00E+00",
    12: "# ?/?",
    13: "# ??/??",
    15: "d-mmm-yy",
    16: "d-mmm",
    17: "mmm-yy",
    18: "h:mm AM/PM",
    19: "h:mm:ss AM/PM",
    20: "h:mm",
    21: "h:mm:ss",
    37: "#,##0 ;(#,##0)",
    38: "#,##0 ;[Red](#,##0)",
    39: "#,##0.00;(#,##0.00)",
    40: "#,##0.00;[Red](#,##0.00)",
    41: "#,##0;-#,##0;-",
    43: "#,##0.00;-#,##0.00;-",
    45: "mm:ss",
    46: "[h]:mm:ss",
    47: "mmss.0",
    48: "##0.0E+0",
    49: "@",
    # The order of day and month is the computer's, not the file's: ISO's is understood everywhere.
    14: "yyyy-mm-dd",
    22: "yyyy-mm-dd h:mm",
}
# The computer's own currency, and dates of East Asia: as well as it can be told.
_UNSURE_BUILT_IN = {
    **dict.fromkeys((5, 6), "#,##0;-#,##0"),
    **dict.fromkeys((7, 8), "#,##0.00;-#,##0.00"),
    42: "#,##0;-#,##0;-",
    44: "#,##0.00;-#,##0.00;-",
    **dict.fromkeys((*range(27, 37), *range(50, 59)), "yyyy-mm-dd"),
}


class Shown(NamedTuple):
    """What a cell shows; unsure where the file does not tell."""

    text: str
    is_sure: bool = True
    # It has separators, and it is not known which ones the sheet shows.
    is_separated: bool = False
    is_doubtful: bool = False


class _Token(NamedTuple):
    kind: str  # literal, digit, point, comma, percent, exponent, slash, date, elapsed, noon, text
    value: str


class _Placing(NamedTuple):
    """How the digits of a number are put into tokens; the same for every number."""

    point: int  # where the decimals begin
    has_groups: bool
    shift: int  # the power of ten that percents and thousands make
    last_place: Decimal


class _Section(NamedTuple):
    tokens: list[_Token]
    kinds: frozenset[str]
    placing: _Placing | None  # None: it has no digits
    condition: tuple[str, float] | None
    language: str
    is_date: bool
    is_sure: bool


_TOKEN = re.compile(
    r'"(?P<quoted>[^"]*)(?:"|$)'
    r"|\\(?P<escaped>.)"
    r"|_(?P<blank>.)"
    r"|\*(?P<fill>.)"
    r"|\[(?P<bracket>[^\]]*)\]"
    r"|(?P<general>General)"
    r"|(?P<noon>AM/PM|A/P)"
    r"|(?P<exponent>E[+-])"
    r"|(?P<second>\.0+(?=[^0#?]|$))"
    r"|(?P<date>y+|m+|d+|h+|s+|e+|g+|b+)"
    r"|(?P<digit>[0#?])"
    r"|(?P<point>\.)"
    r"|(?P<comma>,)"
    r"|(?P<percent>%)"
    r"|(?P<slash>/)"
    r"|(?P<text>@)"
    r"|(?P<literal>.)",
    re.IGNORECASE | re.DOTALL,
)
_CONDITION = re.compile(r"(<=|>=|<>|=|<|>)\s*(-?\d+(?:[.,]\d+)?)$")
_COLOURS = re.compile(
    r"(black|blue|cyan|green|magenta|red|white|yellow|color ?\d+)$", re.IGNORECASE
)


class NumberFormat:
    """One format of a workbook, taken apart once."""

    def __init__(self, code: str, *, is_sure: bool = True) -> None:
        self.code = code
        self._is_sure = is_sure and len(code) <= MAX_CODE_CHARACTERS
        sections = [_section(part) for part in _split(_in_english(code[:MAX_CODE_CHARACTERS]))]
        # The fourth is for texts, and so is a shorter format's last one with an @.
        self._for_text = sections[3] if len(sections) > 3 else None
        numbers = sections[:3]
        if len(numbers) > 1 and any(token.kind == "text" for token in numbers[-1].tokens):
            self._for_text = numbers.pop()
        self._sections = numbers
        self.is_general = len(sections) == 1 and [t.kind for t in sections[0].tokens] == ["general"]

    @property
    def is_date(self) -> bool:
        return self._sections[0].is_date

    def show(
        self, value: float, *, is_1904: bool = False, separators: Sequence[Separators] = _ENGLISH
    ) -> Shown:
        """Return what a number looks like in this format.

        Args:
            value: The number that is stored.
            is_1904: Days count from that year.
            separators: The likeliest first; with several a number may be doubtful.
        """
        return _separated(self._show(value, is_1904), separators)

    def _show(self, value: float, is_1904: bool) -> Shown:
        if not math.isfinite(value):
            return Shown(str(value), False)
        if self.is_general:
            shown = _general(value)
            return shown if self._is_sure else Shown(shown.text, False)
        section, is_signed, is_sure = self._chosen(value)
        if section is None:
            return Shown(_general(value).text, False)
        shown = _show(section, value if is_signed else abs(value), is_1904)
        is_sure = is_sure and self._is_sure and section.is_sure and shown.is_sure
        return Shown(shown.text, is_sure)

    def show_text(self, text: str) -> str:
        """Return what a text looks like in this format."""
        section = self._for_text
        if section is None:
            alone = self._sections[0].tokens if len(self._sections) == 1 else []
            if not any(token.kind == "text" for token in alone):
                return text
            section = self._sections[0]
        return "".join(text if kind == "text" else value for kind, value in section.tokens)

    def _chosen(self, value: float) -> tuple[_Section | None, bool, bool]:
        """Return the section for a number, whether its sign is shown, and whether that is sure."""
        sections = self._sections
        if any(section.condition for section in sections):
            for section in sections:
                if section.condition is None or _holds(section.condition, value):
                    sign, limit = section.condition or ("", 0.0)
                    only_negative = sign in ("<", "<=") and limit <= 0
                    # Excel and LibreOffice differ about the sign of the rest.
                    is_sure = value >= 0 or only_negative or len(sections) == 1
                    return section, not only_negative, is_sure
            return None, True, False
        if len(sections) == 1:
            return sections[0], True, True
        if value < 0:
            return sections[1], False, True
        return sections[2 if value == 0 and len(sections) > 2 else 0], False, True


@lru_cache(maxsize=4096)
def of_code(code: str) -> NumberFormat:
    """Return a format by its code."""
    return NumberFormat(code)


@lru_cache(maxsize=256)
def built_in(number: int) -> NumberFormat:
    """Return a format that files use by its number alone."""
    if number in BUILT_IN:
        return NumberFormat(BUILT_IN[number])
    return NumberFormat(_UNSURE_BUILT_IN.get(number, "General"), is_sure=False)


def general(value: float, separators: Sequence[Separators] = _ENGLISH) -> Shown:
    """Return what a number looks like without a format: at most eleven signs, as Excel has it."""
    return _separated(_general(value), separators)


def _separated(shown: Shown, separators: Sequence[Separators]) -> Shown:
    text = shown.text
    if _POINT not in text and _GROUP not in text:
        return shown
    first = _with_signs(text, separators[0])
    is_doubtful = len(separators) > 1 and any(
        _with_signs(text, other) != first for other in separators[1:]
    )
    return Shown(first, shown.is_sure, True, is_doubtful)


def _with_signs(text: str, separators: Separators) -> str:
    point, group = SIGNS[separators]
    return text.replace(_POINT, point).replace(_GROUP, group)


def _general(value: float) -> Shown:
    size = abs(value)
    if value == int(value) and size < 1e15:
        # From twelve digits on Excel shows 1.23457E+11; all digits say more.
        return Shown(str(int(value)), size < 1e11)
    if size >= 1e11:
        return Shown(_scientific(value), False)
    exponent = math.floor(math.log10(size)) if size else 0
    if exponent >= -4:
        text = f"{value:.{max(0, min(9, 9 - exponent))}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
        return Shown(text.replace(".", _POINT))
    text = f"{value:.12f}".rstrip("0")
    if len(text.lstrip("-")) <= 11 and float(text) == value:
        return Shown(text.replace(".", _POINT))
    return Shown(_scientific(value))


def _scientific(value: float) -> str:
    digits, _, exponent = f"{value:.5E}".partition("E")
    digits = digits.rstrip("0").rstrip(".").replace(".", _POINT)
    return f"{digits}E{exponent}"


# --- taking a format apart -------------------------------------------------------------------


# What Excel shows people in German and French, and programs write into files as it is shown.
_GENERALS = frozenset({"standard", "estándar", "geral", "standaard", "algemeen"})
_LOCAL_LETTERS = (
    (re.compile(r"(?=.*[tj])(?!.*[dy])[tmjhs.,/: \-]+(;@)?", re.IGNORECASE), "tTjJ", "dDyY"),
    (re.compile(r"(?=.*a)(?!.*[dy])[jmahs.,/: \-]+(;@)?", re.IGNORECASE), "jJaA", "dDyY"),
)


def _in_english(code: str) -> str:
    """Return a format that a program wrote in another language with the letters of files."""
    if code.strip().casefold() in _GENERALS:
        return "General"
    for letters, local, english in _LOCAL_LETTERS:
        if letters.fullmatch(code):
            return code.translate(str.maketrans(local, english))
    return code


def _split(code: str) -> list[str]:
    parts, start = [], 0
    for match in re.finditer(r'"[^"]*"?|\\.|\[[^\]]*\]|;', code, re.DOTALL):
        if match[0] == ";":
            parts.append(code[start : match.start()])
            start = match.end()
    return [*parts, code[start:]]


def _section(code: str) -> _Section:  # noqa: PLR0912 - a branch for each kind of sign
    tokens: list[_Token] = []
    condition, language, is_sure = None, "", True
    for match in _TOKEN.finditer(code):
        kind, value = match.lastgroup or "", match[match.lastgroup or 0]
        match kind:
            case "quoted" | "escaped":
                tokens.append(_Token("literal", value))
            case "blank" | "fill":
                # What fills the width of a column is one blank here, and none behind a minus.
                follows_sign = kind == "fill" and tokens and tokens[-1].value == "-"
                is_space = kind == "blank" or (value == " " and not follows_sign)
                tokens.append(_Token("literal", " " if is_space else ""))
            case "bracket":
                if found := _CONDITION.match(value.strip()):
                    condition = (found[1], float(found[2].replace(",", ".")))
                elif value.startswith("$"):
                    currency, _, locale = value[1:].partition("-")
                    if currency:
                        tokens.append(_Token("literal", currency))
                    if locale.upper() in ("F800", "F400", "SYSDATE", "SYSTIME"):
                        # The computer's own long date or time.
                        is_long = locale.upper() in ("F800", "SYSDATE")
                        return _section("yyyy-mm-dd" if is_long else "h:mm:ss")
                    language = language_of(locale) if locale else language
                    is_sure = is_sure and language != "?"
                elif re.fullmatch("h+|m+|s+", value, re.IGNORECASE):
                    tokens.append(_Token("elapsed", value.lower()))
                elif not _COLOURS.match(value.strip()):
                    is_sure = False
            case "date":
                is_sure = is_sure and value[0].lower() not in "egb"
                tokens.append(_Token("date", value.lower()))
            case "second":
                # After seconds it is a part of them, elsewhere digits behind a point.
                if tokens and any(t.kind in ("date", "elapsed") for t in tokens):
                    tokens.append(_Token("second", value))
                else:
                    tokens.append(_Token("point", "."))
                    tokens += [_Token("digit", "0")] * (len(value) - 1)
            case _:
                # Excel puts every letter that is no letter of formats into quotes.
                is_letter = kind == "literal" and value.isascii() and value.isalpha()
                is_sure = is_sure and not is_letter
                tokens.append(_Token(kind, value))
    dates = [token.value[0] for token in tokens if token.kind in ("date", "elapsed", "noon")]
    if any(token.kind == "digit" for token in tokens) and set(dates) <= set("egb"):
        # Beside digits these are no years of an era: 0 kg.
        tokens = [_Token("literal", t.value) if t.kind == "date" else t for t in tokens]
        dates = []
    is_date = bool(dates)
    if is_date and any(token.kind in ("digit", "percent", "exponent") for token in tokens):
        is_sure = False
    kinds = frozenset(token.kind for token in tokens)
    placing = _placing(tokens) if "digit" in kinds else None
    return _Section(tokens, kinds, placing, condition, language, is_date, is_sure)


def _placing(tokens: list[_Token]) -> _Placing:
    point = next((n for n, token in enumerate(tokens) if token.kind == "point"), len(tokens))
    last = max((n for n, t in enumerate(tokens[:point]) if t.kind == "digit"), default=-1)
    first = next((n for n, t in enumerate(tokens[:point]) if t.kind == "digit"), point)
    has_groups = any(t.kind == "comma" for t in tokens[first:last])
    # Commas behind the last digit divide by a thousand each.
    end = max(n for n, t in enumerate(tokens) if t.kind == "digit")
    thousands = 0
    for token in (*tokens[end + 1 :], *(tokens[last + 1 : point] if last != end else ())):
        if token.kind != "comma":
            break
        thousands += 1
    percents = sum(token.kind == "percent" for token in tokens)
    places = sum(token.kind == "digit" for token in tokens[point:])
    return _Placing(point, has_groups, 2 * percents - 3 * thousands, Decimal(1).scaleb(-places))


def _holds(condition: tuple[str, float], value: float) -> bool:
    sign, limit = condition
    return {
        "<": value < limit,
        "<=": value <= limit,
        ">": value > limit,
        ">=": value >= limit,
        "=": value == limit,
        "<>": value != limit,
    }[sign]


# --- putting a number into a section ---------------------------------------------------------


def _show(section: _Section, value: float, is_1904: bool) -> Shown:
    kinds = section.kinds
    if section.is_date:
        return _show_date(section, value, is_1904)
    sign = "-" if value < 0 else ""
    if "general" in kinds:
        inner = _general(abs(value))
        text = "".join(inner.text if k == "general" else v for k, v in section.tokens)
        return Shown((sign + text).strip(), inner.is_sure)
    if section.placing is None:
        if "text" in kinds:
            inner = _general(value)
            text = "".join(inner.text if k == "text" else v for k, v in section.tokens)
            return Shown(text, inner.is_sure)
        return Shown(_joined(value for _, value in section.tokens))
    number = _decimal(value)
    # Beyond its fifteenth digit Excel writes zeros.
    is_sure = abs(value) < 1e15
    if "slash" in kinds and (fraction := _fraction(section.tokens, number)) is not None:
        return Shown(fraction, is_sure)
    if "exponent" in kinds:
        return Shown(_with_exponent(section.tokens, number), is_sure)
    text = _fixed(section.tokens, section.placing, abs(number))
    is_nothing = not any(c in "123456789" for c in text)
    return Shown(_joined(("" if is_nothing else sign, text)), is_sure)


def _joined(parts: Iterable[str]) -> str:
    return re.sub(" {2,}", " ", "".join(parts)).strip()


def _decimal(value: float) -> Decimal:
    return Decimal(f"{value:.{_NUM_DIGITS}g}")


def _fixed(tokens: list[_Token], placing: _Placing, number: Decimal) -> str:
    """Fill the placeholders of a section from the point outwards."""
    number = number.scaleb(placing.shift)
    with localcontext() as context:
        context.prec = 2000  # of the longest code and the largest number
        whole, _, rest = f"{number.quantize(placing.last_place, ROUND_HALF_UP):f}".partition(".")
    digits = _whole_part(tokens[: placing.point], whole.lstrip("0"), placing.has_groups)
    return digits + _part_after(tokens[placing.point :], rest)


def _whole_part(tokens: list[_Token], digits: str, groups: bool) -> str:
    written: list[str] = []
    left = list(digits)
    num_written = 0
    num_places = sum(token.kind == "digit" for token in tokens)

    def put(sign: str) -> None:
        nonlocal num_written
        if groups and num_written and num_written % 3 == 0:
            written.append(_GROUP)
        written.append(sign)
        num_written += 1

    for kind, value in reversed(tokens):
        if kind == "digit":
            num_places -= 1
            if left:
                put(left.pop())
            elif value == "0":
                put("0")
            elif value == "?":
                written.append(" ")
            while num_places == 0 and left:  # the first place takes all that is left
                put(left.pop())
        elif kind == "literal":
            written.append(value[::-1])
        elif kind == "percent":
            written.append("%")
        elif kind in ("slash", "text"):
            written.append(value)
    return "".join(written)[::-1]


def _part_after(tokens: list[_Token], digits: str) -> str:
    written = ""
    left = digits
    num_needed = len(digits.rstrip("0"))
    at = 0
    for kind, value in tokens:
        if kind == "digit":
            if at < num_needed or value == "0":
                written += left[at] if at < len(left) else "0"
            elif value == "?":
                written += " "
            at += 1
        elif kind in ("literal", "percent", "slash", "text", "point"):
            written += _POINT if kind == "point" and at == 0 else value
    return written


def _with_exponent(tokens: list[_Token], number: Decimal) -> str:
    at = next(n for n, token in enumerate(tokens) if token.kind == "exponent")
    mantissa, power = tokens[:at], tokens[at + 1 :]
    placing = _placing(mantissa)
    step = max(1, sum(t.kind == "digit" for t in mantissa[: placing.point]))
    exponent = number.adjusted() if number else 0
    exponent -= exponent % step
    text = _fixed(mantissa, placing, abs(number).scaleb(-exponent))
    shown = text.strip().replace(_GROUP, "").replace(_POINT, ".")
    if Decimal(shown or 0) >= 10**step:  # 9.99 became 10.0
        exponent += step
        text = _fixed(mantissa, placing, abs(number).scaleb(-exponent))
    sign = "-" if exponent < 0 else "+" if tokens[at].value.endswith("+") else ""
    width = sum(t.kind == "digit" and t.value == "0" for t in power)
    rest = "".join(t.value for t in power if t.kind in ("literal", "percent"))
    return f"{'-' if number < 0 else ''}{text}E{sign}{abs(exponent):0{width}d}{rest}".strip()


def _fraction(tokens: list[_Token], number: Decimal) -> str | None:
    """Write a number as a fraction; nothing where the slash is only a sign."""
    slash = next(n for n, token in enumerate(tokens) if token.kind == "slash")
    above = slash
    while above and tokens[above - 1].kind == "digit":
        above -= 1
    below = slash + 1
    fixed = ""
    while below < len(tokens) and (
        tokens[below].kind == "digit"
        or (tokens[below].kind == "literal" and _is_digit(tokens[below]))
    ):
        fixed += tokens[below].value
        below += 1
    if above == slash or below == slash + 1:
        return None
    has_whole = any(token.kind == "digit" for token in tokens[:above])
    size = abs(number)
    whole = int(size) if has_whole else 0
    part = Fraction(size) - whole
    if fixed.isdecimal() and int(fixed):
        bottom = int(fixed)
        top = int((part * bottom + Fraction(1, 2)) // 1)
    else:
        nearest = part.limit_denominator(10 ** min(len(fixed), 6) - 1)
        top, bottom = nearest.numerator, nearest.denominator
    if has_whole and top == bottom:
        whole, top = whole + 1, 0
    before = "".join(t.value for t in tokens[:above] if t.kind == "literal" and t.value.strip())
    after = "".join(t.value for t in tokens[below:] if t.kind == "literal")
    words = [str(whole)] if whole or (has_whole and not top) else []
    if top or not has_whole:
        words.append(f"{top}/{bottom}")
    sign = "-" if number < 0 and (whole or top) else ""
    return f"{sign}{before}{' '.join(words)}{after}".strip()


def _is_digit(token: _Token) -> bool:
    return len(token.value) == 1 and token.value.isdecimal()


def _show_date(  # noqa: PLR0912 - a branch for each part
    section: _Section, value: float, is_1904: bool
) -> Shown:
    tokens = section.tokens
    if value < 0 or value >= _LAST_DAY:
        return Shown(_general(value).text, False)
    parts = max((len(t.value) - 1 for t in tokens if t.kind == "second"), default=0)
    # To the last unit that is shown of a second; 14:30 is stored as 14:29:59.9999.
    ticks = int(_decimal(value) * 86400 * 10**parts + Decimal("0.5"))
    seconds, part = divmod(ticks, 10**parts)
    days, in_day = divmod(seconds, 86400)
    date = _date(days, is_1904)
    hour, minute, second = in_day // 3600, in_day // 60 % 60, in_day % 60
    has_noon = any(token.kind == "noon" for token in tokens)
    year, month, day = date
    weekday = (days + (5 if is_1904 else -1)) % 7
    written, is_sure = [], True
    for n, (kind, token) in enumerate(tokens):
        if kind == "elapsed":
            unit = {"h": 3600, "m": 60, "s": 1}[token[0]]
            written.append(f"{seconds // unit:0{len(token)}d}")
        elif kind == "noon":
            written.append(("A" if hour < 12 else "P") + ("M" if len(token) > 3 else ""))
        elif kind == "second":
            written.append(f"{_POINT}{part:0{parts}d}"[: len(token)])
        elif kind == "date":
            width = len(token)
            if token[0] == "m" and _is_minute(tokens, n):
                written.append(f"{minute:0{min(width, 2)}d}")
                continue
            match token[0]:
                case "y":
                    written.append(f"{year:04d}" if width > 2 else f"{year % 100:02d}")
                case "m" if width > 2:
                    name, is_known = _name(section.language, month - 1, width, MONTHS, SHORT_MONTHS)
                    written.append(name)
                    is_sure = is_sure and is_known
                case "m":
                    written.append(f"{month:0{width}d}")
                case "d" if width > 2:
                    name, is_known = _name(section.language, weekday, width, DAYS, SHORT_DAYS)
                    written.append(name)
                    is_sure = is_sure and is_known
                case "d":
                    written.append(f"{day:0{width}d}")
                case "h":
                    shown = hour % 12 or 12 if has_noon else hour
                    written.append(f"{shown:0{min(width, 2)}d}")
                case "s":
                    written.append(f"{second:0{min(width, 2)}d}")
                case _:
                    is_sure = False
        else:
            written.append(token)
    return Shown("".join(written).strip(), is_sure)


def _date(days: int, is_1904: bool) -> tuple[int, int, int]:
    if is_1904:
        days += 1462
    if days in (0, 60):  # Excel knows a 29 February 1900 and a 0 January
        return (1900, 2, 29) if days else (1900, 1, 0)
    day = datetime.date(1899, 12, 31 if days < 60 else 30) + datetime.timedelta(days=days)
    return day.year, day.month, day.day


def _is_minute(tokens: list[_Token], n: int) -> bool:
    """Say whether an m stands for minutes: behind hours or before seconds."""
    if len(tokens[n].value) > 2:
        return False

    def next_of(rest: list[_Token]) -> str:
        found = next((t for t in rest if t.kind in ("date", "elapsed")), None)
        return found.value[0] if found else ""

    return next_of(tokens[:n][::-1]) == "h" or next_of(tokens[n + 1 :]) == "s"


def _name(
    language: str,
    number: int,
    width: int,
    names: dict[str, list[str]],
    short: dict[str, list[str]],
) -> tuple[str, bool]:
    """Return the name of a month or day, and whether it is known: “jui” would be two months."""
    if width == 3:
        own = short.get(language)
        return (own[number], True) if own else (names[language][number][:3], False)
    name = names[language][number]
    return (name[0] if width == 5 and names is MONTHS else name), True
