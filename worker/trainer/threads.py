"""A core for each of torch's threads, where they have the CPU to themselves.

Each of torch's many short operations waits for the slowest of its threads. Left to the scheduler,
two of them may meet on one core for as long as another process is busy, and beside one such process
a trainer on two cores kept a seventh of its speed. Kept apart, one of them shares its core and the
trainer keeps two thirds (docs/life-of-an-answer.md).
"""

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

import torch

_TRY_SECONDS = 0.1


def keep_apart() -> bool:
    """Give the calling thread and those that compute with it a core each; says whether it did.

    Where there are more cores than threads the scheduler knows better, and other trainers may be
    about.
    """
    cores = sorted(os.sched_getaffinity(0))
    if not 1 < torch.get_num_threads() == len(cores):
        return False
    threads = [0, *_helpers(len(cores) - 1)]
    if len(threads) != len(cores):
        return False
    with suppress(OSError):  # one has ended: then it was none of torch's
        for thread, core in zip(threads, cores, strict=True):
            os.sched_setaffinity(thread, {core})
        return True
    for thread in threads:
        with suppress(OSError):
            os.sched_setaffinity(thread, cores)
    return False


def _helpers(count: int) -> list[int]:
    """Return the threads that are busy while torch computes, besides the calling one."""
    before = _run_nanoseconds()
    square = torch.ones(256, 256)
    until = time.monotonic() + _TRY_SECONDS
    while time.monotonic() < until:
        square @ square
    after = _run_nanoseconds()
    own = threading.get_native_id()
    worked = {tid: spent - before.get(tid, 0) for tid, spent in after.items() if tid != own}
    busiest = sorted(worked, key=lambda tid: worked[tid], reverse=True)[:count]
    # A thread that did next to nothing meanwhile is something else.
    return [tid for tid in busiest if worked[tid] > _TRY_SECONDS * 1e9 / 20]


def _run_nanoseconds() -> dict[int, int]:
    found = {}
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            found[int(task.name)] = int((task / "schedstat").read_text().split()[0])
    return found
