"""Wake the event streams of this web process: one LISTEN connection, shared by all of them.

A notification only says "look again"; what is new is read from the tables, by sequence number. So
one that is lost, doubled or late does no harm, and a stream looks by itself now and then anyway.
"""

import asyncio
import signal
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import psycopg
import structlog
from psycopg.conninfo import make_conninfo
from sqlalchemy import make_url

from app.machines import prometheus

CHANNEL = "etude"
# How long a stream waits before it looks by itself: as the rule, and while nobody would wake it.
CALM_SECONDS = 10.0
ALONE_SECONDS = 2.0
# A connection that says nothing for so long is asked whether it is still there.
_PROBE_SECONDS = 20.0
# What comes so soon after a notification is read with it; not 0, for which psycopg does not look.
_BURST_SECONDS = 0.05

_log = structlog.get_logger()


class Hub:
    """Passes notifications of PostgreSQL on to the streams that wait for them."""

    def __init__(self, database_url: str) -> None:
        url = make_url(database_url).set(drivername="postgresql+psycopg")
        # Not the URL as text: SQLAlchemy writes a space as "+", which libpq takes for a plus.
        self._conninfo = make_conninfo(**url.get_dialect()().create_connect_args(url)[1])
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)
        self.is_listening = False
        self._closing = asyncio.Event()

    @contextmanager
    def subscribe(self, topic: str) -> Iterator[asyncio.Event]:
        """Lend an event that is set whenever something happens to a topic, e.g. `job:7`."""
        event = asyncio.Event()
        self._waiting[topic].add(event)
        prometheus.stream_opened()
        try:
            yield event
        finally:
            prometheus.stream_closed()
            self._waiting[topic].discard(event)
            if not self._waiting[topic]:
                del self._waiting[topic]

    async def wait(self, event: asyncio.Event, at_most_seconds: float) -> bool:
        """Wait for an event, or until it is time to look without being told.

        Returns:
            Whether there was one; where nobody would ring, it may be so.
        """
        patience = CALM_SECONDS if self.is_listening else ALONE_SECONDS
        try:
            await asyncio.wait_for(event.wait(), min(patience, at_most_seconds))
        except TimeoutError:
            return not self.is_listening
        event.clear()
        return True

    @property
    def is_closing(self) -> bool:
        return self._closing.is_set()

    async def rest(self, seconds: float) -> None:
        """Let some time pass, whatever happens; only the end of this process cuts it short."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)

    def close(self) -> None:
        """Tell every stream to end; the web process is about to stop."""
        self._closing.set()
        self._wake_all()

    async def run(self) -> None:
        """Listen until cancelled; after the database was away, listen again."""
        pause = 0.2
        while True:
            try:
                await self._listen()
            except (psycopg.Error, OSError) as error:
                if self.is_listening:
                    pause = 0.2
                self.is_listening = False
                _log.warning("streams.not_listening", error=str(error).strip(), retry_in=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)

    async def _listen(self) -> None:
        connection = await psycopg.AsyncConnection.connect(
            self._conninfo, autocommit=True, connect_timeout=5, application_name="etude-streams"
        )
        async with connection:
            await connection.execute(f"LISTEN {CHANNEL}")
            self.is_listening = True
            self._wake_all()  # something may have slipped by unheard
            while True:
                if not await _has_word(connection.fileno(), _PROBE_SECONDS):
                    await connection.execute("SELECT 1")
                    self._wake_all()
                async for notification in connection.notifies(timeout=_BURST_SECONDS):
                    self._wake(notification.payload)

    def _wake(self, topic: str) -> None:
        for event in self._waiting.get(topic, ()):
            event.set()

    def _wake_all(self) -> None:
        for events in self._waiting.values():
            for event in events:
                event.set()


async def _has_word(connection: int, seconds: float) -> bool:
    """Wait until a socket can be read. psycopg, told to wait, would look ten times a second."""
    heard, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(connection, heard.set)
    try:
        await asyncio.wait_for(heard.wait(), seconds)
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(connection)
    return True


@asynccontextmanager
async def listening(database_url: str) -> AsyncIterator[Hub]:
    """Run a hub for the life of the web process; SIGINT and SIGTERM end its streams first."""
    hub = Hub(database_url)
    task = asyncio.create_task(hub.run())
    try:
        with _before_signals(hub.close):
            yield hub
    finally:
        hub.close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextmanager
def _before_signals(close: Callable[[], None]) -> Iterator[None]:
    # uvicorn waits for open responses before it ends the application's life, and an event stream
    # is a response that never ends by itself: it has to hear of the signal as soon as uvicorn does.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    earlier: dict[signal.Signals, Any] = {}

    def handle(number: int, frame: Any) -> None:
        loop.call_soon_threadsafe(close)
        before = earlier[signal.Signals(number)]
        if callable(before):
            before(number, frame)
        elif before is signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        earlier[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for number, before in earlier.items():
            signal.signal(number, before)
