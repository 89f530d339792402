"""A child process that is kept: asked for one thing after another, ended where one takes too long.

Threads of a process share it and wait for each other, a few at a time and not for long. A child
that was ended, or that broke, is started again at once: what broke it breaks nothing else.
"""

import atexit
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import structlog

from app.core import settings, walls
from app.core.errors import Unavailable

Json = dict[str, Any]

# What a request may take of the processor, and reading a model's files before the first one.
REQUEST_SECONDS, LOAD_SECONDS = 2.0, 20.0
# The child counts its own seconds, which another's load does not make longer. Should it stand still
# or not count, the clock on the wall ends it.
_WALL_FACTOR = 5
_START_SECONDS = 60.0
_MAX_WAITING = 16
_WAIT_SECONDS = 10.0
_MAX_ANSWER_BYTES = 64 * 1024**2
_PIECE_BYTES = 64 * 1024
_ENVIRONMENT = {
    "PYTHONUTF8": "1",
    "LANG": "C.UTF-8",
    # Each thread's stack and heap count against what its address space may have.
    "RAYON_NUM_THREADS": "4",
    "MALLOC_ARENA_MAX": "2",
}
_BUSY = "Too many people are asking for this at the same time; try again in a few seconds."

_log = structlog.get_logger()


class Ended(Exception):
    """The child ended amid a request."""

    def __init__(self, code: int | None, *, is_late: bool) -> None:
        super().__init__(f"code {code}")
        self.is_late = is_late


class KeptChild:
    """`python -m module`: a line of JSON in, a line of JSON out."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._process: subprocess.Popen[bytes] | None = None
        self._turn = threading.Lock()
        self._counting = threading.Lock()
        self._num_waiting = 0
        self._models_dir = ""  # that it may read
        self._is_new = True  # it has not answered yet: its start counts as well

    @property
    def pid(self) -> int | None:
        """The process that stands ready, if one does."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Start it before anybody asks, so that nobody waits for it."""
        with self._turn:
            self._have_one()

    def ask(self, request: Json) -> Json:
        """Return what it answers.

        Raises:
            Ended: it broke, or took too long; the next request finds a new one.
            Unavailable: too many others wait.
        """
        with self._counting:
            if self._num_waiting >= _MAX_WAITING:
                raise Unavailable(_BUSY)
            self._num_waiting += 1
        try:
            if not self._turn.acquire(timeout=_WAIT_SECONDS):
                raise Unavailable(_BUSY)
            try:
                return self._ask(json.dumps(request).encode() + b"\n")
            finally:
                self._turn.release()
        finally:
            with self._counting:
                self._num_waiting -= 1

    def close(self) -> None:
        """End it, and leave nothing of it."""
        with self._turn:
            if self._process is not None:
                self._end(self._process)
                self._process = None

    def _ask(self, line: bytes) -> Json:
        process = self._have_one()
        try:
            said = self._exchange(process, line)
        except (TimeoutError, EOFError, BrokenPipeError, ValueError) as error:
            self._end(process)
            self._have_one()  # the next one finds it ready
            code = process.returncode
            is_late = isinstance(error, TimeoutError) or code == -signal.SIGPROF
            _log.warning("confined.ended", code=code, is_late=is_late)
            raise Ended(code, is_late=is_late) from None
        except BaseException:
            self._end(process)  # its answer must not pass for the next one's
            raise
        self._is_new = False
        return said

    def _have_one(self) -> subprocess.Popen[bytes]:
        models_dir = str(settings.get().models_dir)
        is_alive = self._process is not None and self._process.poll() is None
        if self._process is not None and is_alive and models_dir == self._models_dir:
            return self._process
        if self._process is not None:
            self._end(self._process)  # it ended by itself
        self._is_new, self._models_dir = True, models_dir
        Path(models_dir).mkdir(parents=True, exist_ok=True)  # a wall is built around what is there
        self._process = subprocess.Popen(
            [sys.executable, "-m", self._module, models_dir],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # What breaks it may quote people's words, so nobody keeps it.
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd=Path(__file__).resolve().parents[3],
            env={"PATH": os.environ.get("PATH", "")} | _ENVIRONMENT | walls.environment(),
            start_new_session=True,
        )
        stdin, _ = _pipes(self._process)
        os.set_blocking(stdin.fileno(), False)
        return self._process

    def _exchange(self, process: subprocess.Popen[bytes], line: bytes) -> Json:
        """Write a line and read one; {"loading": true} before it asks for more time, once.

        Raises:
            TimeoutError, EOFError, BrokenPipeError, ValueError: no answer comes.
        """
        stdin, stdout = _pipes(process)
        seconds = REQUEST_SECONDS * _WALL_FACTOR + (_START_SECONDS if self._is_new else 0)
        deadline = time.monotonic() + seconds
        unsent, heard, has_loaded = memoryview(line), bytearray(), False
        with selectors.DefaultSelector() as selector:
            selector.register(stdin, selectors.EVENT_WRITE)
            selector.register(stdout, selectors.EVENT_READ)
            while True:
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if not ready:
                    raise TimeoutError
                for key, _ in ready:
                    if key.fileobj is stdin:
                        unsent = unsent[os.write(stdin.fileno(), unsent[:_PIECE_BYTES]) :]
                        if not unsent:
                            selector.unregister(stdin)
                        continue
                    piece = os.read(stdout.fileno(), _PIECE_BYTES)
                    if not piece or len(heard) > _MAX_ANSWER_BYTES:
                        raise EOFError
                    heard += piece
                while b"\n" in heard:
                    first, _, rest = bytes(heard).partition(b"\n")
                    said: Json = json.loads(first)
                    if not said.get("loading") or has_loaded:
                        return said
                    deadline += LOAD_SECONDS * _WALL_FACTOR
                    heard, has_loaded = bytearray(rest), True

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()
        for pipe in _pipes(process):
            with suppress(OSError):
                pipe.close()


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


child = KeptChild("app.core.confined")
atexit.register(child.close)
