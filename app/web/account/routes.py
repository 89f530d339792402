"""Sign-in and sign-out, one-time links, and a person's own account."""

from typing import Annotated

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from app.core import db as database
from app.core import settings
from app.core.errors import AppError, Conflict, Invalid, Problems, TooMany
from app.core.models import User
from app.notices import inbox
from app.people import auth, browsers, passwords, sessions
from app.web import once
from app.web.account.page import SetupPage, SignInPage, account_page
from app.web.compression import AS_IT_IS
from app.web.dependencies import CurrentUser, Db, cookie_of
from app.web.forms import MailForm, NameForm, PasswordForm, SetupForm, SignInForm
from app.web.proxies import address_of, is_exposed
from app.web.render import page

router = APIRouter()
# A flood of sign-ins waits here, and not for the threads that everybody's pages need.
_signing_in = CapacityLimiter(4)


@router.get("/sign-in")
def show_sign_in(db: Db, request: Request, next: str = "/") -> Response:
    """Ask for e-mail and password."""
    if auth.user_of_session(db, cookie_of(request)):
        return RedirectResponse(_inside(next), status_code=303)
    return _sign_in_page(db, request, SignInForm(next=next))


@router.post("/sign-in")
async def sign_in(request: Request, form: Annotated[SignInForm, Form()]) -> Response:
    """Open a session for who knows the password; the one that the browser had ends."""
    return await to_thread.run_sync(_sign_in, request, form, limiter=_signing_in)


def _sign_in(request: Request, form: SignInForm) -> Response:
    known, is_shared = cookie_of(request, browsers.COOKIE), bool(form.shared)
    with database.session() as db:
        try:
            user, cookie = auth.sign_in(
                db,
                form.email,
                form.password,
                address_of(request),
                known=known,
                replaces=cookie_of(request),
                browser=_browser(request),
                is_shared=is_shared,
            )
        except AppError as error:
            db.rollback()
            return _sign_in_page(db, request, form, error)
        db.commit()
    response = _with_session(_inside(form.next), cookie, is_shared=is_shared)
    if not is_shared:  # whoever else sits at a shared one is a stranger
        marks = browsers.remember(known, user.id)
        _set_cookie(response, browsers.COOKIE, marks, browsers.MAX_AGE_SECONDS)
    return response


@router.post("/sign-out")
def sign_out(db: Db, request: Request) -> Response:
    """End this browser's session."""
    auth.sign_out(db, cookie_of(request))
    db.commit()
    response = RedirectResponse("/sign-in", status_code=303)
    response.delete_cookie(auth.cookie_name(auth.COOKIE), secure=settings.get().secure_cookies)
    response.headers["Clear-Site-Data"] = '"cache", "storage"'
    return response


@router.get("/setup/{secret}")
def show_setup(db: Db, request: Request, secret: str) -> Response:
    """Ask a person with a one-time link for a password."""
    response = _setup_page(request, secret, auth.setup_link_user(db, secret), SetupForm())
    response.headers.update(AS_IT_IS)
    return response


@router.post("/setup/{secret}")
def set_up(db: Db, request: Request, secret: str, form: Annotated[SetupForm, Form()]) -> Response:
    """Set the password, make the first administrator if there is none, and sign in."""
    person = auth.setup_link_user(db, secret)
    problems = Problems()
    try:
        with problems:
            _same_twice(form.password, form.password_again)
        with problems:
            user = auth.use_setup_link(
                db, secret, email=form.email, name=form.name.strip(), password=form.password
            )
        problems.check()
    except (Invalid, Conflict) as error:
        db.rollback()
        return _setup_page(request, secret, person, form, error)
    auth.sign_out(db, cookie_of(request))
    cookie = auth.open_session(db, user, browser=_browser(request))
    db.commit()
    return _with_session("/", cookie)


@router.get("/account")
def show_account(db: Db, request: Request, user: CurrentUser, said: str = "") -> Response:
    """Show a person their own account, and a new token, this once."""
    token = once.taken(request, user).get("token", "")
    return once.forget(request, _account_page(db, request, user, said=said, token=token))


@router.post("/account/password")
def change_password(
    db: Db, request: Request, user: CurrentUser, form: Annotated[PasswordForm, Form()]
) -> Response:
    """Replace the password; every other browser is signed out."""
    before = sessions.get(db, cookie_of(request))
    is_shared = before is not None and before.is_shared
    problems = Problems()
    try:
        if not form.old_password:
            problems.add("Write your current password.", "old_password")
        if not form.password_again:
            problems.add("Write the new password a second time.", "password_again")
        else:
            with problems:
                _same_twice(form.password, form.password_again)
        with problems:
            passwords.check(form.password, user.email)
        if problems.found and form.old_password:
            with problems:
                auth.check_own(db, user, form.old_password, address_of(request))
                db.commit()  # that it was known counts, whatever is wrong beside it
        problems.check()
        auth.change_password(db, user, form.old_password, form.password, address_of(request))
    except (Invalid, TooMany) as error:
        db.rollback()
        return _account_page(db, request, user, error=error)
    cookie = auth.open_session(db, user, browser=_browser(request), is_shared=is_shared)
    db.commit()
    return _with_session("/account?said=password", cookie, is_shared=is_shared)


@router.post("/account/sessions/others/end")
def end_other_sessions(db: Db, request: Request, user: CurrentUser) -> Response:
    """Sign out everywhere but here."""
    sessions.end_others(db, user, cookie_of(request))
    db.commit()
    return RedirectResponse("/account?said=others", status_code=303)


@router.post("/account/sessions/{session_id}/end")
def end_session(db: Db, user: CurrentUser, session_id: int) -> Response:
    """Sign out of one browser; it may be this one."""
    sessions.end(db, user, session_id)
    db.commit()
    return RedirectResponse("/account?said=session", status_code=303)


@router.post("/account/notices")
def choose_mail(db: Db, user: CurrentUser, form: Annotated[MailForm, Form()]) -> Response:
    """Keep which notices come by mail."""
    inbox.choose_mail(db, user, form.kinds)
    db.commit()
    return RedirectResponse("/account?said=notices", status_code=303)


@router.post("/account/tokens")
def create_token(
    db: Db, request: Request, user: CurrentUser, form: Annotated[NameForm, Form()]
) -> Response:
    """Make an API token; the account's page then shows it, this once."""
    if not form.name.strip():
        error = Invalid("Say what the token is for, so that you can recognise it.", field="name")
        return _account_page(db, request, user, error=error)
    token = auth.create_token(db, user, form.name)
    db.commit()
    return once.show_at("/account", user, token=token)


@router.post("/account/tokens/{token_id}/revoke")
def revoke_token(db: Db, user: CurrentUser, token_id: int) -> Response:
    """Stop a token."""
    auth.revoke_token(db, user, token_id)
    db.commit()
    return RedirectResponse("/account?said=revoked", status_code=303)


def _sign_in_page(
    db: Db, request: Request, form: SignInForm, error: AppError | None = None
) -> Response:
    shown = SignInPage(
        form,
        error,
        is_new=auth.needs_first_administrator(db),
        is_exposed=is_exposed(request),
        shared_minutes=settings.get().shared_idle_minutes,
    )
    return page("account/sign_in.html", status=error.status if error else 200, page=shown)


def _setup_page(
    request: Request,
    secret: str,
    person: User | None,
    form: SetupForm,
    error: AppError | None = None,
) -> Response:
    shown = SetupPage(secret, person, form, error, is_exposed(request))
    return page("account/setup.html", status=error.status if error else 200, page=shown)


def _account_page(
    db: Db,
    request: Request,
    user: User,
    *,
    said: str = "",
    token: str = "",
    error: AppError | None = None,
) -> Response:
    cookie = cookie_of(request)
    shown = account_page(db, user, cookie, said=said, token=token, error=error)
    return page("account/show.html", user, status=error.status if error else 200, page=shown)


def _with_session(target: str, cookie: str, *, is_shared: bool = False) -> Response:
    response = RedirectResponse(target, status_code=303)
    # On a shared computer it goes with the browser's window, at the latest.
    max_age = None if is_shared else int(settings.get().session_hours * 3600)
    _set_cookie(response, auth.COOKIE, cookie, max_age)
    return response


def _set_cookie(response: Response, name: str, value: str, max_age: int | None) -> None:
    response.set_cookie(
        auth.cookie_name(name),
        value,
        max_age=max_age,
        secure=settings.get().secure_cookies,
        httponly=True,
        samesite="lax",
    )


def _browser(request: Request) -> str:
    return browsers.describe(request.headers.get("user-agent", ""))


def _inside(target: str) -> str:
    # "//evil.example" and "/\evil.example" are other sites to a browser.
    is_path = target.startswith("/") and not target.startswith(("//", "/\\"))
    return target if is_path and target.isprintable() else "/"


def _same_twice(password: str, again: str) -> None:
    if password != again:
        raise Invalid("The two passwords differ.", field="password_again")
