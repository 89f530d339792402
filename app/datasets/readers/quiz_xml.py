"""Quizzes in XML: Moodle's, and QTI 1.2, 2 and 3, as learning platforms hand them out."""

import html
import re
from collections import deque
from collections.abc import Callable, Iterator
from html.entities import html5
from typing import Any

from app.datasets.readers import fragments, quizzes
from app.datasets.readers.files import File
from app.datasets.readers.grids import Seen
from app.datasets.readers.quizzes import Question
from app.datasets.readers.unreadable import Unreadable
from app.datasets.readers.xml_stream import XmlStream

_MAX_QUESTION_CHARACTERS = 4 * 1024**2
_MAX_NODES = 20_000  # of a question
_NO_UNITS = "3"  # Moodle's word for questions whose units are not asked for
_PROLOG = re.compile(
    r"\s+|<\?[^>]{0,2000}\?>|<!--.{0,4000}?-->|<!DOCTYPE[^>\[]{0,1000}>", re.DOTALL
)
# A document type of the file's own names the outermost element, too.
_OWN_DOCTYPE = re.compile(r"<!DOCTYPE\s{1,20}([\w.-]{1,60})[^>\[]{0,1000}\[")
_ROOT = re.compile(r"<(?:[\w.-]+:)?([\w.-]+)([^>]{0,4000})")


def root_of(head: bytes) -> tuple[str, str]:
    """Return the name of XML's outermost element, in small letters, and its attributes."""
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = head.decode(encoding, errors="replace")
    end = 0
    while found := _PROLOG.match(text, end):
        end = found.end()
    if own := _OWN_DOCTYPE.match(text, end):
        return own[1].lower(), ""
    root = _ROOT.match(text, end)
    return (root[1].lower(), root[2]) if root else ("", "")


def is_quiz(head: bytes) -> bool:
    """Say whether XML is a quiz that can be read, by its outermost element."""
    name, attributes = root_of(head)
    # Canvas calls what it knows about a quiz by the same name as Moodle its questions.
    is_about_one = name == "quiz" and "xmlns" in attributes
    return not is_about_one and name in (
        "quiz",
        "questestinterop",
        "assessmentitem",
        "qti-assessment-item",
    )


class _Node:
    """An element with its parts; names and attributes as all versions of QTI would have them."""

    __slots__ = ("attributes", "name", "parts")

    def __init__(self, name: str, attributes: dict[str, str]) -> None:
        self.name = name
        self.attributes = attributes
        self.parts: list[_Node | str] = []

    def all(self, name: str) -> Iterator["_Node"]:
        """Yield the elements of a name within, however deep."""
        waiting = deque(part for part in self.parts if isinstance(part, _Node))
        while waiting:
            node = waiting.popleft()
            if node.name == name:
                yield node
            waiting.extendleft(part for part in reversed(node.parts) if isinstance(part, _Node))

    def first(self, name: str) -> "_Node | None":
        return next(self.all(name), None)

    def children(self, name: str) -> Iterator["_Node"]:
        return (part for part in self.parts if isinstance(part, _Node) and part.name == name)

    def text(self) -> str:
        """Return the text within, without tags."""
        return "".join(part if isinstance(part, str) else part.text() for part in self.parts)

    def markup(self, leave: frozenset[str]) -> str:
        """Return what is within as HTML, without the elements of these names."""
        pieces = []
        for part in self.parts:
            if isinstance(part, str):
                pieces.append(html.escape(part, quote=False))
            elif part.name not in leave:
                pieces.append(f"<{part.name}>{part.markup(leave)}</{part.name}>")
        return "".join(pieces)


def _plain_name(name: str) -> str:
    return name.lower().removeprefix("qti-").replace("-", "")


class _Reader(XmlStream):
    what = "quiz"
    program = "the learning platform"
    _QUESTIONS = frozenset(("question", "item", "assessmentitem"))
    _UNREAD = frozenset(("file", "matimage", "mataudio", "matvideo", "stylesheet"))

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self.seen = seen
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.SkippedEntityHandler = self._entity
        self.open: list[_Node] = []
        self.done: deque[_Node] = deque()
        self.num_nodes = self.size = self.number = self.unread = 0

    def _doctype(self, *said: Any) -> None:
        # The last thing that is said is whether the type is the file's own.
        # QTI 1.2 names its document type, which nobody fetches; one of the file's own is refused.
        if said[-1]:
            self._refuse()

    def _entity(self, name: str, is_parameter: bool) -> None:
        if not is_parameter:
            self.text(html5.get(f"{name};", ""))

    def start(self, name: str, attributes: dict[str, str]) -> None:
        plain = _plain_name(name)
        if self.unread or plain in self._UNREAD:
            if not self.unread and self.open and plain != "stylesheet":
                self.seen.add("picture", self.number)
            self.unread += 1
            return
        if not self.open and plain not in self._QUESTIONS:
            return
        if not self.open:
            self.number += 1
            self.num_nodes = self.size = 0
        self.num_nodes += 1
        node = _Node(plain, {_plain_name(key): value for key, value in attributes.items()})
        if self.open:
            self.open[-1].parts.append(node)
        self.open.append(node)
        if self.num_nodes > _MAX_NODES:
            self._too_long()

    def end(self, _: str) -> None:
        if self.unread:
            self.unread -= 1
        elif self.open:
            node = self.open.pop()
            if not self.open:
                self.done.append(node)

    def text(self, data: str) -> None:
        if self.open and not self.unread:
            self.size += len(data)
            if self.size > _MAX_QUESTION_CHARACTERS:
                self._too_long()
            self.open[-1].parts.append(data)

    def _too_long(self) -> None:
        raise Unreadable(
            f"Question {self.number:,} of this quiz is longer than 4 MB; shorten it or take it "
            "out, then upload the file again."
        )


def xml_questions(file: File, seen: Seen) -> Iterator[Question]:
    """Yield the questions, numbered from 1.

    Raises:
        Unreadable: the XML is damaged, has a document type of its own, or a question is too long.
    """
    reader = _Reader(seen)
    number, section = 0, ""
    with file.open() as stream:
        for _ in reader.feed(stream):
            while reader.done:
                node = reader.done.popleft()
                number += 1
                if node.name == "question" and node.attributes.get("type") == "category":
                    category = node.first("category")
                    section = category.text().strip() if category else ""
                    section = section.removeprefix("$course$/")
                    continue
                question = _KINDS[node.name](node, number, seen)
                question.section = section
                yield question


# --- Moodle ----------------------------------------------------------------------------------


def _moodle(node: _Node, number: int, seen: Seen) -> Question:
    kind = node.attributes.get("type", "")
    stem = next(node.children("questiontext"), None)
    question = Question(number, _moodle_text(stem, seen, number))
    shares = [
        (_moodle_text(answer, seen, number), _share(answer.attributes.get("fraction", "")))
        for answer in list(node.children("answer"))[: quizzes.MAX_OPTIONS]
    ]
    match kind:
        case "multichoice":
            single = next(node.children("single"), None)
            shuffles = next(node.children("shuffleanswers"), None)
            question.options = [text for text, _ in shares]
            is_several = single is not None and single.text().strip() in ("false", "0")
            question.right = quizzes.right_of(shares, is_several=is_several)
            question.is_shuffled = shuffles is None or shuffles.text().strip() not in ("false", "0")
            if not is_several and len(question.right) > 1:
                _take_first(question, seen)
        case "truefalse":
            question.options = ["True", "False"]
            question.is_shuffled = False
            right = [text for text, share in shares if share > 99.9]
            question.right = [text[:1].upper() + text[1:] for text in right]
        case "shortanswer" | "numerical":
            # A star stands for any text: it answers whatever was asked.
            question.right = [t for t, share in shares if share > 99.9 and "*" not in t]
            if len(question.right) > 1:
                _take_first(question, seen)
            if kind == "numerical":
                question.right = [_with_unit(node, each, seen, number) for each in question.right]
        case "matching":
            pairs = []
            for part in node.children("subquestion"):
                answer = next(part.children("answer"), None)
                left = _moodle_text(part, seen, number)
                if left and answer is not None:
                    pairs.append(f"{left}: {_moodle_text(answer, seen, number)}")
            question.right = ["\n".join(pairs)]
        case "essay" | "description":
            question.left_out = "no_right_answer"
        case _:
            question.left_out = "question_kind"
    return question


def _moodle_text(node: _Node | None, seen: Seen, number: int) -> str:
    if node is None:
        return ""
    text = next(node.children("text"), node).text()
    as_typed = node.attributes.get("format") in ("plain_text", "markdown")
    if not as_typed and (fragments.is_marked_up(text) or "&" in text):
        return fragments.seen_text(text, seen, number)
    return text.strip()


def _with_unit(node: _Node, figure: str, seen: Seen, number: int) -> str:
    """Put the unit beside a figure: the one in which Moodle keeps the right answer."""
    units = [
        [
            part.text().strip()
            for name in ("unit_name", "multiplier")
            for part in unit.children(name)
        ]
        for around in node.children("units")
        for unit in around.children("unit")
    ]
    if not units:
        return figure
    own = [unit[0] for unit in units if len(unit) == 2 and unit[0] and _share(unit[1]) == 1]
    shown = next((part.text().strip() for part in node.children("showunits")), "")
    if not own or shown == _NO_UNITS:
        seen.add("unit", number)
        return figure
    left = next((part.text().strip() for part in node.children("unitsleft")), "")
    return f"{own[0]} {figure}" if left == "1" else f"{figure} {own[0]}"


def _share(fraction: str) -> float:
    try:
        return float(fraction)
    except ValueError:
        return 0


def _take_first(question: Question, seen: Seen) -> None:
    seen.add("alternative", question.number)
    question.right = question.right[:1]


# --- QTI 1.2 ---------------------------------------------------------------------------------

_NOT_ASKED = frozenset(("responselid", "responsestr", "responsenum", "responsexy", "responsegrp"))


def _names_without_underscores(node: _Node) -> None:
    node.name = node.name.replace("_", "")
    for part in node.parts:
        if isinstance(part, _Node):
            _names_without_underscores(part)


def _qti1(node: _Node, number: int, seen: Seen) -> Question:
    _names_without_underscores(node)
    asked = node.first("presentation")
    if asked is None:
        return Question(number, "", left_out="question_kind")
    question = Question(number, _material(asked, seen, number, leave=_NOT_ASKED))
    choices = list(asked.all("responselid"))
    scored = _scored(node)
    if len(choices) > 1:  # parts that each have an answer of their own
        lines = []
        for choice in choices:
            labels = _labels(choice, seen, number)
            right = _chosen(scored, choice.attributes.get("ident", ""))
            left = _material(choice, seen, number, leave=frozenset(("renderchoice",)))
            if len(right) != 1 or right[0] not in labels or not left:
                question.left_out = "question_kind"
                return question
            lines.append(f"{left}: {labels[right[0]]}")
        question.right = ["\n".join(lines)]
    elif choices:
        labels = _labels(choices[0], seen, number)
        question.text = question.text or _material(
            choices[0], seen, number, leave=frozenset(("renderchoice",))
        )
        question.options = list(labels.values())
        render = choices[0].first("renderchoice")
        question.is_shuffled = render is not None and (
            render.attributes.get("shuffle", "").lower() == "yes"
        )
        is_several = choices[0].attributes.get("rcardinality", "").lower() in (
            "multiple",
            "ordered",
        )
        right = _chosen(scored, choices[0].attributes.get("ident", ""), is_several=is_several)
        question.right = [labels[ident] for ident in right if ident in labels]
        if not is_several and len(question.right) > 1:
            _take_first(question, seen)
    elif (text := asked.first("responsestr") or asked.first("responsenum")) is not None:
        right = _chosen(scored, text.attributes.get("ident", ""))
        question.right = [fragments.seen_text(one, seen, number) for one in right]
        if len(question.right) > 1:
            _take_first(question, seen)
    else:
        question.left_out = "no_right_answer"
    return question


def _labels(choice: _Node, seen: Seen, number: int) -> dict[str, str]:
    return {
        label.attributes.get("ident", ""): _material(label, seen, number)
        for label in choice.all("responselabel")
    }


def _material(node: _Node, seen: Seen, number: int, leave: frozenset[str] = frozenset()) -> str:
    """Return the texts of an element, without those in elements of these names."""
    texts: list[str] = []

    def look(part: _Node) -> None:
        for one in part.parts:
            if not isinstance(one, _Node) or one.name in leave:
                continue
            if one.name in ("mattext", "matemtext", "matformattedtext"):
                text = one.text()
                is_html = "html" in one.attributes.get("texttype", "") or fragments.is_marked_up(
                    text
                )
                texts.append(fragments.seen_text(text, seen, number) if is_html else text.strip())
            else:
                look(one)

    look(node)
    return "\n".join(filter(None, texts))


def _scored(node: _Node) -> list[tuple[float, list[tuple[str, str]]]]:
    """Return what gives points: how many, and what has to be chosen or written, by response."""
    found = []
    for condition in node.all("respcondition"):
        score = 100.0 if condition.attributes.get("title", "").lower() == "correct" else 0.0
        for setvar in condition.all("setvar"):
            said = setvar.text().strip()
            value = 100.0 if said.upper().endswith(".MAX") else _share(said)
            if setvar.attributes.get("action", "").lower() == "subtract":
                value = -value
            score = max(score, value)
        wanted: list[tuple[str, str]] = []
        variables = condition.first("conditionvar")
        if score > 0 and variables is not None:
            _wanted(variables, wanted)
        if wanted:
            found.append((score, wanted))
    return found


def _wanted(node: _Node, wanted: list[tuple[str, str]]) -> None:
    for part in node.parts:
        if not isinstance(part, _Node) or part.name == "not":
            continue
        if part.name in ("varequal", "vargte"):
            wanted.append((part.attributes.get("respident", ""), part.text().strip()))
        else:
            _wanted(part, wanted)


def _chosen(
    scored: list[tuple[float, list[tuple[str, str]]]], response: str, *, is_several: bool = False
) -> list[str]:
    """Return what is right for a response: what gives the most points, or all that gives some."""
    own = [
        (score, values)
        for score, wanted in scored
        if (values := [value for ident, value in wanted if ident == response])
    ]
    if not own:
        return []
    most = max(score for score, _ in own)
    is_added = is_several and all(len(values) == 1 for _, values in own)
    taken = [values for score, values in own if is_added or score == most]
    return list(dict.fromkeys(value for values in taken for value in values))


# --- QTI 2 and 3 -----------------------------------------------------------------------------

_INTERACTIONS = frozenset(
    {"choiceinteraction", "textentryinteraction", "extendedtextinteraction"}
    | {"inlinechoiceinteraction", "matchinteraction", "orderinteraction"}
    | {"associateinteraction", "gapmatchinteraction", "graphicgapmatchinteraction"}
    | {"graphicorderinteraction", "graphicassociateinteraction", "hottextinteraction"}
    | {"hotspotinteraction", "selectpointinteraction", "positionobjectinteraction"}
    | {"sliderinteraction", "uploadinteraction", "drawinginteraction", "mediainteraction"}
    | {"custominteraction", "endattemptinteraction", "portablecustominteraction"}
)
_BESIDE = frozenset(("rubricblock", "feedbackblock", "feedbackinline", "modalfeedback", "prompt"))


def _qti2(node: _Node, number: int, seen: Seen) -> Question:
    body = node.first("itembody")
    if body is None:
        return Question(number, "", left_out="question_kind")
    found = [part for part in _walk(body) if part.name in _INTERACTIONS]
    gaps = {"textentryinteraction", "inlinechoiceinteraction"}
    is_gap = len(found) == 1 and found[0].name in gaps
    stem = fragments.seen_text(
        _marked_gap(body) if is_gap else body.markup(_INTERACTIONS | _BESIDE), seen, number
    )
    prompt = found[0].first("prompt") if found else None
    if prompt is not None:
        asked = fragments.seen_text(prompt.markup(_BESIDE), seen, number)
        stem = "\n\n".join(filter(None, (stem, asked)))
    question = Question(number, stem)
    if not found or found[0].name == "extendedtextinteraction":
        question.left_out = "no_right_answer"
        return question
    if len(found) > 1:
        question.left_out = "question_kind"
        return question
    interaction = found[0]
    values = _correct(node, interaction.attributes.get("responseidentifier", ""))
    choices = {
        choice.attributes.get("identifier", ""): fragments.seen_text(
            choice.markup(_BESIDE), seen, number
        )
        for name in ("simplechoice", "inlinechoice", "simpleassociablechoice")
        for choice in interaction.all(name)
    }
    match interaction.name:
        case "choiceinteraction" | "inlinechoiceinteraction":
            question.options = list(choices.values())
            question.right = [choices[value] for value in values if value in choices]
            question.is_shuffled = interaction.attributes.get("shuffle") == "true"
            if len(question.right) != len(values):
                question.right = []
        case "textentryinteraction":
            question.right = values[:1]
            if len(values) > 1:
                seen.add("alternative", number)
        case "orderinteraction" if values and all(value in choices for value in values):
            lines = [f"{place}. {choices[v]}" for place, v in enumerate(values, start=1)]
            question.right = ["\n".join(lines)]
        case "matchinteraction" if values:
            pairs = [value.split() for value in values]
            if all(len(pair) == 2 and set(pair) <= choices.keys() for pair in pairs):
                lines = [f"{choices[left]}: {choices[right]}" for left, right in pairs]
                question.right = ["\n".join(lines)]
        case _:
            question.left_out = "question_kind"
    return question


def _walk(node: _Node) -> Iterator[_Node]:
    for part in node.parts:
        if isinstance(part, _Node):
            yield part
            if part.name not in _INTERACTIONS:
                yield from _walk(part)


def _marked_gap(node: _Node) -> str:
    pieces = []
    for part in node.parts:
        if isinstance(part, str):
            pieces.append(html.escape(part, quote=False))
        elif part.name in _INTERACTIONS:
            pieces.append("_____")
        elif part.name not in _BESIDE:
            pieces.append(f"<{part.name}>{_marked_gap(part)}</{part.name}>")
    return "".join(pieces)


def _correct(node: _Node, response: str) -> list[str]:
    """Return the values that are right for a response: those declared, or that give most points."""
    for declared in node.all("responsedeclaration"):
        if declared.attributes.get("identifier", "") != response:
            continue
        correct = declared.first("correctresponse")
        if correct is not None:
            return [value.text().strip() for value in correct.all("value")]
        entries = [
            (entry.attributes.get("mapkey", ""), _share(entry.attributes.get("mappedvalue", "")))
            for entry in declared.all("mapentry")
        ]
        if declared.attributes.get("cardinality") == "multiple":
            return [key for key, value in entries if value > 0]
        most = max((value for _, value in entries), default=0)
        return [key for key, value in entries if value == most > 0]
    return []


_KINDS: dict[str, Callable[[_Node, int, Seen], Question]] = {
    "question": _moodle,
    "item": _qti1,
    "assessmentitem": _qti2,
}
