"""Lines from the supervisor on standard input, whose end is the end of this process.

A thread waits for it, so the trainer ends at once however busy it is.
"""

import faulthandler
import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from app.training import events


class Commands:
    """Lines from the supervisor: first JOB_DIR, then wishes."""

    def __init__(self, source: Iterator[str]) -> None:
        self._source = source
        self._stop = threading.Event()
        self._others: int | None = None

    def wait_for_job(self) -> Path:
        """Wait for the first line, without a thread; its end ends this process as well."""
        line = next(self._source, "").strip()
        if not line:
            os._exit(events.EXIT_ORPHANED)
        return Path(line)

    def listen(self) -> None:
        """Read in the background; the end of the lines ends this process."""
        threading.Thread(target=self._read, name="death-pipe", daemon=True).start()
        signal.signal(signal.SIGTERM, self.stop)

    def stop(self, *_: object) -> None:
        """Wish for a checkpoint and an end; a signal may call this."""
        self._stop.set()
        if self._others is not None:
            with suppress(BrokenPipeError):  # they have ended already
                os.write(self._others, b"stop\n")

    def asked_to_stop(self) -> bool:
        return self._stop.is_set()

    def pass_on(self, pipe: int) -> None:
        """Hand wishes on to other processes from now on."""
        self._others = pipe
        if self._stop.is_set():
            self.stop()

    def _read(self) -> None:
        for line in self._source:
            if line.strip() == "stop":
                self.stop()
        os._exit(events.EXIT_ORPHANED)


def show_stacks_on_signal() -> None:
    """On SIGUSR1, print where every thread is: the supervisor asks before it kills a stuck one.

    The handler is C, and needs no interpreter that still comes by.
    """
    faulthandler.register(signal.SIGUSR1, all_threads=True)


def die_with(pipe: int) -> None:
    """End this process once nobody can write into a pipe any more; reads nothing from it."""

    def wait() -> None:
        poll = select.poll()
        poll.register(pipe, 0)  # told of a hang-up, and of nothing else
        poll.poll()
        os._exit(events.EXIT_ORPHANED)

    threading.Thread(target=wait, name="death-pipe", daemon=True).start()
