"""Names of workers that outlive their processes: who starts in a dead one's place gets its name.

A name is a file below the data directory, locked by the process that bears it and by what that one
forks. The kernel lets go of the lock when the last of them ends, however it ends, and whichever
container it was in. So a free lock proves to others of the same machine that nobody bears the name
any more.
"""

import fcntl
import os
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from app.core import settings

_MOST = 256
# Whoever only looks whether a name is free has it locked for a moment, too.
_TRIES, _PAUSE_SECONDS = 5, 0.02


class Taken(Exception):
    """Another process of this data directory bears the name."""


@dataclass(frozen=True)
class Name:
    """A name, borne from now on to the end of this process and of what it forks or becomes."""

    text: str  # e.g. "gpu-0@compose"
    number: int
    handle: int  # of the locked file


def take_next(kind: str, machine: str) -> Name:
    """Bear the first free name of a kind, e.g. "gpu" or "cpu", on a machine.

    Raises:
        Taken: there are none, which no machine has so many workers for.
    """
    for number in range(_MOST):
        text = f"{kind}-{number}@{machine}"
        handle = _lock(text)
        if handle is not None:
            return Name(text, number, handle)
    raise Taken(f"{_MOST} workers of the kind {kind} run on {machine}.")


def take(text: str, wait_seconds: float) -> int:
    """Bear a name that somebody chose; returns the locked file's handle.

    Args:
        wait_seconds: For an earlier process, which may need a moment to end.

    Raises:
        Taken: another process has it all that while.
    """
    deadline = time.monotonic() + wait_seconds
    while (handle := _lock(text)) is None:
        if time.monotonic() >= deadline:
            raise Taken(
                f"Another worker of this data directory is called {text}: give each an "
                "ETUDE_WORKER_ID of its own, or leave it out."
            )
        time.sleep(0.2)
    return handle


def is_free(text: str) -> bool:
    """Say whether a name was borne here once and nobody bears it now."""
    try:
        handle = os.open(_file(text), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False  # nobody here has had it: nothing is known
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _lock(text: str) -> int | None:
    file = _file(text)
    file.parent.mkdir(parents=True, exist_ok=True)
    # Python closes what it opens as it becomes another program; this one is to stay.
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    os.set_inheritable(handle, True)
    for _ in range(_TRIES):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE_SECONDS)
        else:
            return handle
    os.close(handle)
    return None


def _file(text: str) -> Path:
    return settings.get().run_dir / "workers" / f"{quote(text, safe='@')}.lock"
