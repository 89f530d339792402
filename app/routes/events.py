"""The event stream of a job: what it did since a sequence number, then what it does.

The only asynchronous route. No database session stays open between two looks, and whoever has
signed out or lost access is cut off at the next check.
"""

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse, Response, StreamingResponse

from app import auth, db, jobs, metrics, progress, settings
from app.errors import AppError, NotSignedIn
from app.models import Job
from app.streams import Hub

router = APIRouter()

BATCH = 500
HEARTBEAT_SECONDS = 15.0
# The figures beside the chart are for people: points go out at once, these once a second.
FIGURES_SECONDS = 1.0
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@dataclass(frozen=True)
class _Look:
    """What one look at the tables found; the state was read before the items were."""

    items: list[metrics.StreamItem]
    state: tuple[object, ...]  # changes when the page's words should change at once
    is_final: bool
    figures: dict[str, Any] | None


@router.get("/jobs/{job_id}/events")
async def stream(
    request: Request,
    job_id: int,
    after: Annotated[int, Query(ge=0)] = 0,
    last_event_id: Annotated[str, Header()] = "",
) -> Response:
    """Send the job's points and sentences after a sequence number, and stay until it is over."""
    cookie = request.cookies.get(auth.COOKIE, "")
    try:
        await run_in_threadpool(_check, cookie, job_id)
    except AppError as error:
        # A plain answer, not a page: an EventSource gives up at once on anything but 200.
        return PlainTextResponse(error.message, status_code=error.status, headers=_HEADERS)
    # A browser that reconnects by itself asks for the same address again, with this header.
    seq = int(last_event_id) if last_event_id.isascii() and last_event_id.isdigit() else after
    return StreamingResponse(
        _events(request.app.state.hub, cookie, job_id, seq),
        media_type="text/event-stream",
        headers=_HEADERS,
    )


async def _events(hub: Hub, cookie: str, job_id: int, seq: int) -> AsyncIterator[str]:
    checked_at = sent_at = time.monotonic()
    figures: dict[str, Any] | None = None
    figures_at = 0.0
    state: tuple[object, ...] = ()
    yield "retry: 1000\n\n"
    with hub.subscribe(f"job:{job_id}") as news:
        while not hub.is_closing:
            now = time.monotonic()
            if now - checked_at >= settings.get().stream_check_seconds:
                try:
                    await run_in_threadpool(_check, cookie, job_id)
                except AppError:
                    return
                checked_at = now
            is_due = now - figures_at >= FIGURES_SECONDS
            look = await run_in_threadpool(_look, job_id, seq, state, is_due)
            if look is None:
                return
            state = look.state
            parts = [_encode(item.event, item.data, item.seq) for item in look.items]
            if look.figures is not None:
                figures_at = now
                if look.figures != figures:
                    figures = look.figures
                    parts.append(_encode("job", figures))
            has_all = len(look.items) < BATCH
            if look.is_final and has_all:
                yield "".join(parts) + _encode("end", {"status": state[0]})
                return
            if not parts and now - sent_at >= HEARTBEAT_SECONDS:
                parts.append(": still here\n\n")
            if parts:
                yield "".join(parts)
                sent_at = now
            if look.items:
                seq = look.items[-1].seq
            if has_all:
                # Figures that were not due yet must not wait for the next notification.
                await hub.wait(news, HEARTBEAT_SECONDS if is_due else FIGURES_SECONDS)


def _check(cookie: str, job_id: int) -> None:
    with db.session() as session:
        user = auth.user_of_session(session, cookie)
        if user is None:
            raise NotSignedIn("Please sign in first.")
        jobs.get(session, user, job_id)


def _look(job_id: int, seq: int, state: tuple[object, ...], is_due: bool) -> _Look | None:
    with db.session() as session:
        # The status first: once it is final, nothing is added to what the next line reads.
        job = session.get(Job, job_id)
        if job is None:
            return None
        now = (job.status.value, job.desired.value, job.phase, job.attempt)
        items = metrics.after(session, job_id, seq, BATCH)
        figures = progress.figures(session, job) if is_due or now != state else None
        return _Look(items, now, job.status.is_final, figures)


def _encode(event: str, data: dict[str, Any], seq: int | None = None) -> str:
    number = f"id: {seq}\n" if seq is not None else ""
    return f"event: {event}\n{number}data: {json.dumps(data, ensure_ascii=False)}\n\n"
