"""Rows that a person writes: questions and answers, added to the practice set in a new version."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from app.core.errors import Invalid
from app.core.models import DatasetVersion, ExampleKind, Split, User
from app.datasets import changes, examples, sameness
from app.datasets.changes import Addition

MAX_ROWS = 20
MAX_LETTERS = 20_000
# So many rows must agree on their system turn for it to be what all are told.
_NUM_AGREEING = 20
_WHY = "rows written by hand"


def add(
    db: Session, user: User, version: DatasetVersion, rows: Sequence[tuple[str, str]]
) -> DatasetVersion:
    """Make the next version, which practises these questions and answers as well.

    Rows that are left empty are passed over; what the model is told before each question stays as
    it is in the other rows.

    Raises:
        Forbidden: the person may only look.
        Conflict: the version is not ready, or another one is being made.
        Invalid: nothing was written, half a row is missing, it is too long, or the question stands
            in the test set; with its field.
    """
    if examples.kind(db, version) not in (ExampleKind.CHAT, ExampleKind.PAIR):
        raise Invalid("Rows can be written by hand where the data is questions and answers.")
    written = [_checked(number, row) for number, row in enumerate(rows[:MAX_ROWS])]
    system = instruction(db, version)
    kept = _held_out(db, version)
    added = []
    for number, row in enumerate(written):
        if row is None:
            continue
        question, answer = row
        messages = [
            *system,
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
        if _asked(messages) in kept:
            raise Invalid(
                "This question stands in the test set: practised, it would test nothing any more. "
                "Ask it in another way, about the same thing.",
                field=f"question-{number}",
            )
        added.append(Addition(messages))
    if not added:
        raise Invalid("Write at least one question with its answer.", field="question-0")
    return changes.derive(db, user, version, [], _WHY, added=added)


def _checked(number: int, row: tuple[str, str]) -> tuple[str, str] | None:
    question, answer = (_storable(text) for text in row)
    if not question and not answer:
        return None
    for field, text in (("question", question), ("answer", answer)):
        if not text:
            raise Invalid(f"Write the {field}, too.", field=f"{field}-{number}")
        if len(text) > MAX_LETTERS:
            raise Invalid(f"Use at most {MAX_LETTERS:,} letters.", field=f"{field}-{number}")
    return question, answer


def instruction(db: Session, version: DatasetVersion) -> list[dict[str, Any]]:
    """Return the system turn that practice rows begin with, where they agree on one; else none."""
    rows = examples.page(db, version, Split.TRAIN, limit=_NUM_AGREEING)
    firsts = [row.messages[0] for row in rows if row.messages]
    told = {first["content"] if first["role"] == "system" else None for first in firsts}
    (one,) = told if len(told) == 1 else (None,)
    return [{"role": "system", "content": one}] if one else []


def _held_out(db: Session, version: DatasetVersion) -> set[bytes]:
    return {
        _asked(row["messages"])
        for split in Split
        if split is not Split.TRAIN
        for batch in examples.stream(db, version, split)
        for row in batch
    }


def _asked(messages: Sequence[dict[str, Any]]) -> bytes:
    return sameness.whole([message for message in messages if message["role"] == "user"])


def _storable(text: str) -> str:
    """Return what PostgreSQL can hold: no NUL, and no half of a character."""
    return text.replace("\r\n", "\n").replace("\0", "").encode("utf-8", "replace").decode().strip()
