"""How many programs want a core of this machine at once, as of just now.

The kernel's load average lags by a minute: after a job has ended it would make the next one's time
look twice as long. Whether cores stood idle since the last look tells at once; only where none did
does the average say how many wait.
"""

import os
import time
from pathlib import Path

# Less time than this is counted in too few of the kernel's ticks (10 ms).
_MIN_SECONDS = 0.5
# Of all cores' time; above it somebody may have waited.
_BUSY = 0.9
_STAT = Path("/proc/stat")


class CpuLoad:
    """Remembers what was used until the last look."""

    def __init__(self, stat: Path = _STAT) -> None:
        self._stat = stat
        self._at, self._used = time.monotonic(), _used_seconds(stat)

    def read(self) -> float:
        """Return how many wanted a core, on average since the last look."""
        average, cores = os.getloadavg()[0], os.cpu_count() or 1
        now, used = time.monotonic(), _used_seconds(self._stat)
        seconds = now - self._at
        if seconds < _MIN_SECONDS:
            return average
        busy = (used - self._used) / seconds
        self._at, self._used = now, used
        return busy if busy < _BUSY * cores else max(busy, average)


def _used_seconds(stat: Path) -> float:
    """Return the seconds that all cores together have worked since the machine started.

    Of the first line of /proc/stat (proc_stat(5)): user, nice, system, idle, iowait, irq, softirq,
    steal; a guest's time is in user's already.
    """
    fields = stat.read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]
    ticks = [int(field) for field in fields]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
