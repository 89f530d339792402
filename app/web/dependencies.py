"""What a route asks for by its types: a session of the database, and who is asking."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated

from anyio import CancelScope, CapacityLimiter, to_thread
from fastapi import Depends, Request
from sqlalchemy.orm import Session

from app.core import db as database
from app.core.errors import NotSignedIn
from app.core.models import User
from app.people import auth


async def _request_session(request: Request) -> AsyncIterator[Session]:
    # To make one asks nothing, so it takes no thread; to close it may ask the server.
    db = database.factory()()
    is_reading = request.method in ("GET", "HEAD")
    if is_reading:
        database.only_reads(db)
    end = db.close
    try:
        yield db
        if is_reading:
            end = partial(database.end_reading, db)
    finally:
        if db.in_transaction():
            # Beside those that requests share: each of them may wait for this very connection.
            with CancelScope(shield=True):
                await to_thread.run_sync(end, limiter=CapacityLimiter(1))
        else:
            db.close()


Db = Annotated[Session, Depends(_request_session)]


def cookie_of(request: Request, name: str = auth.COOKIE) -> str:
    """Return what the browser sent of a cookie of ours; empty where it did not."""
    return request.cookies.get(auth.cookie_name(name), "")


def current_user(request: Request, db: Db) -> User:
    """Return the signed-in person.

    Raises:
        NotSignedIn: no cookie, an expired session, or a disabled account.
    """
    # What a page of ours asks again by itself would keep a forgotten browser signed in for ever.
    is_by_itself = request.method in ("GET", "HEAD") and "hx-request" in request.headers
    secret = cookie_of(request)
    user = auth.user_of_session(db, secret, is_use=not is_by_itself)
    if user is None:
        raise NotSignedIn("Please sign in first.")
    return user


def token_user(request: Request, db: Db) -> User:
    """Return the owner of the request's bearer token; cookies do not count here.

    Raises:
        NotSignedIn: no token, or one that is unknown, revoked or of a disabled account.
    """
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    user = auth.user_of_token(db, secret.strip()) if scheme.lower() == "bearer" else None
    if user is None:
        raise NotSignedIn(
            "This needs a valid API token as `Authorization: Bearer …`; "
            "make one on the Account page or with `etude token create`.",
            code="invalid_api_key",
        )
    return user


CurrentUser = Annotated[User, Depends(current_user)]
TokenUser = Annotated[User, Depends(token_user)]
