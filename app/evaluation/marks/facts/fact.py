"""A fact of a text, and its kinds."""

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction


class Kind(StrEnum):
    TIME = "time"
    DAY = "day"
    DATE = "date"
    PART = "part of the day"
    AMOUNT = "amount"
    DURATION = "duration"
    RATE = "how often"
    NUMBER = "number"
    ORDINAL = "ordinal number"
    PHONE = "telephone number"
    CODE = "code"


# Facts of these kinds answer one another: one of them in the place of another is a contradiction.
FAMILIES = {kind: kind.name.lower() for kind in Kind} | {Kind.NUMBER: "amount"}


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact; a range has two values."""

    kind: Kind
    low: Fraction
    high: Fraction
    unit: str = ""  # the dimension of an amount; the text of a code, a part or a telephone number
    days: frozenset[int] = frozenset()
    date: tuple[int, int, int] = (0, 0, 0)  # year, month, day; 0 where it is not said
    count: Fraction = Fraction(0)  # the number as it is written, without its unit
    bound: str = ""  # > at least; » after; < at most, before; ≥ from
    is_loose: bool = False  # seven o'clock: morning or evening
    is_either: bool = False  # 3/4: day and month, or month and day
    text: str = ""
    start: int = 0  # tokens
    end: int = 0

    @property
    def family(self) -> str:
        return FAMILIES[self.kind]
