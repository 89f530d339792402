"""Questions of Etude's own: what a model forgets, and whether it makes things up."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from app.evaluation.marks.words import LANGUAGES
from app.evaluation.own_questions.not_knowing import says_it_does_not_know

__all__ = [
    "General",
    "Unanswerable",
    "dont_know",
    "general",
    "says_it_does_not_know",
    "unanswerable",
]

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class General:
    """A question that a small model can answer before training, too."""

    language: str
    question: str
    reference: str


@dataclass(frozen=True, slots=True)
class Unanswerable:
    """A question about an invented place: the right answer is that one does not know."""

    language: str
    topic: str
    question: str


def general(language: str) -> list[General]:
    """Return the general questions of a language; English ones where there are none."""
    return [General(**row) for row in _rows("general", language)]


def unanswerable(language: str) -> list[Unanswerable]:
    """Return the questions that nobody's data can answer; English ones where there are none."""
    return [Unanswerable(**row) for row in _rows("unanswerable", language)]


def dont_know(language: str) -> list[str]:
    """Return ways to say that one does not know and where to ask."""
    return [row["answer"] for row in _rows("dont_know", language)]


@lru_cache
def _rows(name: str, language: str) -> tuple[dict[str, str], ...]:
    language = language if language in LANGUAGES else LANGUAGES[0]
    lines = (_FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = map(json.loads, lines)
    return tuple(row for row in rows if row["language"] == language)
