"""/v1/chat/completions: asks through app.adapters.answering, whole or as a stream of chunks.

Nothing is said before it is sure that something can be: what fails before the first word is an
error with its status. A client that goes, or that does not read, ends its answer.
"""

import asyncio
import json
import math
import secrets
import time
from collections.abc import AsyncGenerator, Coroutine, Iterator
from contextlib import aclosing
from typing import Any, TypeVar

import structlog
from anyio import CapacityLimiter, to_thread
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from app.adapters import answering, sharing
from app.core import db, settings
from app.core.errors import AppError, Unavailable
from app.core.models import Adapter
from app.training.answers import Begun, Done, Ended, Event, Piece, Refused, TokenLogprob, Waiting
from app.training.tool_calls import Call
from app.web.v1 import chat_request, errors, transport
from app.web.v1.chat_request import Prepared
from app.web.v1.chat_schemas import (
    Answer,
    AnsweredCall,
    AnsweredFunction,
    ChatCompletion,
    Choice,
    CreateChatCompletion,
    Likelihood,
    Logprobs,
    PromptTokensDetails,
    Usage,
)
from app.web.v1.chat_schemas import TokenLogprob as ShownLogprob

T = TypeVar("T")

router = transport.router("/chat/completions")
# So that pages, which people wait for, find a thread and a connection whatever programs ask.
_at_once = CapacityLimiter(4)
_CLIENT_GONE = 499  # nobody reads it; the log does
_UNLIKELY = -9999.0  # OpenAI's word for it: JSON has no minus infinity
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
_log = structlog.get_logger()


@router.post("", response_model=ChatCompletion)
async def create_chat_completion(request: Request, body: CreateChatCompletion) -> Response:
    """Ask a starting model or an adapter; with `stream: true` as server-sent events."""
    asked = await to_thread.run_sync(_prepare, request, body, limiter=_at_once)
    events = answering.ask(asked.found.address, asked.found.secret, asked.request)
    reply = _Reply(asked)
    try:
        if not asked.is_streamed:
            async with aclosing(events):
                completion = await _while_there(request.receive, _whole(events, reply))
            await _keep(asked, reply)
            # OpenAI's answer has no such field: it is there only where something was looked up.
            left_out = {"x_sources"} if asked.sources is None else None
            return JSONResponse(completion.model_dump(exclude=left_out))
        first = await _while_there(request.receive, _first(events))
    except _ClientGone:
        await events.aclose()
        return Response(status_code=_CLIENT_GONE)
    except BaseException:
        await events.aclose()
        raise
    return _Stream(events, first, reply, asked)


def _prepare(request: Request, body: CreateChatCompletion) -> Prepared:
    with db.session() as session:
        prepared = chat_request.prepare(session, transport.token_user(request), body)
        session.commit()  # a question was counted
    return prepared


async def _keep(asked: Prepared, reply: "_Reply") -> None:
    """Keep what was asked and answered, where the adapter's owner said so."""
    if asked.kept_question is not None:
        try:
            await to_thread.run_sync(_write_down, asked, reply.texts(), limiter=_at_once)
        except SQLAlchemyError as error:
            # The program has its answer; that the owner's list lacks it harms nobody.
            if not db.is_away(error):
                raise


def _write_down(asked: Prepared, texts: list[str]) -> None:
    with db.session() as session:
        adapter = session.get(Adapter, asked.request.adapter_id)
        for text in texts:
            if adapter is not None and asked.kept_question is not None:
                sharing.keep(session, adapter, asked.kept_question, text)
        session.commit()


# --- what comes from the model ---------------------------------------------------------------


async def _first(events: AsyncGenerator[Event]) -> list[Event]:
    """Wait for the first word, and return what came up to it.

    Raises:
        AppError: there will be none.
    """
    seen: list[Event] = []
    async for event in events:
        if isinstance(event, Refused):
            raise _refusal(event)
        if not isinstance(event, Waiting):
            seen.append(event)
        if isinstance(event, Piece | Ended | Done):
            return seen
    raise _broken_off()


async def _whole(events: AsyncGenerator[Event], reply: "_Reply") -> ChatCompletion:
    async for event in events:
        if isinstance(event, Refused):
            raise _refusal(event)
        reply.take(event)
        if isinstance(event, Done):
            return reply.whole()
    raise _broken_off()


def _refusal(event: Refused) -> AppError:
    error = AppError(event.message, field=event.param, code=event.code)
    error.status = event.status if 400 <= event.status < 600 else 503
    if event.retry_after_seconds is not None:
        error.retry_seconds = max(1, math.ceil(event.retry_after_seconds))
    return error


def _broken_off() -> AppError:
    return Unavailable("The answer broke off; please ask again.")


# --- what is answered ------------------------------------------------------------------------


class _Part:
    """One of the answers, as far as it has come."""

    def __init__(self, index: int, asked: Prepared) -> None:
        self.index = index
        self.texts: list[str] = []
        self.calls: list[AnsweredCall] = []
        self.logprobs: list[ShownLogprob] | None = None
        if asked.request.limits.top_logprobs is not None:
            self.logprobs = []
        self.finish_reason: Any = None
        self._reader = asked.tools.reader() if asked.tools else None

    @property
    def calls_tools(self) -> bool:
        return self._reader is not None

    def take(self, piece: Piece) -> list[str | AnsweredCall]:
        """Take words in and return what is certain of them: text, and calls of tools."""
        if self.logprobs is not None:
            self.logprobs += [_shown(each) for each in piece.logprobs or ()]
        return self._keep(self._reader.feed(piece.text) if self._reader else [piece.text])

    def end(self, ended: Ended) -> list[str | AnsweredCall]:
        """Return what was held back, and know why the answer is over."""
        rest = self._keep(self._reader.end() if self._reader else [])
        is_called = bool(self.calls) and ended.reason == "stop"
        self.finish_reason = "tool_calls" if is_called else ended.reason
        return rest

    def _keep(self, said: list[str | Call]) -> list[str | AnsweredCall]:
        kept: list[str | AnsweredCall] = []
        for one in said:
            if isinstance(one, Call):
                function = AnsweredFunction(name=one.name, arguments=one.arguments)
                call = AnsweredCall(id=f"call_{secrets.token_hex(12)}", function=function)
                self.calls.append(call)
                kept.append(call)
            elif one:
                self.texts.append(one)
                kept.append(one)
        return kept

    def choice(self) -> Choice:
        text = "".join(self.texts)
        answer = Answer(content=None if self.calls and not text else text)
        if self.calls:
            answer.tool_calls = self.calls
        return Choice(
            index=self.index,
            message=answer,
            logprobs=None if self.logprobs is None else Logprobs(content=self.logprobs),
            finish_reason=self.finish_reason,
        )


class _Reply:
    """All answers to a request, and what is said of them whole or in chunks."""

    def __init__(self, asked: Prepared) -> None:
        self.id = f"chatcmpl-{secrets.token_hex(14)}"
        self.created = int(time.time())
        self.model = asked.model
        self.with_usage = asked.with_usage
        self.sources = asked.sources
        self.parts = [_Part(index, asked) for index in range(asked.request.num_answers)]
        self._prompt_tokens = self._cached_tokens = self._completion_tokens = 0

    def take(self, event: Event) -> list[dict[str, Any]]:
        """Take an event in and return the choices of the chunks that it gives."""
        if isinstance(event, Begun):
            self._prompt_tokens, self._cached_tokens = event.prompt_tokens, event.cached_tokens
        elif isinstance(event, Piece):
            part = self.parts[event.index]
            chunks = [_delta(part, one) for one in part.take(event)]
            if event.logprobs and part.logprobs is not None:
                # Without tools a piece is one chunk; one without letters still has its tokens.
                chunks = chunks or [_choice(part, {"content": ""})]
                shown = [_shown(each) for each in event.logprobs]
                chunks[0]["logprobs"] = Logprobs(content=shown).model_dump()
            return chunks
        elif isinstance(event, Ended):
            self._completion_tokens += event.completion_tokens
            part = self.parts[event.index]
            chunks = [_delta(part, one) for one in part.end(event)]
            if part.calls_tools and not part.calls and not part.texts:
                chunks.append(_choice(part, {"content": ""}))
            return [*chunks, _choice(part, {}, part.finish_reason)]
        return []

    def usage(self) -> Usage:
        return Usage(
            prompt_tokens=self._prompt_tokens,
            completion_tokens=self._completion_tokens,
            total_tokens=self._prompt_tokens + self._completion_tokens,
            prompt_tokens_details=PromptTokensDetails(cached_tokens=self._cached_tokens),
        )

    def texts(self) -> list[str]:
        """Return the words of each answer that has any."""
        return [text for part in self.parts if (text := "".join(part.texts))]

    def whole(self) -> ChatCompletion:
        return ChatCompletion(
            id=self.id,
            created=self.created,
            model=self.model,
            choices=[part.choice() for part in self.parts],
            usage=self.usage(),
            x_sources=self.sources,
        )

    def opening(self) -> Iterator[str]:
        """Say of each answer whose it is; and, with the first, of which rows they are taken."""
        for part in self.parts:
            # Of a model with tools nobody knows yet whether there will be words.
            content = None if part.calls_tools else ""
            delta = {"role": "assistant", "content": content, "refusal": None}
            is_first = part is self.parts[0] and self.sources is not None
            yield self.chunk([_choice(part, delta)], with_sources=is_first)

    def closing(self) -> Iterator[str]:
        if self.with_usage:
            yield self.chunk([], self.usage().model_dump())
        yield "data: [DONE]\n\n"

    def chunk(
        self,
        choices: list[dict[str, Any]],
        usage: dict[str, Any] | None = None,
        *,
        with_sources: bool = False,
    ) -> str:
        """Write a chunk as a server-sent event."""
        shown: dict[str, Any] = {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }
        if self.with_usage:
            shown["usage"] = usage
        if with_sources:
            shown["x_sources"] = [one.model_dump() for one in self.sources or ()]
        return _line(shown)


def _line(shown: object) -> str:
    return f"data: {json.dumps(shown, ensure_ascii=False, separators=(',', ':'))}\n\n"


def _choice(part: _Part, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    return {"index": part.index, "delta": delta, "logprobs": None, "finish_reason": reason}


def _delta(part: _Part, one: str | AnsweredCall) -> dict[str, Any]:
    if isinstance(one, str):
        return _choice(part, {"content": one})
    number = part.calls.index(one)
    return _choice(part, {"tool_calls": [{"index": number, **one.model_dump()}]})


def _shown(token: TokenLogprob) -> ShownLogprob:
    return ShownLogprob(
        token=token.token,
        bytes=token.bytes,
        logprob=max(token.logprob, _UNLIKELY),
        top_logprobs=[
            Likelihood(token=one.token, bytes=one.bytes, logprob=max(one.logprob, _UNLIKELY))
            for one in token.top
        ],
    )


# --- to the client ---------------------------------------------------------------------------


class _Stream(Response):
    """Sends an answer while it comes, and lets it go as soon as nobody takes it."""

    media_type = "text/event-stream"

    def __init__(
        self, events: AsyncGenerator[Event], first: list[Event], reply: _Reply, asked: Prepared
    ) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._events = events
        self._seen = first
        self._reply = reply
        self._asked = asked

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._events):
            try:
                await _while_there(receive, self._send(send))
            except _ClientGone:
                pass
            except TimeoutError:
                # uvicorn closes the connection, since the answer was not brought to its end.
                _log.info("answer.not_read", model=self._reply.model)

    async def _send(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        patience = settings.get().answer_reader_seconds
        await send(start)
        async with aclosing(self._lines()) as lines:
            async for line in lines:
                async with asyncio.timeout(patience):
                    part = {"type": "http.response.body", "body": line.encode(), "more_body": True}
                    await send(part)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _lines(self) -> AsyncGenerator[str]:
        for line in self._reply.opening():
            yield line
        for event in self._seen:
            for choice in self._reply.take(event):
                yield self._reply.chunk([choice])
        is_done = isinstance(self._seen[-1], Done)
        while not is_done:
            try:
                event = await anext(self._events)
            except StopAsyncIteration:
                yield _error(_broken_off())
                return
            if isinstance(event, Refused):
                yield _error(_refusal(event))
                return
            for choice in self._reply.take(event):
                yield self._reply.chunk([choice])
            is_done = isinstance(event, Done)
        await _keep(self._asked, self._reply)
        for line in self._reply.closing():
            yield line


def _error(error: AppError) -> str:
    return _line(json.loads(bytes(errors.answer(error).body)))


class _ClientGone(Exception):
    """Nobody waits for this any more."""


async def _while_there(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Do some work as long as the client is there; the work ends within it in any case.

    Raises:
        _ClientGone: it went.
    """
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise _ClientGone
        return working.result()
    finally:
        for task in (working, gone):
            task.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
