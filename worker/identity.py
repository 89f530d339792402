"""Who this worker is, and whether another process of this machine still lives; no torch."""

import os
import socket
import subprocess
from importlib.metadata import version
from pathlib import Path

from app import settings, training_plan
from app.jobs import WorkerInfo
from app.models import Attempt
from app.training_plan import DeviceInfo


def worker_id() -> str:
    """Return this worker's name, e.g. `gpu-0@host`; it does one thing at a time."""
    return os.environ["ETUDE_WORKER_ID"]


def device() -> str:
    """Return what this worker trains on: "cpu" or "cuda:<index>"."""
    return os.environ.get("ETUDE_DEVICE", "cpu")


def me() -> WorkerInfo:
    """Describe the calling process, so that others of this machine can prove it dead later."""
    started = start_ticks(os.getpid())
    assert started is not None
    return WorkerInfo(
        id=worker_id(),
        host=socket.gethostname(),
        boot_id=boot_id(),
        supervisor_pid=os.getpid(),
        supervisor_started=started,
        devices=(device(),),
    )


def etude_version() -> str:
    return version("etude")


def boot_id() -> str:
    """Return the kernel's name for the time since it was started."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_ticks(pid: int) -> int | None:
    """Return when a process began, in clock ticks after boot; nothing for a dead one.

    With it a process id that was given to another process later is told apart.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return None if fields[0] in "ZX" else int(fields[19])


def is_alive(attempt: Attempt) -> bool:
    """Say whether the supervisor of an attempt on this machine still lives."""
    same_boot = attempt.boot_id == boot_id()
    return same_boot and start_ticks(attempt.supervisor_pid) == attempt.supervisor_started


def drain_file() -> Path:
    """Return the file whose presence asks this worker to save its job's place and end."""
    return settings.get().run_dir / f"{worker_id()}.drain"


def is_draining() -> bool:
    return drain_file().exists()


def physical_device() -> str:
    """Return the GPU's name as CUDA_VISIBLE_DEVICES takes it: an index, or a UUID."""
    index = int(device().partition(":")[2] or 0)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",")[index].strip() if visible else str(index)


def hardware() -> DeviceInfo:
    """Ask the driver or the kernel what this worker's device can do."""
    cpu = training_plan.this_cpu()
    if device() == "cpu":
        return cpu
    command = ["nvidia-smi", "--id=" + physical_device(), "--format=csv,noheader,nounits"]
    command.append("--query-gpu=name,memory.free,compute_cap")
    said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    name, free_mib, capability = (part.strip() for part in said.stdout.split(","))
    return DeviceInfo(
        kind="cuda",
        name=name,
        free_bytes=int(free_mib) * 1024**2,
        num_cores=cpu.num_cores,
        has_bfloat16=float(capability) >= 8.0,
    )
