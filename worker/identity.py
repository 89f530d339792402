"""Who this worker is, and whether another process of this machine still lives; no torch."""

import mmap
import os
import socket
import subprocess
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from app.core import processes, worker_names
from app.core.models import Attempt
from app.jobs.protocol import WorkerInfo
from app.training.plan.machine import DeviceInfo, share_cpu, this_cpu

# Whether this worker is to end: shared by a process with what it forks, and gone with them.
_ending = mmap.mmap(-1, 1)


def worker_id() -> str:
    """Return this worker's name, e.g. `gpu-0@host`; it does one thing at a time."""
    return os.environ["ETUDE_WORKER_ID"]


def host() -> str:
    """Return what numbers of processes and names of devices are of: this machine or container.

    A container's own host name goes with it; `etude worker` gives it one that stays.
    """
    return os.environ.get("ETUDE_WORKER_HOST") or socket.gethostname()


def devices() -> tuple[str, ...]:
    """Return what this worker trains on: "cpu", or "cuda:<index>" of each of its GPUs.

    Several "cpu" are as many processes, to try without GPUs what several of them do.
    """
    return tuple(name.strip() for name in os.environ.get("ETUDE_DEVICE", "cpu").split(","))


def on_cpu() -> bool:
    return devices()[0] == "cpu"


def me() -> WorkerInfo:
    """Describe the calling process, so that others of this machine can prove it dead later."""
    started = processes.start_ticks(os.getpid())
    assert started is not None
    return WorkerInfo(
        id=worker_id(),
        host=host(),
        boot_id=boot_id(),
        supervisor_pid=os.getpid(),
        supervisor_started=started,
        devices=devices(),
    )


def etude_version() -> str:
    return version("etude")


def boot_id() -> str:
    """Return the kernel's name for the time since it was started."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def catches(pid: int, number: int) -> bool:
    """Say whether a process has a handler of its own for a signal; without one it may die of it."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def children(pid: int) -> list[int]:
    """Return the processes that a process has started and that are still there."""
    pids: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # a thread that ended meanwhile
            pids += map(int, path.read_text().split())
    return pids


def is_alive(attempt: Attempt) -> bool:
    """Say whether the supervisor of an attempt lives, as far as this machine can know.

    Of another container's processes only this is known: whether they still bear their worker's name
    (app/core/worker_names.py). Whoever asks has locked the attempt's job before.
    """
    if attempt.boot_id != boot_id():
        return attempt.host != host()  # of this machine before it was started again, or of another
    if attempt.host != host():
        return not worker_names.is_free(attempt.worker_id)
    return processes.start_ticks(attempt.supervisor_pid) == attempt.supervisor_started


def drain() -> None:
    """Ask this worker, in whichever of its processes, to save its job's place and to end."""
    _ending[0] = 1


def is_draining() -> bool:
    """Say whether this worker was asked to end."""
    return _ending[0] == 1


def physical_devices() -> list[str]:
    """Return the GPUs' names as CUDA_VISIBLE_DEVICES takes them: indexes, or UUIDs."""
    indexes = [int(name.partition(":")[2] or 0) for name in devices()]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not visible:
        return [str(index) for index in indexes]
    names = visible.split(",")
    return [names[index].strip() for index in indexes]


def hardware() -> DeviceInfo | None:
    """Ask the driver or the kernel what this worker's devices can do.

    Returns:
        Nothing where the driver does not answer; worker/gpu/gauges.py says why.
    """
    if on_cpu():
        return share_cpu(this_cpu(), len(devices()))
    return ask_driver(physical_devices())


def ask_driver(physical: list[str]) -> DeviceInfo | None:
    """Ask the driver what some GPUs can do, and how much memory is free; None: it says nothing."""
    command = ["nvidia-smi", "--id=" + ",".join(physical)]
    command += ["--format=csv,noheader,nounits", "--query-gpu=name,memory.free,compute_cap"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        return read_hardware(said.stdout, this_cpu().num_cores)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def read_hardware(said: str, num_cores: int) -> DeviceInfo:
    """Read what nvidia-smi says of a worker's GPUs; the least of them counts.

    Args:
        said: A line a GPU: name, free mebibytes, compute capability.
        num_cores: Of the CPU.
    """
    rows = [[part.strip() for part in line.split(",")] for line in said.strip().splitlines()]
    return DeviceInfo(
        kind="cuda",
        name=rows[0][0],
        free_bytes=min(int(free_mib) for _, free_mib, _ in rows) * 1024**2,
        num_devices=len(rows),
        num_cores=num_cores,
        has_bfloat16=all(float(capability) >= 8.0 for *_, capability in rows),
    )
