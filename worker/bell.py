"""The database's bell for the threads of one worker: one LISTEN connection, shared by all of them.

What it rings for is found in the tables all the same, a few seconds later: a ring only says "look
now", and one that is lost does no harm. Waiting for it costs nothing.
"""

import os
import select
import threading
from contextlib import suppress

import psycopg
import structlog

from app.core import db, wakeup

# A connection that says nothing for so long is asked whether it is still there.
_PROBE_SECONDS = 60.0
_RETRY_SECONDS = 2.0

_log = structlog.get_logger()


class Bell:
    """Wakes who waits for a topic."""

    def __init__(self) -> None:
        self.is_listening = False
        self._rung = {topic: threading.Event() for topic in wakeup.TOPICS}
        self._stopping = threading.Event()
        self._ends: tuple[int, int] | None = None  # of a pipe that tells the thread to end

    def start(self) -> None:
        """Listen in a thread of this process."""
        self._ends = os.pipe()
        threading.Thread(target=self._run, name="bell", daemon=True).start()

    def stop(self) -> None:
        """Wake everybody, for good."""
        self._stopping.set()
        self._ring_all()
        if self._ends is not None:
            os.write(self._ends[1], b"\0")

    def wait(self, topic: wakeup.Topic, seconds: float) -> None:
        """Wait for a ring, or until it is time to look without one."""
        self._rung[topic].wait(seconds)
        if not self._stopping.is_set():
            self._rung[topic].clear()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._listen()
            except (psycopg.Error, OSError) as error:
                _log.warning("bell.not_listening", error=str(error).strip())
            finally:
                self.is_listening = False
            self._stopping.wait(_RETRY_SECONDS)

    def _listen(self) -> None:
        assert self._ends is not None
        with db.listener(wakeup.CHANNEL) as connection:
            self.is_listening = True
            self._ring_all()  # something may have slipped by unheard
            while not self._stopping.is_set():
                heard, _, _ = select.select(
                    [connection.fileno(), self._ends[0]], [], [], _PROBE_SECONDS
                )
                if not heard:
                    connection.execute("SELECT 1")
                for notification in connection.notifies(timeout=0):
                    with suppress(KeyError):  # a newer Etude may ring for something else
                        self._rung[notification.payload].set()  # type: ignore[index]

    def _ring_all(self) -> None:
        for each in self._rung.values():
            each.set()
