"""Files that a child does not need are refused by the kernel: Landlock, for a thread and its own.

A right belongs to a file or to a folder with all that is in it, however it is reached: by a link,
by another name, or by a descriptor of /proc. What was opened before stays open.
"""

import ctypes
import errno
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path

from app.training.isolation import kernel

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION, _PATH_BENEATH = 1, 1
# From this version on a domain can be laid on all threads at once.
_TSYNC_FROM, _TSYNC = 8, 8
_NET_FROM, _SCOPES_FROM = 4, 6
_BIND_AND_CONNECT_TCP = 3
_ABSTRACT_SOCKETS_AND_SIGNALS = 3


class Right(IntFlag):
    """LANDLOCK_ACCESS_FS_* of linux/landlock.h."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15
    RESOLVE_UNIX = 1 << 16


READ = Right.READ_FILE | Right.READ_DIR
# No links, pipes, sockets or devices: whoever else works in the folder would follow them.
WRITE = (
    READ
    | Right.WRITE_FILE
    | Right.REMOVE_DIR
    | Right.REMOVE_FILE
    | Right.MAKE_DIR
    | Right.MAKE_REG
    | Right.REFER
    | Right.TRUNCATE
)
DEVICE = Right.READ_FILE | Right.WRITE_FILE | Right.IOCTL_DEV
RUN = Right.EXECUTE | Right.READ_FILE

_OF_FILES = Right.EXECUTE | Right.WRITE_FILE | Right.READ_FILE | Right.TRUNCATE | Right.IOCTL_DEV
# All that a version knows: what it does not know, nobody is kept from.
_KNOWN_FROM = {1: 12, 2: 13, 3: 14, 5: 15, 9: 16}


@dataclass(frozen=True)
class Rule:
    """Rights in a file, or in a folder and all below it; a path that is not there gives none."""

    path: Path
    rights: Right


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("rights", ctypes.c_uint64), ("folder", ctypes.c_int32))


def version() -> int:
    """Return which version of Landlock this kernel has.

    Raises:
        OSError: none, or it is switched off.
    """
    return kernel.call(_CREATE_RULESET, None, 0, _VERSION)


def missing() -> str | None:
    """Say why the kernel cannot refuse files here; None where it can."""
    try:
        version()
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return "Landlock is switched off in this kernel; name landlock in its option lsm="
        if error.errno == errno.ENOSYS:
            return "this kernel has no Landlock; Linux 5.13 and newer have it"
        return f"Landlock is refused here ({error.strerror}), by a container's filter perhaps"
    return None


def restrict(rules: Iterable[Rule], *, refuses_tcp: bool) -> None:
    """Refuse this thread, and what it starts, all files but those of some rules.

    Signals to others' processes and abstract sockets of others go as well, where the version knows
    them.

    Args:
        refuses_tcp: Whether connections and listening go, too.

    Raises:
        OSError: the kernel does not take it, or other threads run that it cannot reach.
    """
    newest = version()
    known = Right((2 << max(bit for since, bit in _KNOWN_FROM.items() if since <= newest)) - 1)
    handled = _Ruleset(
        known,
        _BIND_AND_CONNECT_TCP if refuses_tcp and newest >= _NET_FROM else 0,
        _ABSTRACT_SOCKETS_AND_SIGNALS if newest >= _SCOPES_FROM else 0,
    )
    size = 24 if newest >= _SCOPES_FROM else 16 if newest >= _NET_FROM else 8
    ruleset = kernel.call(_CREATE_RULESET, ctypes.byref(handled), size, 0)
    try:
        for rule in rules:
            _add(ruleset, rule, known)
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        others = sum(1 for _ in Path("/proc/self/task").iterdir()) - 1
        if others and newest < _TSYNC_FROM:
            raise OSError(errno.EBUSY, f"{others} threads run already that it cannot reach")
        kernel.call(_RESTRICT_SELF, ruleset, _TSYNC if others else 0)
    finally:
        os.close(ruleset)


def _add(ruleset: int, rule: Rule, known: Right) -> None:
    try:
        handle = os.open(rule.path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    is_kept = False
    try:
        status = os.fstat(handle)
        rights = rule.rights & known
        if not stat.S_ISDIR(status.st_mode):
            rights &= _OF_FILES
        beneath = _Beneath(rights, handle)
        kernel.call(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(beneath), 0)
        # The kernel forgets what nobody has open in /proc, and makes it anew without its right.
        is_kept = rule.path.parts[:2] == ("/", "proc")
    finally:
        if not is_kept:
            os.close(handle)
