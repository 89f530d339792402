"""Starting models: what there is to choose from, and, for administrators, adding one."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse
from sqlalchemy.orm import Session

from app.base_models import catalog, uploads
from app.base_models import registry as base_models
from app.base_models.wanted_files import Offered
from app.core import wakeup
from app.core.errors import AppError, Conflict, NotFound
from app.core.models import Json, Role, User
from app.people.auth import require_role
from app.web import lists
from app.web.dependencies import CurrentUser, Db
from app.web.models.page import models_page
from app.web.multipart import Received, received
from app.web.render import page

router = APIRouter(prefix="/models")
_WHOLE_LIST: dict[str, str] = {}  # an address that asks for no part of it


@router.get("")
def list_models(db: Db, user: CurrentUser, request: Request) -> Response:
    """Show every starting model: size, licence, and whether it fits this machine."""
    return _page(db, user, query=request.query_params)


@router.post("")
def add(
    db: Db,
    user: CurrentUser,
    path: Annotated[str, Form()] = "",
    name: Annotated[str, Form()] = "",
) -> Response:
    """Register a model from a folder on the server; a worker imports it."""
    require_role(user, Role.ADMIN)
    path, name = path.strip(), name.strip()
    return _add(db, user, {"kind": "folder", "path": path}, name, {"path": path, "name": name})


@router.post("/upload")
async def upload(request: Request, db: Db, user: CurrentUser) -> Response:
    """Take one GGUF file whole from a plain form; browsers with JavaScript send pieces."""
    require_role(user, Role.ADMIN)
    await run_in_threadpool(db.commit)  # an upload may take an hour
    name = ""
    try:
        async with received(request, "file") as form:
            name = form.fields.get("upload_name", "").strip()
            await run_in_threadpool(_adopt, db, user, form, name)
    except AppError as error:
        await run_in_threadpool(db.rollback)
        field = "upload_name" if error.field == "name" else "upload"
        said: dict[str, Any] = {
            "status": error.status,
            "typed": {"upload_name": name},
            "errors": {field: error.message},
        }
        return await run_in_threadpool(partial(_page, db, user, **said))
    wakeup.hint("cpu")
    return RedirectResponse("/models", status_code=303)


def _adopt(db: Session, user: User, form: Received, name: str) -> None:
    chosen = Offered(path=form.filename, size_bytes=form.file.size_bytes)
    uploads.adopt(db, user, name, chosen, form.file.move_to)
    db.commit()


@router.post("/hub")
def add_from_hub(db: Db, user: CurrentUser, repo: Annotated[str, Form()] = "") -> Response:
    """Register a model of the Hugging Face Hub, where that is allowed; a worker fetches it."""
    require_role(user, Role.ADMIN)
    repo = repo.strip()
    return _add(db, user, {"kind": "hub", "repo": repo}, repo, {"repo": repo})


@router.post("/catalog")
def add_from_catalog(db: Db, user: CurrentUser, name: Annotated[str, Form()] = "") -> Response:
    """Register a model of the catalogue, where downloads are allowed; a worker fetches it."""
    require_role(user, Role.ADMIN)
    entry = catalog.by_name(name)
    if entry is None:
        raise NotFound("The catalogue has no such model.", field="name")
    source: Json = {"kind": "hub", "repo": entry.name}
    if entry.revision:
        source["revision"] = entry.revision
    return _add(db, user, source, entry.name, {})


def _add(
    db: Session,
    user: User,
    source: Json,
    name: str,
    typed: dict[str, str],
) -> Response:
    """Register one; what is wrong with it stands beside the field that it was typed into."""
    try:
        base_models.add(db, user, source, name)
    except AppError as error:
        db.rollback()
        # A name from the hub is typed into the field that is called repo.
        field = "repo" if error.field == "name" and "repo" in typed else error.field
        wrong = {field if field in typed else "form": error.message}
        return _page(db, user, status=error.status, typed=typed, errors=wrong)
    db.commit()
    wakeup.hint("cpu")
    return RedirectResponse("/models", status_code=303)


@router.post("/{model_id}/import")
def import_again(db: Db, user: CurrentUser, model_id: int) -> RedirectResponse:
    """Try a failed import once more."""
    base_models.import_again(db, user, base_models.get_model(db, model_id))
    db.commit()
    wakeup.hint("cpu")
    return RedirectResponse("/models", status_code=303)


@router.post("/{model_id}/cancel")
def cancel_import(db: Db, user: CurrentUser, model_id: int) -> RedirectResponse:
    """Stop an import that waits or goes on."""
    base_models.cancel_import(db, user, base_models.get_model(db, model_id))
    db.commit()
    return RedirectResponse("/models", status_code=303)


@router.post("/{model_id}/delete")
def delete(db: Db, user: CurrentUser, model_id: int) -> Response:
    """Delete a starting model; what was made with it stays."""
    try:
        base_models.delete(db, user, base_models.get_model(db, model_id))
    except Conflict as error:  # what still needs it, on the page of all models
        db.rollback()
        return _page(db, user, status=error.status, errors={"form": error.message})
    db.commit()
    wakeup.hint("cpu")  # the worker removes the files
    return RedirectResponse("/models", status_code=303)


def _page(
    db: Session,
    user: User,
    *,
    status: int = 200,
    query: lists.Query | None = None,
    typed: dict[str, str] | None = None,
    errors: dict[str, str] | None = None,
) -> Response:
    shown = models_page(db, user, _WHOLE_LIST if query is None else query, typed, errors)
    return page("models/list.html", user, status=status, page=shown)
