"""What people said of an adapter's answers: looked at, left out, made into data."""

from typing import Annotated

from fastapi import APIRouter, Form, Response
from fastapi.responses import RedirectResponse

from app.adapters import feedback, lessons
from app.adapters import registry as adapters
from app.core import wakeup
from app.core.errors import AppError
from app.web import confirmations, stepper
from app.web.adapters.feedback_page import feedback_page, numbers
from app.web.dependencies import CurrentUser, Db
from app.web.forms import FeedbackForm
from app.web.render import page

router = APIRouter(prefix="/adapters/{adapter_id}/feedback")


@router.get("")
def show(db: Db, user: CurrentUser, adapter_id: int) -> Response:
    """Show what was collected and is not data yet."""
    adapter = adapters.get(db, user, adapter_id)
    way = stepper.of_adapter(db, adapter, "Use")
    shown = feedback_page(db, user, adapter)
    return page("adapters/feedback.html", user, page=shown, stepper=way)


@router.post("")
def use(
    db: Db, user: CurrentUser, adapter_id: int, form: Annotated[FeedbackForm, Form()]
) -> Response:
    """Make a version of the ticked ones, or leave them out."""
    adapter = adapters.get(db, user, adapter_id)
    chosen = numbers(form.chosen)
    if form.action == "leave_out":
        feedback.leave_out(db, user, adapter, sorted(chosen))
        confirmations.did("left out")
        db.commit()
        return RedirectResponse(f"/adapters/{adapter.id}/feedback", status_code=303)
    try:
        made = lessons.make(db, user, adapter, sorted(chosen), as_pairs=form.use_as == "pairs")
    except AppError as error:
        db.rollback()
        shown = feedback_page(db, user, adapter, chosen=chosen, use_as=form.use_as, error=error)
        way = stepper.of_adapter(db, adapter, "Use")
        return page("adapters/feedback.html", user, status=error.status, page=shown, stepper=way)
    db.commit()
    wakeup.hint("cpu")  # the doctor looks at the new version
    return RedirectResponse(f"/versions/{made.version.id}?made=1", status_code=303)
