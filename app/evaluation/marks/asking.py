"""What a question asks for: it decides which facts of an answer matter."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.evaluation.marks.facts.fact import Fact, Kind
from app.evaluation.marks.reading import Reading

# Of each way to ask, the kinds of facts that answer it: the first kinds that a reference has count.
_WANTED: dict[str, tuple[frozenset[Kind], ...]] = {
    "long": (frozenset({Kind.DURATION}), frozenset({Kind.TIME, Kind.DAY, Kind.DATE})),
    "often": (
        frozenset({Kind.RATE}),
        frozenset({Kind.AMOUNT, Kind.DURATION, Kind.DAY, Kind.NUMBER}),
    ),
    "much": (frozenset({Kind.AMOUNT, Kind.NUMBER}), frozenset({Kind.DURATION, Kind.RATE})),
    "when": (
        frozenset({Kind.TIME, Kind.DAY, Kind.DATE, Kind.PART}),
        frozenset({Kind.DURATION, Kind.NUMBER, Kind.RATE}),
    ),
    "phone": (frozenset({Kind.PHONE}), frozenset({Kind.NUMBER, Kind.CODE})),
    "where": (frozenset({Kind.CODE, Kind.ORDINAL, Kind.NUMBER}),),
}
_RELATIVE = frozenset(["que", "qui", "was", "wat", "what", "wie", "who", "quien"])
_DOERS = frozenset(
    [
        "i",
        "we",
        "you",
        "one",
        "ich",
        "man",
        "wir",
        "je",
        "on",
        "nous",
        "faut",
        "ik",
        "men",
        "we",
        "se",
        "puedo",
        "debo",
        "hago",
    ]
)
_ASKERS = frozenset(
    [
        "what", "which", "whom", "who", "when", "where", "how", "why", "was", "welche", "welcher",
        "welches", "wem", "wen", "wer", "wann", "wo", "wie", "warum", "qui", "quel", "quelle",
        "quand", "où", "combien", "comment", "pourquoi", "qué", "quién", "cuándo", "dónde", "cuál",
        "cuánto", "cuántos", "cuántas", "cómo", "wat", "welke", "welk", "wanneer", "waar", "hoe",
        "waarom",
    ]
)  # fmt: skip
_INFINITIVES = {"fr": ("er", "ir", "re", "oir"), "es": ("ar", "er", "ir")}
_OPENERS = frozenset(["est", "ce", "que", "n", "y", "a", "il", "t"])


@dataclass(frozen=True)
class Asked:
    """What a question asks for."""

    ways: frozenset[str]
    is_yes_no: bool
    is_permission: bool
    is_duty: bool  # "Must I?", "Is it obligatory?"
    is_double: bool  # "When, and where?"
    is_list: bool
    is_order: bool
    has_or: bool

    def wanted(self, facts: Sequence[Fact], clauses: Sequence[int]) -> list[Fact]:
        """Return those facts of a reference that the question asks for."""
        found: list[Fact] = []
        for way, choices in _WANTED.items():
            if way not in self.ways or (way == "phone" and found):
                continue
            for kinds in choices:
                own = [fact for fact in facts if fact.kind in kinds]
                if own:
                    found += [fact for fact in own if fact not in found]
                    break
        if "much" in self.ways:  # a dose is no dose without how often
            near = {clauses[fact.start] for fact in found}
            found += [
                fact for fact in facts
                if fact.kind in (Kind.RATE, Kind.PART) and clauses[fact.start] in near
                and fact not in found
            ]  # fmt: skip
        return found

    @property
    def is_strict(self) -> bool:
        """Say whether the facts alone are a whole answer."""
        return bool(self.ways & {"long", "often", "much", "when", "phone"})


def asked(question: Reading, reference_opens: bool) -> Asked:
    """Tell what a question asks for."""
    language = question.language
    if language is None:
        return Asked(frozenset(), False, False, False, False, False, False, False)
    tokens = question.tokens
    ways = {
        way
        for way in ("when", "long", "often", "much", "who", "where", "phone", "how", "why")
        if _asks(question, way)
    }
    if ways & {"long", "often", "much"}:
        ways.discard("how")
    if ways & {"long", "often"}:
        ways.discard("much")
    # Of several sentences the last one with a question mark asks.
    marks = [place for place, token in enumerate(tokens) if token.text == "?"]
    start = 0
    if marks:
        last = question.sentences[marks[-1]]
        start = next(place for place, number in enumerate(question.sentences) if number == last)
    while start < len(tokens) and (tokens[start].kind == "sign" or tokens[start].text in _OPENERS):
        start += 1
    head = range(start, min(len(tokens), start + 3))
    opens = any(
        language.phrases[f"ask.{name}"].at(tokens, place)
        for place in head
        for name in ("when", "long", "often", "much", "who", "where", "how", "why", "list")
        if tokens[place].text not in ("que", "qui") or place == start
    )
    opens = opens or any(
        language.phrases["ask.list"].at(tokens, place) and tokens[place].text not in _RELATIVE
        for place in range(len(tokens))
    )
    is_question = any(token.text == "?" for token in tokens)
    has_or = question.has("or")
    # "Can you tell me when …" asks for a time.
    is_yes_no = reference_opens or (is_question and not opens and not has_or and not (
        ways - {"phone", "how", "why", "where", "much"}
    ))  # fmt: skip
    is_permission = is_yes_no and any(
        language.phrases["allowing"].at(tokens, place) for place in range(min(len(tokens), 6))
    )
    return Asked(
        frozenset() if is_yes_no else frozenset(ways),
        is_yes_no,
        is_permission,
        is_yes_no and any(question.has(name) for name in ("must", "need")),
        _is_double(question),
        not is_yes_no and question.has("ask.list"),
        not is_yes_no
        and not ways & {"when", "where", "who", "much"}
        and (question.has("ask.order") or _asks_for_doing(question)),
        has_or,
    )


def _is_double(question: Reading) -> bool:
    """Say whether "and" or a comma brings a second word that asks: "When, and where?"."""
    language = question.language
    assert language is not None
    tokens = question.tokens
    return any(
        language.phrases["and"].at(tokens, place)
        and any(token.text in _ASKERS for token in tokens[place + 1 : place + 3])
        for place in range(2, len(tokens))
    )


def _asks_for_doing(question: Reading) -> bool:
    """Say whether a question is how somebody does something."""
    assert question.language is not None
    texts = [token.text for token in question.tokens]
    for _, _, end in question.language.phrases["ask.how"].all_in(question.tokens):
        if _DOERS & set(texts[end : end + 3]):
            return True
        infinitives = _INFINITIVES.get(question.language.code)
        if infinitives and any(text.endswith(infinitives) for text in texts[end : end + 1]):
            return True
    return False


def _asks(question: Reading, way: str) -> bool:
    return question.has(f"ask.{way}")
