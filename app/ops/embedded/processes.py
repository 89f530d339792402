"""Programs that we start: bound to our life, found again by the folder they work in, ended."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from app.ops.embedded import launch

_MAX_LOG_BYTES = 10 * 1024**2


def bound(command: list[str], parent_death: signal.Signals, *options: str) -> list[str]:
    """Wrap a command so that it gets a signal when this process dies, however it dies.

    The signal comes when the calling thread ends: call this from the main one.

    Args:
        options: What else app/ops/embedded/launch.py should do, e.g. ("--user", "nobody").
    """
    return [
        sys.executable,
        # Isolated and without site-packages: it starts in 15 ms and needs nothing of them.
        "-ISE",
        launch.__file__,
        f"--parent={os.getpid()}",
        f"--signal={int(parent_death)}",
        *options,
        "--",
        *command,
    ]


def start(
    command: list[str], log: Path, environment: dict[str, str], cwd: Path | str | None = None
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, so that Ctrl-C reaches us alone."""
    if log.exists() and log.stat().st_size > _MAX_LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            cwd=cwd,
            start_new_session=True,
        )


def end(pid: int, folder: Path, asked: Iterable[tuple[signal.Signals, float]]) -> None:
    """Send one signal after the other until the program of a folder is gone.

    Args:
        asked: Signals, each with the seconds to wait before the next.
    """
    for number, patience_seconds in asked:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + patience_seconds
        while time.monotonic() < deadline:
            if not works_in(pid, folder):
                return
            time.sleep(0.02)


def works_in(pid: int, folder: Path) -> bool:
    """Say whether a live process works in this folder; a process id alone may have a new owner."""
    if sys.platform == "linux":
        try:
            # The link of a dead process that nobody has collected yet cannot be read.
            return Path(f"/proc/{pid}/cwd").readlink() == folder.resolve()
        except OSError:
            return False
    shown = subprocess.run(
        ["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return str(folder) in shown.stdout


def last_line(log: Path) -> str:
    """Return what a program said last, to show beside "it did not start"."""
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1].strip() if lines else "it gave no reason"
