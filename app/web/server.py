"""uvicorn with our limits: quiet while nobody asks, and one of several where that is set."""

import asyncio
import signal
import socket
import sys
from contextlib import suppress
from types import FrameType

import uvicorn

from app.core import settings
from app.web.connections import LimitedProtocol, allow_files

# uvicorn looks ten times a second whether it is to end, and refreshes its date header once.
_TICK_SECONDS, _TICKS = 1.0, 10
_NOT_STARTED = 3


class QuietServer(uvicorn.Server):
    """Hears of a signal at once, and looks by itself once a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._is_ending = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def main_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        counter = 0
        while not await self.on_tick(counter):
            counter += _TICKS
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_ending.wait(), _TICK_SECONDS)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(signal.Signals(sig), frame)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._is_ending.set)


def serve(*, is_one_of_several: bool) -> None:
    """Answer until told to end.

    Args:
        is_one_of_several: Other processes listen on the port, too; the kernel shares them out.
    """
    chosen = settings.get()
    allow_files()
    server = QuietServer(
        uvicorn.Config(
            "app.main:create_lasting_app",
            factory=True,
            host=chosen.host,
            port=chosen.port,
            access_log=False,
            log_config=None,  # its own form of lines would stand beside ours
            server_header=False,
            http=LimitedProtocol,
            ws="none",
            proxy_headers=False,  # app/web/proxies.py reads them, of the proxies that are ours
            log_level=chosen.log_level.lower(),
            # Open event streams end at once; browsers come back to the next process by themselves.
            timeout_graceful_shutdown=3,
        )
    )
    sockets = [_shared(chosen.host, chosen.port)] if is_one_of_several else None
    with suppress(KeyboardInterrupt):
        server.run(sockets)
    if not server.started:
        sys.exit(_NOT_STARTED)


def _shared(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listening.bind((host, port))
    return listening
