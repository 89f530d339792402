"""How busy a machine is said to be: now, and not a minute ago."""

import os
import subprocess
import sys
import time
from pathlib import Path

from tests import patience
from worker.gpu.cpu_load import CpuLoad

CORES = os.cpu_count() or 1


def write(stat: Path, used: float, idle: float) -> None:
    """Write the first lines of /proc/stat, with the seconds of all cores together."""
    ticks = os.sysconf("SC_CLK_TCK")
    stat.write_text(f"cpu  {int(used * ticks)} 0 0 {int(idle * ticks)} 0 0 0 0 0 0\ncpu0 1 2\n")


def test_cores_that_stood_idle_tell_of_now(tmp_path: Path) -> None:
    """Whatever the average of the last minute is."""
    stat = tmp_path / "stat"
    write(stat, used=500, idle=1000)
    load = CpuLoad(stat)
    time.sleep(1)
    write(stat, used=500, idle=1001)
    assert load.read() == 0


def test_where_all_are_busy_the_average_says_how_many_wait(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    write(stat, used=500, idle=1000)
    load = CpuLoad(stat)
    time.sleep(1)
    write(stat, used=500 + 100 * CORES, idle=1000)
    assert load.read() >= max(CORES, os.getloadavg()[0] - 1)


def test_two_looks_at_once_are_one() -> None:
    assert abs(CpuLoad().read() - os.getloadavg()[0]) < 1


def test_who_works_is_seen_at_once() -> None:
    load = CpuLoad()
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(CORES)]
    try:
        deadline = time.monotonic() + patience.seconds(60)
        while True:
            time.sleep(1)
            # However busy others keep it: these alone want all cores.
            if load.read() >= 0.9 * CORES:
                break
            assert time.monotonic() < deadline, "nobody noticed"
    finally:
        for each in spinning:
            each.kill()
            each.wait()
