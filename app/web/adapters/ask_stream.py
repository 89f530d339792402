"""An answer on its way from the process that answers to a page, and into its row where it is kept.

A task of its own talks to that process. Whoever reads takes from it, and ends it by going away: the
connection is closed at once, which ends the generation, and what was said so far is kept.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

import structlog
from fastapi.responses import StreamingResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.types import Message, Send

from app.adapters import answering, conversations, sharing
from app.core import db
from app.core.models import Adapter, Finish
from app.training.answers import AnswerRequest
from app.web.adapters.answer_proof import Question
from app.web.adapters.ask_page import ShownSource, note_of, seconds_words, waiting_words
from app.web.jobs.stream_reads import encode
from app.web.render import rendered, visible
from app.web.streams import Hub

# How often what was said so far is kept: a web process that dies loses no more.
_KEEP_SECONDS = 1.0
# For how long an answer that ended while the database was away is tried to be kept.
_LATER_SECONDS = 600.0
_LOOK_SECONDS = 0.5
_HEARTBEAT_SECONDS = 15.0
# A page that takes nothing for so long is let go.
_DEAF_SECONDS = 30.0
# So many words wait for a slow reader; then the process that answers is held up.
_MAX_PENDING = 64
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
_log = structlog.get_logger()
# The loop itself holds tasks weakly.
_talks: set[asyncio.Task[None]] = set()


@dataclass(frozen=True)
class Plan:
    """One answer that is to be written."""

    found: answering.Found
    request: AnswerRequest
    place: int
    answer_id: int | None = None  # none: it is not kept
    attempt: int = 0
    # Where the adapter's owner keeps what is asked: the question; none: nothing is kept for them.
    kept_question: str | None = None
    # Where answers are looked up: the rows that it is shown, and what there is to say of them.
    sources: Sequence[ShownSource] | None = None
    sources_note: str = ""
    # Where an answer may be reported that is not kept: what it is signed with.
    signs: Question | None = None


@dataclass(frozen=True)
class Part:
    """What a page hears: `sources`, `waiting`, `piece`, `proof` or `end`."""

    event: str
    data: dict[str, Any]


@dataclass
class Spoken:
    """An answer so far."""

    text: str = ""
    finish: Finish | None = None
    reason: str | None = None
    seconds: float | None = None
    num_tokens: int | None = None
    proof: str = ""

    def as_end(self) -> Part:
        """Say to a page how it ended."""
        data = {
            "finish": (self.finish or Finish.BROKEN_OFF).value,
            "note": note_of(self.finish, self.text, self.reason),
            "seconds": seconds_words(self.seconds),
            "is_empty": not self.text,
            "proof": self.proof,
        }
        return Part("end", data)


class Talk:
    """One answer being written by a task of its own."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.spoken = Spoken()
        self.has_begun = asyncio.Event()
        self._is_behind = False  # the database was away when it was to be kept last
        self._parts: asyncio.Queue[Part | None] = asyncio.Queue(_MAX_PENDING)
        self._task = asyncio.create_task(self._run())
        _talks.add(self._task)
        self._task.add_done_callback(_talks.discard)

    async def next_part(self, seconds: float) -> Part | None:
        """Return what a page is to hear next.

        Raises:
            TimeoutError: there was nothing for so long.
        """
        return await asyncio.wait_for(self._parts.get(), seconds)

    def stop(self) -> None:
        """End it here; what was said so far is kept."""
        self._task.cancel()

    async def settled(self) -> None:
        """Wait until it is over and kept."""
        with suppress(asyncio.CancelledError):
            await asyncio.shield(self._task)

    async def _run(self) -> None:
        try:
            await self._listen()
        except asyncio.CancelledError:
            self.spoken.finish = self.spoken.finish or Finish.BROKEN_OFF
        except Exception:
            _log.exception("answer.failed")
            self.spoken.finish = Finish.FAILED
        finally:
            self.has_begun.set()
        if not await self._keep():
            self.spoken.reason = "This answer was asked for again in another window."
        if self.plan.kept_question is not None and self.spoken.text:
            await self._keep_for_owner(self.plan.kept_question)
        if self._is_behind:
            later = asyncio.create_task(_keep_later(self.plan, self.spoken))
            _talks.add(later)
            later.add_done_callback(_talks.discard)
        self._sign()
        # A reader that went away takes nothing any more.
        with suppress(asyncio.QueueFull):
            self._parts.put_nowait(self.spoken.as_end())
            self._parts.put_nowait(None)

    def _sign(self) -> None:
        if self.plan.signs is not None and self.spoken.text:
            self.spoken.proof = self.plan.signs.proof(self.spoken.text)

    async def _listen(self) -> None:
        kept_at = time.monotonic()
        signed_at = float("-inf")
        found = self.plan.found
        asked = answering.ask(found.address, found.secret, self.plan.request)
        async with aclosing(asked) as events:
            async for event in events:
                self.has_begun.set()
                match event.kind:
                    case "waiting":
                        words = waiting_words(event.place, event.doing, self.plan.place)
                        await self._say("waiting", sentence=words)
                    case "begun":
                        await self._say("waiting", sentence="")
                    case "piece":
                        self.spoken.text += event.text
                        await self._say("piece", text=visible(event.text))
                        # A page that stops it has what it needs to report the words so far.
                        if self.plan.signs and time.monotonic() - signed_at >= _KEEP_SECONDS:
                            signed_at = time.monotonic()
                            self._sign()
                            await self._say("proof", proof=self.spoken.proof)
                    case "ended":
                        self.spoken.finish = Finish(event.reason)
                        self.spoken.num_tokens = event.completion_tokens
                    case "done":
                        self.spoken.seconds = event.seconds
                    case "refused":
                        self.spoken.finish, self.spoken.reason = Finish.FAILED, event.message
                if time.monotonic() - kept_at >= _KEEP_SECONDS:
                    if not await self._keep():
                        return
                    kept_at = time.monotonic()

    async def _say(self, event: str, **data: str) -> None:
        await self._parts.put(Part(event, data))

    async def _keep(self) -> bool:
        """Keep what there is; says no where somebody else writes this answer now."""
        if self.plan.answer_id is None:
            return True
        try:
            is_ours = await run_in_threadpool(_keep, self.plan, self.spoken)
        except SQLAlchemyError as error:
            if not db.is_away(error):
                raise
            self._is_behind = True  # the page has the words; the row gets them later
            return True
        self._is_behind = False
        return is_ours

    async def _keep_for_owner(self, question: str) -> None:
        adapter_id = self.plan.request.adapter_id
        assert adapter_id is not None
        try:
            await run_in_threadpool(_keep_for_owner, adapter_id, question, self.spoken.text)
        except SQLAlchemyError as error:
            if not db.is_away(error):
                raise


async def _keep_later(plan: Plan, spoken: Spoken) -> None:
    """Keep an answer that is over once the database is back."""
    until = time.monotonic() + _LATER_SECONDS
    while time.monotonic() < until:
        await asyncio.sleep(2 * _KEEP_SECONDS)
        try:
            await run_in_threadpool(_keep, plan, spoken)
        except SQLAlchemyError as error:
            if not db.is_away(error):
                raise
        else:
            return


def _keep_for_owner(adapter_id: int, question: str, answer: str) -> None:
    with db.session() as session:
        adapter = session.get(Adapter, adapter_id)
        if adapter is not None:
            sharing.keep(session, adapter, question, answer)
            session.commit()


def _keep(plan: Plan, spoken: Spoken) -> bool:
    assert plan.answer_id is not None
    with db.session() as session:
        is_ours = conversations.keep(
            session,
            plan.answer_id,
            plan.attempt,
            spoken.text,
            finish=spoken.finish,
            reason=spoken.reason,
            seconds=spoken.seconds,
            num_tokens=spoken.num_tokens,
        )
        session.commit()
    return is_ours


# --- to a page that reads along ---------------------------------------------------------------


class _Closing(StreamingResponse):
    """Ends its source as soon as nobody reads any more, wherever it stands."""

    async def stream_response(self, send: Send) -> None:
        async def patient_send(message: Message) -> None:
            await asyncio.wait_for(send(message), _DEAF_SECONDS)

        source = self.body_iterator
        try:
            await super().stream_response(patient_send)
        finally:
            close = getattr(source, "aclose", None)
            if close is not None:
                await close()


def as_stream(hub: Hub, plan: Plan) -> StreamingResponse:
    """Stream an answer to a page: events `sources`, `waiting`, `piece` and last `end`."""
    return _Closing(_events(hub, plan), media_type="text/event-stream", headers=_HEADERS)


async def _events(hub: Hub, plan: Plan) -> AsyncIterator[str]:
    talk = Talk(plan)
    said_at = time.monotonic()
    try:
        # At once: the page asks for the second answer when the first one is under way.
        yield ": asked\n\n"
        if plan.sources is not None:
            shown = rendered("adapters/ask_turn.html", "sources", rows=plan.sources)
            yield encode("sources", {"html": shown, "note": plan.sources_note})
        while not hub.is_closing:
            try:
                part = await talk.next_part(_LOOK_SECONDS)
            except TimeoutError:
                if time.monotonic() - said_at >= _HEARTBEAT_SECONDS:
                    said_at = time.monotonic()
                    yield ": still here\n\n"
                continue
            if part is None:
                return
            said_at = time.monotonic()
            yield encode(part.event, part.data)
    finally:
        talk.stop()


# --- to a browser that waits for a whole page -------------------------------------------------


async def all_answers(
    plans: Sequence[Plan], is_gone: Callable[[], Awaitable[bool]]
) -> list[Spoken]:
    """Wait for some answers, or until nobody waits for them any more."""
    talks: list[Talk] = []
    for plan in plans:
        if talks:
            # The first one comes first where they are answered one after the other.
            await _unless_gone(talks, talks[-1].has_begun.wait(), is_gone)
        talks.append(Talk(plan))
    readers = [asyncio.create_task(_read(talk)) for talk in talks]
    try:
        await _unless_gone(talks, asyncio.wait(readers), is_gone)
    finally:
        for talk, reader in zip(talks, readers, strict=True):
            talk.stop()
            reader.cancel()
    for talk in talks:
        await talk.settled()
    return [talk.spoken for talk in talks]


async def _read(talk: Talk) -> None:
    while await talk.next_part(3600) is not None:
        pass


async def _unless_gone(
    talks: Sequence[Talk], work: Awaitable[Any], is_gone: Callable[[], Awaitable[bool]]
) -> None:
    task = asyncio.ensure_future(work)
    while not task.done():
        await asyncio.wait([task], timeout=_LOOK_SECONDS)
        if not task.done() and await is_gone():
            for talk in talks:
                talk.stop()
            task.cancel()
            return
