"""Calls that the C library has no function for, by number."""

import ctypes
import os
from typing import Any

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

# prctl(2)
PR_SET_PDEATHSIG, _PR_GET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 2, 38


def call(number: int, *arguments: Any) -> int:
    """Make a system call.

    Raises:
        OSError: the kernel refused.
    """
    wide = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result = int(libc.syscall(ctypes.c_long(number), *wide))
    if result < 0:
        raise _error()
    return result


def prctl(option: int, *arguments: int) -> int:
    """Raises: OSError: the kernel refused."""
    wide = [ctypes.c_ulong(each) for each in (*arguments, 0, 0, 0, 0)[:4]]
    result = int(libc.prctl(ctypes.c_int(option), *wide))
    if result < 0:
        raise _error()
    return result


def death_signal() -> int:
    """Return the signal that this process gets when its parent ends; 0: none."""
    number = ctypes.c_int(0)
    libc.prctl(ctypes.c_int(_PR_GET_PDEATHSIG), ctypes.byref(number), 0, 0, 0)
    return number.value


def machine() -> str:
    """Return the architecture that this process is of; empty where it is not of 64 bits."""
    return os.uname().machine if ctypes.sizeof(ctypes.c_void_p) == 8 else ""


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
