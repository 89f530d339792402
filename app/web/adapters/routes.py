"""Adapters: what was learned, before and after, and the files to download."""

from typing import Annotated

from fastapi import APIRouter, Form, Response
from fastapi.responses import FileResponse, RedirectResponse

from app.adapters import registry as adapters
from app.adapters import states
from app.core import storage
from app.core.db import Db
from app.core.errors import AppError
from app.core.models import Adapter, Release, User
from app.evaluation import cards
from app.people.auth import CurrentUser, can_edit
from app.web import stepper
from app.web.adapters.page import ListPage, adapter_page
from app.web.render import page

router = APIRouter(prefix="/adapters")


@router.get("")
def list_adapters(db: Db, user: CurrentUser) -> Response:
    """Show the department's adapters, the newest first."""
    made = adapters.list_adapters(db, user)
    is_any_released = any(adapter.release is Release.RELEASED for adapter in made)
    shown = ListPage(
        [(adapter, states.of(adapter)) for adapter in made],
        num_left_to_curves=adapters.num_left_to_curves(db, user),
        can_ask=can_edit(user),
        can_ask_some=is_any_released,
    )
    return page("adapters/list.html", user, page=shown)


@router.get("/{adapter_id}")
def show(db: Db, user: CurrentUser, adapter_id: int) -> Response:
    """Show one adapter: its numbers, its answers beside the starting model's, its files."""
    return _show(db, user, adapters.get(db, user, adapter_id))


@router.get("/{adapter_id}/download")
def download(db: Db, user: CurrentUser, adapter_id: int) -> FileResponse:
    """Hand over the adapter as one zip."""
    file = cards.archive(db, user, adapters.get(db, user, adapter_id))
    return FileResponse(
        storage.file(file.storage_key, file.sha256),
        media_type="application/zip",
        filename=file.filename,
        content_disposition_type="attachment",
        headers={"Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff"},
    )


@router.post("/{adapter_id}/rename")
def rename(
    db: Db, user: CurrentUser, adapter_id: int, name: Annotated[str, Form()] = ""
) -> Response:
    """Give an adapter another name; a wrong one comes back with what was typed."""
    adapter = adapters.get(db, user, adapter_id)
    try:
        adapters.rename(db, user, adapter, name)
    except AppError as error:
        db.rollback()
        return _show(db, user, adapter, status=error.status, typed=name, error=error.message)
    db.commit()
    return RedirectResponse(f"/adapters/{adapter_id}", status_code=303)


@router.post("/{adapter_id}/delete")
def delete(db: Db, user: CurrentUser, adapter_id: int) -> RedirectResponse:
    """Delete an adapter and its files; the job that made it stays."""
    adapters.delete(db, user, adapters.get(db, user, adapter_id))
    db.commit()
    return RedirectResponse("/adapters", status_code=303)


def _show(
    db: Db,
    user: User,
    adapter: Adapter,
    *,
    status: int = 200,
    typed: str | None = None,
    error: str = "",
) -> Response:
    shown = adapter_page(db, user, adapter, typed=typed, error=error)
    return page(
        "adapters/show.html",
        user,
        status=status,
        page=shown,
        stepper=stepper.of_adapter(db, adapter, "Use"),
    )
