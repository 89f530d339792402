"""Take an adapter along: have a form made, cancel, download, and how each program uses it."""

from typing import Annotated

from fastapi import APIRouter, Form, Response
from fastapi.responses import FileResponse, RedirectResponse

from app.adapters import exports
from app.adapters import registry as adapters
from app.core import wakeup
from app.core.errors import AppError, Invalid, NotFound
from app.core.models import ExportForm, Quantization
from app.web import stepper
from app.web.adapters.export_page import use_page
from app.web.adapters.page import adapter_page
from app.web.dependencies import CurrentUser, Db
from app.web.render import page

router = APIRouter(prefix="/adapters/{adapter_id}")


@router.post("/exports")
def make(
    db: Db,
    user: CurrentUser,
    adapter_id: int,
    form: Annotated[str, Form()] = "",
    quantization: Annotated[str, Form()] = "",
) -> Response:
    """Have an adapter made in a form."""
    adapter = adapters.get(db, user, adapter_id)
    try:
        exports.request(db, user, adapter, _form(form), _quantization(quantization))
    except AppError as error:
        db.rollback()
        shown = adapter_page(db, user, adapter, export_error=error.message)
        way = stepper.of_adapter(db, adapter, "Use")
        return page("adapters/show.html", user, status=error.status, page=shown, stepper=way)
    db.commit()
    wakeup.hint("cpu")
    return _back(adapter_id)


@router.post("/exports/{export_id}/cancel")
def cancel(db: Db, user: CurrentUser, adapter_id: int, export_id: int) -> Response:
    """Stop one that waits or is being made."""
    adapter = adapters.get(db, user, adapter_id)
    exports.cancel(db, user, exports.get(db, user, adapter, export_id))
    db.commit()
    return _back(adapter_id)


@router.get("/exports/{export_id}/download")
def download(db: Db, user: CurrentUser, adapter_id: int, export_id: int) -> FileResponse:
    """Hand over what is ready."""
    row = exports.get(db, user, adapters.get(db, user, adapter_id), export_id)
    path = exports.archive(db, user, row)
    name = row.filename
    db.commit()  # the audit log says who took it
    return FileResponse(
        path,
        media_type="application/zip",
        filename=name,
        content_disposition_type="attachment",
        headers={"Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff"},
    )


@router.get("/use")
def use(db: Db, user: CurrentUser, adapter_id: int, program: str = "") -> Response:
    """Show how one program uses an adapter."""
    adapter = adapters.get(db, user, adapter_id)
    if not adapter.has_weights:
        raise NotFound(adapters.NO_FILES.format(name=adapter.name))
    way = stepper.of_adapter(db, adapter, "Use")
    return page("adapters/use.html", user, page=use_page(db, adapter, program), stepper=way)


def _form(sent: str) -> ExportForm:
    if sent not in list(ExportForm):
        raise Invalid("Choose what to take it along as.", field="form")
    return ExportForm(sent)


def _quantization(sent: str) -> Quantization | None:
    if not sent:
        return None
    if sent not in list(Quantization):
        raise Invalid("Choose one of the numbers of bits that are shown.", field="quantization")
    return Quantization(sent)


def _back(adapter_id: int) -> RedirectResponse:
    return RedirectResponse(f"/adapters/{adapter_id}#take-along", status_code=303)
