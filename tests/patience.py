"""How much longer than a quick machine this one takes, and limits to match.

A limit in a test says what a quick machine with two cores needs many times over. Whoever waits asks
`seconds(limit)`, which lengthens it by what a small probe took here: on a slow processor, on a
single core, beside other work. It is asked again from time to time and never becomes shorter.
"""

import os
import subprocess
import sys
import time
from functools import lru_cache

# A quick machine's time for the probe: starting Python, importing, counting.
_QUICK_SECONDS = 0.2
_PROBE = "import asyncio, decimal, email, json, ssl; sum(n * n for n in range(1_000_000))"
_ANEW_SECONDS = 30
_CORES = len(os.sched_getaffinity(0))  # before a test keeps itself to one
_VARIABLE = "TEST_PATIENCE"  # what the session has found so far, for the processes that it starts


def factor() -> float:
    """Return how many times longer things may take here; 1 or more."""
    return _known(int(time.monotonic() // _ANEW_SECONDS))


@lru_cache(maxsize=1)
def _known(_period: int) -> float:
    known = max(float(os.environ.get(_VARIABLE, "1")), _probe())
    os.environ[_VARIABLE] = f"{known:.2f}"
    return known


def seconds(limit: float) -> float:
    """Return a limit for this machine, given one for a quick machine."""
    return limit * factor()


def milliseconds(limit_seconds: float) -> float:
    """Return the same as Playwright wants it."""
    return 1000 * seconds(limit_seconds)


def _probe() -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", _PROBE], check=True)
    took = time.monotonic() - began
    # What a test starts runs side by side on two cores, and one after the other on one.
    return max(1.0, took / _QUICK_SECONDS) * max(1.0, 2 / _CORES)
