"""Aiken: a question, its options with capital letters, and `ANSWER: B` below them."""

import re
from collections.abc import Iterator
from typing import TextIO

from app.datasets.readers.blocks import MAX_LINE_CHARACTERS
from app.datasets.readers.quizzes import MAX_OPTIONS, Question
from app.datasets.readers.unreadable import Unreadable

_OPTION = re.compile(r"\s{0,8}([A-Z])[.)]\s+(\S.*)")
_ANSWER = re.compile(r"\s{0,8}ANSWERS?\s?:\s*([A-Z](?:\s*,\s*[A-Z]){0,20})\s*", re.IGNORECASE)
_MAX_LINES = 1000  # of a question


def looks_like_aiken(sample: str) -> bool:
    """Tell Aiken by a line `ANSWER: B` that stands below options."""
    before = ""
    for line in sample.splitlines():
        if _ANSWER.fullmatch(line) and _OPTION.match(before):
            return True
        before = line if line.strip() else before
    return False


def aiken_questions(text: TextIO) -> Iterator[Question]:
    """Yield the questions with the numbers of their lines.

    Raises:
        Unreadable: a line is longer than 1 MB, or a question than 1,000 lines.
    """
    asked: list[str] = []
    options: dict[str, str] = {}
    number = start = 0
    is_apart = False  # a blank line stands before this one
    while line := text.readline(MAX_LINE_CHARACTERS + 1):
        number += 1
        if len(line) > MAX_LINE_CHARACTERS or len(asked) > _MAX_LINES:
            raise Unreadable(
                f"The question that begins in line {start or number:,} is longer than any quiz "
                "has; put “ANSWER: ” and a letter below each question, then upload the file again."
            )
        line = line.rstrip("\r\n")
        if not line.strip():
            is_apart = True
            continue
        if answer := _ANSWER.fullmatch(line):
            letters = re.findall(r"[A-Z]", answer[1].upper())
            if asked or options:
                yield _question(start, asked, options, letters)
            asked, options, start = [], {}, 0
        elif option := _OPTION.fullmatch(line):
            # Options that begin again are another question's, whose text is missing.
            if option[1] in options or len(options) == MAX_OPTIONS:
                yield _question(start, asked, options, [])
                asked, options, start = [], {}, number
            start = start or number
            options[option[1]] = option[2].strip()
        elif options and not is_apart:
            last = next(reversed(options))
            options[last] += f"\n{line.strip()}"
        else:
            if options:  # the question before has no answer
                yield _question(start, asked, options, [])
                asked, options, start = [], {}, number
            start = start or number
            asked.append(line.strip())
        is_apart = False
    if asked or options:
        yield _question(start, asked, options, [])


def _question(
    number: int, asked: list[str], options: dict[str, str], letters: list[str]
) -> Question:
    known = all(letter in options for letter in letters)
    return Question(
        number,
        "\n".join(asked),
        options=list(options.values()),
        right=[options[letter] for letter in letters] if known else [],
        is_shuffled=False,
    )
