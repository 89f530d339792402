"""A trainer's log, whose middle is given back to the disk while the trainer goes on writing.

The trainer writes to a file of its own and waits for nobody. A hole is punched between the first
and the last part that are kept: the file keeps its length and its writer's place (fallocate(2)).
Where the file system knows no holes, the last part is moved up; what is written in that moment
may be lost.
"""

import ctypes
import os
from contextlib import suppress
from pathlib import Path

HALF_BYTES = 5 * 1024**2
# Not for each line over the limit: a fifth more is let grow before the next hole.
_SLACK_BYTES = 1024**2
_BLOCK_BYTES = 4096
_KEEP_SIZE, _PUNCH_HOLE = 0x01, 0x02
_LEFT_OUT = b"\n[... the middle of this log was left out ...]\n"
_libc = ctypes.CDLL(None, use_errno=True)


class CappedLog:
    """One log file, looked at from time to time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._given_back = HALF_BYTES

    def cap(self) -> None:
        """Give back what lies between the first and the last part; never raises."""
        with suppress(OSError):
            size = self.path.stat().st_size
            until = (size - HALF_BYTES) // _BLOCK_BYTES * _BLOCK_BYTES
            if until - self._given_back < _SLACK_BYTES:
                return
            with self.path.open("r+b") as file:
                if _punch(file.fileno(), HALF_BYTES, until - HALF_BYTES):
                    self._given_back = until
                    os.pwrite(file.fileno(), _LEFT_OUT, HALF_BYTES)
                    return
                file.seek(until)
                last = file.read()
                file.seek(HALF_BYTES)
                file.write(_LEFT_OUT + last)
                file.truncate()

    def tail(self, num_bytes: int) -> bytes:
        """Return the end of what was written; empty where nothing is there."""
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - num_bytes))
                return file.read()
        except OSError:
            return b""


def _punch(handle: int, begin: int, length: int) -> bool:
    done: int = _libc.fallocate(
        handle, _KEEP_SIZE | _PUNCH_HOLE, ctypes.c_int64(begin), ctypes.c_int64(length)
    )
    return done == 0
