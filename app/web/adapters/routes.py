"""Adapters: what was learned, before and after, and what is done with it."""

from typing import Annotated, Literal

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from app.adapters import bin as adapter_bin
from app.adapters import registry as adapters
from app.core.errors import AppError
from app.core.models import Adapter, User
from app.web import stepper
from app.web.adapters.page import adapter_page, list_page
from app.web.dependencies import CurrentUser, Db
from app.web.render import page

router = APIRouter(prefix="/adapters")


@router.get("")
def list_adapters(db: Db, user: CurrentUser, request: Request) -> Response:
    """Show the department's adapters, the newest first, or as the address asks."""
    return page("adapters/list.html", user, page=list_page(db, user, request.query_params))


@router.get("/{adapter_id}")
def show(db: Db, user: CurrentUser, adapter_id: int) -> Response:
    """Show one adapter: its numbers, its answers beside the starting model's, its files."""
    return _show(db, user, adapters.get(db, user, adapter_id))


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
def delete(
    db: Db, user: CurrentUser, adapter_id: int, at_once: Annotated[Literal["", "1"], Form()] = ""
) -> RedirectResponse:
    """Put an adapter into the bin, or erase it with its files at once; its job stays."""
    adapter = adapters.get(db, user, adapter_id)
    if at_once:
        adapters.delete(db, user, adapter)
    else:
        adapter_bin.put(db, user, adapter)
    db.commit()
    said = "erased=1" if at_once else f"binned={adapter_id}"
    return RedirectResponse(f"/adapters?{said}", status_code=303)


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
