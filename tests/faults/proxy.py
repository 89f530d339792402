"""A cable to pull: a TCP proxy before a socket that can go silent, slow down or hang up."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests import patience


class Proxy:
    """Listens on a port of its own; switches may be thrown from any thread."""

    def __init__(self, target: Path | int) -> None:
        self.target = target  # a Unix socket, or a port of this machine
        self.port = 0
        self.is_away = False  # hangs up on whoever comes
        self.is_silent = False  # takes what is sent, and passes nothing on: half open
        self.delay_seconds = 0.0
        self._writers: set[asyncio.StreamWriter] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def hang_up(self) -> None:
        """Cut every connection that there is."""
        self._loop.call_soon_threadsafe(self._close_all)

    def go_away(self) -> None:
        """Cut every connection, and take no new one until `is_away` is no longer set."""
        self.is_away = True
        self.hang_up()

    def end(self) -> None:
        with suppress(RuntimeError):  # its loop is closed: a test has ended it already
            self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.run(self._serve())  # what is still delayed or silent at the end is cancelled

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._over.wait()
        server.close()
        self._close_all()
        await asyncio.sleep(0.05)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_away:
            writer.transport.abort()
            return
        with suppress(OSError):
            if isinstance(self.target, Path):
                there, back = await asyncio.open_unix_connection(self.target)
            else:
                there, back = await asyncio.open_connection("127.0.0.1", self.target)
            self._writers |= {writer, back}
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
            self._writers -= {writer, back}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if self.delay_seconds:
                    await asyncio.sleep(self.delay_seconds)
                if not self.is_silent:
                    writer.write(data)
                    await writer.drain()
        if not self.is_silent:
            writer.close()

    def _close_all(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()


@contextmanager
def proxy(target: Path | int) -> Iterator[Proxy]:
    made = Proxy(target)
    made._thread.start()
    assert made._ready.wait(patience.seconds(10))
    try:
        yield made
    finally:
        made.end()
