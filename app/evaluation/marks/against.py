"""What speaks against an answer: contradictions, and what only a person can tell."""

import re
from collections import Counter
from collections.abc import Sequence

from rapidfuzz.distance import LCSseq, Levenshtein

from app.evaluation.marks import swaps
from app.evaluation.marks.comparing import (
    MAX_COMPARED,
    NAMES,
    NEARLY_A_COPY,
    Compared,
    differs,
    is_typo,
    texts_of,
)
from app.evaluation.marks.facts.fact import Fact, Kind
from app.evaluation.marks.marked import Marked, unsure, wrong
from app.evaluation.marks.normalise import KEYS, plain
from app.evaluation.marks.order import Order, connector_turned
from app.evaluation.marks.polarity import (
    CERTAIN,
    Clause,
    clauses_of,
    negation_places,
    opening,
    polarity,
    sides_of,
)
from app.evaluation.marks.reading import Reading

_SHORT_WORDS = 14
_CUT = re.compile(r"(?:[,(:;–-]|\b\d+[.,])\s*$")
_OPEN_ENDS = frozenset(
    [
        "and",
        "or",
        "of",
        "to",
        "with",
        "for",
        "at",
        "in",
        "on",
        "by",
        "from",
        "und",
        "oder",
        "mit",
        "für",
        "von",
        "zu",
        "bei",
        "et",
        "ou",
        "de",
        "avec",
        "pour",
        "à",
        "y",
        "o",
        "con",
        "para",
        "en",
        "of",
        "met",
        "voor",
        "van",
        "the",
        "der",
        "die",
        "das",
        "den",
        "le",
        "la",
        "les",
        "un",
        "una",
        "el",
        "los",
        "een",
        "het",
        "um",
        "auf",
        "im",
        "am",
        "zum",
        "zur",
        "du",
        "des",
    ]
)


class Against(Compared):
    """What contradicts a reference, or may."""

    def _evasion(self) -> Marked | None:
        evasions = self.lang.phrases["evasions"]
        if not evasions.all_in(self.answer.tokens) or evasions.all_in(self.reference.tokens):
            return None
        says_same = self.facts.same and not self.facts.missing
        if says_same or (self.key and self.recall >= 0.5):
            return unsure("it is not sure of itself")
        if opening(self.answer)[0] is not None and self.asked.is_yes_no:
            return None
        if self._novelty_is_much() and not self.wanted and self.recall > 0:
            return unsure("it leaves open what it says")
        return wrong("it does not answer")

    def _echo(self) -> Marked | None:
        if self.asked.has_or and plain(self.answer_text) != plain(self.question_text):
            return None
        if plain(self.answer_text) == plain(self.question_text):
            return wrong("it repeats the question")
        own = self.answer.stems
        new_facts = [f for f in self.answer.facts
                     if not any(f.text == q.text for q in self.question.facts)]  # fmt: skip
        if (
            len(own) >= 2
            and own <= self.question.stems
            and len(own) >= 0.7 * len(self.question.stems)
            and not new_facts
            and opening(self.answer)[0] is None
            and not self.asked.is_yes_no
            and (self.key - own or self.facts.missing)
        ):
            return wrong("it repeats the question")
        return None

    def _check_polarity(self) -> None:
        permission = self.asked.is_permission
        mine, theirs = (
            polarity(reading, self.question, is_permission=permission, is_duty=self.asked.is_duty)
            for reading in (self.reference, self.answer)
        )
        self.polarities = (mine, theirs)
        self._says_same = mine.says is not None and mine.says == theirs.says
        if theirs.is_both and not mine.is_both:
            self.found.contradictions.append("it says both yes and no")
            return
        if self._says_same and mine.says == "yes":
            takes_back = swaps.takes_back(self.question, self.reference, self.answer, self.asked)
            if takes_back:
                self.found.contradictions.append("it says both yes and no")
                return
            if takes_back is None:
                self.found.doubts.append("one of the two says “not”")
        if mine.says is None or theirs.says is None or mine.says == theirs.says:
            is_open = mine.is_said and theirs.says is None
            if self.asked.is_yes_no and is_open and self.recall < 0.5:
                self.found.doubts.append("yes or no is not said")
            return
        says, wanted = theirs.says, mine.says
        if mine.is_said and theirs.is_said:
            self.found.contradictions.append(f"says {says} where the answer is {wanted}")
        elif self.asked.is_yes_no and (permission or mine.is_said):
            both_said = mine.is_said or theirs.is_said
            is_limited = theirs.is_limited and not theirs.is_said  # "only from 2 pm"
            if both_said and not is_limited and (self.asked.is_permission or self.recall < 0.7):
                self.found.contradictions.append(f"says {says} where the answer is {wanted}")
            else:
                self.found.doubts.append("yes and no may differ")
        elif self.asked.is_yes_no:
            self.found.doubts.append("yes and no may differ")

    def _check_clauses(self) -> None:
        """Compare negations and opposites, clause by clause."""
        mine, theirs = clauses_of(self.reference), clauses_of(self.answer)
        if not theirs:
            return
        used: set[int] = set()
        for clause in mine:
            if not clause.stems and not clause.sides:
                continue
            number = max(
                range(len(theirs)),
                key=lambda n, c=clause: (  # type: ignore[misc]
                    len(c.stems & theirs[n].stems), len(c.sides.keys() & theirs[n].sides.keys()),
                    (c.num_negations - theirs[n].num_negations) % 2 == 0, -n,
                ),
            )  # fmt: skip
            other = theirs[number]
            common = clause.stems & other.stems
            is_alone = len(mine) == 1 and len(theirs) == 1
            if not common and not is_alone and not (
                len(self.answer.words) + len(self.reference.words) <= 2 * _SHORT_WORDS
                and clause.sides.keys() & other.sides.keys()
            ):  # fmt: skip
                continue
            used.add(number)
            self._check_clause(clause, other, self._order)
        self._check_sides()
        self._check_free_negations(mine, theirs, used)

    def _check_clause(self, clause: Clause, other: Clause, order: Order) -> None:
        common = clause.stems & other.stems
        least = min(len(clause.stems), len(other.stems)) or 1
        share = len(common) / least
        turned = []
        for line in clause.sides.keys() & other.sides.keys():
            mine, theirs = (sides.get(line, frozenset()) for sides in self._sides)
            if not clause.sides[line] - theirs or not other.sides[line] - mine:
                continue
            if line >= self.lang.num_opposites:
                self._contrast()
                return
            turned.append(line)
        differs = (clause.num_negations - other.num_negations) % 2
        if turned and order == Order.SAME and self._connector_same():
            turned = []
        if bool(turned) == bool(differs):
            return
        if turned:
            if turned == [0] and self._stand_in_another_order():
                self.found.doubts.append("it may say the opposite")  # of before and after
                return
            self._against("it says the opposite")
            return
        negated = clause if clause.num_negations % 2 else other
        plain_one = other if negated is clause else clause
        if self._has_its_negation() or self._excepts(is_answer=negated is other):
            self.found.doubts.append("one of the two says “not”")  # the yes or no is in it
        elif share >= 0.5 and (negated.heads & plain_one.stems or share >= 0.6):
            self._against(
                "it says “not” where the answer does not" if negated is other
                else "a “not” is missing"
            )  # fmt: skip
        elif common:
            self.found.doubts.append("one of the two says “not”")

    def _open_plainly(self) -> bool:
        """Say whether both texts open with yes or no itself, or neither: "That is not possible"."""
        mine, theirs = (
            p.end > 0 and reading.tokens[p.end - 1].text in CERTAIN | {"no"}
            for p, reading in zip(self.polarities, (self.reference, self.answer), strict=True)
        )
        return mine == theirs and (mine or not any(p.end for p in self.polarities))

    def _has_its_negation(self) -> bool:
        """Say whether a "not" may be no more than the same no or limit in other words."""
        both_limit = self.reference.has("restricting") and self.answer.has("restricting")
        if both_limit and self.asked.is_yes_no:
            return True
        return self._says_same and not self._open_plainly()

    def _excepts(self, *, is_answer: bool) -> bool:
        """Say whether the "not" may be an exception: "except Wednesdays" for "closed on"."""
        one, two = (self.answer, self.reference) if is_answer else (self.reference, self.answer)
        return one.has("except") and not two.has("except")

    def _check_exceptions(self) -> None:
        """Doubt "all but the nurse" for "only the nurse"."""
        mine, theirs = (
            (reading.has("only"), reading.has("except"))
            for reading in (self.reference, self.answer)
        )
        if (mine[0] and theirs[1] and not theirs[0]) or (mine[1] and theirs[0] and not mine[0]):
            self.found.doubts.append("it may say the opposite")

    def _stand_in_another_order(self) -> bool:
        mine, theirs = ([w.stem for w in r.words] for r in (self.reference, self.answer))
        common = set(mine) & set(theirs)
        first, second = ([s for s in stems if s in common] for stems in (mine, theirs))
        return first != second and len(common) > 1

    def _connector_same(self) -> bool:
        """Say whether "A before B" became "B after A"."""
        return connector_turned(self.reference, self.answer) is False

    def _contrast(self) -> None:
        self._against("it names another one of its kind")

    def _check_sides(self) -> None:
        """Compare opposites of short texts as a whole."""
        if len(self.reference.words) > _SHORT_WORDS or len(self.answer.words) > 2 * _SHORT_WORDS:
            return
        mine, theirs = self._sides
        asked_sides = sides_of(self.question)
        for line in mine.keys() & theirs.keys():
            if line < self.lang.num_opposites or not mine[line].isdisjoint(theirs[line]):
                continue
            if theirs[line] <= asked_sides.get(line, frozenset()) and not self.asked.has_or:
                continue
            self._contrast()

    def _check_free_negations(
        self, mine: Sequence[Clause], theirs: Sequence[Clause], used: set[int]
    ) -> None:
        if self.asked.is_yes_no and self._says_same:
            return
        free = [c for n, c in enumerate(theirs) if n not in used and c.num_negations and c.stems]
        num = sum(clause.num_negations for clause in mine)
        if free and not self.wanted and sum(c.num_negations for c in theirs) != num:
            self.found.doubts.append("one of the two says “not”")
        is_paired = any(c.num_negations for n, c in enumerate(theirs) if n in used)
        if num and not any(c.num_negations for c in theirs) and not is_paired and (
            not self.asked.is_yes_no and not self._forbids(self.answer)
            and not self.wanted
        ):  # fmt: skip
            self.found.doubts.append("a “not” may be missing")
        if not num and any(c.num_negations and not c.stems for c in theirs):
            self.found.doubts.append("one of the two says “not”")

    def _forbids(self, reading: Reading) -> bool:
        return reading.has("forbidding")

    def _check_modals(self) -> None:
        mine, theirs = _duty(self.reference), _duty(self.answer)
        if not mine or not theirs or mine == theirs:
            return
        share = len(self.reference.stems & self.answer.stems) / (len(self.reference.stems) or 1)
        if share < 0.3 and not self.asked.is_yes_no:
            return
        pair = {mine, theirs}
        if pair in ({"must", "optional"}, {"must", "forbidden"}, {"may", "forbidden"},
                    {"optional", "forbidden"}):  # fmt: skip
            if share >= 0.6:
                self._against(f"says {theirs} where the answer says {mine}")
            else:
                self.found.doubts.append("what must and what may be done may differ")
        elif share >= 0.5 and pair == {"must", "may"}:
            self.found.doubts.append("says may where the answer says must" if theirs == "may"
                                     else "says must where the answer says may")  # fmt: skip

    def _check_facts(self) -> None:
        facts, found = self.facts, self.found
        for fact in facts.missing:
            other = next((a for a in facts.added if _answers(fact, a)), None)
            if other is not None:
                is_sure = not self.is_reworded or self._is_the_answer(fact, other)
                (found.contradictions if is_sure else found.doubts).append(differs(fact, other))
                found.reference_facts.append(fact)
                found.answer_facts.append(other)
        if self.wanted and all(fact in facts.missing for fact in self.wanted):
            given = [fact for fact, _ in facts.same if fact in self.others]
            if given:
                found.contradictions.append(f"it belongs to something else: {given[0].text}")
        impossible = [a for a in facts.added if a.kind == Kind.CODE and ":" in a.unit]
        if impossible and any(fact.kind == Kind.TIME for fact in self.reference.facts):
            found.contradictions.append(f"{impossible[0].text} is no time")
        if facts.missing and not found.contradictions:
            relevant = [fact for fact in facts.missing if fact in self.wanted]
            if relevant:
                found.parts.append(f"{NAMES[relevant[0].family]} is missing")
                found.reference_facts.append(relevant[0])
        for fact, other in facts.nearly:
            found.reference_facts.append(fact)
            found.answer_facts.append(other)
            found.doubts.append(f"{NAMES[fact.family]} may be the same: {other.text}, {fact.text}")
        for fact, other in facts.part:
            found.parts.append(f"{NAMES[fact.family]} is not whole: {other.text}, not {fact.text}")
        if facts.added and not found.contradictions:
            added = facts.added[0]
            found.answer_facts.append(added)
            families = {fact.family for fact in (self.wanted or self.reference.facts)}
            if added.family in families and self._offers_several():
                found.contradictions.append("several answers are given at once")
            else:
                found.parts.append(f"a fact is added: {added.text}")

    def _is_the_answer(self, fact: Fact, other: Fact) -> bool:
        """Say whether a question asks for one fact of a kind, and another stands in its place."""

        def num(facts: Sequence[Fact], one: Fact) -> int:
            return sum(fact.family == one.family for fact in facts)

        return (
            self.asked.is_strict and fact in self.wanted and num(self.wanted, fact) == 1
            and fact.family == other.family and num(self.answer.facts, other) == 1
        )  # fmt: skip

    def _offers_several(self) -> bool:
        return self.answer.has("or") and not self.reference.has("or")

    def _check_names(self) -> None:
        reference, answer, question = self.reference, self.answer, self.question
        known = reference.stems | question.stems | self._polite_stems(answer)
        names = {w.stem for w in reference.words if w.is_name} - question.stems
        missing = {name for name in names if name not in answer.stems}
        new = {w.stem for w in answer.words if w.is_name and w.stem not in known}
        added = {s for s in new if not any(is_typo(s, n) for n in missing)} - self.lang.harmless
        letters = {s for s in reference.stems if s[0] == "="} - answer.stems
        if letters and any(s[0] == "=" and s not in known for s in answer.stems):
            self.found.contradictions.append("a different letter is given")
        asks_name = bool(self.asked.ways & {"who", "where"})
        is_short = len(reference.words) <= 5
        typos = {
            n for n in missing for w in answer.words if w.stem not in known and is_typo(n, w.stem)
        }
        if typos:
            self.found.doubts.append("a name is spelt in another way")
        missing -= typos
        if missing and added:
            if asks_name or is_short or len(answer.words) <= 8:
                self.found.contradictions.append("a different name is given")
            else:
                self.found.doubts.append("a different name is given")
        elif added and self._offers_several():
            self.found.contradictions.append("several answers are given at once")
        elif len(added) > 0 and not missing and (asks_name or is_short):
            self.found.doubts.append("a name is added")
        elif missing and "who" in self.asked.ways and missing == names:
            if self.key and self.key <= names:
                self.found.contradictions.append("the name is missing")
            else:
                self.found.doubts.append("a name is missing")
        elif (
            self._expects_name()
            and not self.answer.stems & self.key
            and not self.found.contradictions
        ):
            given = "a different name is given" if new else "the name is missing"
            self.found.contradictions.append(given)

    def _expects_name(self) -> bool:
        """Say whether a name alone answers: of a town, a river, an author."""
        if (
            self.lang.code == "de"
            and "who" not in self.asked.ways
            and not self.question.has("ask.proper")
        ):
            return False
        words = [word for word in self.reference.words if word.stem in self.key]
        new = [word for word in self.answer.words if word.stem in self.novel]
        return (
            ("who" in self.asked.ways or self.question.has("ask.proper"))
            and 0 < len(words) <= 4
            and all(word.raw[0].isupper() for word in words)
            and any(word.raw[0].isupper() for word in new)
            and len(self.answer.words) <= 8
        )

    def _check_order(self) -> None:
        order = self._order
        if order == Order.SWAPPED:
            self._against("the same words are put together in another way")
        elif order == Order.DOUBTFUL:
            self.found.doubts.append("the same words stand in another order")
        if swaps.is_at_another_time(self.reference, self.answer):
            self._against("the same words are put together in another way")
        if swaps.is_pair_turned(self.reference, self.answer):
            self._against("two numbers are exchanged")
        if swaps.is_sequence_turned(self.reference, self.answer):
            self._against("two parts are exchanged")
        if swaps.are_parts_exchanged(self.reference, self.answer):
            self._against("two parts are exchanged")
        halves = swaps.halves_order(self.reference, self.answer)
        if halves == Order.SWAPPED:
            self._against("two parts are exchanged")
        elif halves == Order.DOUBTFUL:
            self.found.doubts.append("two parts may be exchanged")

    def _check_choice(self) -> None:
        """Find the other one of two things that a question offers."""
        chooses_other = swaps.chooses_other(self.question, self.reference, self.answer)
        if self.asked.has_or and chooses_other:
            self._against("the other one of the two is chosen")

    def _check_hedges(self) -> None:
        hedges = self.lang.phrases["hedges"]
        if hedges.all_in(self.answer.tokens) and not hedges.all_in(self.reference.tokens):
            self.found.doubts.append("it is not sure of itself")
        if self._offers_several() and not self.asked.has_or and not self.question.has("or"):
            self.found.doubts.append("several answers are given at once")
        conditions = self.lang.phrases["conditions"]
        has, given = (bool(conditions.all_in(r.tokens)) for r in (self.reference, self.answer))
        is_given = bool(conditions.all_in(self.question.tokens))
        is_text = not self.wanted and not self.asked.is_yes_no
        if has and not given and not is_given and is_text and self.recall < 1:
            self.found.doubts.append("a condition is missing")
        has = has or self.reference.has("restricting")
        if given and not has and self.novel and not is_given:
            self.found.doubts.append("a condition is added")
        if KEYS.findall(self.reference_text) != KEYS.findall(self.answer_text):
            self.found.doubts.append("a symbol differs")
        if self._is_cut():
            self.found.doubts.append("the answer is cut off")

    def _check_exchanged(self) -> None:
        """Doubt an answer that is the reference with another word in a place of one of its own."""
        first, second = (
            texts_of(reading)[:MAX_COMPARED] for reading in (self.reference, self.answer)
        )
        if LCSseq.normalized_similarity(first, second) < NEARLY_A_COPY or len(first) < 4:
            return
        mine, theirs = (
            {w.raw.casefold(): w.stem for w in reading.words}
            for reading in (self.reference, self.answer)
        )
        for change in Levenshtein.opcodes(first, second):
            if change.tag != "replace":
                continue
            lost = {mine[text] for text in first[change.src_start : change.src_end] if text in mine}
            new = {
                theirs[text] for text in second[change.dest_start : change.dest_end]
                if text in theirs
            }  # fmt: skip
            turning = self.lang.phrases["turning"]
            small = [
                {text for text in words if text in turning}
                for words in (first[change.src_start : change.src_end],
                              second[change.dest_start : change.dest_end])
            ]  # fmt: skip
            if all(small) and small[0].isdisjoint(small[1]) and not self.asked.is_strict:
                self.found.doubts.append("a small word was exchanged")
                return
            lost, new = lost - new - self.lang.harmless, new - lost - self.lang.harmless
            moved = lost <= self.answer.stems and new <= self.reference.stems
            if lost and new and not moved and not all(
                any(is_typo(one, two) for two in new) for one in lost
            ):  # fmt: skip
                self.found.doubts.append("a word was exchanged")
                return

    def _check_facts_are_meant(self) -> None:
        """Find the right fact in a clause that denies it: "It does not open at 7"."""
        counts = []
        for reading in (self.reference, self.answer):
            _, start = opening(reading)
            counts.append(Counter(
                reading.clauses[place] for place in negation_places(reading.tokens, self.lang)
                if place >= start
            ))  # fmt: skip
        for fact, other in self.facts.same:
            mine = counts[0][self.reference.clauses[fact.start]]
            theirs = counts[1][self.answer.clauses[other.start]]
            if (mine - theirs) % 2:
                is_short = len(self.answer.words) <= 6 and not (
                    self._has_its_negation() or self._excepts(is_answer=True)
                )
                if is_short and theirs % 2 and not mine:
                    self.found.contradictions.append("it says “not” where the answer does not")
                else:
                    self.found.doubts.append("one of the two says “not”")
                return

    def _check_question_sides(self) -> None:
        """Find an answer to another question: when it closes, where it was asked when it opens."""
        asked_sides = sides_of(self.question)
        mine, theirs = self._sides
        for line in asked_sides.keys() & theirs.keys():
            if line in mine or self.asked.has_or or self.asked.is_yes_no:
                continue
            if asked_sides[line].isdisjoint(theirs[line]):
                self.found.doubts.append("it may answer another question")

    def _is_cut(self) -> bool:
        text = self.answer_text.rstrip()
        if text.endswith((".", "!", "?", ")", '"', "”", "»")) or not self.answer.tokens:
            return False
        if _CUT.search(text) and not self.reference_text.rstrip().endswith(text[-1]):
            return True
        last = self.answer.tokens[-1].text
        ends = any(t.text in ".!?" for t in self.answer.tokens if t.kind == "sign")
        if ends and self.reference_text.rstrip().endswith((".", "!", "?")) and (
            len(self.answer.tokens) > 8 and "\n" not in text
        ):  # fmt: skip
            return True
        if self.reference_text.startswith(text) and self.reference_text[len(text) :][:1].isalnum():
            return True
        return (
            len(self.answer.tokens) >= 3
            and last in (self.lang.articles | _OPEN_ENDS)
            and not self.answer.in_fact(len(self.answer.tokens) - 1)
            and self.answer.tokens[-1].raw.islower()
        )


def _answers(fact: Fact, other: Fact) -> bool:
    """Say whether a fact stands in the place of another."""
    if fact.kind == Kind.TIME and other.kind == Kind.CODE and ":" in other.unit:
        return True  # 25:00
    if fact.family != other.family:
        return fact.family == "duration" and other.kind == Kind.NUMBER
    if fact.family == "amount" and fact.unit and other.unit and fact.unit != other.unit:
        return fact.count == other.count or {fact.unit, other.unit} <= {"mass", "volume"}
    return True


def _duty(reading: Reading) -> str | None:
    """Return whether a text says must, may, forbidden or optional; None: nothing, or several."""
    language = reading.language
    assert language is not None
    found: set[str] = set()
    negations = set(negation_places(reading.tokens, language))
    clauses = {reading.clauses[place] for place in negations}
    for name, plainly, negated in (
        ("must", "must", "forbidden"), ("need", "must", "optional"), ("may", "may", "forbidden"),
    ):  # fmt: skip
        for _, start, _end in language.phrases[name].all_in(reading.tokens):
            is_negated = reading.clauses[start] in clauses
            found.add(negated if is_negated else plainly)
    if language.phrases["forbidding"].all_in(reading.tokens):
        found.add("forbidden")
    return next(iter(found)) if len(found) == 1 else None
