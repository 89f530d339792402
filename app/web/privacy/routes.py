"""The privacy gate of a version, and the patterns that an administrator adds to it."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.orm import Session

from app.core import wakeup
from app.core.errors import AppError
from app.core.models import DatasetVersion, Role, User
from app.datasets import versions
from app.datasets.privacy import patterns, reviews
from app.people.auth import require_role
from app.web.dependencies import CurrentUser, Db
from app.web.forms import sent_fields
from app.web.privacy import page as privacy_page
from app.web.privacy.page import PatternForm, PrivacyForm
from app.web.render import page, version_page

router = APIRouter()


async def _sent(request: Request) -> PrivacyForm:
    return PrivacyForm.read(await sent_fields(request))


SentForm = Annotated[PrivacyForm, Depends(_sent)]


@router.get("/versions/{version_id}/privacy")
def show(db: Db, user: CurrentUser, version_id: int, *, watching: bool = False) -> Response:
    """Show what was found, in its context; or how far the search is."""
    version = versions.get_version(db, user, version_id)
    if watching and not privacy_page.is_busy(reviews.of(db, version.id)):
        return Response(status_code=204, headers={"HX-Refresh": "true"})
    return _gate(db, user, version, PrivacyForm())


@router.post("/versions/{version_id}/privacy")
def decide(db: Db, user: CurrentUser, version_id: int, form: SentForm) -> Response:
    """Settle what happens to what was found."""
    version = versions.get_version(db, user, version_id)
    try:
        reviews.decide(db, user, version, form.decision())
    except AppError as error:
        db.rollback()
        return _gate(db, user, version, form, error)
    db.commit()
    wakeup.hint("cpu")
    return RedirectResponse(f"/versions/{version.id}/privacy", status_code=303)


@router.post("/versions/{version_id}/privacy/scan")
def scan(db: Db, user: CurrentUser, version_id: int) -> Response:
    """Look through a version once more."""
    version = versions.get_version(db, user, version_id)
    try:
        reviews.scan_again(db, user, version)
    except AppError as error:
        db.rollback()
        return _gate(db, user, version, PrivacyForm(), error)
    db.commit()
    wakeup.hint("cpu")
    return RedirectResponse(f"/versions/{version.id}/privacy", status_code=303)


@router.get("/privacy")
def explain(user: CurrentUser) -> Response:
    """Say how well personal details are found, and what is missed."""
    return page("privacy/help.html", user)


@router.get("/patterns")
def list_patterns(db: Db, user: CurrentUser) -> Response:
    """Show what this site searches for besides."""
    require_role(user, Role.ADMIN)
    return _patterns(db, user)


@router.post("/patterns")
def add_pattern(
    db: Db,
    user: CurrentUser,
    name: Annotated[str, Form()] = "",
    kind: Annotated[str, Form()] = "",
    pattern: Annotated[str, Form()] = "",
    sample: Annotated[str, Form()] = "",
) -> Response:
    """Add a pattern; it holds for what is looked through from now on."""
    require_role(user, Role.ADMIN)
    try:
        patterns.add(db, user, name, kind, pattern, sample)
    except AppError as error:
        db.rollback()
        typed = PatternForm(name, kind, pattern, sample)
        return _patterns(db, user, typed, error)
    db.commit()
    return RedirectResponse("/patterns", status_code=303)


@router.post("/patterns/{pattern_id}/delete")
def delete_pattern(db: Db, user: CurrentUser, pattern_id: int) -> Response:
    """Take a pattern away."""
    require_role(user, Role.ADMIN)
    patterns.delete(db, user, pattern_id)
    db.commit()
    return RedirectResponse("/patterns", status_code=303)


def _gate(
    db: Session,
    user: User,
    version: DatasetVersion,
    form: PrivacyForm,
    error: AppError | None = None,
) -> Response:
    shown = privacy_page.gate_page(db, user, version, form)
    return version_page("privacy/show.html", user, version, shown, error, here="Personal details")


def _patterns(
    db: Session, user: User, typed: PatternForm | None = None, error: AppError | None = None
) -> Response:
    shown = privacy_page.patterns_page(db, typed, error)
    return page("privacy/patterns.html", user, shown, status=error.status if error else 200)
