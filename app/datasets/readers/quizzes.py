"""Questions of quizzes -> rows: the right answer is learned, and a wrong option never.

A person says whether the options stand below the question: not at all, as a list, or with letters.
"""

import hashlib
import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.datasets.mapping import LeftOut, Options

COLUMNS = ["section", "question", "answer"]
MAX_OPTIONS = 100
SENTENCES = {
    "alternative": (
        "1 question has several right answers, of which the first was taken.",
        "{n} questions have several right answers, of which the first was taken.",
    ),
    "unit": (
        "1 question has units that its answer does not say which of, so the figure stands alone; "
        "look at question {row}.",
        "{n} questions have units that their answers do not say which of, so the figures stand "
        "alone (first question {row}).",
    ),
}
# They say something of the options above them, and stay last.
_LAST = re.compile(
    r"\b(all|none|both|neither|alle|keine?|toutes?|aucune?|todas?|ningun[oa]?|tutte|nessuna)\b",
    re.IGNORECASE,
)
# “A)”, “(b)”, “C.”, “1)” at the beginning of an option.
LETTERED = re.compile(
    r"(?<![^\s,;|/])(?P<opens>[(\[]?)(?P<letter>[A-Za-z1-9])(?:(?P<closes>[)\]])\s*|(?P<dot>[.:])\s+)"
)
_ORDERS = (string.ascii_lowercase, "123456789")
Row = dict[str, Any]


@dataclass
class Question:
    """A question as a quiz has it."""

    number: int
    text: str
    section: str = ""
    options: list[str] = field(default_factory=list)
    # What answers it: one text, or all of several that belong together.
    right: list[str] = field(default_factory=list)
    # Programs shuffle the options when they ask; in their files the right one often stands first.
    is_shuffled: bool = True
    # Why it becomes no example: a key of mapping.LEFT_OUT.
    left_out: str = ""


def rows(questions: Iterator[Question], options: Options) -> Iterator[tuple[int, Row | LeftOut]]:
    """Turn questions into rows.

    Args:
        options: How what there was to choose from is shown.
    """
    for question in questions:
        yield question.number, _row(question, options)


def _row(question: Question, options: Options) -> Row | LeftOut:
    right = [text for text in question.right if text.strip()]
    if question.left_out or not right:
        reason = question.left_out or ("options" if question.options else "no_right_answer")
        return LeftOut(reason)
    asked, answer = with_options(
        question.text, question.options, right, options, is_shuffled=question.is_shuffled
    )
    return {"section": question.section, "question": asked, "answer": answer}


def with_options(
    question: str,
    texts: Sequence[str],
    right: Sequence[str],
    options: Options,
    *,
    is_shuffled: bool = False,
) -> tuple[str, str]:
    """Return a question and its answer, with what there was to choose from as it is asked for."""
    if options == "leave_out" or len(texts) < 2:
        return question, "\n".join(right)
    listed = _shuffled(question, texts) if is_shuffled else list(texts)
    if options == "list":
        shown = [f"- {text}" for text in listed]
        answer = list(right)
    else:
        letters = {text: _letter(place) for place, text in enumerate(listed)}
        shown = [f"{letters[text]}) {text}" for text in listed]
        answer = [f"{letters[text]}) {text}" if text in letters else text for text in right]
    return f"{question}\n\n" + "\n".join(shown), "\n".join(answer)


def _letter(place: int) -> str:
    return chr(ord("a") + place) if place < 26 else str(place + 1)


def _shuffled(question: str, texts: Sequence[str]) -> list[str]:
    """Order options by chance, always in the same way: where the right one stands says nothing."""

    def place(text: str) -> tuple[bool, bytes]:
        is_last = len(text) < 60 and _LAST.search(text) is not None
        return is_last, hashlib.sha256(f"{question}\0{text}".encode(errors="replace")).digest()

    return sorted(dict.fromkeys(texts), key=place)


def right_of(shares: Sequence[tuple[str, float]], *, is_several: bool = False) -> list[str]:
    """Return the right answers by their shares of the points, in percent; none where it is unsure.

    Args:
        is_several: Several answers have to be given together.
    """
    whole = [text for text, share in shares if share > 99.9]
    if whole and not is_several:
        return whole
    parts = [text for text, share in shares if share > 0]
    if sum(share for _, share in shares if share > 0) > 98.9:
        return parts
    return []


def letters_of(text: str) -> list[re.Match[str]]:
    """Find where options begin in a text: all that are marked as the first is."""
    marks = list(LETTERED.finditer(text))
    return [mark for mark in marks if _sign(mark) == _sign(marks[0])]


def cut_at_letters(text: str) -> dict[str, str]:
    """Cut “A) 5 mg B) 50 mg” into its options; none where it could be cut in several ways."""
    marks = letters_of(text)
    # “A. Vitamin B. B. Vitamin C.” could.
    if len(marks) < 2 or marks[0].start() != 0 or not are_in_order(marks):
        return {}
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return {
        mark["letter"]: text[mark.end() : end].strip(" \t\r\n,;|/")
        for mark, end in zip(marks, ends, strict=True)
    }


def are_in_order(marks: Sequence[re.Match[str]]) -> bool:
    """Say whether the letters or figures of options are the first ones, in their order."""
    letters = "".join(mark["letter"] for mark in marks).casefold()
    return any(order.startswith(letters) for order in _ORDERS)


def _sign(mark: re.Match[str]) -> str:
    return f"{mark['opens']} {mark['closes'] or mark['dot']}"
