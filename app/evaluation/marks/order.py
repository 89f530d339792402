"""The same words in another order: doses, steps and roles that were exchanged."""

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise

from app.evaluation.marks.facts.fact import Fact, Kind
from app.evaluation.marks.polarity import sides_of
from app.evaluation.marks.reading import Reading


class Order(StrEnum):
    SAME = "same"
    SWAPPED = "swapped"
    DOUBTFUL = "doubtful"


Item = tuple[str, str, int, int]  # family, key, position, clause
_MAX_ITEMS = 60
_HOLD_ARTICLES = frozenset(
    [
        "al",
        "a",
        "à",
        "au",
        "aux",
        "du",
        "de",
        "del",
        "zum",
        "zur",
        "im",
        "ins",
        "am",
        "ans",
        "vom",
        "beim",
    ]
)


def order_of(reference: Reading, answer: Reading) -> Order:
    """Say whether an answer puts the same things together as its reference."""
    first, second = items_of(reference), items_of(answer)
    if _is_binding_swapped(first, second):
        return Order.SWAPPED
    turned = connector_turned(reference, answer)
    if turned is not None:
        return Order.SWAPPED if turned else Order.SAME
    return _roles(reference, answer, first, second)


def items_of(reading: Reading) -> list[Item]:
    """Return facts and words of meaning in their order."""
    items = [
        (group_of(fact), key_of(fact), fact.start, reading.clauses[fact.start])
        for fact in reading.facts
    ]
    items += [("word", word.stem, word.position, word.clause) for word in reading.words]
    return sorted(items, key=lambda item: item[2])[:_MAX_ITEMS]


def group_of(fact: Fact) -> str:
    """Return with what a fact could be exchanged: euros with euros."""
    return f"{fact.family} {fact.unit}" if fact.family == "amount" else fact.family


def key_of(fact: Fact) -> str:
    """Return a fact's value as text."""
    if fact.kind == Kind.DAY:
        return f"day {sorted(fact.days)}"
    if fact.kind == Kind.DATE:
        return f"date {fact.date}"
    return f"{fact.family} {fact.low} {fact.high} {fact.unit}"


def _is_binding_swapped(first: Sequence[Item], second: Sequence[Item]) -> bool:
    """Say whether a fact stands by what belongs to another: 10 mg in the morning, 5 mg at night."""
    common = {item[1] for item in first} & {item[1] for item in second}
    families = Counter(item[0] for item in first if item[1] in common and item[0] != "word")
    for family, count in families.items():
        if count < 2:
            continue
        before, after = partners_of(first, common, family), partners_of(second, common, family)
        for fact, partners in after.items():
            own = before.get(fact)
            if own is None or not partners or partners & own:
                continue
            if any(partners & others for other, others in before.items() if other != fact):
                return True
    return False


def partners_of(items: Sequence[Item], common: set[str], family: str) -> dict[str, set[str]]:
    """Return of each fact of a family what stands with it: in its clause, or else beside it."""
    own = [item for item in items if item[0] == family and item[1] in common]
    others = [item for item in items if item[0] != family and item[1] in common]
    shared = Counter(item[1] for item in others)
    others = [item for item in others if shared[item[1]] == 1]
    result: dict[str, set[str]] = {}
    per_clause = Counter(item[3] for item in own)
    for fact in own:
        near = [item for item in others if item[3] == fact[3]]
        if per_clause[fact[3]] > 1 or not near:
            place = own.index(fact)
            low = own[place - 1][2] if place else -1
            high = own[place + 1][2] if place + 1 < len(own) else 10**9
            between = [item for item in others if low < item[2] < high]
            behind = [item for item in between if item[2] > fact[2]]
            ahead = [item for item in between if item[2] < fact[2]]
            near = behind[:1] if behind else ahead[-1:]
        result.setdefault(fact[1], set()).update(item[1] for item in near)
    return result


def connector_turned(reference: Reading, answer: Reading) -> bool | None:
    """Say whether what stands behind "before" and what stands with it changed places.

    None: there is no such word, or its two sides cannot be told apart.
    """
    first, second = _argument(reference), _argument(answer)
    if first is None or second is None:
        return None
    (word, own, rest), (other_word, other_own, other_rest) = first, second
    if word != other_word and not _are_opposite(reference, word, other_word):
        return None
    if not own or not other_own or own == other_own:
        return None
    is_exchanged = own in other_rest and other_own in rest
    if not is_exchanged:
        return None
    lines, other_lines = sides_of(reference), sides_of(answer)
    num_turned = sum(
        1 for line in lines.keys() & other_lines.keys() if lines[line].isdisjoint(other_lines[line])
    )
    # "The doctor after the nurse" is "the nurse before the doctor".
    return num_turned % 2 == 0


def _are_opposite(reading: Reading, word: str, other: str) -> bool:
    """Say whether two words are before and after, which every language lists first."""
    assert reading.language is not None
    lines = [reading.language.opposites.get(text) or () for text in (word, other)]
    return all(any(line == 0 for line, _ in groups) for groups in lines)


def _argument(reading: Reading) -> tuple[str, str, set[str]] | None:
    language = reading.language
    if language is None:
        return None
    items = items_of(reading)
    for _, start, end in language.phrases["connectors"].all_in(reading.tokens):
        if reading.in_fact(start):
            continue
        behind = [item for item in items if item[2] >= end and item[3] == reading.clauses[start]]
        if not behind:
            continue
        own = behind[0][1]
        rest = {item[1] for item in items if item[1] != own}
        return reading.tokens[start].text, own, rest
    return None


def _roles(
    reference: Reading, answer: Reading, first: Sequence[Item], second: Sequence[Item]
) -> Order:
    """Compare who does something to whom."""
    common = {item[1] for item in first} & {item[1] for item in second}
    counts, other_counts = Counter(i[1] for i in first), Counter(i[1] for i in second)
    single = {key for key in common if counts[key] == other_counts[key] == 1}
    mine = [item for item in first if item[1] in single]
    theirs = [item for item in second if item[1] in single]
    if [item[1] for item in mine] == [item[1] for item in theirs]:
        return Order.SAME
    roles = _role_keys(reference) & single
    own = [item for item in mine if item[1] in roles]
    their = [item for item in theirs if item[1] in roles]
    if [item[1] for item in own] != [item[1] for item in their]:
        if _is_reversed(own, their):
            is_same_build = _small_words(reference) == _small_words(answer)
            return Order.SWAPPED if is_same_build else Order.DOUBTFUL
        if _are_partners_swapped(mine, theirs, roles):
            is_same_build = _small_words(reference) == _small_words(answer)
            return Order.SWAPPED if is_same_build else Order.DOUBTFUL
    pivot = _is_turned_round(mine, theirs)
    if pivot and counts == other_counts:
        is_strict = reference.language is not None and reference.language.code in ("en", "fr", "es")
        is_strict = is_strict and _small_words(reference) == _small_words(answer)
        return Order.SWAPPED if is_strict else Order.DOUBTFUL
    moved = _moved_fact(first, second)
    if moved is not None:
        return moved
    is_permutation = counts == other_counts and len(first) >= 3
    if is_permutation and not _is_clause_permutation(mine, theirs):
        return Order.DOUBTFUL
    return Order.SAME


def _is_reversed(mine: Sequence[Item], theirs: Sequence[Item]) -> bool:
    """Say whether two things of one clause stand the other way round in another one."""
    place = {item[1]: (number, item[3]) for number, item in enumerate(theirs)}
    return any(
        one[3] == two[3]
        and place[one[1]][1] == place[two[1]][1]
        and place[one[1]][0] > place[two[1]][0]
        for number, one in enumerate(mine)
        for two in mine[number + 1 :]
    )


def _is_turned_round(mine: Sequence[Item], theirs: Sequence[Item]) -> bool:
    """Say whether two things changed places around a third: A pays B, B pays A."""
    if len(mine) > 24:
        return False
    place = {item[1]: number for number, item in enumerate(theirs)}
    clause = {item[1]: item[3] for item in theirs}
    for number, first in enumerate(mine):
        for last in mine[number + 2 :]:
            if first[3] != last[3] or clause[first[1]] != clause[last[1]]:
                continue
            for middle in mine[number + 1 : mine.index(last)]:
                if place[last[1]] < place[middle[1]] < place[first[1]]:
                    return True
    return False


def _are_partners_swapped(mine: Sequence[Item], theirs: Sequence[Item], roles: set[str]) -> bool:
    def partners(items: Sequence[Item]) -> dict[str, set[str]]:
        return {
            item[1]: {o[1] for o in items if o[3] == item[3] and o[1] != item[1]}
            for item in items
            if item[1] in roles
        }

    before, after = partners(mine), partners(theirs)
    for role, near in after.items():
        own = before.get(role)
        others = set().union(*(them for other, them in before.items() if other != role))
        if near and own and not near & own and near & others:
            return True
    return False


def _role_keys(reading: Reading) -> set[str]:
    """Return the words for people and places that another of their kind could stand for."""
    language = reading.language
    if language is None:
        return set()
    keys = {word.stem for word in reading.words if word.is_name}
    for word in reading.words:
        lines = language.opposites.get(reading.tokens[word.position].text)
        if lines and any(line >= language.num_opposites for line, _ in lines):
            keys.add(word.stem)
        if word.stem.startswith("="):
            keys.add(word.stem)
    return keys


def _small_words(reading: Reading) -> Counter[str]:
    """Return the words without meaning of their own, but for articles and what holds one."""
    articles = reading.language.articles if reading.language else frozenset()
    return Counter(
        token.text
        for token in reading.tokens
        if token.kind == "word" and reading.language and token.text in reading.language.stop
        and token.text not in articles | _HOLD_ARTICLES
    )  # fmt: skip


def _moved_fact(first: Sequence[Item], second: Sequence[Item]) -> Order | None:
    """Say whether a fact stands with other words than in the reference."""
    common = {item[1] for item in first} & {item[1] for item in second}
    for item in first:
        if item[0] == "word" or item[1] not in common:
            continue
        other = next(one for one in second if one[1] == item[1])
        mine = {o[1] for o in first if o[3] == item[3] and o[0] == "word" and o[1] in common}
        theirs = {o[1] for o in second if o[3] == other[3] and o[0] == "word" and o[1] in common}
        if mine and theirs and not mine & theirs:
            return Order.SWAPPED if len(mine) > 1 and len(theirs) > 1 else Order.DOUBTFUL
    return None


def _is_clause_permutation(mine: Sequence[Item], theirs: Sequence[Item]) -> bool:
    """Say whether whole clauses changed places, and nothing within them."""
    pairs = {frozenset((one[1], two[1])) for one, two in pairwise(mine) if one[3] == two[3]}
    others = {frozenset((one[1], two[1])) for one, two in pairwise(theirs)}
    return pairs <= others
