"""Starting models: what there is to choose from, and, for administrators, adding one."""

from typing import Annotated

from fastapi import APIRouter, Form, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.orm import Session

from app import base_models, jobs, queue
from app.auth import CurrentUser, require
from app.db import Db
from app.errors import AppError
from app.models import Role, User
from app.render import page

router = APIRouter(prefix="/models")


@router.get("")
def list_models(db: Db, user: CurrentUser) -> Response:
    """Show every starting model: size, licence, and whether it fits this machine."""
    return _page(db, user)


@router.post("")
def add(
    db: Db,
    user: CurrentUser,
    path: Annotated[str, Form()] = "",
    name: Annotated[str, Form()] = "",
) -> Response:
    """Register a model from a folder on the server; a worker imports it."""
    require(user, Role.ADMIN)
    path, name = path.strip(), name.strip()
    try:
        base_models.add(db, user, {"kind": "folder", "path": path}, name)
    except AppError as error:
        db.rollback()
        wrong = {error.field or "form": error.message}
        return _page(db, user, status=error.status, path=path, name=name, errors=wrong)
    db.commit()
    queue.hint("cpu")
    return RedirectResponse("/models", status_code=303)


@router.post("/{model_id}/import")
def import_again(db: Db, user: CurrentUser, model_id: int) -> RedirectResponse:
    """Try a failed import once more."""
    base_models.import_again(db, user, base_models.get_model(db, model_id))
    db.commit()
    queue.hint("cpu")
    return RedirectResponse("/models", status_code=303)


def _page(
    db: Session,
    user: User,
    *,
    status: int = 200,
    path: str = "",
    name: str = "",
    errors: dict[str, str] | None = None,
) -> Response:
    device = jobs.device(db)
    return page(
        "models/list.html",
        user,
        status=status,
        models=[(model, jobs.fits(model, device)) for model in base_models.list_models(db)],
        device=device,
        is_admin=user.role is Role.ADMIN,
        path=path,
        name=name,
        errors=errors or {},
    )
