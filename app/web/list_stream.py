"""The event stream of a list: says that something in it has changed, and nothing of what.

The page then asks for itself, as whoever looks at it may see it. PostgreSQL rings at every change
(the triggers of migrations 0034 and 0037), whoever makes it.
"""

import time
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response, StreamingResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import State

from app.core import db, settings
from app.core.errors import AppError, NotSignedIn
from app.people import auth
from app.web.dependencies import cookie_of
from app.web.jobs.stream_reads import aside
from app.web.shedding import Lateness
from app.web.streams import Hub

router = APIRouter()

_NOUNS = ("data", "jobs", "adapters", "models")
_HEARTBEAT_SECONDS = 15.0
# A page is asked for no more often, however much happens.
_GAP_SECONDS = 1.0
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_CHANGED = "event: changed\ndata: {}\n\n"


@router.get("/streams/{noun}/events")
async def stream(request: Request, noun: str) -> Response:
    """Say whenever something in a list has changed."""
    cookie = cookie_of(request)
    try:
        department = await aside(_department, cookie)
    except AppError as error:
        # A plain answer, not a page: an EventSource gives up at once on anything but 200.
        return PlainTextResponse(error.message, status_code=error.status, headers=_HEADERS)
    if noun not in _NOUNS:
        return PlainTextResponse("There is no such list.\n", status_code=404, headers=_HEADERS)
    topic = f"list:{noun}:{0 if noun == 'models' else department}"
    return StreamingResponse(
        _events(request.app.state, cookie, topic),
        media_type="text/event-stream",
        headers=_HEADERS,
    )


async def _events(state: State, cookie: str, topic: str) -> AsyncIterator[str]:
    hub: Hub = state.hub
    lateness: Lateness = state.lateness
    checked_at = time.monotonic()
    # What changed while nobody listened: the page may be older than this connection.
    yield "retry: 1000\n\n" + _CHANGED
    with hub.subscribe(topic) as news:
        news.clear()
        while not hub.is_closing:
            has_news = await hub.wait(news, _HEARTBEAT_SECONDS)
            if time.monotonic() - checked_at >= settings.get().stream_check_seconds:
                try:
                    await aside(_department, cookie)
                except AppError:
                    return
                except SQLAlchemyError as error:  # while it is away, a stream stays open
                    if not db.is_away(error):
                        raise
                checked_at = time.monotonic()
            if has_news and not hub.is_closing:
                yield _CHANGED
                await hub.rest(max(_GAP_SECONDS, lateness.stream_gap))
            else:
                yield ": still here\n\n"


def _department(cookie: str) -> int:
    with db.reading() as session:
        user = auth.user_of_session(session, cookie)
        if user is None:
            raise NotSignedIn("Please sign in first.")
        return user.department_id
