"""Answers that hold all the right words, each in the place of another one."""

from collections import Counter
from collections.abc import Sequence

from app.evaluation.marks.asking import Asked
from app.evaluation.marks.facts.fact import Fact, Kind
from app.evaluation.marks.order import Item, Order, group_of, items_of, key_of, partners_of
from app.evaluation.marks.polarity import clauses_of
from app.evaluation.marks.reading import Reading

_HOURS = (Kind.PART, Kind.TIME)
_COPY = 0.8
_MAX_PART = 4  # words
_MAX_APART = 3  # tokens between the two numbers of "33 of the 60"


def halves_order(reference: Reading, answer: Reading) -> Order:
    """Say whether two sentences exchanged their second halves.

    "Blinking: an update. Red: no connection." is not "Blinking: no connection. Red: an update."
    """
    mine, theirs = _sections(reference), _sections(answer)
    if len(set(mine.values())) < 2 or len(set(theirs.values())) < 2:
        return Order.SAME
    common = mine.keys() & theirs.keys()
    moves = {(mine[key], theirs[key]) for key in common}
    for one, here in moves:
        for two, there in moves:
            if one != two and here != there and {(one, there), (two, here)} <= moves:
                is_copy = len(common) >= _COPY * max(len(mine), len(theirs))
                return Order.SWAPPED if is_copy else Order.DOUBTFUL
    return Order.SAME


def are_parts_exchanged(reference: Reading, answer: Reading) -> bool:
    """Say whether two parts of different clauses changed places, and nothing else did.

    "Anna takes the money, Ben gives the keys" is not "Ben takes the money, Anna gives the keys".
    """
    first, second = items_of(reference), items_of(answer)
    mine, theirs = [item[1] for item in first], [item[1] for item in second]
    if len(mine) != len(theirs) or mine == theirs:
        return False
    while mine and mine[0] == theirs[0]:
        mine, theirs, first = mine[1:], theirs[1:], first[1:]
    while mine and mine[-1] == theirs[-1]:
        mine, theirs, first = mine[:-1], theirs[:-1], first[:-1]
    size = len(mine)
    return any(
        mine[:one] == theirs[size - one :]
        and mine[size - two :] == theirs[:two]
        and mine[one : size - two] == theirs[two : size - one]
        and first[0][3] != first[-1][3]
        and _are_parts(reference, first, one, two)
        for one in range(1, _MAX_PART + 1)
        for two in range(1, _MAX_PART + 1)
        if one + two <= size
    )


def _are_parts(reading: Reading, items: Sequence[Item], one: int, two: int) -> bool:
    whole = [_is_clause(reading, part) for part in (items[:one], items[len(items) - two :])]
    return not all(whole) if one + two < len(items) else not any(whole)


def _is_clause(reading: Reading, part: Sequence[Item]) -> bool:
    """Say whether some words are all there is to their clause: an item of a list."""
    clauses = {item[3] for item in part}
    return len([item for item in items_of(reading) if item[3] in clauses]) == len(part)


def is_sequence_turned(reference: Reading, answer: Reading) -> bool:
    """Say whether "first A, then B" became "first B, then A"."""
    mine, theirs = _by_sequence_word(reference), _by_sequence_word(answer)
    if [word for word, _ in mine] != [word for word, _ in theirs]:
        return False
    common = reference.stems & answer.stems
    return any(
        one & common and two & common and (one & common).isdisjoint(two)
        for (_, one), (_, two) in zip(mine, theirs, strict=True)
    )


def _by_sequence_word(reading: Reading) -> list[tuple[str, set[str]]]:
    """Return each "first" and "then" with the words of its clause behind it.

    "Before" and "after" are none of them: they may stand on either side.
    """
    language = reading.language
    if language is None:
        return []
    result = []
    for _, start, end in language.phrases["sequence"].all_in(reading.tokens):
        text = reading.tokens[start].text
        if any(line == 0 for line, _ in language.opposites.get(text) or ()):
            continue
        clause = reading.clauses[start]
        words = {w.stem for w in reading.words if w.position >= end and w.clause == clause}
        result.append((text, words))
    return result


def _sections(reading: Reading) -> dict[str, int]:
    """Return in which sentence each word stands that is there once; ";" ends one, too."""
    section, sections = 0, []
    for token in reading.tokens:
        sections.append(section)
        section += token.kind == "sign" and token.text in ".;!?\n"
    items = items_of(reading)
    counts = Counter(item[1] for item in items)
    return {item[1]: sections[item[2]] for item in items if counts[item[1]] == 1}


def is_pair_turned(reference: Reading, answer: Reading) -> bool:
    """Say whether two numbers that stand together changed places: "33 of 60", "60 of 33"."""
    mine, theirs = _pairs(reference), _pairs(answer)
    return any(pair[::-1] in theirs and pair not in theirs for pair in mine if pair[0] != pair[1])


def is_at_another_time(reference: Reading, answer: Reading) -> bool:
    """Say whether an amount stands with another part of the day: of "two at eight, one at noon"."""
    mine, theirs = _parts_by_amount(reference), _parts_by_amount(answer)
    parts = {key_of(fact) for fact in reference.facts if fact.kind in _HOURS}
    return any(
        mine[key].isdisjoint(theirs[key]) and theirs[key] <= parts
        for key in mine.keys() & theirs.keys()
    )


def _parts_by_amount(reading: Reading) -> dict[str, set[str]]:
    """Return the part of the day of each amount, also where a clause tells one alone."""
    parts: dict[int, set[str]] = {}
    for fact in reading.facts:
        if fact.kind in _HOURS:
            parts.setdefault(reading.clauses[fact.start], set()).add(key_of(fact))
    amounts = [fact for fact in reading.facts if fact.family == "amount"]
    counts = Counter(map(key_of, amounts))
    found = {
        key_of(fact): parts.get(reading.clauses[fact.start], set())
        for fact in amounts if counts[key_of(fact)] == 1
    }  # fmt: skip
    return {key: own for key, own in found.items() if len(own) == 1}


def _pairs(reading: Reading) -> set[tuple[str, str]]:
    result = set()
    language = reading.language
    small = language.stop | language.articles if language else frozenset()
    for one, two in zip(reading.facts, reading.facts[1:], strict=False):
        between = reading.tokens[one.end : two.start]
        if one.family == two.family and 0 < len(between) <= _MAX_APART and all(
            token.kind == "word" and token.text in small
            and not _joins(reading, token.text)
            for token in between
        ):  # fmt: skip
            result.add((key_of(one), key_of(two)))
    return result


def _joins(reading: Reading, text: str) -> bool:
    language = reading.language
    return language is not None and (
        text in language.phrases["and"] or text in language.phrases["or"]
    )


def singled_out(
    question: Reading, reference: Reading, wanted: Sequence[Fact]
) -> tuple[list[Fact], list[Fact]]:
    """Part the facts that were asked for into those the question means, and those of other things.

    "What is the evening dose?" means one of "5 mg in the morning and 10 mg in the evening".
    """
    groups = Counter(group_of(fact) for fact in wanted if fact.kind != Kind.PART)
    asked = {key_of(fact) for fact in question.facts}
    for group, count in groups.items():
        if count < 2:
            continue
        items = items_of(reference)
        near = partners_of(items, {item[1] for item in items}, group)
        own = {fact for fact, partners in near.items() if partners & asked}
        if not own or len(own) == len(near):
            continue
        beside = set().union(*(near[fact] for fact in own))
        other = [f for f in wanted if group_of(f) == group and key_of(f) not in own]
        return [
            fact for fact in wanted
            if fact not in other and (fact.kind != Kind.PART or key_of(fact) in beside)
        ], other  # fmt: skip
    return list(wanted), []


def alternatives_of(question: Reading) -> tuple[set[str], set[str]] | None:
    """Return the words before and behind the one "or" of a question, without what both have."""
    language = question.language
    if language is None:
        return None
    places = [
        (start, end) for _, start, end in language.phrases["or"].all_in(question.tokens)
        if question.tokens[start].text not in ("either", "entweder", "soit", "hetzij")
    ]  # fmt: skip
    if len(places) != 1:
        return None
    start, end = places[0]
    items = items_of(question)
    covered = {fact.end - 1 for fact in question.facts} | {word.position for word in question.words}
    if not {start - 1, start - 2} & covered:
        return None  # "before or after lunch"
    before = [item[1] for item in items if item[2] < start]
    behind = [item[1] for item in items if item[2] >= end]
    first, second = set(before[-2:]), set(behind[:2])
    return (first - second, second - first) if first - second and second - first else None


def chooses_other(question: Reading, reference: Reading, answer: Reading) -> bool | None:
    """Say whether an answer takes the other of two things that a question offers; None: unclear."""
    both = alternatives_of(question)
    if both is None:
        return None
    picks = []
    for reading in (reference, answer):
        said = reading.stems | {key_of(fact) for fact in reading.facts}
        named = [bool(said & words) for words in both]
        if named[0] == named[1] or any(clause.num_negations for clause in clauses_of(reading)):
            return None
        picks.append(named[0])
    return picks[0] != picks[1]


def takes_back(question: Reading, reference: Reading, answer: Reading, asked: Asked) -> bool | None:
    """Say whether a yes is taken back: "Yes, but it is not allowed"; None: it may be."""
    language = answer.language
    if language is None or not asked.is_yes_no:
        return False
    if any(clause.num_negations for clause in clauses_of(reference)):
        return False
    allowing = language.phrases["allowing"]
    known = question.stems | {
        language.stem(token.text) for token in answer.tokens if token.text in allowing
    }  # fmt: skip
    is_doubtful = False
    for clause in clauses_of(answer):
        if not clause.num_negations % 2:
            continue
        new = clause.stems - known - language.harmless
        if clause.stems & known and not new:
            return True
        is_doubtful = True
    return None if is_doubtful else False
