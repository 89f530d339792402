"""Share an adapter with colleagues: released, withdrawn, how much it is used, what they report."""

from typing import Annotated

from fastapi import APIRouter, Form, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.orm import Session

from app.adapters import registry as adapters
from app.adapters import sharing
from app.core.errors import AppError
from app.core.models import Adapter, User
from app.evaluation import releasing
from app.web import stepper
from app.web.adapters.sharing_page import SharingPage, asks_per_day, sharing_page
from app.web.dependencies import CurrentUser, Db
from app.web.forms import ShareForm
from app.web.render import page

router = APIRouter(prefix="/adapters/{adapter_id}/sharing")


@router.get("")
def show(db: Db, user: CurrentUser, adapter_id: int) -> Response:
    """Show who may ask an adapter, how much it is used and what was reported."""
    adapter = _adapter(db, user, adapter_id)
    return _page(db, user, adapter, sharing_page(db, user, adapter))


@router.post("")
def release(
    db: Db, user: CurrentUser, adapter_id: int, form: Annotated[ShareForm, Form()]
) -> Response:
    """Release an adapter to colleagues, or change what is said of it."""
    adapter = _adapter(db, user, adapter_id)
    try:
        releasing.release(
            db,
            user,
            adapter,
            purpose=form.purpose,
            limits=form.limits,
            reason=form.reason,
            asks_per_day=asks_per_day(form.asks_per_day),
            keeps_questions=bool(form.keeps_questions),
        )
    except AppError as error:
        db.rollback()
        shown = sharing_page(db, user, adapter, form=form, error=error)
        return _page(db, user, adapter, shown, error.status)
    return _done(db, adapter)


@router.post("/withdraw")
def withdraw(db: Db, user: CurrentUser, adapter_id: int) -> Response:
    """Let nobody ask it any more, by whatever way."""
    adapter = _adapter(db, user, adapter_id)
    sharing.withdraw(db, user, adapter)
    return _done(db, adapter)


@router.post("/private")
def make_private(db: Db, user: CurrentUser, adapter_id: int) -> Response:
    """Let only those ask it who may train."""
    adapter = _adapter(db, user, adapter_id)
    sharing.make_private(db, user, adapter)
    return _done(db, adapter)


@router.post("/reports/{report_id}/done")
def handle(db: Db, user: CurrentUser, adapter_id: int, report_id: int) -> Response:
    """Note that somebody has looked at a report."""
    adapter = _adapter(db, user, adapter_id)
    sharing.handle(db, user, adapter, report_id)
    return _done(db, adapter, "#reports")


def _adapter(db: Session, user: User, adapter_id: int) -> Adapter:
    adapter = adapters.get(db, user, adapter_id)
    sharing.require_sharing(user, adapter)
    return adapter


def _done(db: Session, adapter: Adapter, part: str = "") -> RedirectResponse:
    db.commit()
    return RedirectResponse(f"/adapters/{adapter.id}/sharing{part}", status_code=303)


def _page(
    db: Session, user: User, adapter: Adapter, shown: SharingPage, status: int = 200
) -> Response:
    way = stepper.of_adapter(db, adapter, "Use")
    return page("adapters/sharing.html", user, status=status, page=shown, stepper=way)
