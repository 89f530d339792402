"""Where things lie that every child, or every child of a kind, has to read."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from app.training.isolation.landlock import DEVICE, READ, RUN, WRITE, Right, Rule

_OURS = Path(__file__).resolve().parents[2]
_LIBRARIES = ("/usr", "/lib", "/lib32", "/lib64", "/nix/store", "/gnu/store")
# Not /etc as a whole: root's children could read its passwords.
_ETC = (
    *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "ld.so.preload", "localtime", "timezone"),
    *("nsswitch.conf", "passwd", "group", "os-release", "mime.types", "locale.alias", "fonts"),
    *("host.conf", "hosts", "protocols", "services", "gai.conf", "nvidia", "OpenCL", "pki"),
)
# Of /proc only what is the machine's, and what is one's own; of /sys no file system of the kernel's
# developers.
_PROC = ("self", "cpuinfo", "meminfo", "stat", "uptime", "version", "filesystems", "devices", "sys")
_SYS = ("devices", "class", "bus", "module", "fs/cgroup", "kernel/mm", "firmware/acpi/tables")
_DEVICES = ("null", "zero", "full", "random", "urandom")
_FOR_NAMES = ("/etc/resolv.conf", "/etc/ssl", "/run/systemd/resolve", "/etc/ca-certificates")
_LOADERS = (
    *("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1", "/lib/ld-musl-x86_64.so.1"),
    "/lib/ld-musl-aarch64.so.1",
)
# What a C compiler calls in its turn, and Triton to find the driver's library.
_TOOLS = ("as", "ld", "ld.bfd", "ld.gold", "ld.lld", "collect2", "cc1")
_COMPILERS_OWN = ("/usr/lib/gcc", "/usr/libexec/gcc", "/usr/lib/llvm*/bin")
_FIND_LIBRARIES = ("/sbin/ldconfig", "/sbin/ldconfig.real")
_PTXAS = "triton/backends/nvidia/bin"


def common() -> Iterator[Rule]:
    """Yield Python, its libraries and what those look up of the machine."""
    for place in (sys.prefix, sys.base_prefix, sys.exec_prefix, *_LIBRARIES):
        if place != "/":
            yield Rule(Path(place), READ)
    # Our own code and nothing beside it: with a checkout, the data may lie in the next folder.
    yield Rule(_OURS, READ)
    yield Rule(_OURS.with_name("worker"), READ)
    # Nor where it was started, which `python -m` puts on the path: that is among the data.
    here = Path.cwd()
    for place in (*sys.path, *os.environ.get("LD_LIBRARY_PATH", "").split(":")):
        path = Path(place)
        if not path.is_absolute() or path.resolve() == here:
            continue
        if not _OURS.is_relative_to(path.resolve()):
            yield Rule(path, READ)
    yield from (Rule(Path("/etc", name), READ) for name in _ETC)
    yield from (Rule(Path("/proc", name), READ) for name in _PROC)
    yield from (Rule(Path("/sys", name), READ) for name in _SYS)
    yield from (Rule(Path("/dev", name), DEVICE) for name in _DEVICES)


def names() -> Iterator[Rule]:
    """Yield what it takes to find a machine by its name and to trust it."""
    yield from (Rule(Path(place), READ) for place in _FOR_NAMES)
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"):
        if place := os.environ.get(variable):
            yield Rule(Path(place), READ)


def gpu() -> Iterator[Rule]:
    """Yield NVIDIA's devices, and what its driver says of itself."""
    for device in (*Path("/dev").glob("nvidia*"), Path("/dev/dxg")):
        yield Rule(device, DEVICE | READ)
    yield from (Rule(Path("/proc/driver", name), READ) for name in ("nvidia", "nvidia-uvm"))


def shared_memory() -> Rule:
    """Return where processes of a group put what they share."""
    return Rule(Path("/dev/shm"), WRITE)  # noqa: S108 - not to make files of a known name


def programs() -> Iterator[Rule]:
    """Yield the only programs that may be run: Python, the C compiler, and Triton's assembler."""
    for place in (sys.executable, *_LOADERS, *_compiler(), *_FIND_LIBRARIES):
        yield Rule(Path(place), RUN)
    for pattern in _COMPILERS_OWN:
        for folder in Path("/").glob(pattern[1:]):
            yield Rule(folder, READ | Right.EXECUTE)
    for place in sys.path:
        yield Rule(Path(place, _PTXAS), READ | Right.EXECUTE)
    if assembler := os.environ.get("TRITON_PTXAS_PATH"):
        yield Rule(Path(assembler), RUN)


def _compiler() -> Iterator[str]:
    for name in (os.environ.get("CC", ""), "gcc", "clang", *_TOOLS):
        if name and (found := shutil.which(name)):
            yield found
