"""The mark of an answer in words: what speaks for it, and what was found against it."""

from collections.abc import Sequence
from dataclasses import replace

from app.evaluation.marks import lists
from app.evaluation.marks.against import Against
from app.evaluation.marks.comparing import NAMES, texts_of
from app.evaluation.marks.facts.fact import Fact, Kind
from app.evaluation.marks.marked import Marked, partly, right, unsure, wrong
from app.evaluation.marks.order import order_of
from app.evaluation.marks.polarity import opening, sides_of
from app.evaluation.marks.reading import Reading
from app.evaluation.marks.similarity import similarity

_ENOUGH_WORDS = 0.85  # of the reference's words, where nothing contradicts
_MIN_SIMILARITY = 0.3
_WORDS_OF_ITEM = 2.5
_MEASURED = frozenset(["mass", "volume", "length", "euro", "dollar", "pound", "percent", "celsius"])
_DOSES = frozenset(
    [
        "mass", "volume", "tablet", "capsule", "drop", "puff", "ampoule", "sachet", "teaspoon",
        "tablespoon", "international", "mole",
    ]
)  # fmt: skip
_OF = frozenset(["of", "de", "d", "van"])
_TURNED = frozenset({"it says both yes and no"})
_ORDER_WORDS = frozenset({"the same words are put together in another way"})


class Text(Against):
    """One answer in words, and its mark."""

    def marked(self) -> Marked:
        early = self._evasion() or self._echo()
        if early is not None:
            return early
        self._check_polarity()
        self._sides = (sides_of(self.reference), sides_of(self.answer))
        self._order = order_of(self.reference, self.answer)
        self._check_clauses()
        self._check_modals()
        self._check_facts()
        self._check_names()
        self._check_order()
        self._check_choice()
        self._check_exceptions()
        self._check_hedges()
        self._check_exchanged()
        self._check_facts_are_meant()
        self._check_question_sides()
        if self.asked.ways and len(self.key) <= 3 and any(
            stem not in self.answer.stems and self._has(stem) for stem in self.key
        ):  # fmt: skip
            self.found.doubts.append("a word is spelt in another way")
        listed = self._mark_list()
        if listed is not None:
            return self._lit(listed)
        return self._lit(self._decided(*self._evidence()))

    def _decided(self, evidence: str, why: str) -> Marked:
        found = self.found
        if found.contradictions:
            return self._contradicted(found.contradictions[0])
        if evidence == "full":
            if found.doubts:
                return unsure(found.doubts[0])
            if found.parts:
                return partly(found.parts[0])
            return right(why)
        if evidence == "part":
            if found.doubts:
                return unsure(found.doubts[0])
            return partly(found.parts[0] if found.parts else why)
        if evidence == "nothing":
            return wrong(why)
        return unsure(found.doubts[0] if found.doubts else why)

    def _contradicted(self, why: str) -> Marked:
        """Call an answer wrong; behind the right yes or no a wrong detail makes it partly right."""
        if not (self.asked.is_yes_no and self._says_same and why not in _TURNED):
            return wrong(why)
        mine, theirs = self.polarities
        if not (mine.is_said and theirs.is_said):
            return wrong(why)
        facts = self.found.reference_facts
        is_first = not facts or any(
            self.reference.sentences[fact.start] <= self._first_sentence() for fact in facts
        )
        if is_first and self._has_one_sentence():
            return wrong(why)
        return unsure(why) if is_first else partly(why)

    def _has_one_sentence(self) -> bool:
        """Say whether all that a reference says stands with its yes or no."""
        first = self._first_sentence()
        return all(
            self.reference.sentences[word.position] <= first for word in self.reference.words
        )

    def _lit(self, marked: Marked) -> Marked:
        """Add where in the texts the facts are that decided."""
        return replace(
            marked,
            about=self._about(marked.about),
            in_reference=_places(self.reference, self.found.reference_facts, self.reference_text),
            in_answer=_places(self.answer, self.found.answer_facts, self.answer_text),
        )

    def _about(self, about: str) -> str:
        """Tell of a number whether it is a dose, a unit or a place."""
        if about != "number":
            return about
        mine, theirs = self.found.reference_facts[:1], self.found.answer_facts[:1]
        fact = next(iter([*mine, *self.wanted, *self.facts.missing]), None)
        if mine and theirs and mine[0].count == theirs[0].count and mine[0].unit != theirs[0].unit:
            return "unit"
        if fact is not None and fact.unit.partition("/")[0] in _DOSES:
            return "dose"
        return "place" if "where" in self.asked.ways else "number"

    def _evidence(self) -> tuple[str, str]:
        """Say what speaks for the answer: full, part, nothing, or open; and why."""
        facts = self.facts
        wanted_missing = [fact for fact in self.wanted if fact in facts.missing]
        nearly = [fact for fact, _ in [*facts.nearly, *facts.part] if fact in self.wanted]
        if self.wanted and not wanted_missing and not nearly:
            return self._fact_evidence()
        if self.asked.is_yes_no and self._says_same:
            return self._yes_no_evidence()
        if self.wanted and (len(wanted_missing) < len(self.wanted) or self.facts.part):
            if self.novel and all(fact.kind == Kind.PART for fact in wanted_missing):
                return "open", "the part of the day may be missing"
            return "part", "a part of what was asked for is there"
        if self.wanted and len(wanted_missing) == len(self.wanted):
            name = NAMES[wanted_missing[0].family]
            is_told_otherwise = wanted_missing[0].kind == Kind.PART and self.novel
            return "open" if is_told_otherwise else "nothing", f"{name} is missing"
        return self._word_evidence()

    def _fact_evidence(self) -> tuple[str, str]:
        why = "the facts that were asked for are the same"
        if self._counts_another_thing():
            return "open", "the figure is the same, but of another thing"
        if self.asked.is_double and self.recall < _ENOUGH_WORDS:
            return "open" if self.novel else "part", "a part of what was asked for is missing"
        if self.asked.is_strict:
            if len(self.novel) > max(3, len(self.answer.words) * 0.6):
                return "open", "the facts are the same among many other words"
            return "full", why
        is_named = any(fact.kind in (Kind.CODE, Kind.NUMBER) for fact in self.wanted)
        if self.recall >= 1 or (is_named and not self.novel) or self._covers_first_sentence():
            return "full", why
        if not self.novel:
            return ("full", why) if self.recall >= _ENOUGH_WORDS else (
                "part", "a part of the answer is missing"
            )  # fmt: skip
        return "open", "the facts are the same, the words are not"

    def _counts_another_thing(self) -> bool:
        """Say whether what follows a figure is neither in the reference nor in the question."""
        values = {id(other) for fact, other in self.facts.same if fact in self.wanted}
        for fact in self.answer.facts:
            if fact.kind not in (Kind.AMOUNT, Kind.NUMBER) or id(fact) not in values:
                continue
            behind_it = self.answer.tokens[fact.end : fact.end + 1]
            if fact.unit in _MEASURED and not (
                behind_it and (behind_it[0].text in _OF or behind_it[0].raw[0].isupper())
            ):
                continue  # "2000 Gramm wiegen"
            behind = [
                word for word in self.answer.words
                if 0 <= word.position - fact.end <= 2
                and self.answer.clauses[fact.start] == word.clause
            ]  # fmt: skip
            if behind and behind[0].stem in self.novel:
                return True
        return False

    def _yes_no_evidence(self) -> tuple[str, str]:
        mine, theirs = self.polarities
        rest = [w for w in self.answer.words if w.position >= theirs.end]
        first = [fact for fact in self.reference.facts
                 if self.reference.sentences[fact.start] == self._first_sentence()]  # fmt: skip
        missing = [fact for fact in first if fact in self.facts.missing]
        if self.recall >= _ENOUGH_WORDS and not self._novelty_is_much() and not missing:
            return "full", "the same yes or no"
        if self.asked.is_double:
            is_bare = len(self.novel) <= 1
            return "part" if is_bare else "open", "a part of what was asked for is missing"
        has_condition = self._condition_words()
        given = self.answer.has("conditions") or (self.answer.has("restricting") and rest)
        if has_condition and not given and self.recall < _ENOUGH_WORDS:
            return "part", "a condition is missing"
        if missing:
            return "part", f"{NAMES[missing[0].family]} is missing"
        if not (mine.is_said and theirs.is_said) and self.recall < 0.5:
            return ("full", "the same yes or no") if (
                mine.is_said != theirs.is_said and self.asked.is_permission and not self.novel
            ) else ("open", "yes or no is not said plainly")  # fmt: skip
        if not rest or len(self.novel) <= 1:
            return "full", "the same yes or no"
        conditions = [r.has("conditions") for r in (self.reference, self.answer)]
        has_all_facts = self.reference.facts and not (self.facts.missing or self.facts.added)
        is_same = has_all_facts and not (self.facts.nearly or self.facts.part)
        if is_same and conditions[0] <= conditions[1] and mine.is_said and theirs.is_said:
            return "full", "the same yes or no, and the same facts"
        if self.recall >= 0.5 and len(self.novel) <= 3:
            return "full", "the same yes or no"
        if not self.key:
            return ("part", "something is added to yes or no") if len(self.novel) > 4 else (
                "full", "the same yes or no"
            )  # fmt: skip
        return "open", "the same yes or no, for reasons in other words"

    def _first_sentence(self) -> int:
        """Return which sentence the yes or no belongs to: "Yes. …" has it in the second one."""
        end = opening(self.reference)[1]
        sentences = self.reference.sentences
        if end < len(sentences) and self.reference.tokens[end].text in (",", ";", "-", ":"):
            return sentences[end]
        return sentences[0] if sentences else 0

    def _condition_words(self) -> bool:
        first = self._first_sentence()
        tokens = [t for t, s in zip(self.reference.tokens, self.reference.sentences, strict=True)
                  if s == first]  # fmt: skip
        return any(self.lang.phrases[name].all_in(tokens) for name in ("conditions", "restricting"))

    def _word_evidence(self) -> tuple[str, str]:
        reference_words = [w.stem for w in self.reference.words] + [
            str(fact.low) for fact in self.reference.facts
        ]
        recall, facts = self.recall, self.facts
        num = len(self.key) + len([f for f in self.reference.facts if f not in self.question.facts])
        hits = sum(self._has(stem) for stem in self.key) + len(facts.same)
        share = hits / num if num else recall
        alike = similarity(texts_of(self.reference), texts_of(self.answer))
        missing = {stem for stem in self.key if not self._has(stem)}
        if len(self.key - self.lang.harmless) >= 2:
            missing -= self.lang.harmless
        is_swapped = bool(missing) and bool(self.novel)
        why = "the same words in substance"
        if not missing and not facts.missing and not facts.nearly and not facts.part:
            if self._novelty_is_much():
                return "open", "the right words stand among many others"
            return "full", why
        if "who" in self.asked.ways and self._has_surname(missing):
            return "full", "the same name"
        is_alike = alike.mean >= _MIN_SIMILARITY
        if (
            share >= _ENOUGH_WORDS
            and num >= 7
            and not is_swapped
            and is_alike
            and not facts.missing
        ):
            return "full", why
        if not is_swapped and (share >= 0.3 or hits >= 3) and not self._novelty_is_much():
            if self._covers_first_sentence():
                return "full", "the sentence that answers is there"
            if facts.missing:
                return "part", f"{NAMES[facts.missing[0].family]} is missing"
            if share >= 0.4 and num >= 4 and not self._is_as_long():
                return "part", "a part of the answer is missing"
            return "open", "a part of the words is there"
        if not self.novel and hits == 0 and num >= 1 and not facts.added:
            return ("nothing", "it says nothing of the answer") if num >= 2 else (
                "open", "other words, and no fact to hold on to"
            )  # fmt: skip
        # Without a figure or a name that it would have, another wording may say the same.
        has_hold = bool(self.reference.facts) or any(w.is_name for w in self.reference.words)
        is_else = (hits == 0 and num >= 5 and len(reference_words) >= 6) or (
            share < 0.15 and num >= 8 and alike.mean < 0.35
        )
        if (
            is_else
            and has_hold
            and "why" not in self.asked.ways
            and not facts.same
            and not facts.nearly
        ):
            return "nothing", "it is about something else"
        if facts.missing and not facts.same and not facts.nearly and len(self.key) <= 1:
            return "nothing", f"{NAMES[facts.missing[0].family]} is missing"
        return "open", "other words, and no fact to hold on to"

    def _has_surname(self, missing: set[str]) -> bool:
        """Say whether of a name only what stands before the last one is missing."""
        words = [word for word in self.reference.words if word.stem in self.key]
        if not words or len(words) > 5 or self.novel or not self._has(words[-1].stem):
            return False
        return all(word.raw[0].isupper() for word in words) and words[-1].stem not in missing

    def _covers_first_sentence(self) -> bool:
        """Say whether the first sentence of a longer reference is all there."""
        reference = self.reference
        if not reference.sentences or len(set(reference.sentences)) < 2 or self.asked.is_order:
            return False
        if not self.asked.ways & {"where", "who", "when", "much", "long", "often"}:
            return False
        first = reference.sentences[0]
        stems = {w.stem for w in reference.words if reference.sentences[w.position] == first}
        key = stems - self.question.stems - self.lang.harmless
        facts = [f for f in reference.facts if reference.sentences[f.start] == first]
        return len(key) >= 2 and all(map(self._has, key)) and not any(
            fact in self.facts.missing for fact in facts
        )  # fmt: skip

    def _mark_list(self) -> Marked | None:  # noqa: PLR0912
        is_list, is_order = self.asked.is_list, self.asked.is_order
        if self.asked.is_yes_no or self.wanted:
            return None
        mine = lists.items_in(self.reference_text, self.lang, asks_list=is_list,
                              asks_order=is_order, question=self.question)  # fmt: skip
        if mine is None or len(mine.items) < 2:
            return None
        theirs = lists.items_in(self.answer_text, self.lang, asks_list=True, asks_order=is_order)
        given = theirs.items if theirs else (self.answer_text,)
        pairs = lists.compare(mine.items, given, self.question, self.lang)
        is_sequence = "how" in self.asked.ways and self.reference.has("sequence")
        is_ordered = is_order or mine.is_numbered or is_sequence
        found = self.found
        if pairs.num_same == 0 or (theirs is None and pairs.missing and self.novel):
            return None
        hard = [why for why in found.contradictions if why not in _ORDER_WORDS]
        if hard:
            return wrong(hard[0])
        if is_ordered and not pairs.is_in_order and len(given) > 1:
            return wrong(
                "the steps are in another order" if is_order else "the items are in another order"
            )
        if not is_list and found.contradictions:
            return wrong(found.contradictions[0])
        if found.doubts and not (pairs.missing or pairs.added):
            return unsure(found.doubts[0])
        total = len(mine.items)
        if pairs.missing:
            word = "a step" if is_order else "an item"
            if self.novel and pairs.added and pairs.num_same * 2 < total:
                return unsure("most of the list is in other words")
            tells_whom = "who" in self.asked.ways and not self.asked.is_double
            is_first = tells_whom and mine.items[0] not in pairs.missing
            is_told = self.novel and self._is_as_long() and _are_clauses(mine.items)
            if pairs.doubtful or self.is_reworded or is_first or is_told:
                return unsure(f"{word} may be missing: {pairs.missing[0][:60]}")
            if pairs.added and len(given) == total == 2:
                return unsure(f"{word} may be another one: {pairs.missing[0][:60]}")
            if pairs.num_same * 3 < total:
                return unsure("most of the list is missing")
            return partly(f"{word} is missing: {pairs.missing[0][:60]}")
        if pairs.added:
            return partly(f"something is added: {pairs.added[0][:60]}")
        if self._novelty_is_much():
            return unsure("the right words stand among many others")
        if found.parts:
            return partly(found.parts[0])
        return right("the same items")


def _are_clauses(items: Sequence[str]) -> bool:
    return sum(len(item.split()) for item in items) > _WORDS_OF_ITEM * len(items)


def _places(reading: Reading, facts: Sequence[Fact], text: str) -> tuple[tuple[int, int], ...]:
    """Return where facts stand in the text as it was given."""
    places = []
    for fact in facts:
        start, end = reading.tokens[fact.start].start, reading.tokens[fact.end - 1].end
        # What was made plain may have moved: then there is nothing to point at.
        if text[start:end].casefold() == fact.text.casefold():
            places.append((start, end))
    return tuple(places)
