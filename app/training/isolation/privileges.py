"""No capability, and no program that could give one back.

As root, a process without capabilities still owns root's files: hence user.py, and landlock.py.
"""

import ctypes
import os
from contextlib import suppress

from app.training.isolation import kernel

_PR_CAPBSET_DROP = 24
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_CAPABILITY_VERSION_3 = 0x20080522
_MAX_CAPABILITIES = 64


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def forbid() -> None:
    """Let nothing that is started give capabilities back.

    Raises:
        OSError: the kernel knows no such thing.
    """
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    with suppress(OSError):  # only who may change the bounding set can; nobody else needs to
        for capability in range(_MAX_CAPABILITIES):
            kernel.prctl(_PR_CAPBSET_DROP, capability)
    with suppress(OSError):  # there are none to clear before Linux 4.3
        kernel.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)


def drop() -> None:
    """Give up all capabilities, for whatever this thread starts as well.

    Raises:
        OSError: the kernel kept some.
    """
    forbid()
    header, none = _Header(_CAPABILITY_VERSION_3, 0), (_Sets * 2)()
    if kernel.libc.capset(ctypes.byref(header), ctypes.byref(none)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
