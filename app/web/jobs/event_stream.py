"""The event stream of a job: what it did since a sequence number, then what it does.

The only asynchronous route. No database session stays open between two reads, and whoever has
signed out or lost access is cut off at the next check. While the database is away a stream stays
open and says nothing; then it goes on where it was.
"""

import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import PlainTextResponse, Response, StreamingResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import State

from app.core import db, settings
from app.core.errors import AppError, NotSignedIn
from app.jobs import requests
from app.people import auth
from app.web.dependencies import cookie_of
from app.web.jobs.stream_reads import (
    FIGURES_SECONDS,
    SharedReads,
    StreamRead,
    aside,
    encode,
    shared,
)
from app.web.shedding import Lateness
from app.web.streams import Hub

router = APIRouter()

HEARTBEAT_SECONDS = 15.0
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@router.get("/jobs/{job_id}/events")
async def stream(
    request: Request,
    job_id: int,
    after: Annotated[int, Query(ge=0)] = 0,
    last_event_id: Annotated[str, Header()] = "",
) -> Response:
    """Send the job's points and sentences after a sequence number, and stay until it is over."""
    cookie = cookie_of(request)
    try:
        await aside(_check, cookie, job_id)
    except AppError as error:
        # A plain answer, not a page: an EventSource gives up at once on anything but 200.
        return PlainTextResponse(error.message, status_code=error.status, headers=_HEADERS)
    # A browser that reconnects by itself asks for the same address again, with this header.
    seq = int(last_event_id) if last_event_id.isascii() and last_event_id.isdigit() else after
    return StreamingResponse(
        _events(request.app.state, cookie, job_id, seq),
        media_type="text/event-stream",
        headers=_HEADERS,
    )


async def _events(state: State, cookie: str, job_id: int, seq: int) -> AsyncIterator[str]:
    hub: Hub = state.hub
    reads: dict[int, SharedReads] = state.reads
    lateness: Lateness = state.lateness
    checked_at = sent_at = time.monotonic()
    figures = ""
    yield "retry: 1000\n\n"
    with hub.subscribe(f"job:{job_id}") as news, shared(reads, job_id) as mine:
        while not hub.is_closing:
            now = time.monotonic()
            is_check_due = now - checked_at >= settings.get().stream_check_seconds
            try:
                read = await _read(mine, seq, cookie if is_check_due else None)
            except AppError:
                return
            text, patience = "", HEARTBEAT_SECONDS
            if read is not None:
                checked_at = now if is_check_due else checked_at
                seq, text = read.seq, read.text
                if read.figures.text != figures:
                    figures = read.figures.text
                    text += figures
                if read.is_final and read.has_all:
                    yield text + encode("end", {"status": read.status})
                    return
                if read.figures.at < now:
                    # What changed since must not wait for the next notification.
                    patience = FIGURES_SECONDS
            if not text and now - sent_at >= HEARTBEAT_SECONDS:
                text = ": still here\n\n"
            if text:
                yield text
                sent_at = now
            if read is None or read.has_all:
                await hub.wait(news, patience)
                # What comes meanwhile is read together: nothing is left out.
                rest = lateness.stream_gap - (time.monotonic() - sent_at)
                if rest > 0:
                    await hub.rest(rest)


async def _read(mine: SharedReads, seq: int, cookie: str | None) -> StreamRead | None:
    """Read with all others of this job, having checked who asks where a cookie is given.

    Returns:
        Nothing while the database is away.

    Raises:
        AppError: it is over.
    """
    try:
        if cookie is not None:
            await aside(_check, cookie, mine.job_id)
        return await mine.after(seq)
    except SQLAlchemyError as error:
        if not db.is_away(error):
            raise
        return None


def _check(cookie: str, job_id: int) -> None:
    with db.reading() as session:
        user = auth.user_of_session(session, cookie)
        if user is None:
            raise NotSignedIn("Please sign in first.")
        requests.require_visible(session, user, job_id)
