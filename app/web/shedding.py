"""What gives way first where there is more to do than this process can: streams, then pages.

Lateness is how long something that takes no time has to wait for its turn, in the event loop and
for a thread. From the first tenth of a second on, event streams send less often, all that has
happened since at once. From a whole second on, at most a few pages are made at a time, and whoever
else asks for one is told to come back. What changes something is never refused, and workers, whose
claims and heartbeats do not pass through here, get what all of this leaves of the database.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from anyio import to_thread
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

# A stream sends no more often than this, however fast its job is; a person sees no difference.
_GAP_SECONDS, _MOST_GAP_SECONDS = 0.2, 10.0
# So many times the lateness a stream waits between two looks.
_THINNING = 10
_PAGES_LATE_SECONDS = 1.0
_LOOK_SECONDS = 0.5
# What was late a moment ago may be so still: half of it counts at the next look.
_FADING = 0.5
# So many pages are always made, else nobody could see what is going on.
_PAGES_AT_ONCE = 4
_RETRY_SECONDS = 5
_SENTENCE = (
    "Etude has more to do at the moment than this machine can do at once. Nothing is lost: jobs go "
    f"on, and this page comes back. Please try again in {_RETRY_SECONDS} seconds.\n"
)
# These ask whether it is well, cost next to nothing, or thin out by themselves.
_NEVER_REFUSED = ("/healthz", "/readyz", "/metrics", "/static/", "/v1/")


class Lateness:
    """How late this process is, looked at for as long as somebody wants something of it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.num_pages = 0
        self._num_asking = 0
        self._is_asked = asyncio.Event()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Count a request or a stream that is open."""
        self._num_asking += 1
        self._is_asked.set()
        try:
            yield
        finally:
            self._num_asking -= 1
            if not self._num_asking:
                self._is_asked.clear()

    @property
    def stream_gap(self) -> float:
        """For how long a stream rests between two looks."""
        return min(_MOST_GAP_SECONDS, max(_GAP_SECONDS, _THINNING * self.seconds))

    def refuses_pages(self) -> bool:
        """Say whether one page more would only make all of them later."""
        return self.seconds >= _PAGES_LATE_SECONDS and self.num_pages >= _PAGES_AT_ONCE

    async def run(self) -> None:
        """Look until cancelled; while nobody asks, nothing is looked at."""
        while True:
            if not self._num_asking:
                self.seconds = 0.0
                await self._is_asked.wait()
            began = time.monotonic()
            await asyncio.sleep(_LOOK_SECONDS)
            await to_thread.run_sync(_nothing)
            late = time.monotonic() - began - _LOOK_SECONDS
            self.seconds = max(late, _FADING * self.seconds)


def _nothing() -> None:
    """Take a thread, as a page does."""


class Shedding:
    """Refuse pages while there are more than can be made in time."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        lateness: Lateness | None = None
        if scope["type"] == "http":
            lateness = getattr(scope["app"].state, "lateness", None)
        if lateness is None or scope["path"].startswith(_NEVER_REFUSED):
            await self.app(scope, receive, send)
            return
        with lateness.asking():
            if scope["method"] not in ("GET", "HEAD") or scope["path"].endswith("/events"):
                await self.app(scope, receive, send)
                return
            if lateness.refuses_pages():
                headers = {"Retry-After": str(_RETRY_SECONDS)}
                response = PlainTextResponse(_SENTENCE, status_code=503, headers=headers)
                await response(scope, receive, send)
                return
            lateness.num_pages += 1
            try:
                await self.app(scope, receive, send)
            finally:
                lateness.num_pages -= 1
