"""The web server's connections: how many there are, and how long each may keep us waiting.

uvicorn waits for the end of a request's head for as long as a client likes to take, reads on what
nobody wants any more, and knows no limit for one client. A body that stands still is the business
of `middleware.BodyGuard`, which can say so.
"""

import asyncio
import resource
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from app.core import settings
from app.web.proxies import is_trusted

# One client may have so large a part of all connections; a proxy speaks for many.
_PART_OF_ONE = 4
# For what a client still sends after our answer: an upload that was refused.
_LINGER_SECONDS = 5.0
# Beside the connections: the database's, uploads, logs.
_OTHER_FILES = 512
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n"
    # By which scripts know an answer of ours from a proxy's (static/js/answers.js).
    b"X-Request-Id: none\r\nRetry-After: 10\r\nConnection: close\r\n\r\n"
    b"Too many connections are open. Please try again in a moment.\n"
)


def allow_files() -> None:
    """Let this process open as many files as its connections need, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = settings.get().connections_each + _OTHER_FILES
    if hard != resource.RLIM_INFINITY:
        needed = min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


class LimitedProtocol(H11Protocol):
    """One connection, closed when it takes more than its part."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None
        self._reader_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self._is_one_too_many():
            self.connections.discard(self)
            transport.write(_FULL)
            transport.close()
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head_timer, self._linger_timer, self._reader_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self.conn.their_state is h11.IDLE and self._head_timer is None:
            self._await_head()
        super().data_received(data)
        if self._head_timer is not None and self.conn.their_state is not h11.IDLE:
            self._head_timer.cancel()
            self._head_timer = None

    def on_response_complete(self) -> None:
        answered = self.cycle
        super().on_response_complete()  # which may begin with the next request
        if self._is_unread(answered):
            self._linger_timer = self.loop.call_later(_LINGER_SECONDS, self._leave, answered)

    def pause_writing(self) -> None:
        super().pause_writing()
        patience = settings.get().response_reader_seconds
        self._reader_timer = self.loop.call_later(patience, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._reader_timer is not None:
            self._reader_timer.cancel()
            self._reader_timer = None

    def _await_head(self) -> None:
        patience = settings.get().request_header_seconds
        self._head_timer = self.loop.call_later(patience, self._give_up_head)

    def _give_up_head(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.close()

    def _leave(self, answered: RequestResponseCycle) -> None:
        if self._is_unread(answered) and not self.transport.is_closing():
            self.transport.close()

    def _is_unread(self, answered: RequestResponseCycle) -> bool:
        """Say whether a request that was answered still has not come whole."""
        return self.cycle is answered and self.conn.their_state is h11.SEND_BODY

    def _is_one_too_many(self) -> bool:
        limit = settings.get().connections_each
        if len(self.connections) > limit:
            return True
        address = self.client[0] if self.client else ""
        if is_trusted(address):
            return False
        of_one = [
            each
            for each in self.connections
            if isinstance(each, LimitedProtocol) and each.client and each.client[0] == address
        ]
        return len(of_one) > limit // _PART_OF_ONE
