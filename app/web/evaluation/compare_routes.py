"""Models side by side on one test set: those that have answered it, and those that are to."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form, Query, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.adapters import registry as adapters
from app.core import wakeup
from app.core.errors import AppError, Invalid
from app.core.models import Adapter, DatasetVersion, Evaluation, User
from app.core.sentences import counted
from app.datasets import versions
from app.evaluation import comparing, evaluations, reading
from app.evaluation.comparing import Comparison, Contender, Line
from app.evaluation.verdict import Difference
from app.web.dependencies import CurrentUser, Db
from app.web.evaluation.page import Bar, bar_of
from app.web.render import version_page

router = APIRouter()
_NUM_FIRST = 4  # compared without being asked


@dataclass(frozen=True)
class LineView:
    bar: Bar
    difference: str


@dataclass(frozen=True)
class ComparePage:
    """evaluation/compare.html: who has answered this test set, and the chosen ones side by side."""

    contenders: list[Contender]
    chosen: set[str]
    lines: list[LineView]
    about: str
    others: list[Adapter]  # that have not answered it
    going_on: list[Evaluation]


@router.get("/versions/{version_id}/models")
def show(
    db: Db, user: CurrentUser, version_id: int, who: Annotated[list[str] | None, Query()] = None
) -> Response:
    """Show models side by side on a version's test questions."""
    version = versions.get_version(db, user, version_id)
    try:
        found = comparing.chosen(db, version, (who or [])[: comparing.MAX_COMPARED + 1])
        found = found or comparing.contenders(db, version)[:_NUM_FIRST]
        return _show(db, user, version, found, comparing.compare(db, found))
    except AppError as error:
        return _show(db, user, version, [], Comparison([], 0), error)


@router.post("/versions/{version_id}/models")
def evaluate_here(
    db: Db, user: CurrentUser, version_id: int, adapter: Annotated[str, Form()] = ""
) -> Response:
    """Have another adapter answer this version's test questions, too."""
    version = versions.get_version(db, user, version_id)
    try:
        if not (adapter.isascii() and adapter.isdecimal() and len(adapter) < 10):
            raise Invalid("Choose a trained model.", field="adapter")
        evaluations.request(db, user, adapters.get(db, user, int(adapter)), version=version)
    except AppError as error:
        db.rollback()
        return _show(db, user, version, [], Comparison([], 0), error)
    db.commit()
    wakeup.hint("gpu")
    return RedirectResponse(f"/versions/{version_id}/models", status_code=303)


@router.post("/evaluations/{evaluation_id}/compare-earlier")
def compare_with_earlier(db: Db, user: CurrentUser, evaluation_id: int) -> Response:
    """Have the adapter before this one answer the same questions, and show both."""
    evaluation = reading.get(db, user, evaluation_id)
    before = comparing.earlier(db, evaluation)
    if before is None:
        raise Invalid("There is no earlier trained model of this data.")
    known = [
        one
        for one in comparing.contenders(db, evaluation.version)
        if one.evaluation.adapter_id == before.id
    ]
    if not known:
        evaluations.request(db, user, before, version=evaluation.version)
        db.commit()
        wakeup.hint("gpu")
    return RedirectResponse(f"/versions/{evaluation.version_id}/models", status_code=303)


def _show(
    db: Session,
    user: User,
    version: DatasetVersion,
    found: list[Contender],
    comparison: Comparison,
    error: AppError | None = None,
) -> Response:
    known = comparing.contenders(db, version)
    there = {one.evaluation.adapter_id for one in known}
    waiting = db.scalars(
        select(Evaluation).where(
            Evaluation.version_id == version.id, Evaluation.status.in_(evaluations.OPEN)
        )
    )
    shown = ComparePage(
        contenders=known,
        chosen={one.key for one in found},
        lines=[_line(line) for line in comparison.lines],
        about=counted(
            comparison.num_common,
            "On the 1 question that all of these answered and none practised.",
            "On the {n} questions that all of these answered and none practised.",
        )
        if comparison.lines
        else "",
        others=[one for one in adapters.list_adapters(db, user) if one.id not in there],
        going_on=list(waiting),
    )
    return version_page("evaluation/compare.html", user, version, shown, error, here="Result")


def _line(line: Line) -> LineView:
    one = line.contender
    bar = bar_of(one.evaluation, one.arm, line.tally)._replace(
        words=one.label, is_main=line.than_first is None
    )
    said = "The others are compared with this one"
    if line.than_first is not None:
        said = difference_in_words(line.than_first)
    if line.num_left_out:
        said += counted(line.num_left_out, "; 1 question left out", "; {n} questions left out")
    return LineView(bar, said)


def difference_in_words(than_first: Difference) -> str:
    """Say by how much one does better than another, in questions of a hundred."""
    mean, low, high = (
        round(100 * share) for share in (than_first.mean, than_first.low, than_first.high)
    )
    if low > 0:
        return f"About {mean} more of 100 questions right, between {low} and {high}"
    if high < 0:
        return f"About {-mean} fewer of 100 questions right, between {-high} and {-low}"
    return f"No difference can be shown: between {-low} fewer and {high} more of 100"
