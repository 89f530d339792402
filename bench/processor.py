"""Processor time of processes and of all that they started, as the kernel counts it."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def tree(root: int) -> list[int]:
    """Return a process and all that live below it."""
    found = [root]
    for pid in found:  # it grows meanwhile
        with suppress(OSError):  # it, or a thread of it, ended meanwhile
            for path in Path(f"/proc/{pid}/task").glob("*/children"):
                found += map(int, path.read_text().split())
    return found


def milliseconds(pids: Iterable[int]) -> float:
    """Return what processes have used, and their children that have ended."""
    return sum(map(_of_process, pids))


def of_backend(pid: int) -> float:
    """Return what a process of one thread has used, to the nanosecond, in milliseconds."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6
    return 0.0


def command(pid: int) -> str:
    """Return what a process was started with."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    return ""


def _of_process(pid: int) -> float:
    with suppress(OSError):
        # After the name, which may hold anything: utime, stime, cutime and cstime.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return 1000 * sum(map(int, fields[11:15])) / _TICKS
    return 0.0
