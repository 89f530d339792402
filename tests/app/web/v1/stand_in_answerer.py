"""The other program: what `etude answer` is to the web, a server that speaks its lines.

One line with the secret, one with the request, then events until the last one. What it says is a
test's; what it was asked and when its client went can be looked at.
"""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from sqlalchemy.orm import Session

from app.adapters import answering
from app.training.answers import (
    AnswerRequest,
    Begun,
    Done,
    Ended,
    Event,
    Piece,
)
from tests import patience

SECRET = "said first"
Script = Callable[[AnswerRequest], AsyncIterator[Event]]
DONE = Done(engine="transformers", seconds=1, tokens_per_second=3)


def says(*texts: str, reason: str = "stop", cached: int = 0) -> Script:
    """Every answer in these pieces, a token each."""

    async def script(request: AnswerRequest) -> AsyncIterator[Event]:
        yield Begun(prompt_tokens=11, cached_tokens=cached)
        for text in texts:
            for index in range(request.num_answers):
                yield Piece(index=index, text=text)
        for index in range(request.num_answers):
            yield Ended(index=index, reason=reason, completion_tokens=len(texts))
        yield DONE

    return script


def tells(*events: Event) -> Script:
    """These events, whatever is asked."""

    async def script(_: AnswerRequest) -> AsyncIterator[Event]:
        for event in events:
            yield event

    return script


@dataclass
class Talk:
    """One connection."""

    request: AnswerRequest
    num_sent: int = 0
    ended_at: float | None = None  # when its client was gone, or all was said


@dataclass
class StandIn:
    script: Script
    address: str = ""
    talks: list[Talk] = field(default_factory=list)

    @property
    def asked(self) -> AnswerRequest:
        """What was asked last."""
        return self.talks[-1].request

    def await_talk(self, number: int, seconds: float) -> None:
        """Wait until this many talks have begun."""
        deadline = time.monotonic() + patience.seconds(seconds)
        while len(self.talks) < number:
            assert time.monotonic() < deadline, "nothing was asked"
            time.sleep(0.01)

    def await_end(self, seconds: float) -> Talk:
        """Wait until the last talk is over."""
        deadline = time.monotonic() + patience.seconds(seconds)
        while not self.talks or self.talks[-1].ended_at is None:
            assert time.monotonic() < deadline, "the connection is still open"
            time.sleep(0.01)
        return self.talks[-1]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._talk(reader, writer)
        finally:
            # Also where the test ends amid it, so that nothing is open when the loop is closed.
            writer.transport.abort()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert json.loads(await reader.readline()) == {"secret": SECRET}
        talk = Talk(AnswerRequest.model_validate_json(await reader.readline()))
        self.talks.append(talk)
        telling = asyncio.ensure_future(self._tell(talk, writer))
        gone = asyncio.ensure_future(reader.read())
        try:
            await asyncio.wait({telling, gone}, return_when=asyncio.FIRST_COMPLETED)
            if telling.done():
                writer.close()
                with suppress(ConnectionError):
                    await writer.wait_closed()
        finally:
            for task in (telling, gone):
                task.cancel()
            await asyncio.gather(telling, gone, return_exceptions=True)
            talk.ended_at = time.monotonic()

    async def _tell(self, talk: Talk, writer: asyncio.StreamWriter) -> None:
        async for event in self.script(talk.request):
            writer.write(event.model_dump_json().encode() + b"\n")
            await writer.drain()
            talk.num_sent += 1


@contextmanager
def standing_in(db: Session) -> Iterator[StandIn]:
    """Run one for a test, with its row in the database."""
    stand_in = StandIn(says("Hello", " there", "."))
    started = threading.Event()
    # Of the thread's own loop, once it runs: what ends the server.
    ends: list[Callable[[], object]] = []

    async def run() -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        ends.append(lambda: loop.call_soon_threadsafe(stopping.set))
        server = await asyncio.start_server(stand_in.serve, "127.0.0.1", 0)
        stand_in.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        started.set()
        await stopping.wait()
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert started.wait(patience.seconds(10))
    answering.claim(db, "answer-0@here", stand_in.address, SECRET)
    db.commit()
    try:
        yield stand_in
    finally:
        ends[0]()
        thread.join(timeout=patience.seconds(10))
