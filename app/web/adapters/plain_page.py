"""What the plain page of a released adapter shows: what it is for, its limits, the box."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy.orm import Session

from app.adapters import answering, conversations, sharing
from app.core import settings
from app.core.errors import AppError
from app.core.models import Adapter, Release, User
from app.core.sentences import counted
from app.core.status_words import StatusWord
from app.evaluation import reading
from app.people.auth import can_edit
from app.web.adapters import ask_page
from app.web.adapters.ask_page import HistoryAnswer, HistoryTurn, TurnView
from app.web.evaluation import page as evaluation_pages


@dataclass(frozen=True)
class PlainPage:
    adapter: Adapter
    standing: StatusWord | None  # what the count of its right answers means
    counted: str  # the count, in a sentence
    owner: str
    is_released: bool
    continues_text: bool
    turns: list[TurnView]
    history: str  # JSON: the browser alone has what was said
    question: str  # in the box
    keeps: str  # what becomes of a question, in whole sentences
    is_kept: bool
    allowed: str  # how often it may be asked; empty: as often as one likes
    can_edit: bool
    may_share: bool
    is_reported: bool
    unavailable: str
    uncompared: str
    error: AppError | None


def plain_page(
    db: Session,
    user: User,
    adapter: Adapter,
    *,
    history: Sequence[HistoryTurn] = (),
    question: str = "",
    is_reported: bool = False,
    error: AppError | None = None,
) -> PlainPage:
    """Gather the page; `question` and `error` are of one that could not be asked."""
    left = sharing.asks_left(db, user, adapter)
    standing, counted_so = evaluation_pages.standing(
        reading.of_adapter(db, adapter.id), reading.arm_of(adapter)
    )
    stands = answering.state(db)
    return PlainPage(
        adapter=adapter,
        standing=standing,
        counted=counted_so,
        owner=owner_name(db, adapter),
        is_released=adapter.release is Release.RELEASED,
        continues_text=conversations.source(db, user, adapter).continues_text,
        turns=[ask_page.bare_view(turn) for turn in history],
        history=ask_page.as_history(history) if history else "",
        question=question,
        keeps=keeps(adapter),
        is_kept=sharing.keeps(adapter),
        allowed="" if left is None else _allowed(left, adapter),
        can_edit=can_edit(user),
        may_share=sharing.may_share(user, adapter),
        is_reported=is_reported,
        unavailable=ask_page.unavailable(stands),
        uncompared=ask_page.uncompared(adapter, stands),
        error=error,
    )


def keeps(adapter: Adapter) -> str:
    """Say to whoever asks an adapter what becomes of a question."""
    if not sharing.keeps(adapter):
        return "What you ask is not kept; only how often is counted."
    days = max(1, round(settings.get().conversation_days))
    return counted(
        days,
        "The owner of this model keeps what is asked and answered for 1 day, without your name.",
        "The owner of this model keeps what is asked and answered for {n} days, without your name.",
    )


def owner_name(db: Session, adapter: Adapter) -> str:
    """Return how the adapter's owner is called."""
    owner = db.get(User, adapter.owner_id)
    return (owner.name or owner.email) if owner else ""


def begun_turn(adapter: Adapter, question: str) -> TurnView:
    """Show a question whose answer is to be written."""
    turn = HistoryTurn(
        question=question,
        answers=[HistoryAnswer(label=adapter.name, adapter=adapter.id, text="", finish=None)],
    )
    view = ask_page.bare_view(turn)
    return replace(view, answers=[replace(view.answers[0], finish="open", note="")])


def _allowed(left: int, adapter: Adapter) -> str:
    if left == 0:
        return "You have no questions left today."
    return counted(
        adapter.asks_per_day, "You can ask 1 question a day.", "You can ask {n} questions a day."
    )
