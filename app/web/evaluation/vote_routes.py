"""Blind votes: put two to the vote, choose between their answers, see how it stands."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.orm import Session

from app.core.errors import AppError, Invalid
from app.core.models import Choice, User, VoteRound
from app.datasets import versions
from app.evaluation import comparing, report, votes
from app.evaluation.votes import Ballot, Result
from app.people.auth import can_edit
from app.web import stepper
from app.web.dependencies import CurrentUser, Db
from app.web.evaluation.page import Link
from app.web.render import page

router = APIRouter()


@dataclass(frozen=True)
class VotePage:
    """evaluation/vote.html: one question, or how the vote stands."""

    of: VoteRound
    ballot: Ballot | None
    is_open: bool
    can_close: bool
    result: Result | None  # for those who may mark answers, once they have voted
    names: tuple[str, str]
    lines: list[tuple[str, int]]
    sentence: str
    why: str
    error: AppError | None
    crumbs: list[Link]


@router.post("/versions/{version_id}/votes")
def start(
    db: Db, user: CurrentUser, version_id: int, who: Annotated[list[str] | None, Form()] = None
) -> Response:
    """Put two who answered a version's test questions to the vote."""
    version = versions.get_version(db, user, version_id)
    chosen = comparing.chosen(db, version, who or [])
    if len(chosen) != 2:
        raise Invalid("Choose exactly two to be voted on.", field="who")
    made = votes.start(db, user, *chosen)
    made_id = made.id
    db.commit()
    return RedirectResponse(f"/votes/{made_id}", status_code=303)


@router.get("/votes/{round_id}")
def show(db: Db, user: CurrentUser, round_id: int) -> Response:
    """Show the next question, or at the end how the vote stands."""
    return _show(db, user, votes.get(db, user, round_id))


@router.post("/votes/{round_id}")
def vote(
    db: Db,
    user: CurrentUser,
    round_id: int,
    number: Annotated[str, Form()] = "",
    choice: Annotated[str, Form()] = "",
    why: Annotated[str, Form()] = "",
) -> Response:
    """Keep a choice, and go on to the next question."""
    of = votes.get(db, user, round_id)
    try:
        if not (number.isascii() and number.isdecimal() and len(number) < 10):
            raise Invalid("Choose one of the four.", field="choice")
        votes.vote(db, user, of, int(number), choice, why)
    except AppError as error:
        db.rollback()
        return _show(db, user, of, why, error)
    db.commit()
    return RedirectResponse(f"/votes/{round_id}", status_code=303)


@router.post("/votes/{round_id}/close")
def close(db: Db, user: CurrentUser, round_id: int) -> Response:
    """End a vote."""
    votes.close(db, user, votes.get(db, user, round_id))
    db.commit()
    return RedirectResponse(f"/votes/{round_id}", status_code=303)


def _show(
    db: Session, user: User, of: VoteRound, why: str = "", error: AppError | None = None
) -> Response:
    is_open = of.closed_at is None
    ballot = votes.next_ballot(db, user, of) if is_open else None
    # Who has not voted yet would be led by how others did.
    result = votes.result(db, of) if can_edit(user) and ballot is None else None
    names = votes.names(of)
    version = of.first_evaluation.version
    shown = VotePage(
        of=of,
        ballot=ballot,
        is_open=is_open,
        can_close=can_edit(user) and is_open,
        result=result,
        names=names,
        lines=_lines(result, names) if result else [],
        sentence=report.vote_sentence(result, names[0]) if result else "",
        why=why,
        error=error,
        crumbs=[
            Link("Data", "/datasets"),
            Link(version.dataset.name, f"/versions/{version.id}"),
            Link("Models side by side", f"/versions/{version.id}/models"),
        ],
    )
    status = error.status if error else 200
    # Whoever votes is not to see beforehand how many answers of the two are right.
    way = stepper.of_version(db, version, "Result") if result or not is_open else None
    return page("evaluation/vote.html", user, status=status, page=shown, stepper=way)


def _lines(result: Result, names: tuple[str, str]) -> list[tuple[str, int]]:
    return [
        (f"{names[0]} is better", result.counts[Choice.FIRST]),
        (f"{names[1]} is better", result.counts[Choice.SECOND]),
        ("Both are good", result.counts[Choice.BOTH]),
        ("Neither is good", result.counts[Choice.NEITHER]),
    ]
