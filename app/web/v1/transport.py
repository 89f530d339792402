"""What no route under /v1 should have to think of: methods, how a body is written, who sends."""

import json
import re
from collections.abc import Callable, Collection, Coroutine, Iterable
from itertools import accumulate
from typing import Any
from urllib.parse import unquote_to_bytes

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter
from fastapi.routing import APIRoute
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.core import db
from app.core.errors import AppError
from app.core.models import User
from app.web import dependencies
from app.web.v1 import errors

# So that pages, which people wait for, find a thread and a connection whatever programs do.
_at_once = CapacityLimiter(4)
_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS"})
# Deeper than any body that means something; Python gives up at about 900, amid its own work.
_MAX_DEPTH = 100
_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"')
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def router(prefix: str) -> APIRouter:
    """Make a router whose JSON is read as strictly as its answers are written."""
    # Clients that send JSON without saying so are understood.
    return APIRouter(prefix=prefix, route_class=_Route, strict_content_type=False)


class _Route(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_as_ours(request: Request) -> Response:
            return await handle(_Request(request.scope, request.receive))

        return handle_as_ours


class _Request(Request):
    async def json(self) -> Any:
        """Read the body as JSON.

        Raises:
            HTTPException: it is no UTF-8, or nested too deeply. Not an AppError: FastAPI turns
                whatever else reading a body raises into a 400 of its own.
            JSONDecodeError: it is no JSON.
        """
        body = await self.body()
        try:
            text = body.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise HTTPException(
                400, f"The body is not UTF-8; look at byte {error.start}. JSON is sent as UTF-8."
            ) from None
        if _depth(body) > _MAX_DEPTH:
            raise HTTPException(400, f"The body is nested deeper than {_MAX_DEPTH} levels.")
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            raise
        except ValueError:  # a number of more digits than Python reads
            raise HTTPException(400, "The body has a number with too many digits.") from None


def _depth(body: bytes) -> int:
    brackets = _TEXT.sub(b"", body).translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0)


class AddressGuard:
    """Refuse an address that is no text: with a NUL, which PostgreSQL does not take, or no UTF-8.

    No id has either.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = _problem(scope) if scope["type"] == "http" else None
        if problem is not None:
            await errors.body(400, problem, code="invalid_value")(scope, receive, send)
            return
        await self.app(scope, receive, send)


def _problem(scope: Scope) -> str | None:
    if "\0" in scope["path"] or b"%00" in scope["query_string"]:
        return "The address contains a NUL character; leave it out."
    try:
        # As it was sent: `path` has other characters in place of what is no text.
        unquote_to_bytes(scope.get("raw_path") or b"").decode()
        unquote_to_bytes(scope["query_string"]).decode()
    except UnicodeDecodeError:
        return "The address is not UTF-8; percent-encode its UTF-8 bytes."
    return None


class Methods:
    """Answer HEAD as GET without a body, OPTIONS with what an address takes, and others with 405.

    No answer allows another site's scripts anything (CORS): a token is for programs.
    """

    def __init__(self, app: ASGIApp, routers: Iterable[APIRouter]) -> None:
        self.app = app
        self._routes = [
            route for each in routers for route in each.routes if isinstance(route, APIRoute)
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method, taken = scope["method"], self._taken(scope["path"].removeprefix(scope["root_path"]))
        if taken and method == "OPTIONS":
            await Response(status_code=204, headers=_allow(taken))(scope, receive, send)
        elif taken and method not in taken:
            refusal = errors.wrong_method(scope["path"], method, _allow(taken))
            await refusal(scope, receive, send)
        elif method == "HEAD":
            scope.setdefault("state", {})["is_head"] = True
            as_get = {**scope, "method": "GET"}  # a copy: by its own the server leaves the body out
            await self.app(as_get, receive, send)
            scope["route"] = as_get.get("route")  # for the log
        else:
            await self.app(scope, receive, send)

    def _taken(self, path: str) -> set[str]:
        found = {
            method
            for route in self._routes
            if route.path_regex.match(path)
            for method in route.methods or ()
        }
        return found | ({"HEAD"} if "GET" in found else set()) | ({"OPTIONS"} if found else set())


def _allow(methods: Collection[str]) -> dict[str, str]:
    return {"Allow": ", ".join(sorted(methods))}


def is_head(request: Request) -> bool:
    """Say whether only the headers of the answer are wanted."""
    return getattr(request.state, "is_head", False)


class EncodingGuard:
    """Refuse a packed body: it would be read as if it were not, and could unpack to anything."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            encoding = Headers(scope=scope).get("content-encoding", "identity").strip().lower()
            if encoding != "identity":
                refusal = errors.body(
                    415,
                    "Content-Encoding: bodies are read as they are; send this one unpacked.",
                    code="unsupported_encoding",
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
    with db.reading() as session:
        try:
            return dependencies.token_user(request, session)
        except SQLAlchemyError as error:
            raise db.explain(error) or error from None
