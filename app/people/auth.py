"""Who is asking: sign-in, session cookies, API tokens, one-time links, accounts.

Secrets (cookie values, tokens, links) are 256 random bits, stored as SHA-256 only.
"""

import re
import secrets
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, func, select, text
from sqlalchemy.orm import Session

from app.core import audit, settings
from app.core.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Problems,
)
from app.core.models import (
    ApiToken,
    Department,
    Role,
    SetupLink,
    User,
    WebSession,
)
from app.core.sentences import listed
from app.people import attempts, browsers, passwords, sessions

COOKIE = "etude_session"
LINK_HOURS = 24
TOKEN_PREFIX = "etude-"  # noqa: S105 - a mark to recognise tokens by, not a token

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


def cookie_name(name: str) -> str:
    """Return what a cookie of ours is called here.

    Over https no other site of the domain, and nothing on plain http, may set one of that name.
    """
    return f"__Host-{name}" if settings.get().secure_cookies else name


# --- what a person may do ------------------------------------------------------------------


def require_role(user: User, *roles: Role) -> None:
    """Refuse everyone who has none of these roles."""
    if user.role not in roles:
        wanted = listed([role.value for role in roles], "{most} or {last}")
        raise Forbidden(
            f"Only people with the role {wanted} can do this; your role is {user.role.value}."
        )


def can_edit(user: User) -> bool:
    """Say whether a person may change work at all; a viewer may only look."""
    return user.role is not Role.VIEWER


# --- signing in and out --------------------------------------------------------------------


def sign_in(
    db: Session,
    email: str,
    password: str,
    address: str,
    *,
    known: str = "",
    replaces: str = "",
    browser: str = "",
    is_shared: bool = False,
) -> tuple[User, str]:
    """Check a password and open a session; the caller commits.

    Args:
        address: Where the browser is.
        known: Its cookie of app/people/browsers.py.
        replaces: The session that its cookie names, which ends.
        browser: What it is called, for the list of sessions.
        is_shared: Others use it, too.

    Returns:
        The person and the cookie's value.

    Raises:
        TooMany: too many wrong tries; says how long to wait.
        Invalid: wrong e-mail or password; does not say which.
    """
    email = email.strip().lower()
    user = db.scalars(select(User).where(User.email == email)).first()
    name = browsers.name_for(known, user.id) if user else None
    lane = name or attempts.STRANGER
    attempts.begin(db, email, address, lane)
    usable = user is not None and user.password_hash and not user.disabled_at
    stored = user.password_hash if user is not None and usable else None
    db.commit()  # no connection is held while the password is hashed
    matches, rehashed = passwords.verify(password, stored)
    if user is None or not usable or not matches:
        raise Invalid("Wrong e-mail or password.", field="password")
    db.refresh(user)
    if user.password_hash != stored or user.disabled_at:
        raise Invalid("Wrong e-mail or password.", field="password")  # changed in this moment
    if rehashed:
        user.password_hash = rehashed
    attempts.succeeded(db, email, lane)
    sign_out(db, replaces)
    secret = open_session(db, user, browser=browser, is_shared=is_shared)
    audit.record(db, user, "account.sign_in", f"user {user.id}")
    return user, secret


def open_session(db: Session, user: User, *, browser: str = "", is_shared: bool = False) -> str:
    """Start a session and return the cookie's value; a new one each time."""
    secret = secrets.token_urlsafe(32)
    expires = datetime.now(UTC) + timedelta(hours=settings.get().session_hours)
    db.execute(delete(WebSession).where(~sessions.counts_still()))
    db.add(
        WebSession(
            token_hash=sessions.digest(secret),
            user_id=user.id,
            expires_at=expires,
            browser=browser,
            is_shared=is_shared,
        )
    )
    db.flush()
    return secret


def sign_out(db: Session, secret: str) -> None:
    """End one session; an unknown one is fine."""
    db.execute(delete(WebSession).where(WebSession.token_hash == sessions.digest(secret)))


def user_of_session(db: Session, secret: str, *, is_use: bool = False) -> User | None:
    """Return who holds this cookie, if the session still counts.

    Args:
        is_use: It is a person who does something, which keeps the session from ending for idleness.
    """
    signed_in = sessions.get(db, secret)
    if signed_in is None or signed_in.user.disabled_at:
        return None
    if is_use:
        sessions.note_use(db, signed_in)
    return signed_in.user


# --- passwords -----------------------------------------------------------------------------


def set_password(db: Session, user: User, password: str) -> None:
    """Give a person a new password and end all of their sessions.

    Raises:
        Invalid: too short, too long, or one of those that everybody tries first.
    """
    if user.is_service:
        raise Invalid("A service account signs in with tokens and has no password.")
    passwords.check(password, user.email)
    user.password_hash = passwords.hashed(password)
    db.execute(delete(WebSession).where(WebSession.user_id == user.id))
    audit.record(db, user, "account.set_password", f"user {user.id}")


def change_password(db: Session, user: User, old: str, new: str, address: str = "") -> None:
    """Let a signed-in person replace the password they know.

    Raises:
        TooMany: the old one was guessed too often.
        Invalid: it is wrong, or the new one is too weak.
    """
    passwords.check(new, user.email)
    check_own(db, user, old, address)
    set_password(db, user, new)


def check_own(db: Session, user: User, password: str, address: str = "") -> None:
    """Check that a signed-in person knows their password; every try counts.

    Raises:
        TooMany: it was guessed too often.
        Invalid: it is wrong; with the field `old_password`.
    """
    attempts.begin(db, user.email, address, attempts.SIGNED_IN)
    if not passwords.verify(password, user.password_hash)[0]:
        raise Invalid("This is not your current password.", field="old_password")
    attempts.succeeded(db, user.email, attempts.SIGNED_IN)


# --- accounts and one-time links -----------------------------------------------------------


def checked_email(email: str) -> str:
    """Return an address as it is kept.

    Raises:
        Invalid: it cannot be one; with the field `email`.
    """
    email = email.strip().lower()
    if not _EMAIL.fullmatch(email) or len(email) > 254:
        raise Invalid("Enter an e-mail address such as name@example.org.", field="email")
    return email


def create_user(
    db: Session,
    actor: User | None,
    email: str,
    role: Role,
    *,
    name: str = "",
    password: str | None = None,
    is_service: bool = False,
) -> User:
    """Add an account to the actor's department, or to the first one.

    Raises:
        Invalid: the address cannot be one, or the password is too weak.
        Conflict: the address has an account already.
    """
    problems = Problems()
    with problems:
        email = checked_email(email)
    if password is not None:
        with problems:
            passwords.check(password, email)
    problems.check()
    if db.scalars(select(User.id).where(User.email == email)).first():
        raise Conflict(f"{email} already has an account.", field="email")
    department_id = (
        actor.department_id
        if actor
        else db.scalars(select(Department.id).order_by(Department.id).limit(1)).one()
    )
    user = User(
        department_id=department_id, email=email, name=name, role=role, is_service=is_service
    )
    db.add(user)
    db.flush()
    if password is not None:
        set_password(db, user, password)
    audit.record(db, actor, "account.create", f"user {user.id}", email=email, role=role.value)
    return user


def needs_first_administrator(db: Session) -> bool:
    """Say whether nobody can sign in yet."""
    return (
        db.scalars(select(User.id).where(User.password_hash.is_not(None)).limit(1)).first() is None
    )


def create_setup_link(db: Session, user: User | None, actor: User | None = None) -> str:
    """Make the secret of a one-time link: for a person, or (None) for the first administrator.

    Earlier unused links for the same purpose stop working.

    Args:
        user: Whom it lets in.
        actor: Who makes it; None: somebody at the server itself.

    Raises:
        Conflict: programs have no password, and a closed account gets no link.
    """
    if user is not None and (user.is_service or user.disabled_at):
        raise Conflict(f"{user.email} cannot sign in, so a link would not help.")
    secret = secrets.token_urlsafe(32)
    same = SetupLink.user_id == user.id if user else SetupLink.user_id.is_(None)
    db.execute(delete(SetupLink).where(same, SetupLink.used_at.is_(None)))
    db.add(
        SetupLink(
            token_hash=sessions.digest(secret),
            user_id=user.id if user else None,
            expires_at=datetime.now(UTC) + timedelta(hours=LINK_HOURS),
        )
    )
    db.flush()
    audit.record(db, actor, "account.link", f"user {user.id}" if user else "first administrator")
    return secret


def setup_link_user(db: Session, secret: str) -> User | None:
    """Return whom a link is for; None for the first administrator.

    Raises:
        NotFound: the link is unknown, used or expired.
    """
    return _open_link(db, secret)[1]


def use_setup_link(
    db: Session, secret: str, *, email: str = "", name: str = "", password: str
) -> User:
    """Set a password by one-time link; makes the first administrator if the link is for that.

    Raises:
        NotFound: the link is unknown, used or expired, or somebody was first.
        Invalid: the password or the address cannot be used.
    """
    # Two people with the first link at once: one wins, the other is told.
    db.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": 0x457475646546})
    link, user = _open_link(db, secret)
    if user is None:
        if not needs_first_administrator(db):
            raise NotFound("The first account has already been set up. Please sign in.")
        user = create_user(db, None, email, Role.ADMIN, name=name, password=password)
    else:
        if name:
            user.name = name
        set_password(db, user, password)
    link.used_at = datetime.now(UTC)
    return user


def _open_link(db: Session, secret: str) -> tuple[SetupLink, User | None]:
    link = db.scalars(
        select(SetupLink).where(
            SetupLink.token_hash == sessions.digest(secret),
            SetupLink.used_at.is_(None),
            SetupLink.expires_at > func.now(),
        )
    ).first()
    user = db.get(User, link.user_id) if link and link.user_id else None
    if link is None or (user is not None and user.disabled_at):
        raise NotFound(
            "This link has been used or has expired. Ask your administrator for a new one."
        )
    return link, user


# --- API tokens ----------------------------------------------------------------------------


def create_token(db: Session, user: User, name: str) -> str:
    """Make a token for programs; this is the only time that it can be read."""
    secret = TOKEN_PREFIX + secrets.token_urlsafe(32)
    db.add(
        ApiToken(
            user_id=user.id,
            token_hash=sessions.digest(secret),
            prefix=secret[:12],
            name=name.strip()[:80],
        )
    )
    audit.record(db, user, "token.create", f"user {user.id}", name=name, prefix=secret[:12])
    return secret


def list_tokens(db: Session, user: User) -> list[ApiToken]:
    """Return a person's tokens that still work, newest first."""
    return list(
        db.scalars(
            select(ApiToken)
            .where(ApiToken.user_id == user.id, ApiToken.revoked_at.is_(None))
            .order_by(ApiToken.id.desc())
        )
    )


def revoke_token(db: Session, user: User, token_id: int) -> None:
    """Stop one of a person's own tokens."""
    token = db.get(ApiToken, token_id)
    if token is None or token.user_id != user.id:
        raise NotFound("There is no such token.")
    token.revoked_at = datetime.now(UTC)
    audit.record(db, user, "token.revoke", f"user {user.id}", prefix=token.prefix)


def user_of_token(db: Session, secret: str) -> User | None:
    """Return who holds this token, and note that it was used (at most once a minute)."""
    if not secret.startswith(TOKEN_PREFIX):
        return None
    token = db.scalars(
        select(ApiToken).where(
            ApiToken.token_hash == sessions.digest(secret), ApiToken.revoked_at.is_(None)
        )
    ).first()
    if token is None or token.user.disabled_at:
        return None
    now = datetime.now(UTC)
    if token.last_used_at is None or now - token.last_used_at > timedelta(minutes=1):
        token.last_used_at = now
        db.commit()
    return token.user
