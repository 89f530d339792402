"""Where a text is read: what stands at a position."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from app.evaluation.marks.facts.fact import Fact, Kind
from app.evaluation.marks.normalise import Token
from app.evaluation.marks.words import Language

_ZERO = Fraction(0)


@dataclass(frozen=True, slots=True)
class Cursor:
    """The tokens of a text and its language; each question is about one position."""

    tokens: Sequence[Token]
    language: Language | None

    def fact(self, kind: Kind, start: int, end: int, low: Fraction = _ZERO, unit: str = "",
              **more: object) -> Fact:  # fmt: skip
        return Fact(kind, low, low, unit, start=start, end=end, **more)  # type: ignore[arg-type]

    def has(self, name: str, position: int) -> int | None:
        """Return where the phrase of a list ends that begins at a position."""
        if self.language is None:
            return None
        found = self.language.phrases[name].at(self.tokens, position)
        return found[1] if found else None

    def is_before(self, name: str, position: int) -> bool:
        return (
            self.language is not None
            and self.language.phrases[name].before(self.tokens, position) is not None
        )

    def text(self, position: int) -> str:
        return self.tokens[position].text if 0 <= position < len(self.tokens) else ""
