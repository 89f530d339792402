"""A user of its own for a child of root's: a number that nobody else has, and no name.

What it may open is then what anybody may, its processes are counted by themselves, and no other
child's signals reach it. Whoever is not root stays who they are.
"""

import os
import stat
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from app.training.isolation import kernel, privileges

# Nobody gives these numbers away: systemd's, containers' and people's end before (systemd,
# docs/UIDS-GIDS.md).
_NUM_BY_PROCESS = 1 << 22
# Of all children of root's: whatever they read lies in folders that this group may pass. Their
# users' numbers come behind.
GROUP = 0x70000000
_PR_SET_DUMPABLE = 4
_CANNOT_BECOME, _CANNOT_READ, _CANNOT_END = 1, 2, 3
_WHY = {
    _CANNOT_BECOME: "root may not become another user here",
    _CANNOT_READ: "what they need lies where root alone may read",
    _CANNOT_END: "root may not end other users' processes here",
}


def own(work: int | None = None) -> int:
    """Return the number of this process's own user, or of a piece of work's that many do."""
    if work is None:
        return GROUP + 1 + os.getpid() % _NUM_BY_PROCESS
    return GROUP + 1 + _NUM_BY_PROCESS + work % _NUM_BY_PROCESS


def why_not(number: int, reads: Iterable[Path]) -> str | None:
    """Say why this process cannot go on as another user; None where it can, or need not."""
    if os.geteuid() != 0:
        return None
    places = [Path(os.__file__), Path(__file__), *_on_path()]
    places += [each for path in reads for each in _with_files(path)]
    trial = os.fork()
    if trial == 0:
        os._exit(_try(number, places))
    os.waitid(os.P_PID, trial, os.WEXITED | os.WNOWAIT)
    try:
        os.kill(trial, 0)  # what has ended and was not asked yet is still that user's
    except PermissionError:
        os.waitpid(trial, 0)
        return _WHY[_CANNOT_END]
    return _WHY.get(os.waitstatus_to_exitcode(os.waitpid(trial, 0)[1]))


def become(number: int, writes: Sequence[Path]) -> None:
    """Go on as a user of that number, to whom the folders belong from now on.

    Raises:
        OSError: this process may not.
    """
    for folder in writes:
        give(folder, number, GROUP)
    privileges.forbid()  # another user may no longer do so
    ends_with = kernel.death_signal()
    os.setgroups([])
    os.setresgid(GROUP, GROUP, GROUP)
    os.setresuid(number, number, number)
    # The kernel takes both from whoever becomes another; nobody else has this number.
    kernel.prctl(_PR_SET_DUMPABLE, 1)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, ends_with)
    # Libraries ask whose home they are in, and this user has no line in /etc/passwd.
    os.environ |= {"HOME": str(writes[0]) if writes else "/", "USER": "etude", "LOGNAME": "etude"}


def give(folder: Path, user: int, group: int) -> None:
    """Make a folder and all within it somebody's; links are not followed.

    Raises:
        OSError: we may not.
    """
    os.chown(folder, user, group, follow_symlinks=False)
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            with suppress(FileNotFoundError):
                os.chown(Path(parent, name), user, group, follow_symlinks=False)


def take_back(folder: Path) -> None:
    """Make our own again what a child has made: others may read it, and none change it."""
    if os.geteuid() == 0 and folder.stat().st_uid > GROUP:
        give(folder, os.geteuid(), -1)


def let_in(path: Path) -> None:
    """Let root's children, and nobody else, into a folder of root's or one's, or read a file."""
    us = os.geteuid()
    if not (us == 0 or us > GROUP) or not path.exists():
        return
    is_folder = path.is_dir()
    if path.stat().st_mode & (stat.S_IXOTH if is_folder else stat.S_IROTH):
        return
    with suppress(OSError):  # this container has no such group
        if us == 0:
            os.chown(path, -1, GROUP)
        path.chmod(path.stat().st_mode | stat.S_IRGRP | (stat.S_IXGRP if is_folder else 0))


def _try(number: int, places: Sequence[Path]) -> int:
    try:
        os.setgroups([])
        os.setresgid(GROUP, GROUP, GROUP)
        os.setresuid(number, number, number)
    except OSError:
        return _CANNOT_BECOME
    return 0 if all(map(_may_read, places)) else _CANNOT_READ


def _may_read(path: Path) -> bool:
    return os.access(path, os.R_OK | (os.X_OK if os.path.isdir(path) else 0))  # noqa: PTH112 - is_dir raises


def _on_path() -> Iterable[Path]:
    # But not where it was started: that is among the data (places.py).
    for place in map(Path, sys.path):
        if place.is_absolute() and place.exists() and place.resolve() != Path.cwd():
            yield place


def _with_files(path: Path) -> Iterable[Path]:
    yield path
    if path.is_dir():
        yield from (each for each in path.iterdir() if each.is_file())
