"""Moodle's GIFT: questions with their answers in braces, divided by blank lines."""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple, TextIO

from app.datasets.column_names import is_known_name
from app.datasets.readers import fragments, quizzes
from app.datasets.readers.grids import Seen
from app.datasets.readers.quizzes import Question
from app.datasets.readers.unreadable import Unreadable

_MAX_QUESTION_CHARACTERS = 256 * 1024
_TITLE = re.compile(r"\s*::((?:[^\\:]|\\.|:(?!:))*)::", re.DOTALL)
_MARKUP = re.compile(r"\s*\[(html|moodle|plain|markdown)\]", re.IGNORECASE)
_OPENS, _CLOSES = re.compile(r"(?<!\\)\{"), re.compile(r"(?<!\\)\}")
_SIGN = re.compile(r"(?<!\\)[=~]")
_WEIGHT = re.compile(r"\s*%(-?\d{1,3}(?:\.\d{1,10})?)%")
_FEEDBACK = re.compile(r"(?<!\\)#.*", re.DOTALL)
_TRUTH = re.compile(r"\s*(TRUE|FALSE|T|F)\s*(?:(?<!\\)#.*)?", re.IGNORECASE | re.DOTALL)
_ARROW = re.compile(r"(?<!\\)->")
_ESCAPED = re.compile(r"\\([~=#{}:\\n])")
_NUM_BLOCKS_LOOKED_AT = 60


class _Block(NamedTuple):
    number: int
    text: str


def looks_like_gift(sample: str) -> bool:
    """Tell GIFT from other text with braces, by its first questions."""
    first = next((line for line in sample.splitlines() if line.strip()), "")
    if sum(map(is_known_name, re.split(r"[,;|\t]", first))) > 1:  # a table's first line
        return False
    num_known = num_other = 0
    for _, block in zip(
        range(_NUM_BLOCKS_LOOKED_AT), _blocks(sample.splitlines(True)), strict=False
    ):
        text = _without_comments(block.text)
        if not text.strip() or text.lstrip().startswith("$CATEGORY:"):
            continue
        opens = _OPENS.search(text)
        within = text[opens.end() :].lstrip() if opens else ""
        truth = _TRUTH.fullmatch(within.partition("}")[0])
        is_answer = within[:1] in ("=", "~", "#") or truth is not None
        if opens and "}" in within and is_answer and len(_OPENS.findall(text)) == 1:
            num_known += 1
        elif _TITLE.match(text) is None:
            num_other += 1
    return num_known > num_other


def gift_questions(text: TextIO, seen: Seen) -> Iterator[Question]:
    """Yield the questions with the numbers of their lines.

    Raises:
        Unreadable: a question is longer than any honest one.
    """
    section = ""
    for block in _blocks(text):
        body = _without_comments(block.text)
        while body.lstrip().startswith("$CATEGORY:"):
            line, _, body = body.lstrip().partition("\n")
            section = line.removeprefix("$CATEGORY:").strip().removeprefix("$course$/")
        if body.strip():
            question = _question(block.number, body, seen)
            question.section = section
            yield question


def _blocks(lines: TextIO | list[str]) -> Iterator[_Block]:
    """Divide at blank lines, but not within braces."""
    block: list[str] = []
    number = size = depth = 0
    for place, line in enumerate(lines, start=1):
        if not line.strip() and depth <= 0:
            if block:
                yield _Block(number, "".join(block))
            block, size, depth = [], 0, 0
            continue
        if not block:
            number = place
        if depth > 0 and line.lstrip().startswith("::"):  # the braces before never closed
            yield _Block(number, "".join(block))
            block, size, depth, number = [], 0, 0, place
        block.append(line)
        size += len(line)
        if not line.lstrip().startswith("//"):
            depth += len(_OPENS.findall(line)) - len(_CLOSES.findall(line))
        if size > _MAX_QUESTION_CHARACTERS:
            raise Unreadable(
                f"The question that begins in line {number:,} is longer than 256 KB or its braces "
                "never close; check them, then upload the file again."
            )
    if block:
        yield _Block(number, "".join(block))


def _without_comments(text: str) -> str:
    return "".join(
        line for line in text.splitlines(keepends=True) if not line.lstrip().startswith("//")
    )


def _question(number: int, body: str, seen: Seen) -> Question:
    if title := _TITLE.match(body):
        body = body[title.end() :]
    markup = _MARKUP.match(body)
    if markup:
        body = body[markup.end() :]
    is_html = markup is None or markup[1].lower() in ("html", "moodle")

    def plain(text: str) -> str:
        own = _MARKUP.match(text)  # answers may be written otherwise than the question
        as_html = own[1].lower() in ("html", "moodle") if own else is_html
        text = text[own.end() :] if own else text
        text = _ESCAPED.sub(lambda found: "\n" if found[1] == "n" else found[1], text)
        if as_html and fragments.is_marked_up(text):
            return fragments.seen_text(text, seen, number)
        return text.strip()

    opens = _OPENS.search(body)
    closes = list(_CLOSES.finditer(body))
    if opens is None or not closes or closes[-1].start() < opens.end():
        is_broken = opens is not None or bool(closes)
        reason = "broken_question" if is_broken else "no_right_answer"
        return Question(number, plain(body), left_out=reason)
    before, within, after = (
        body[: opens.start()],
        body[opens.end() : closes[-1].start()],
        body[closes[-1].end() :],
    )
    asked = plain(f"{before}_____{after}" if after.strip() else before)
    question = Question(number, asked)
    if len(_OPENS.findall(body)) > 1:  # several gaps in one text
        question.left_out = "question_kind"
        return question
    _answer(question, re.split(r"(?<!\\)####", within)[0], plain, seen)
    return question


def _answer(question: Question, within: str, plain: Callable[[str], str], seen: Seen) -> None:
    if truth := _TRUTH.fullmatch(within):
        question.options = ["True", "False"]
        question.is_shuffled = False
        question.right = ["True" if truth[1].upper().startswith("T") else "False"]
    elif within.lstrip().startswith("#"):
        _number(question, within.strip()[1:])
    elif not within.strip():
        question.left_out = "no_right_answer"
    else:
        _options(question, within, plain, seen)


def _number(question: Question, within: str) -> None:
    """Read an answer in figures: `3.14:0.01`, `1..5`, or several, each behind `=`."""
    first = re.split(r"(?<!\\)=", within)
    said = next((part for part in first if part.strip()), "")
    said = _FEEDBACK.sub("", _WEIGHT.sub("", said, count=1)).strip()
    figure, _, _ = said.partition(":")
    low, between, high = figure.partition("..")
    question.right = [f"{low.strip()} to {high.strip()}" if between else figure.strip()]


def _options(question: Question, within: str, plain: Callable[[str], str], seen: Seen) -> None:
    signs = list(_SIGN.finditer(within))
    if not signs:
        question.right = [plain(_FEEDBACK.sub("", within))]
        return
    ends = [sign.start() for sign in signs[1:]] + [len(within)]
    shares: list[tuple[str, float]] = []
    for sign, end in zip(signs[: quizzes.MAX_OPTIONS], ends, strict=False):
        text = within[sign.end() : end]
        weight = _WEIGHT.match(text)
        text = _FEEDBACK.sub("", text[weight.end() :] if weight else text)
        share = float(weight[1]) if weight else 100.0 if sign[0] == "=" else 0.0
        shares.append((text, share))
    pairs = [_ARROW.split(text, maxsplit=1) for text, _ in shares]
    if all(len(pair) == 2 for pair in pairs):
        # The sides that belong together; a left side that is blank is a wrong right one.
        question.right = [
            "\n".join(f"{plain(left)}: {plain(right)}" for left, right in pairs if left.strip())
        ]
        return
    shares = [(plain(text), share) for text, share in shares]
    if any(sign[0] == "~" for sign in signs):
        question.options = [text for text, _ in shares]
        question.right = quizzes.right_of(shares)
        whole = [text for text, share in shares if share > 99.9]
        if len(whole) > 1:
            seen.add("alternative", question.number)
            question.right = whole[:1]
        return
    best = [text for text, share in shares if share > 99.9 and "*" not in text]
    if len(best) > 1:
        seen.add("alternative", question.number)
    question.right = best[:1]
