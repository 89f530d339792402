"""A child process for work that may break: given a request, heard line by line, ended in time.

It reads what strangers sent or needs libraries that its parent must not load, so it gets no
credentials, and a file, a model or a text that breaks it breaks nothing else.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from app.core import settings, walls
from app.core.outbound import NO_TELEMETRY

_log = structlog.get_logger()
_TAIL_BYTES = 4000
_ENVIRONMENT = NO_TELEMETRY | {
    "PYTHONUTF8": "1",
    "LANG": "C.UTF-8",
    # mimalloc, within rensa and pyarrow, lays its hand on a gigabyte of address space at once: most
    # of what a child's limit allows. In KiB.
    "MIMALLOC_ARENA_RESERVE": "65536",
}


class BrokeOff(Exception):
    """The child ended otherwise than well: by a signal, its limits, an exception, or too late."""

    def __init__(self, code: int, is_late: bool, tail: str, is_silent: bool = False) -> None:
        super().__init__(f"code {code}")
        self.code = code  # as subprocess has it: below 0 a signal's number
        self.is_late = is_late
        self.is_silent = is_silent  # and not a word was heard for too long
        self.tail = tail  # the end of what it wrote to standard error; it may quote what it read


class Child:
    """`python -m module`, from `with` to the end of it; nothing of it is left afterwards."""

    def __init__(
        self,
        module: str,
        request: str,
        *,
        ends: Sequence[str] = (),
        timeout_seconds: float,
        idle_seconds: float = float("inf"),
        environment: dict[str, str] | None = None,
        feed: Callable[[], Iterable[bytes]] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """
        Args:
            request: Its first line of standard input, which stays open while it is to live.
            ends: Beginnings of its last line, its result. With it whole the child is done, however
                its process ends then; without one of them it has not ended well.
            timeout_seconds: From its start to its result.
            idle_seconds: While somebody waits for its next word.
            environment: On top of PATH, UTF-8, a wish for quiet and one word to an allocator.
            feed: What follows the request, until its end closes standard input; called in a thread.
        """
        self._module, self._request = module, request
        self._ends = tuple(end.encode() for end in ends)
        self._timeout_seconds, self._idle_seconds = timeout_seconds, idle_seconds
        # While nobody listens, a full pipe keeps it from speaking: that is no silence of its own.
        self._listening_since: float | None = None
        self._environment = environment or {}
        self._feed, self._pass_fds = feed, pass_fds
        self._is_late = self._is_silent = False
        self._ended = threading.Event()
        self._tail = b""
        self._feed_error: Exception | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", self._module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=self._pass_fds,
            cwd=Path(__file__).resolve().parents[2],
            env={"PATH": os.environ.get("PATH", "")}
            | _ENVIRONMENT
            | walls.environment()
            | self._environment,
            # A terminal's Ctrl-C is for whoever started this, who then ends it.
            start_new_session=True,
        )
        self._watch = threading.Thread(target=self._give_up, name="child-watch", daemon=True)
        self._watch.start()
        # Threads of their own: a full pipe must not keep us from hearing why it is not emptied.
        self._hearer = threading.Thread(target=self._hear, name="child-errors", daemon=True)
        self._hearer.start()
        self._feeder = threading.Thread(target=self._write, name="child-feed", daemon=True)
        self._feeder.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self.kill()
        self._process.wait()
        self._feeder.join()
        self._hearer.join()
        self._watch.join()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert stream is not None
            with suppress(BrokenPipeError):  # it ended before it had read its request
                stream.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def say(self, line: str) -> None:
        """Say one more line to a child that is not fed; that it has gone is heard by `lines`."""
        self._feeder.join()
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def kill(self) -> None:
        """End it at once; whoever listens hears that it broke off."""
        self._process.kill()

    def lines(self) -> Iterator[bytes]:
        """Yield each whole line that it says, until it has ended well.

        Raises:
            BrokeOff: it ended otherwise.
        """
        assert self._process.stdout is not None
        is_done = False
        self._listening_since = time.monotonic()
        for line in self._process.stdout:
            self._listening_since = None
            if not line.endswith(b"\n"):
                break  # it ended amid it
            yield line
            is_done = line.startswith(self._ends)
            if is_done:
                break
            self._listening_since = time.monotonic()
        self._listening_since = None
        code = self._last_code() if is_done else self._process.wait()
        self._feeder.join()
        if self._feed_error is not None:
            raise self._feed_error
        if is_done and code != 0:
            _log.warning("child.ended_badly_after_its_result", module=self._module, code=code)
        elif code != 0 or (self._ends and not is_done):
            self._hearer.join()
            tail = self._tail.decode(errors="replace")
            is_late = self._is_late or code == -signal.SIGXCPU
            raise BrokeOff(code, is_late, tail, self._is_silent)

    def _last_code(self) -> int:
        """Wait for the end of one whose result is whole, but not for ever."""
        try:
            return self._process.wait(settings.get().exit_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.wait()

    def _hear(self) -> None:
        # A pipe and not a file: what is confined may write no file, not even to say why it ends.
        assert self._process.stderr is not None
        while piece := os.read(self._process.stderr.fileno(), _TAIL_BYTES):
            self._tail = (self._tail + piece)[-_TAIL_BYTES:]

    def _write(self) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(self._request.encode() + b"\n")
            self._process.stdin.flush()
            if self._feed is not None:
                with self._process.stdin as stdin:
                    stdin.writelines(self._feed())
        except BrokenPipeError:
            pass  # it has ended; how, its exit code says
        except Exception as error:
            # Half of what it was to read must not pass for all of it.
            self._feed_error = error
            self.kill()

    def _give_up(self) -> None:
        """End it when its time is over, or it has been silent for too long."""
        ends_at = time.monotonic() + self._timeout_seconds
        while not self._ended.is_set():
            since, now = self._listening_since, time.monotonic()
            silent_at = float("inf") if since is None else since + self._idle_seconds
            if min(ends_at, silent_at) <= now:
                if self._process.poll() is None:
                    self._is_late, self._is_silent = True, silent_at < ends_at
                    self.kill()
                return
            # Somebody may begin to listen just after.
            next_look = min(ends_at, silent_at, now + self._idle_seconds) - now
            self._ended.wait(min(next_look, threading.TIMEOUT_MAX))
