"""Questions that a model makes up to a version's texts: start, watch, stop, and judge each."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.orm import Session

from app.core import wakeup
from app.core.errors import AppError, NotFound
from app.core.models import DatasetVersion, ProposedPair, User, Verdict
from app.datasets import versions
from app.datasets.questions import reviewing, runs
from app.web.dependencies import CurrentUser, Db
from app.web.forms import AskingForm, SplitForm, VerdictForm
from app.web.questions import page as questions_page
from app.web.render import version_page

router = APIRouter(prefix="/versions/{version_id}/questions")


@router.get("")
def show(db: Db, user: CurrentUser, version_id: int, *, watching: bool = False) -> Response:
    """Show what was made up so far, and the form that asks for more."""
    version = versions.get_version(db, user, version_id)
    if watching and not questions_page.is_busy(db, version):
        return Response(status_code=204, headers={"HX-Refresh": "true"})
    return _show(db, user, version)


@router.post("")
def start(
    db: Db, user: CurrentUser, version_id: int, form: Annotated[AskingForm, Form()]
) -> Response:
    """Have a starting model make up questions."""
    version = versions.get_version(db, user, version_id)
    try:
        runs.start(db, user, version, *questions_page.wish_from(db, form))
    except AppError as error:
        db.rollback()
        return _show(db, user, version, form=form, error=error)
    db.commit()
    wakeup.hint("cpu")
    return _to(version)


@router.post("/cancel")
def cancel(db: Db, user: CurrentUser, version_id: int) -> Response:
    """Stop it; what is there stays."""
    version = versions.get_version(db, user, version_id)
    try:
        runs.cancel(db, user, version)
    except AppError as error:
        db.rollback()
        return _show(db, user, version, error=error)
    db.commit()
    return _to(version)


@router.post("/version")
def make_version(
    db: Db, user: CurrentUser, version_id: int, form: Annotated[SplitForm, Form()]
) -> Response:
    """Make a version of what was accepted."""
    version = versions.get_version(db, user, version_id)
    try:
        share, seed = questions_page.split_from(form)
        made = reviewing.make_version(db, user, version, share, seed)
    except AppError as error:
        db.rollback()
        return _show(db, user, version, split=form, error=error)
    db.commit()
    wakeup.hint("cpu")  # it is looked through for personal details, and checked
    return RedirectResponse(f"/versions/{made.id}", status_code=303)


@router.get("/review")
def review(db: Db, user: CurrentUser, version_id: int, said: str = "", after: str = "") -> Response:
    """Show a page of pairs, each beside its passage."""
    version = versions.get_version(db, user, version_id)
    shown = questions_page.review_page(db, version, said, after)
    return version_page("questions/review.html", user, version, shown)


@router.post("/{pair_id}")
def decide(
    request: Request,
    db: Db,
    user: CurrentUser,
    version_id: int,
    pair_id: int,
    form: Annotated[VerdictForm, Form()],
) -> Response:
    """Accept a pair as it is written, refuse it, or take that back."""
    version = versions.get_version(db, user, version_id)
    pair = reviewing.get(db, version, pair_id)
    try:
        verdict = questions_page.verdict_from(form)
        reviewing.decide(db, user, pair, verdict, form.question, form.answer)
    except AppError as error:
        db.rollback()
        error.field = f"{error.field}-{pair.id}" if error.field else None
        return _pair(db, user, version, pair, form, error)
    db.commit()
    if "hx-request" in request.headers:
        return _pair(db, user, version, pair)
    # The next one is where this one was: a list shows what was not judged yet.
    said = form.said if form.said in list(Verdict) else Verdict.OPEN.value
    after = f"&after={form.after}" if form.after.isdecimal() else ""
    address = f"/versions/{version.id}/questions/review?said={said}{after}#pairs"
    return RedirectResponse(address, status_code=303)


def _pair(
    db: Session,
    user: User,
    version: DatasetVersion,
    pair: ProposedPair,
    form: VerdictForm | None = None,
    error: AppError | None = None,
) -> Response:
    """Render one pair with the counts; after an error as it was typed, alone on its page."""
    shown = questions_page.pair_page(db, version, pair, form, error)
    return version_page("questions/review.html", user, version, shown, error)


def _show(
    db: Session,
    user: User,
    version: DatasetVersion,
    *,
    form: AskingForm | None = None,
    split: SplitForm | None = None,
    error: AppError | None = None,
) -> Response:
    shown = questions_page.ask_page(db, version, form, split)
    if not shown.ended and not shown.going and not shown.can_ask:
        raise NotFound("Questions can be made up only about plain text, and this version has none.")
    return version_page("questions/show.html", user, version, shown, error)


def _to(version: DatasetVersion) -> Response:
    return RedirectResponse(f"/versions/{version.id}/questions", status_code=303)
