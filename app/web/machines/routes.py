"""Queue › Machines: tokens with which other machines join, and the answer to those that do."""

from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from app.core.errors import AppError, Conflict, Forbidden, Invalid
from app.core.models import User
from app.machines import joining
from app.web import once
from app.web.dependencies import CurrentUser, Db
from app.web.forms import MachineForm
from app.web.machines.page import machines_page
from app.web.proxies import address_of, is_exposed
from app.web.render import page

router = APIRouter(prefix="/machines")


class Joining(BaseModel):
    """What a machine sends that wants to join."""

    token: str = Field(max_length=200)
    version: str = Field(max_length=50)


@router.get("")
def show(db: Db, request: Request, user: CurrentUser) -> Response:
    """Show the machines that have joined, and a new token, this once."""
    said = once.taken(request, user)
    shown = machines_page(
        db, request, user, token=said.get("token", ""), machine=said.get("machine", "")
    )
    return once.forget(request, page("machines/show.html", user, shown))


@router.post("")
def start(
    db: Db, request: Request, user: CurrentUser, form: Annotated[MachineForm, Form()]
) -> Response:
    """Make a token for a machine; the page then shows it, this once."""
    try:
        token = joining.start(db, user, form.machine)
    except (Invalid, Conflict) as error:
        return _wrong(db, request, user, form, error)
    db.commit()
    return once.show_at("/machines", user, token=token, machine=form.machine.strip().lower())


@router.post("/join")
def join(db: Db, request: Request, sent: Joining) -> JSONResponse:
    """Tell a machine what it needs, for a token; no session and no cookie count here."""
    if is_exposed(request):
        # It would carry the database's password for everybody on the way to read.
        raise Forbidden("A machine joins over https alone; put a proxy with TLS in front of Etude.")
    told = joining.join(db, sent.token, sent.version, version("etude"), address_of(request))
    db.commit()  # used up before it is answered
    return JSONResponse(told.model_dump(mode="json"), headers={"Cache-Control": "no-store"})


@router.post("/{join_id}/forget")
def forget(db: Db, user: CurrentUser, join_id: int) -> Response:
    """Take back a token, or forget a machine that is gone."""
    joining.withdraw(db, user, join_id)
    db.commit()
    return RedirectResponse("/machines", status_code=303)


def _wrong(
    db: Session, request: Request, user: User, form: MachineForm, error: AppError
) -> Response:
    db.rollback()
    shown = machines_page(db, request, user, form=form, error=error)
    return page("machines/show.html", user, shown, status=error.status)
