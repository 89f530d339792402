"""A process without a network: for what reads strangers' files, and what trains on people's data.

The kernel may deny it: in a container without rights, or where user namespaces are switched off.
"""

import ctypes
import fcntl
import os
import socket
import struct
from contextlib import suppress
from pathlib import Path

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1


_left: set[int] = set()  # by process: what was forked since is where it left for, too


def leave_network() -> bool:
    """Keep nothing of the network but a loopback of one's own; says whether the kernel let us.

    Call it before the first thread starts. Where only a part of it works, nothing is changed.
    """
    if os.getpid() in _left:
        return True
    # Half of it cannot be taken back, so a child tries first.
    if not can_leave_network():
        return False
    _leave()
    _left.add(os.getpid())
    return True


def can_leave_network() -> bool:
    """Try it in a child that ends at once."""
    pid = os.fork()
    if pid == 0:
        code = 1
        with suppress(OSError):
            _leave()
            code = 0
        os._exit(code)
    return os.waitpid(pid, 0)[1] == 0


def _leave() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.geteuid(), os.getegid()
    # Without a user namespace only root may leave the network.
    if libc.unshare(_CLONE_NEWNET) != 0:
        if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        # The same names inside as outside: libraries look up whose home they are in.
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", _IFF_UP, b""))
