"""Rows that a person writes: the form, and the version that it makes."""

from dataclasses import dataclass
from itertools import zip_longest
from typing import Annotated

from fastapi import APIRouter, Form, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.orm import Session

from app.core import wakeup
from app.core.errors import AppError, Conflict, NotFound
from app.core.models import DatasetVersion, User, VersionStatus
from app.datasets import adding, examples, versions
from app.evaluation import hints, reading
from app.web.dependencies import CurrentUser, Db
from app.web.forms import RowsForm
from app.web.render import version_page

router = APIRouter(prefix="/versions/{version_id}/add")
_NUM_ROWS = 3


@dataclass(frozen=True)
class AddingPage:
    """examples/add.html: empty rows, or as they were typed; and what they are to be like."""

    rows: list[tuple[str, str]]
    about: str
    evaluation: str
    missed: list[str]  # test questions, to be read and not copied


@router.get("")
def show(
    db: Db, user: CurrentUser, version_id: int, evaluation: str = "", about: str = ""
) -> Response:
    """Show the form for rows that are written by hand, beside what went wrong in an evaluation."""
    return _page(db, user, _ready(db, user, version_id), evaluation, about)


@router.post("")
def add(
    db: Db,
    user: CurrentUser,
    version_id: int,
    form: Annotated[RowsForm, Form()],
    evaluation: str = "",
    about: str = "",
) -> Response:
    """Add questions and answers to the practice set, in a new version."""
    version = _ready(db, user, version_id)
    rows = list(zip_longest(form.question, form.answer, fillvalue=""))
    try:
        made = adding.add(db, user, version, rows)
    except AppError as error:
        db.rollback()
        return _page(db, user, version, evaluation, about, rows, error)
    last = examples.end(db, made) - 1
    db.commit()
    wakeup.hint("cpu")  # the doctor looks at the new version
    return RedirectResponse(f"/versions/{made.id}/examples?start={last}&made=1", status_code=303)


def _page(
    db: Session,
    user: User,
    version: DatasetVersion,
    evaluation: str,
    about: str,
    rows: list[tuple[str, str]] | None = None,
    error: AppError | None = None,
) -> Response:
    shown = AddingPage(
        rows=[*(rows or []), *[("", "")] * _NUM_ROWS][: max(_NUM_ROWS, len(rows or []))],
        about=about[:100],
        evaluation=evaluation if evaluation.isdecimal() else "",
        missed=_missed(db, user, evaluation, about[:100]),
    )
    return version_page("examples/add.html", user, version, shown, error)


def _missed(db: Session, user: User, evaluation: str, about: str) -> list[str]:
    if not (evaluation.isascii() and evaluation.isdecimal() and len(evaluation) < 10):
        return []
    try:
        found = reading.get(db, user, int(evaluation))
    except NotFound:
        return []
    return hints.not_right(db, found, about) if reading.may_read_rows(db, user, found) else []


def _ready(db: Session, user: User, version_id: int) -> DatasetVersion:
    version = versions.get_version(db, user, version_id)
    versions.require_editor(user)
    if version.status is not VersionStatus.READY:
        raise Conflict("This version has no examples yet; wait until it is ready.")
    return version
