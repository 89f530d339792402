"""What no route under /v1 should have to think of: who sends, and an address nobody can store."""

from anyio import CapacityLimiter, to_thread
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.core import db
from app.core.errors import AppError
from app.core.models import User
from app.people import auth
from app.web.v1 import errors

# So that pages, which people wait for, find a thread and a connection whatever programs do.
_at_once = CapacityLimiter(4)
_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS"})


class NulGuard:
    """Refuse an address with a NUL: PostgreSQL takes none in text, and no id has one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and ("\0" in scope["path"] or b"%00" in scope["query_string"]):
            refusal = errors.body(
                400, "The address contains a NUL character; leave it out.", code="invalid_value"
            )
            await refusal(scope, receive, send)
            return
        await self.app(scope, receive, send)


class TokenGuard:
    """Ask who sends before a byte of the body is read; FastAPI reads it before it asks routes."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in _WITHOUT_BODY:
            request = Request(scope)
            try:
                user = await to_thread.run_sync(_token_user, request, limiter=_at_once)
                request.state.token_user = user
            except AppError as error:
                await errors.answer(error)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def token_user(request: Request) -> User:
    """Return who sends a request with a body, as the guard found them: their row, of no session."""
    user: User = request.state.token_user
    return user


def _token_user(request: Request) -> User:
    with db.session() as session:
        try:
            return auth.token_user(request, session)
        except SQLAlchemyError as error:
            raise db.explain(error) or error from None
