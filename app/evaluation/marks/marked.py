"""What the rules say of an answer."""

from dataclasses import dataclass

from app.core.models import Mark

# What a reason is about, as app/evaluation/words.ERRORS names it, by how the reason begins.
_ABOUT = (
    ("says yes where", "yes_no"), ("says no where", "yes_no"),
    ("it says both yes and no", "yes_no"),
    ("yes or no", "yes_no"), ("yes and no", "yes_no"),
    ("says ", "negation"), ("it says “not”", "negation"), ("a “not”", "negation"),
    ("one of the two says “not”", "negation"), ("what must and what may", "negation"),
    ("it says the opposite", "opposite"), ("it may say the opposite", "opposite"),
    ("it names another one of its kind", "opposite"),
    ("a different name", "name"), ("a different letter", "name"), ("a name", "name"),
    ("the name", "name"),
    ("the same words are put together", "order"), ("the same words stand in another", "order"),
    ("the steps are in another", "order"), ("the items are in another", "order"),
    ("two parts", "order"), ("two numbers", "order"),
    ("an item", "list"), ("most of the list", "list"), ("a step", "missing"),
    ("a part of", "missing"), ("a condition is missing", "missing"),
    ("the result is missing", "number"),
    ("the result differs", "number"), ("which number is the result", "number"),
    ("something is added", "added"), ("a condition is added", "added"),
    ("a fact is added", "added"),
    ("several answers", "added"), ("much more is said than the choice", "choice"),
    ("the choice differs", "choice"), ("a different choice", "choice"),
    ("several choices", "choice"),
    ("no choice", "choice"), ("the other one of the two", "choice"),
    ("the letter and the text of the choice", "choice"),
    ("the time", "time"), ("the part of the day", "time"), ("the length of time", "time"),
    ("the day", "date"), ("the date", "date"), ("how often", "dose"), ("the amount", "number"),
    ("the number", "number"), ("the telephone number", "number"),
    ("it belongs to something else", "number"),
    ("the figure is the same", "number"),
    ("it is not valid JSON", "json"), ("there are words around the JSON", "json"),
    ("the field", "json"), ("the value", "json"), ("no tool", "call"), ("a tool", "call"),
    ("the tool", "call"), ("the call", "call"), ("its values", "call"),
    ("the answer was cut off", "missing"), ("the answer is cut off", "missing"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Marked:
    """A mark with its reason, and where in the texts to look: (start, end) in letters.

    `about` names what is wrong, missing or to be checked, for counts: "time", "dose", "yes_no";
    empty where the reason is none of those.
    """

    mark: Mark
    why: str
    in_reference: tuple[tuple[int, int], ...] = ()
    in_answer: tuple[tuple[int, int], ...] = ()
    about: str = ""


def right(why: str) -> Marked:
    return Marked(Mark.RIGHT, why)


def partly(why: str, about: str = "") -> Marked:
    return Marked(Mark.PARTLY, why, about=about or _about(why))


def wrong(why: str, about: str = "") -> Marked:
    return Marked(Mark.WRONG, why, about=about or _about(why))


def unsure(why: str, about: str = "") -> Marked:
    return Marked(Mark.UNSURE, why, about=about or _about(why))


def _about(why: str) -> str:
    return next((about for start, about in _ABOUT if why.startswith(start)), "")
