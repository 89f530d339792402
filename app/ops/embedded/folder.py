"""The data directory: its folders, and the lock that lets one Etude own it."""

import fcntl
import hashlib
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from app.core import data_format
from app.core.settings import Settings
from app.training import isolation

FOLDERS = (
    "postgres",
    "valkey",
    "run",
    "secrets",
    "storage",
    "models",
    "jobs",
    "logs",
    "cache",
)
# What web and workers use, where the servers are of one's own.
OF_PARTS = tuple(name for name in FOLDERS if name not in ("postgres", "valkey"))
# What children read, and of root's each is a user of its own.
_FOR_CHILDREN = ("run", "storage", "models", "jobs", "cache")
# Stands in a data directory until a restore into it is whole.
RESTORING = "RESTORING"
# A Unix socket's path has room for 107 bytes, of which the file name takes some.
_MAX_SOCKET_FOLDER = 85


class Busy(Exception):
    """Another process owns the data directory; the text says which."""


def prepare(settings: Settings, names: Sequence[str] = FOLDERS) -> None:
    """Make the data directory and its folders, closed to other people of the machine.

    Raises:
        SystemExit: we may not write there, a newer Etude has, or a restore into it was cut off.
    """
    data_format.require_known(settings.data_dir)
    if (settings.data_dir / RESTORING).exists():
        raise SystemExit(
            f"A restore into {settings.data_dir} was cut off, so it is incomplete: delete that "
            "folder and restore again."
        )
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        for name in names:
            (settings.data_dir / name).mkdir(mode=0o700, exist_ok=True)
            _close(settings.data_dir / name)
        for name in ("", *_FOR_CHILDREN):
            isolation.let_in(settings.data_dir / name)
        data_format.mark(settings.data_dir)
    except OSError as error:
        raise SystemExit(
            f"The data directory {settings.data_dir} cannot be used ({error.strerror}): "
            "give another one with --data-dir."
        ) from None
    if not os.access(settings.run_dir, os.R_OK | os.W_OK | os.X_OK):
        raise SystemExit(
            f"The data directory {settings.data_dir} belongs to another user: start Etude as that "
            "user, or give another one with --data-dir."
        )


def _close(folder: Path) -> None:
    """Close a folder of ours to others, where something made it that did not think of it."""
    status = folder.stat()
    others = 0o007 if status.st_gid == isolation.CHILDREN else 0o077
    if status.st_uid == os.geteuid() and status.st_mode & others:
        folder.chmod(stat.S_IMODE(status.st_mode) & ~others)


def socket_folder(settings: Settings, name: str) -> Path:
    """Return (and make) a folder of ours whose path is short enough for a Unix socket.

    Raises:
        SystemExit: somebody else took the name in /tmp.
    """
    folder = settings.run_dir / name
    if len(os.fsencode(folder)) > _MAX_SOCKET_FOLDER:
        mark = hashlib.sha256(os.fsencode(settings.data_dir)).hexdigest()[:12]
        folder = Path("/tmp") / f"etude-{os.geteuid()}-{mark}-{name}"  # noqa: S108 - checked below
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or (os.geteuid() != 0 and status.st_uid != os.geteuid()):
        raise SystemExit(f"{folder} belongs to somebody else; remove it, or shorten --data-dir.")
    return folder


@contextmanager
def lock(settings: Settings, what: str, wait_seconds: float = 0) -> Iterator[None]:
    """Own the data directory until the block ends or this process dies, however it dies.

    Args:
        what: Said to whoever comes meanwhile, e.g. "etude up".

    Raises:
        Busy: another process owned it all through `wait_seconds`.
    """
    deadline = time.monotonic() + wait_seconds
    with (settings.run_dir / "lock").open("a+") as file:
        while not _try_lock(file):
            if time.monotonic() >= deadline:
                file.seek(0)
                raise Busy(file.read().strip() or "another process")
            time.sleep(0.1)
        file.truncate(0)
        file.write(f"{what} (process {os.getpid()})")
        file.flush()
        yield
        file.truncate(0)


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
