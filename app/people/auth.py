"""Who is asking: sign-in, session cookies, API tokens, one-time links, accounts.

Secrets (cookie values, tokens, links) are 256 random bits, stored as SHA-256 only.
"""

import hashlib
import re
import secrets
import threading
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import Depends, Request
from pwdlib import PasswordHash
from sqlalchemy import delete, func, or_, select, text
from sqlalchemy.orm import Session

from app.core import audit, settings
from app.core.db import Db
from app.core.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    NotSignedIn,
    TooMany,
)
from app.core.models import (
    ApiToken,
    Department,
    Role,
    SetupLink,
    SignInFailure,
    User,
    WebSession,
)

COOKIE = "etude_session"
MIN_PASSWORD_LENGTH = 10
MAX_PASSWORD_LENGTH = 256
LINK_HOURS = 24
TOKEN_PREFIX = "etude-"  # noqa: S105 - a mark to recognise tokens by, not a token

_hasher = PasswordHash.recommended()
# Each hash takes 64 MB: a flood of sign-ins must wait, not fill the memory.
_hashing = threading.BoundedSemaphore(2)
# Compared against when the account does not exist, so that both answers take as long.
_nobody_hash: str | None = None
_COMMON = frozenset({"password12", "1234567890", "qwertyuiop", "etudeetude", "letmein123"})
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
# Failures that are forgiven before an account, or an address, has to wait; then the wait doubles.
_FREE_BY_EMAIL, _FREE_BY_ADDRESS = 5, 30
_WINDOW = timedelta(minutes=15)


# --- the person behind a request -----------------------------------------------------------


def current_user(request: Request, db: Db) -> User:
    """Return the signed-in person.

    Raises:
        NotSignedIn: no cookie, an expired session, or a disabled account.
    """
    user = user_of_session(db, request.cookies.get(COOKIE, ""))
    if user is None:
        raise NotSignedIn("Please sign in first.")
    return user


def token_user(request: Request, db: Db) -> User:
    """Return the owner of the request's bearer token; cookies do not count here.

    Raises:
        NotSignedIn: no token, or one that is unknown, revoked or of a disabled account.
    """
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    user = user_of_token(db, secret.strip()) if scheme.lower() == "bearer" else None
    if user is None:
        raise NotSignedIn(
            "This needs a valid API token as `Authorization: Bearer …`; "
            "make one on the Account page or with `etude token create`.",
            code="invalid_api_key",
        )
    return user


CurrentUser = Annotated[User, Depends(current_user)]
TokenUser = Annotated[User, Depends(token_user)]


def require_role(user: User, *roles: Role) -> None:
    """Refuse everyone who has none of these roles."""
    if user.role not in roles:
        wanted = " or ".join(role.value for role in roles)
        raise Forbidden(
            f"Only people with the role {wanted} can do this; your role is {user.role.value}."
        )


def can_edit(user: User) -> bool:
    """Say whether a person may change work at all; a viewer may only look."""
    return user.role is not Role.VIEWER


# --- signing in and out --------------------------------------------------------------------


def sign_in(db: Session, email: str, password: str, address: str) -> tuple[User, str]:
    """Check a password and open a session; the caller commits even when this raises.

    Returns:
        The person and the cookie's value.

    Raises:
        TooMany: too many wrong tries; says how long to wait.
        Invalid: wrong e-mail or password; does not say which.
    """
    email = email.strip().lower()
    _refuse_guessing(db, email, address)
    user = db.scalars(select(User).where(User.email == email)).first()
    usable = user is not None and user.password_hash and not user.disabled_at
    stored = user.password_hash if user is not None and usable else None
    matches, rehashed = _verify(password, stored)
    if user is None or not usable or not matches:
        db.add(SignInFailure(email=email, address=address))
        raise Invalid("Wrong e-mail or password.", field="password")
    if rehashed:
        user.password_hash = rehashed
    db.execute(delete(SignInFailure).where(SignInFailure.email == email))
    audit.record(db, user, "account.sign_in", f"user {user.id}")
    return user, open_session(db, user)


def open_session(db: Session, user: User) -> str:
    """Start a session and return the cookie's value; a new one each time."""
    secret = secrets.token_urlsafe(32)
    expires = datetime.now(UTC) + timedelta(hours=settings.get().session_hours)
    db.execute(delete(WebSession).where(WebSession.expires_at < func.now()))
    db.add(WebSession(token_hash=_digest(secret), user_id=user.id, expires_at=expires))
    db.flush()
    return secret


def sign_out(db: Session, secret: str) -> None:
    """End one session; an unknown one is fine."""
    db.execute(delete(WebSession).where(WebSession.token_hash == _digest(secret)))


def user_of_session(db: Session, secret: str) -> User | None:
    """Return who holds this cookie, if the session still counts."""
    if not secret:
        return None
    signed_in = db.scalars(
        select(WebSession).where(
            WebSession.token_hash == _digest(secret), WebSession.expires_at > func.now()
        )
    ).first()
    return signed_in.user if signed_in and not signed_in.user.disabled_at else None


def _refuse_guessing(db: Session, email: str, address: str) -> None:
    since = datetime.now(UTC) - _WINDOW
    rows = db.execute(
        select(SignInFailure.email, SignInFailure.address, SignInFailure.at).where(
            SignInFailure.at > since,
            or_(SignInFailure.email == email, SignInFailure.address == address),
        )
    ).all()
    for times, free in (
        ([row.at for row in rows if row.email == email], _FREE_BY_EMAIL),
        ([row.at for row in rows if row.address == address], _FREE_BY_ADDRESS),
    ):
        if len(times) < free:
            continue
        wait = timedelta(seconds=min(2 ** (len(times) - free + 1), 300))
        left = (max(times) + wait - datetime.now(UTC)).total_seconds()
        if left > 0:
            raise TooMany(f"Too many attempts. Please wait {int(left) + 1} seconds.")


# --- passwords -----------------------------------------------------------------------------


def set_password(db: Session, user: User, password: str) -> None:
    """Give a person a new password and end all of their sessions.

    Raises:
        Invalid: too short, too long, or one of those that everybody tries first.
    """
    if user.is_service:
        raise Invalid("A service account signs in with tokens and has no password.")
    check_password(password, user.email)
    with _hashing:
        user.password_hash = _hasher.hash(password)
    db.execute(delete(WebSession).where(WebSession.user_id == user.id))
    audit.record(db, user, "account.set_password", f"user {user.id}")


def change_password(db: Session, user: User, old: str, new: str) -> None:
    """Let a signed-in person replace the password they know."""
    if not _verify(old, user.password_hash)[0]:
        raise Invalid("This is not your current password.", field="old_password")
    set_password(db, user, new)


def check_password(password: str, email: str = "") -> None:
    """Refuse a password that would be guessed.

    Raises:
        Invalid: with the field `password`.
    """
    if len(password) < MIN_PASSWORD_LENGTH:
        raise Invalid(f"Use at least {MIN_PASSWORD_LENGTH} characters.", field="password")
    if len(password) > MAX_PASSWORD_LENGTH:
        raise Invalid(f"Use at most {MAX_PASSWORD_LENGTH} characters.", field="password")
    lowered = password.lower()
    if lowered in _COMMON or len(set(lowered)) < 4 or lowered == email.lower():
        raise Invalid("This password is too easy to guess; use a few words.", field="password")


def _verify(password: str, stored: str | None) -> tuple[bool, str | None]:
    global _nobody_hash  # noqa: PLW0603 - made once, when first needed: it takes 0.1 s
    with _hashing:
        if stored is None:
            if _nobody_hash is None:
                _nobody_hash = _hasher.hash(secrets.token_urlsafe(16))
            _hasher.verify(password[:MAX_PASSWORD_LENGTH], _nobody_hash)
            return False, None
        return _hasher.verify_and_update(password[:MAX_PASSWORD_LENGTH], stored)


# --- accounts and one-time links -----------------------------------------------------------


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
    email = email.strip().lower()
    if not _EMAIL.fullmatch(email) or len(email) > 254:
        raise Invalid("Enter an e-mail address such as name@example.org.", field="email")
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


def create_setup_link(db: Session, user: User | None) -> str:
    """Make the secret of a one-time link: for a person, or (None) for the first administrator.

    Earlier unused links for the same purpose stop working.
    """
    secret = secrets.token_urlsafe(32)
    same = SetupLink.user_id == user.id if user else SetupLink.user_id.is_(None)
    db.execute(delete(SetupLink).where(same, SetupLink.used_at.is_(None)))
    db.add(
        SetupLink(
            token_hash=_digest(secret),
            user_id=user.id if user else None,
            expires_at=datetime.now(UTC) + timedelta(hours=LINK_HOURS),
        )
    )
    db.flush()
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
            SetupLink.token_hash == _digest(secret),
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
            user_id=user.id, token_hash=_digest(secret), prefix=secret[:12], name=name.strip()[:80]
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
            ApiToken.token_hash == _digest(secret), ApiToken.revoked_at.is_(None)
        )
    ).first()
    if token is None or token.user.disabled_at:
        return None
    now = datetime.now(UTC)
    if token.last_used_at is None or now - token.last_used_at > timedelta(minutes=1):
        token.last_used_at = now
        db.commit()
    return token.user


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
