"""The machine that a plan is made for: what a device has, and what this CPU has (Linux)."""

import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

_TCMALLOC = ("libtcmalloc_minimal.so.4", "libtcmalloc.so.4")
# Threads that wait for each other get less than their fair share. Two on two cores kept 0.67 of
# their speed beside 1 other program, 0.042 beside 22 and 0.018 beside 39 (docs/performance.md).
_TOGETHER = 1.3
_LIBRARIES = ("/usr/lib/*-linux-gnu", "/usr/lib64", "/usr/local/lib")


class DeviceInfo(BaseModel):
    kind: Literal["cpu", "cuda"] = "cpu"
    name: str = ""
    free_bytes: int  # of one device; of several, the one with the least
    total_bytes: int = 0  # of the machine, where it has no GPU; 0: nobody asked
    num_devices: int = Field(default=1, ge=1)  # equal ones that a job gets together
    num_cores: int = Field(default=1, ge=1)  # physical ones that this process may use
    has_bfloat16: bool = True
    allocator: Literal["glibc", "tcmalloc"] = "glibc"
    # Floating-point operations a second that a layer reaches on all of a CPU's cores together, as
    # worker/trainer/products.py has measured; 0: nobody has.
    layer_rate: float = 0.0
    # How many other programs want a core of it just now, on average.
    load: float = 0.0

    @property
    def share(self) -> float:
        """What the other programs leave of it to a job, of 1."""
        cores = self.num_cores * self.num_devices
        fair = cores / (cores + self.load)
        return fair if cores == 1 else float(fair**_TOGETHER)


def this_cpu() -> DeviceInfo:
    """Describe the CPU and memory that this process may use (Linux)."""
    cpus = sorted(os.sched_getaffinity(0))
    siblings = {
        _read(f"/sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list") for n in cpus
    }
    # Where the topology is hidden, every logical CPU counts.
    cores = len(cpus) if "" in siblings else len(siblings)
    quota = _read("/sys/fs/cgroup/cpu.max").split()
    if len(quota) == 2 and quota[0] != "max":
        cores = min(cores, max(1, int(quota[0]) // int(quota[1])))
    info = _read("/proc/cpuinfo")
    name = next((x.split(":", 1)[1].strip() for x in info.splitlines() if "model name" in x), "CPU")
    flags = next((x for x in info.splitlines() if x.startswith("flags")), "").split()
    return DeviceInfo(
        kind="cpu",
        name=name,
        free_bytes=free_memory(),
        total_bytes=total_memory(),
        num_cores=max(1, cores),
        has_bfloat16="avx512_bf16" in flags or "amx_bf16" in flags,
        allocator="tcmalloc" if tcmalloc() else "glibc",
    )


def share_cpu(cpu: DeviceInfo, num_processes: int) -> DeviceInfo:
    """Describe what each of several processes has of a CPU, to try what several GPUs do."""
    if num_processes == 1:
        return cpu
    return cpu.model_copy(
        update={
            "free_bytes": cpu.free_bytes // num_processes,
            "num_cores": max(1, cpu.num_cores // num_processes),
            "num_devices": num_processes,
            "layer_rate": cpu.layer_rate / num_processes,
        }
    )


def tcmalloc() -> Path | None:
    """Find the allocator that a trainer on the CPU is started with, where it is installed.

    Beside glibc's own it took a third less memory and a tenth less time (docs/performance.md).
    """
    matches = (
        Path("/").glob(f"{folder[1:]}/{name}") for name in _TCMALLOC for folder in _LIBRARIES
    )
    return next((path for paths in matches for path in paths), None)


def total_memory() -> int:
    """Return all memory that processes here may use together, in bytes."""
    limit, total = _read("/sys/fs/cgroup/memory.max"), _meminfo("MemTotal")
    return min(total, int(limit)) if limit.isdigit() else total


def free_memory() -> int:
    """Return the memory that is free for another process, in bytes."""
    free = _meminfo("MemAvailable")
    limit = _read("/sys/fs/cgroup/memory.max")
    used = _read("/sys/fs/cgroup/memory.current")
    if limit.isdigit() and used.isdigit():
        free = min(free, int(limit) - int(used))
    return free


def _meminfo(name: str) -> int:
    lines = dict(x.split(":", 1) for x in _read("/proc/meminfo").splitlines() if ":" in x)
    return int(lines.get(name, "0 kB").split()[0]) * 1024


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""
