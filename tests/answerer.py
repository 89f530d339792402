"""A process that answers, for tests: a real server that speaks app/training/answers.py.

What it says to a request is up to the test. It notes what it was asked, and when a line was closed
before its answer was over.
"""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from sqlalchemy import update
from sqlalchemy.orm import Session

from app.adapters import answering
from app.adapters.answering import AnswererState
from app.core.models import Answerer
from app.training.answers import (
    REQUEST,
    AnswerRequest,
    Begun,
    Done,
    Ended,
    Event,
    Piece,
    Refused,
    Waiting,
)
from tests import patience

SECRET = "a secret of this test"
# What is said to a request: events, or a moment to wait until the test says go.
Script = Callable[[AnswerRequest], list[Event | threading.Event]]


def saying(*pieces: str, reason: str = "stop") -> list[Event | threading.Event]:
    """All that a model says that has these words."""
    tokens = len(pieces)
    return [
        Waiting(place=0, doing=""),
        Begun(prompt_tokens=7, cached_tokens=0),
        *(Piece(index=0, text=piece) for piece in pieces),
        Ended(index=0, reason="length" if reason == "length" else "stop", completion_tokens=tokens),
        Done(engine="transformers", seconds=1.24, tokens_per_second=10),
    ]


def refusing(sentence: str, status: int = 503) -> list[Event | threading.Event]:
    return [Refused(status=status, code="unavailable", message=sentence)]


@dataclass
class StandIn:
    """What a test asks of the server, and what it saw."""

    script: Script = lambda request: saying("Hello", ".")
    address: str = ""
    requests: list[AnswerRequest] = field(default_factory=list)
    closed_early: threading.Event = field(default_factory=threading.Event)

    def asked(self, adapter_id: int | None) -> AnswerRequest:
        """The last request to one model."""
        return [one for one in self.requests if one.adapter_id == adapter_id][-1]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            assert json.loads(await reader.readline()) == {"secret": SECRET}
            request = REQUEST.validate_json(await reader.readline())
            assert isinstance(request, AnswerRequest)
            self.requests.append(request)
            gone = asyncio.create_task(reader.read(1))
            async for event in _events(self.script(request), gone):
                writer.write(event.model_dump_json().encode() + b"\n")
                await writer.drain()
            gone.cancel()
        except (ConnectionError, _Gone):
            self.closed_early.set()
        except asyncio.CancelledError:
            # The test ends. A connection left to its reader would be open when the loop is closed.
            writer.transport.abort()
            raise
        finally:
            with suppress(ConnectionError):
                writer.close()
                await writer.wait_closed()


class _Gone(Exception):
    """Whoever asked has closed the line."""


async def _events(
    script: list[Event | threading.Event], gone: "asyncio.Task[bytes]"
) -> AsyncIterator[Event]:
    for step in script:
        if isinstance(step, threading.Event):
            while not step.is_set():
                await asyncio.sleep(0.01)
                if gone.done():
                    raise _Gone
        else:
            yield step


@contextmanager
def standing_in(db: Session, state: AnswererState | None = None) -> Iterator[StandIn]:
    """Run the server in a thread, with a row that says where it listens."""
    stand_in = StandIn()
    ready = threading.Event()
    # Of the thread's own loop, once it runs: what ends the server.
    ends: list[Callable[[], object]] = []

    async def main() -> None:
        over = asyncio.Event()
        loop = asyncio.get_running_loop()
        ends.append(lambda: loop.call_soon_threadsafe(over.set))
        server = await asyncio.start_server(stand_in.serve, "127.0.0.1", 0)
        stand_in.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        await over.wait()
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert ready.wait(patience.seconds(5))
    answering.claim(db, "answer-0@test", stand_in.address, SECRET)
    stands = state or AnswererState(rule="Training comes first.")
    db.execute(update(Answerer).values(state=stands.model_dump()))
    db.commit()
    try:
        yield stand_in
    finally:
        ends[0]()
        thread.join(patience.seconds(5))
