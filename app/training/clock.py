"""The machine's clock that goes on while it sleeps; a trainer's deadline is told by it."""

import time


def boot_seconds() -> float:
    """Return the seconds since the machine was started, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
