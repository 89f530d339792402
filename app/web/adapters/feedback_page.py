"""What the page “Feedback” of an adapter shows: what people said of its answers."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.adapters import feedback, lessons
from app.core.errors import AppError
from app.core.models import Adapter, Feedback, User
from app.core.sentences import counted

_THUMBS = {1: "Good", -1: "Not good"}


@dataclass(frozen=True)
class Said:
    """What somebody said of an answer."""

    row: Feedback
    thumb: str  # in a word; empty: they said it better, and no more
    is_chosen: bool


@dataclass(frozen=True)
class FeedbackPage:
    adapter: Adapter
    said: list[Said]
    kinds: list[str]  # what it can become
    use_as: str
    sentence: str
    error: AppError | None


def feedback_page(
    db: Session,
    user: User,
    adapter: Adapter,
    *,
    chosen: set[int] | None = None,
    use_as: str = "",
    error: AppError | None = None,
) -> FeedbackPage:
    """Gather the page; `chosen`, `use_as` and `error` are of a form that was refused."""
    rows = feedback.collected(db, user, adapter)
    kinds = lessons.kinds(db, adapter)
    return FeedbackPage(
        adapter=adapter,
        said=[
            Said(
                row,
                _THUMBS.get(row.thumb or 0, ""),
                # What was asked before a follow-up is not known here: a person has to choose it.
                row.id in chosen if chosen is not None else not row.is_follow_up,
            )
            for row in rows
        ],
        kinds=kinds,
        use_as=use_as if use_as in kinds else (kinds[0] if kinds else ""),
        sentence=_sentence(rows),
        error=error,
    )


def numbers(typed: list[str]) -> set[int]:
    """Return the ticked rows; what is no number ticks nothing."""
    return {int(one) for one in typed if one.isascii() and one.isdecimal() and len(one) < 10}


def _sentence(rows: list[Feedback]) -> str:
    num_better = sum(row.better is not None for row in rows)
    answers = counted(len(rows), "1 answer was judged", "{n} answers were judged")
    if not num_better:
        return f"{answers}."
    better = counted(num_better, "1 has a better answer", "{n} have a better answer")
    return f"{answers}; {better}."
