"""This machine: versions, disk, memory, GPU and driver, permissions, port, what was left behind."""

import fcntl
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distributions, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from app.core import data_format, settings
from app.core import walls as children
from app.ops.doctor.finding import SystemFinding, guarded, note, ok, wrong
from app.ops.embedded import folder
from app.ops.embedded.postgres import Postgres
from app.ops.embedded.valkey import Valkey
from app.ops.up import accelerators
from app.training import isolation
from app.training.isolation import Wall

_NEEDED_BYTES = 10 * 1024**3
_NEEDED_INODES = 10_000
_NEEDED_MEMORY = 2 * 1024**3
_SHOWN = ("torch", "transformers", "peft", "bitsandbytes", "celery", "fastapi", "sqlalchemy")
# Versions below these have known holes that our use of them would open (docs/operations.md).
FLOORS = {
    "transformers": "5.3.0",
    "torch": "2.6",
    "starlette": "0.49.1",
    "python-multipart": "0.0.27",
    "jinja2": "3.1.6",
    "pyarrow": "14.0.1",
    "celery": "5.2.2",
    "gguf": "0.10",
}
# They would let a model's settings fetch and run code, or open a second door to the workers.
UNWANTED = ("kernels", "flower")
# The driver that the CUDA runtime beside torch needs at least, by its major version.
_DRIVERS = {"12": 525, "13": 580}
# By the names that app/training/isolation gives them: what one is for, and how to have it.
_WALLS = {
    "user": (
        "Trainers and readers of files run as root",
        "Run Etude as a user of its own; or install it where others than root may read.",
    ),
    "privileges": (
        "Trainers and readers of files keep rights of the system's",
        "Run Etude as a user of its own, not as root.",
    ),
    "files": (
        "Trainers and readers of files could open each other's files, and Etude's passwords",
        "Use Linux 5.13 or newer with Landlock switched on, and let a container call it.",
    ),
    "system calls": (
        "Trainers and readers of files may ask anything of the kernel",
        "Use a kernel with seccomp filters on x86-64 or ARM64.",
    ),
    "network": (
        "Trainers and readers of files could reach the network",
        "Allow user namespaces, or keep the machine off the network.",
    ),
}


def checks(chosen: settings.Settings) -> Iterator[SystemFinding]:
    yield from guarded("python", _python)
    yield from guarded("packages", _packages)
    yield from guarded("format", lambda: data_format_of(chosen))
    yield from guarded("disk", lambda: _disk(chosen))
    yield from guarded("memory", lambda: memory(Path("/proc/meminfo").read_text()))
    yield from guarded("permissions", lambda: _permissions(chosen))
    yield from guarded("port", lambda: _port(chosen))
    yield from guarded("settings", _settings)
    yield from guarded("gpu", _gpu)
    yield from guarded("isolation", lambda: walls(chosen, children.standing(chosen)))
    yield from guarded("leftovers", lambda: _leftovers(chosen))


def data_format_of(chosen: settings.Settings) -> Iterator[SystemFinding]:
    """Say whether this version knows how the files in the data directory lie."""
    data_format.require_known(chosen.data_dir)
    said = data_format.read(chosen.data_dir)
    used = f"; Etude {said.etude} used them last" if said else ""
    yield ok("format", f"this version ({version('etude')}) knows how the files lie{used}")


def holder(chosen: settings.Settings) -> str | None:
    """Return who owns the data directory now, e.g. "etude up (process 12)"; None for nobody."""
    file = chosen.run_dir / "lock"
    try:
        with file.open("r") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return lock.read().strip() or "another process"
    except OSError:
        return None
    return None


def _python() -> Iterator[SystemFinding]:
    # An older one does not get as far as this: the package refuses it.
    yield ok("python", f"Python {sys.version.split()[0]}")


def _packages() -> Iterator[SystemFinding]:
    wanted = [Requirement(text) for text in requires("etude") or []]
    # The image of the web has nothing that trains; whoever made it says so (Dockerfile).
    extras = ("",) if os.environ.get("ETUDE_IMAGE") == "web" else ("", "train")
    for each in wanted:
        if each.marker is not None and not any(
            each.marker.evaluate({"extra": extra}) for extra in extras
        ):
            continue
        try:
            installed = version(each.name)
        except PackageNotFoundError:
            yield wrong("packages", f"{each.name} is not installed.", "`make setup` installs it.")
            continue
        if not each.specifier.contains(installed, prereleases=True):
            yield wrong(
                "packages",
                f"{each.name} {installed} is installed; Etude was made for {each.specifier}.",
                "`make setup` installs the version that fits.",
            )
        elif each.name in _SHOWN:
            yield ok("packages", f"{each.name} {installed}")
    for name, floor in FLOORS.items():
        with suppress(PackageNotFoundError):
            if not SpecifierSet(f">={floor}").contains(version(name), prereleases=True):
                yield wrong(
                    "packages",
                    f"{name} {version(name)} has known security holes; {floor} is the least.",
                    "Bring it up to date: `make setup`.",
                )
    there = {(each.metadata["Name"] or "").lower() for each in distributions()}
    for name in sorted(there.intersection(UNWANTED)):
        yield wrong(
            "packages",
            f"The package {name} is installed beside Etude, which widens what an attacker can do.",
            f"Remove it: `pip uninstall {name}`.",
        )


def _settings() -> Iterator[SystemFinding]:
    unknown = settings.unknown()
    for sentence in unknown:
        yield note("settings", f"{sentence}.", "Nothing reads it: correct its name, or remove it.")
    if not unknown:
        yield ok("settings", "every ETUDE_… variable is known")


def _disk(chosen: settings.Settings) -> Iterator[SystemFinding]:
    folder = next(each for each in (chosen.data_dir, *chosen.data_dir.parents) if each.exists())
    free = shutil.disk_usage(folder).free
    inodes = os.statvfs(folder)
    if free < _NEEDED_BYTES:
        yield wrong(
            "disk",
            f"{chosen.data_dir} has {free / 1e9:.1f} GB free; training needs at least "
            f"{_NEEDED_BYTES / 1e9:.0f} GB.",
            "Delete data, jobs or adapters that nobody needs, or move the folder to a larger disk; "
            f"{chosen.cache_dir} may be deleted at any time.",
        )
    elif inodes.f_files and inodes.f_favail < _NEEDED_INODES:
        yield wrong(
            "disk",
            f"The disk of {chosen.data_dir} has room for {inodes.f_favail:,} more files only.",
            "Remove small files from it, or move the folder to another disk.",
        )
    else:
        yield ok("disk", f"{chosen.data_dir} has {free / 1e9:.0f} GB free")
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        yield wrong(
            "disk",
            f"Nothing can be written in {folder}: {error.strerror}.",
            "Mount it for writing, and give it to the user who runs Etude.",
        )


def memory(meminfo: str) -> Iterator[SystemFinding]:
    """Judge what the kernel says of memory."""
    fields = dict(line.split(":", 1) for line in meminfo.splitlines() if ":" in line)
    total, free = (int(fields[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    limit = _cgroup_limit()
    if limit is not None:
        total, free = min(total, limit), min(free, limit)
    said = f"{free / 1e9:.1f} of {total / 1e9:.1f} GB of memory are free"
    if free < _NEEDED_MEMORY:
        yield note(
            "memory",
            said,
            "The starter model needs 2 GB: close other programs, or jobs may run out of memory.",
        )
    else:
        yield ok("memory", said)


def _cgroup_limit() -> int | None:
    try:
        said = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return None
    return int(said) if said.isdigit() else None


def _permissions(chosen: settings.Settings) -> Iterator[SystemFinding]:
    if not chosen.data_dir.exists():
        yield ok("permissions", f"{chosen.data_dir} is created at the first start")
        return
    closed = [chosen.data_dir / name for name in ("secrets", "storage", "jobs", "models", "logs")]
    open_to_others = [
        path
        for path in (*closed, *chosen.secrets_dir.glob("*"))
        if path.exists() and path.stat().st_mode & _not_for(path.stat().st_gid)
    ]
    for path in open_to_others:
        what = stat.filemode(path.stat().st_mode)
        yield wrong(
            "permissions",
            f"{path} can be read by other people of this machine ({what}).",
            f"Close it: chmod go= '{path}'",
        )
    me = os.geteuid()
    ours = [path for path in closed if path.exists()]
    foreign = [path for path in ours if me not in (0, path.stat().st_uid)]
    for path in foreign:
        yield wrong(
            "permissions",
            f"{path} belongs to another user (number {path.stat().st_uid}).",
            "Run Etude, and this command, as that user; or give it the folder: chown.",
        )
    if not open_to_others and not foreign:
        yield ok("permissions", "data and secrets are closed to other people of this machine")


def _not_for(group: int) -> int:
    # Of root's children each is a user of its own, and their group may read where they have to.
    return 0o007 if group == isolation.CHILDREN else 0o077


def _port(chosen: settings.Settings) -> Iterator[SystemFinding]:
    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", chosen.port)) == 0
    is_up = "etude up" in (holder(chosen) or "")
    if taken and not is_up and not chosen.database_url:
        yield wrong(
            "port",
            f"Port {chosen.port} is in use, and not by the Etude of this data directory.",
            "Stop what uses it, or start Etude with another: etude up --port 8001",
        )
    elif taken:
        yield ok("port", f"port {chosen.port} answers")
    elif is_up and (other := _started_with(holder(chosen) or "")) is not None:
        yield ok("port", f"Etude is up on port {other}")
    elif is_up:
        yield note(
            "port",
            f"Etude is up, but not on port {chosen.port}.",
            "It was started with another --port, or its web has stopped: see logs/web.log.",
        )
    else:
        yield ok("port", f"port {chosen.port} is free")


def _started_with(owner: str) -> int | None:
    """Return the port that a running Etude was told by --port, if it answers there."""
    process = re.search(r"process (\d+)", owner)
    try:
        said = Path(f"/proc/{process[1] if process else 0}/cmdline").read_text()
    except (OSError, UnicodeDecodeError):
        return None
    port = re.search(r"\0--port[\0=](\d{1,5})\0", said)
    if port is None:
        return None
    with socket.socket() as probe:
        is_there = probe.connect_ex(("127.0.0.1", int(port[1]))) == 0
    return int(port[1]) if is_there else None


def _gpu() -> Iterator[SystemFinding]:
    devices = accelerators()
    has_card = Path("/proc/driver/nvidia/gpus").is_dir() or shutil.which("nvidia-smi") is not None
    if not has_card:
        yield ok("gpu", "training on the CPU; no GPU was found")
        return
    if "ETUDE_IMAGE" in os.environ and shutil.which("nvidia-smi") is None:
        yield note(
            "gpu",
            "This machine has an NVIDIA GPU, which this container may not use.",
            "The worker that trains may with COMPOSE_PROFILES=gpu in .env; the Queue page shows "
            "what it trains on.",
        )
        return
    command = ["nvidia-smi", "--format=csv,noheader,nounits"]
    command.append(
        "--query-gpu=name,driver_version,memory.total,memory.used,ecc.errors.uncorrected.volatile.total"
    )
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        yield wrong("gpu", f"nvidia-smi does not answer: {error}.", "Restart this machine.")
        return
    if said.returncode != 0:
        words = (said.stdout + said.stderr).strip().splitlines() or ["it said nothing"]
        yield wrong(
            "gpu",
            f"There is an NVIDIA GPU, but its driver does not work: {words[0]}",
            "Install or reload NVIDIA's driver, restart this machine, then look again.",
        )
        return
    yield ok("gpu", "training on " + (", ".join(devices) if devices != ["cpu"] else "the CPU"))
    for line in said.stdout.strip().splitlines():
        yield from _card(*[part.strip() for part in line.split(",")])
    yield from _compiler()


def _compiler() -> Iterator[SystemFinding]:
    """Look for what Triton compiles a GPU's kernels with (worker/trainer/layers/kernels.py)."""
    has_compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    if not (has_compiler and Path(sysconfig.get_path("include"), "Python.h").exists()):
        yield note(
            "gpu",
            "There is no C compiler here, or Python's headers are missing: the faster kernels for "
            "a GPU cannot be compiled, and steps take about a quarter longer.",
            "Debian and Ubuntu: apt install gcc python3-dev. Then restart the worker.",
        )


def _card(name: str, driver: str, total: str, used: str, errors: str) -> Iterator[SystemFinding]:
    runtime = _cuda_runtime()
    least = _DRIVERS.get(runtime or "")
    if runtime is None:
        yield wrong(
            "gpu",
            f"{name} is there, but torch was installed without CUDA.",
            "Install PyPI's torch: unset PIP_FIND_LINKS and run `make setup` in a fresh .venv.",
        )
    elif least is not None and int(driver.partition(".")[0]) < least:
        yield wrong(
            "gpu",
            f"{name}: driver {driver} is too old for CUDA {runtime}.",
            f"Install NVIDIA's driver {least} or newer.",
        )
    else:
        yield ok("gpu", f"{name}, driver {driver}, {used} of {total} MiB in use")
    if errors.isdigit() and int(errors):
        yield wrong(
            "gpu",
            f"{name} counted {errors} memory errors that it could not correct.",
            "Drain its worker on the Queue page and restart the machine; if they come back, "
            "the card is broken.",
        )


def _cuda_runtime() -> str | None:
    for name in ("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu12", "nvidia-cuda-runtime-cu13"):
        try:
            return version(name).partition(".")[0]
        except PackageNotFoundError:
            continue
    return None


def walls(chosen: settings.Settings, found: Sequence[Wall]) -> Iterator[SystemFinding]:
    """Say which walls stand around what reads strangers' files or trains on people's data."""
    down = [wall for wall in found if not wall.stands]
    if not down:
        yield ok("isolation", "all walls stand around trainers, readers of files and what answers")
    for wall in down:
        title, advice = _WALLS[wall.name]
        what = f"{title}: {wall.why}."
        if chosen.walls == "required" and wall.name != isolation.USER:
            yield wrong("isolation", f"{what} Nothing is read or trained without.", advice)
        else:
            yield note("isolation", what, advice)


def _leftovers(chosen: settings.Settings) -> Iterator[SystemFinding]:
    if (chosen.data_dir / folder.RESTORING).exists():
        yield wrong(
            "leftovers",
            f"A restore into {chosen.data_dir} was cut off, so it is incomplete.",
            "Delete that folder and restore again.",
        )
        return
    who = holder(chosen)
    if who is None:
        for server in (Postgres(chosen), Valkey(chosen)):
            pid = server.pid()
            if pid is not None:
                yield note(
                    "leftovers",
                    f"{type(server).__name__} (process {pid}) still runs although Etude is down.",
                    "The next start stops it and starts its own; or: etude up, then Ctrl-C.",
                )
    held = chosen.run_dir / "backup-held"
    if held.exists() and not _is_locked(chosen.run_dir / "backup.lock"):
        yield note(
            "leftovers",
            "A backup was killed and left links that keep deleted files on the disk.",
            f"The next backup removes them; or delete {held} yourself.",
        )
    yield ok("leftovers", f"the data directory is {f'held by {who}' if who else 'free'}")


def _is_locked(path: Path) -> bool:
    try:
        with path.open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
