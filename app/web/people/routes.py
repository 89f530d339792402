"""People: who has an account here. For administrators."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from app.core.errors import AppError
from app.core.models import User
from app.people import members
from app.web import once
from app.web.dependencies import CurrentUser, Db
from app.web.forms import PersonForm, RoleForm
from app.web.people.page import people_page
from app.web.render import page

router = APIRouter(prefix="/people")


@router.get("")
def list_people(db: Db, request: Request, user: CurrentUser) -> Response:
    """Show who has an account, and a new one-time link, this once."""
    new = once.taken(request, user)
    link_for = members.get(db, user, int(new["person"])) if new else None
    shown = _list(db, user, link_for=link_for, link=new.get("link", ""))
    return once.forget(request, shown)


@router.post("")
def invite(
    db: Db, request: Request, user: CurrentUser, form: Annotated[PersonForm, Form()]
) -> Response:
    """Add a person; the list then shows the one-time link, this once."""
    try:
        person, secret = members.invite(db, user, form.email, form.name, form.role)
    except AppError as error:
        db.rollback()
        return _list(db, user, form=form, error=error)
    db.commit()
    return _with_link(request, user, person, secret)


@router.post("/{user_id}/link")
def new_link(db: Db, request: Request, user: CurrentUser, user_id: int) -> Response:
    """Make a new one-time link for somebody; the list then shows it, this once."""
    person = members.get(db, user, user_id)
    secret = members.new_link(db, user, person)
    db.commit()
    return _with_link(request, user, person, secret)


@router.post("/{user_id}/role")
def set_role(
    db: Db, user: CurrentUser, user_id: int, form: Annotated[RoleForm, Form()]
) -> Response:
    """Give a person another role."""
    person = members.get(db, user, user_id)
    try:
        members.set_role(db, user, person, form.role)
    except AppError as error:
        db.rollback()
        return _list(db, user, error=error)
    db.commit()
    return RedirectResponse("/people", status_code=303)


@router.post("/{user_id}/disable")
def disable(db: Db, user: CurrentUser, user_id: int) -> Response:
    """Deactivate an account."""
    person = members.get(db, user, user_id)
    try:
        members.disable(db, user, person)
    except AppError as error:
        db.rollback()
        return _list(db, user, error=error)
    db.commit()
    return RedirectResponse("/people", status_code=303)


@router.post("/{user_id}/enable")
def enable(db: Db, user: CurrentUser, user_id: int) -> Response:
    """Reactivate an account."""
    members.enable(db, user, members.get(db, user, user_id))
    db.commit()
    return RedirectResponse("/people", status_code=303)


def _list(
    db: Db,
    user: User,
    *,
    form: PersonForm | None = None,
    error: AppError | None = None,
    link_for: User | None = None,
    link: str = "",
) -> Response:
    shown = people_page(db, user, form=form, error=error, link_for=link_for, link=link)
    return page("people/list.html", user, status=error.status if error else 200, page=shown)


def _with_link(request: Request, admin: User, person: User, secret: str) -> Response:
    link = str(request.url_for("set_up", secret=secret))
    return once.show_at("/people", admin, person=str(person.id), link=link)
