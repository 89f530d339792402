"""Until when a trainer may work, told by its supervisor in attempts/<n>/deadline.

The supervisor moves it on with each heartbeat that the database has answered. One that hangs, or a
machine that slept, moves nothing: the trainer then does no further step, since another machine may
have the job by now. A double, in seconds of CLOCK_BOOTTIME, which goes on while a machine sleeps.
No torch here.
"""

import mmap
import os
import struct
import time
from pathlib import Path

from app.training.clock import boot_seconds

# After a sleep the supervisor needs a moment to ask whether the job is still ours.
_PATIENCE_SECONDS = 5.0
_DOUBLE = struct.Struct("d")


class CutOff(Exception):
    """The deadline has passed, and nobody moved it on."""


class Deadline:
    """One attempt's; without the file there is none."""

    def __init__(self, attempt_dir: Path) -> None:
        self._shared: mmap.mmap | None = None
        path = attempt_dir / "deadline"
        if path.exists():
            with path.open("rb") as file:
                self._shared = mmap.mmap(file.fileno(), _DOUBLE.size, prot=mmap.PROT_READ)

    def keep(self) -> None:
        """Return at once before the deadline; hold still after it until it is moved on.

        Raises:
            CutOff: it was not.
        """
        if self._shared is None:
            return
        began = boot_seconds()
        while (now := boot_seconds()) > _DOUBLE.unpack(self._shared)[0]:
            if now - began > _PATIENCE_SECONDS:
                raise CutOff
            time.sleep(0.02)


def write(handle: int, until: float) -> None:
    """Move the deadline on; eight bytes, so nobody reads half of it."""
    os.pwrite(handle, _DOUBLE.pack(until), 0)
