"""An answer and its reference beside each other: their words, facts, and what was found."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from rapidfuzz.distance import OSA, LCSseq

from app.evaluation.marks import swaps
from app.evaluation.marks.asking import Asked, asked
from app.evaluation.marks.facts.fact import Fact, Kind
from app.evaluation.marks.matching import SAME, Matched, alike, match
from app.evaluation.marks.order import Order
from app.evaluation.marks.polarity import Polarity, opening
from app.evaluation.marks.reading import Reading
from app.evaluation.marks.words import Language

NEARLY_A_COPY = 0.6
_REWORDED = 0.25  # from this share of new words on, a text is no copy with a change
_FEW_SHARED = 0.45
_AS_LONG = 0.9
MAX_COMPARED = 300  # words
NAMES = {
    "time": "the time", "day": "the day", "date": "the date", "part": "the part of the day",
    "amount": "the amount", "duration": "the length of time", "rate": "how often",
    "ordinal": "the number", "phone": "the telephone number", "code": "the number",
}  # fmt: skip


@dataclass
class Findings:
    """What speaks against right, and what for it."""

    contradictions: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    reference_facts: list[Fact] = field(default_factory=list)
    answer_facts: list[Fact] = field(default_factory=list)


class Compared:
    """One answer in words, and its reference."""

    polarities: tuple[Polarity, Polarity]
    _says_same: bool
    _order: Order
    _sides: tuple[dict[int, frozenset[int]], dict[int, frozenset[int]]]

    def __init__(
        self, question: Reading, reference: Reading, answer: Reading, *texts: object
    ) -> None:
        self.question, self.reference, self.answer = question, reference, answer
        self.question_text, self.reference_text, self.answer_text, self.language = (
            str(texts[0]), str(texts[1]), str(texts[2]), texts[3],
        )  # fmt: skip
        assert isinstance(self.language, Language)
        self.lang: Language = self.language
        self.asked: Asked = asked(question, opening(reference)[0] is not None)
        # Of "3/4 or 2/3?" the question says both, and so neither.
        said = () if self.asked.has_or else question.facts
        self.facts: Matched = match(
            _unfolded(reference.facts, answer.facts), _unfolded(answer.facts, reference.facts),
            said,
        )  # fmt: skip
        self._settle_limits()
        self.facts.added = [
            fact for fact in self.facts.added
            if not self._is_asked_with(fact, answer) and not self._is_between_two(fact)
            and not self._is_limited(fact)
        ]  # fmt: skip
        self.facts.missing = [
            f for f in self.facts.missing if not self._is_asked_with(f, reference)
        ]
        wanted = self.asked.wanted(
            [
                fact
                for fact in reference.facts
                if not any(fact.text == one.text for one in said)
                and not self._is_asked_with(fact, reference)
            ],
            reference.clauses,
        )
        self.wanted, self.others = swaps.singled_out(question, reference, wanted)
        self.found = Findings()
        self.key = self._key()
        self.novel = self._novel()
        self.is_reworded = self._is_reworded()

    def _is_asked_with(self, fact: Fact, reading: Reading) -> bool:
        """Say whether a question has the words of a fact: "al día"."""
        if fact.kind == Kind.DURATION and fact.count == 1:  # "op één dag", to "per dag"
            last = reading.tokens[fact.end - 1].text
            return any(token.text == last for token in self.question.tokens)
        if fact.kind != Kind.RATE:
            return False
        words = [token.text for token in reading.tokens[fact.start : fact.end]]
        asked = [token.text for token in self.question.tokens]
        size = len(words)
        return any(asked[start : start + size] == words for start in range(len(asked)))

    def _settle_limits(self) -> None:
        """Take "2 kg" for "at most 2 kg" where the question asks for the most."""
        most, least = (self.question.has(f"bounds.{name}") for name in ("most", "least"))
        may = self.question.has("may") or self.question.has("allowing")
        for fact, other in list(self.facts.nearly):
            bounds = {fact.bound, other.bound}
            is_limit = (bounds == {"", "<"} and (most or may)) or (bounds == {"", ">"} and least)
            if is_limit and alike(replace(fact, bound=""), replace(other, bound="")) == SAME:
                self.facts.nearly.remove((fact, other))
                self.facts.same.append((fact, other))

    def _is_between_two(self, fact: Fact) -> bool:
        """Say whether a "two" says nothing: "between two doses"."""
        between = self.lang.phrases["calendar.between"]
        is_plain = fact.family == "amount" and fact.low == fact.high
        return (
            is_plain
            and fact.count == 2
            and between.before(self.answer.tokens, fact.start) is not None
        )

    def _is_limited(self, fact: Fact) -> bool:
        """Say whether an "every day" is the one of "every day except Monday"."""
        restricting = self.lang.phrases["restricting"]
        is_daily = fact.kind == Kind.RATE and fact.low == fact.high == 1
        return is_daily and restricting.at(self.answer.tokens, fact.end) is not None

    def _is_as_long(self) -> bool:
        """Say whether an answer has as many words as its reference: nothing may be missing."""
        return len(texts_of(self.answer)) >= _AS_LONG * len(texts_of(self.reference))

    def _is_reworded(self) -> bool:
        """Say whether an answer is in words of its own.

        What turns a copy round, a "not" more or a part exchanged, proves nothing between texts
        that say things in two ways.
        """
        texts = [texts_of(reading)[:MAX_COMPARED] for reading in (self.reference, self.answer)]
        if LCSseq.normalized_similarity(*texts) >= NEARLY_A_COPY:
            return False
        num_new, num = len(self.novel), len(self.answer.stems)
        has_new = num_new >= 2 and num_new > _REWORDED * num
        return has_new or (len(self.key) >= 4 and self.recall < _FEW_SHARED and num_new > 0)

    def _against(self, why: str) -> None:
        """Note what contradicts the reference if the answer is made of its words, else a doubt."""
        (self.found.doubts if self.is_reworded else self.found.contradictions).append(why)

    def _key(self) -> set[str]:
        """Return the words of the reference that an answer has to have."""
        polite = self._polite_stems(self.reference)
        own = self.reference.stems - polite
        weighty = own - self.lang.harmless
        if len(weighty) < 2 or len(weighty) < 0.6 * len(own):
            weighty = own  # where most words are plain ones, they are what is said
        return weighty - self.question.stems or (weighty if not self.reference.facts else set())

    def _novel(self) -> set[str]:
        known = self.reference.stems | self.question.stems | self.lang.harmless
        return self.answer.stems - known - self._polite_stems(self.answer)

    def _polite_stems(self, reading: Reading) -> set[str]:
        covered = {
            place
            for _, start, end in self.lang.phrases["polite"].all_in(reading.tokens)
            for place in range(start, end)
        }
        return {word.stem for word in reading.words if word.position in covered}

    def _has(self, stem: str) -> bool:
        return stem in self.answer.stems or any(
            is_typo(stem, other) for other in self.answer.stems - self.reference.stems
        )

    @property
    def recall(self) -> float:
        if not self.key:
            return 1.0
        return sum(self._has(stem) for stem in self.key) / len(self.key)

    def _novelty_is_much(self) -> bool:
        own, new = max(1, len(self.answer.stems)), len(self.novel)
        return (new > 3 and new > 0.4 * own) or (new > 1 and new > len(self.key))


def differs(missing: Fact, added: Fact) -> str:
    name = NAMES[missing.family]
    return f"{name} differs: {added.text}, not {missing.text}"


def _unfolded(facts: Sequence[Fact], others: Sequence[Fact]) -> list[Fact]:
    """Split a range where the other text gives its two ends apart: opens at 7, closes at 10."""
    result: list[Fact] = []
    for fact in facts:
        ends = [
            [
                o
                for o in others
                if o.kind == fact.kind and o.unit == fact.unit and o.low == o.high == end
            ]
            for end in (fact.low, fact.high)
        ]
        if fact.low != fact.high and fact.kind != Kind.RATE and all(ends):
            for end, other in zip((fact.low, fact.high), ends, strict=True):
                result.append(replace(fact, low=end, high=end, bound=other[0].bound))
        else:
            result.append(fact)
    return result


def texts_of(reading: Reading) -> list[str]:
    return [token.text for token in reading.tokens if token.kind != "sign"]


def is_typo(one: str, two: str) -> bool:
    """Say whether long words differ in one letter within; a first letter is another word."""
    if (
        min(len(one), len(two)) < 7
        or one[0] != two[0]
        or abs(len(one) - len(two)) > 1
        or one == two
    ):
        return False
    return OSA.distance(one, two, score_cutoff=1) <= 1
