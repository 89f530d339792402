"""Sign-in and sign-out, one-time links, and a person's own account."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from app.core import settings
from app.core.db import Db
from app.core.errors import AppError, Conflict, Invalid
from app.core.models import User
from app.notices import inbox
from app.people import auth
from app.people.auth import CurrentUser
from app.web.account.page import SetupPage, SignInPage, account_page
from app.web.forms import MailForm, NameForm, PasswordForm, SetupForm, SignInForm
from app.web.render import page

router = APIRouter()


@router.get("/sign-in")
def show_sign_in(db: Db, request: Request, next: str = "/") -> Response:
    """Ask for e-mail and password."""
    if auth.user_of_session(db, request.cookies.get(auth.COOKIE, "")):
        return RedirectResponse(_inside(next), status_code=303)
    return _sign_in_page(db, SignInForm(next=next))


@router.post("/sign-in")
def sign_in(db: Db, request: Request, form: Annotated[SignInForm, Form()]) -> Response:
    """Open a session for who knows the password."""
    address = request.client.host if request.client else ""
    try:
        _, cookie = auth.sign_in(db, form.email, form.password, address)
    except AppError as error:
        db.commit()  # a failed try is counted
        return _sign_in_page(db, form, error)
    db.commit()
    return _with_session(_inside(form.next), cookie)


@router.post("/sign-out")
def sign_out(db: Db, request: Request) -> Response:
    """End this browser's session."""
    auth.sign_out(db, request.cookies.get(auth.COOKIE, ""))
    db.commit()
    response = RedirectResponse("/sign-in", status_code=303)
    response.delete_cookie(auth.COOKIE)
    response.headers["Clear-Site-Data"] = '"cache", "storage"'
    return response


@router.get("/setup/{secret}")
def show_setup(db: Db, secret: str) -> Response:
    """Ask a person with a one-time link for a password."""
    return _setup_page(secret, auth.setup_link_user(db, secret), SetupForm())


@router.post("/setup/{secret}")
def set_up(db: Db, secret: str, form: Annotated[SetupForm, Form()]) -> Response:
    """Set the password, make the first administrator if there is none, and sign in."""
    person = auth.setup_link_user(db, secret)
    try:
        _same_twice(form.password, form.password_again)
        user = auth.use_setup_link(
            db, secret, email=form.email, name=form.name.strip(), password=form.password
        )
    except (Invalid, Conflict) as error:
        db.rollback()
        return _setup_page(secret, person, form, error)
    cookie = auth.open_session(db, user)
    db.commit()
    return _with_session("/", cookie)


@router.get("/account")
def show_account(db: Db, user: CurrentUser, said: str = "") -> Response:
    """Show a person their own account."""
    return _account_page(db, user, said=said)


@router.post("/account/password")
def change_password(db: Db, user: CurrentUser, form: Annotated[PasswordForm, Form()]) -> Response:
    """Replace the password; every other browser is signed out."""
    try:
        _same_twice(form.password, form.password_again)
        auth.change_password(db, user, form.old_password, form.password)
    except Invalid as error:
        db.rollback()
        return _account_page(db, user, error=error)
    cookie = auth.open_session(db, user)
    db.commit()
    return _with_session("/account?said=password", cookie)


@router.post("/account/notices")
def choose_mail(db: Db, user: CurrentUser, form: Annotated[MailForm, Form()]) -> Response:
    """Keep which notices come by mail."""
    inbox.choose_mail(db, user, form.kinds)
    db.commit()
    return RedirectResponse("/account?said=notices", status_code=303)


@router.post("/account/tokens")
def create_token(db: Db, user: CurrentUser, form: Annotated[NameForm, Form()]) -> Response:
    """Make an API token and show it, this once."""
    if not form.name.strip():
        error = Invalid("Say what the token is for, so that you can recognise it.", field="name")
        return _account_page(db, user, error=error)
    token = auth.create_token(db, user, form.name)
    db.commit()
    return _account_page(db, user, token=token)


@router.post("/account/tokens/{token_id}/revoke")
def revoke_token(db: Db, user: CurrentUser, token_id: int) -> Response:
    """Stop a token."""
    auth.revoke_token(db, user, token_id)
    db.commit()
    return RedirectResponse("/account?said=revoked", status_code=303)


def _sign_in_page(db: Db, form: SignInForm, error: AppError | None = None) -> Response:
    shown = SignInPage(form, error, is_new=auth.needs_first_administrator(db))
    return page("account/sign_in.html", status=error.status if error else 200, page=shown)


def _setup_page(
    secret: str, person: User | None, form: SetupForm, error: AppError | None = None
) -> Response:
    shown = SetupPage(secret, person, form, error)
    return page("account/setup.html", status=error.status if error else 200, page=shown)


def _account_page(
    db: Db, user: User, *, said: str = "", token: str = "", error: AppError | None = None
) -> Response:
    shown = account_page(db, user, said=said, token=token, error=error)
    return page("account/show.html", user, status=error.status if error else 200, page=shown)


def _with_session(target: str, cookie: str) -> Response:
    response = RedirectResponse(target, status_code=303)
    response.set_cookie(
        auth.COOKIE,
        cookie,
        max_age=int(settings.get().session_hours * 3600),
        secure=settings.get().secure_cookies,
        httponly=True,
        samesite="lax",
    )
    return response


def _inside(target: str) -> str:
    # "//evil.example" and "/\evil.example" are other sites to a browser.
    is_path = target.startswith("/") and not target.startswith(("//", "/\\"))
    return target if is_path and target.isprintable() else "/"


def _same_twice(password: str, again: str) -> None:
    if password != again:
        raise Invalid("The two passwords differ.", field="password_again")
