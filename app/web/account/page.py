"""What the pages of signing in and of a person's own account show."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.core import settings
from app.core.errors import AppError
from app.core.models import ApiToken, User, WebSession
from app.notices import inbox
from app.notices.events import WORDS, wants_mail
from app.people import auth, passwords, sessions
from app.web.forms import SetupForm, SignInForm

# What was done, by the word in the address that a form leads back to.
_SAID = {
    "password": "Your password has been changed, and every other browser has been signed out.",
    "revoked": "The token no longer works.",
    "session": "That browser has been signed out.",
    "others": "Every other browser has been signed out.",
    "notices": "Your choice has been saved.",
}


@dataclass(frozen=True)
class SignInPage:
    form: SignInForm
    error: AppError | None
    is_new: bool  # nobody has an account yet
    is_exposed: bool  # the password would be sent for others to read
    shared_minutes: float  # after which a shared computer is signed out


@dataclass(frozen=True)
class SetupPage:
    """Setting a password by a one-time link."""

    secret: str
    person: User | None  # None: the first administrator's account is made
    form: SetupForm
    error: AppError | None
    is_exposed: bool  # as for signing in
    min_length: int = passwords.MIN_LENGTH


@dataclass(frozen=True)
class MailKind:
    """A kind of notice, and whether it comes by mail."""

    value: str
    words: str
    is_on: bool


@dataclass(frozen=True)
class ShownSession:
    """A browser in which the person is signed in."""

    row: WebSession
    is_this: bool


@dataclass(frozen=True)
class AccountPage:
    said: str
    error: AppError | None
    sessions: list[ShownSession]
    token: str  # a new one, shown this once
    tokens: list[ApiToken]
    mail_kinds: list[MailKind]
    has_mail: bool
    min_length: int = passwords.MIN_LENGTH


def account_page(
    db: Session,
    user: User,
    cookie: str,
    *,
    said: str = "",
    token: str = "",
    error: AppError | None = None,
) -> AccountPage:
    """Gather what a person's own account shows.

    Args:
        cookie: Of the browser that asks.
        said: The word for what was just done.
    """
    here = sessions.digest(cookie)
    return AccountPage(
        said=_SAID.get(said, ""),
        error=error,
        sessions=[ShownSession(row, row.token_hash == here) for row in sessions.list_all(db, user)],
        token=token,
        tokens=list(auth.list_tokens(db, user)),
        mail_kinds=[
            MailKind(kind.value, WORDS[kind], wants_mail(user, kind))
            for kind in inbox.mailed_to(user)
        ],
        has_mail=bool(settings.get().smtp_host),
    )
