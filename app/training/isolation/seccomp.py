"""System calls that a child never makes are refused by the kernel: seccomp(2), for all threads.

What is refused fails as it does for want of rights (EPERM), so that a library which only tries goes
another way. Whoever enters by another architecture's door is ended, as there the numbers differ.
"""

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Sequence
from typing import Literal

from app.training.isolation import kernel

Network = Literal["none", "loopback", "anywhere"]

# seccomp(2) and prctl(2), linux/seccomp.h
_SET_MODE_FILTER, _GET_ACTION_AVAIL, _TSYNC = 1, 2, 1
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_X32 = 0x40000000
# struct seccomp_data: nr, arch, instruction_pointer, args[6]; both architectures' low halves first.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
# linux/bpf_common.h: load a word; jump if equal, greater or equal, any bit set; return
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06

# AUDIT_ARCH of linux/audit.h, and seccomp's own number, by uname's name of the machine
_ARCHITECTURES = {"x86_64": (0xC000003E, 317, 0), "aarch64": (0xC00000B7, 277, 1)}

# Of both architectures, x86_64 first; -1: it has none.
_NEVER = {
    # other processes: their memory, their files, their lives
    **{"ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271)},
    **{"process_madvise": (440, 440), "process_mrelease": (448, 448), "kcmp": (312, 272)},
    **{"pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424)},
    **{"migrate_pages": (256, 238), "move_pages": (279, 239)},
    # other namespaces and other views of the files
    **{"setns": (308, 268), "unshare": (272, 97), "chroot": (161, 51), "pivot_root": (155, 41)},
    **{"mount": (165, 40), "umount2": (166, 39), "move_mount": (429, 429)},
    **{"open_tree": (428, 428), "open_tree_attr": (467, 467), "mount_setattr": (442, 442)},
    **{"fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433)},
    **{"open_by_handle_at": (304, 265), "fanotify_init": (300, 262)},
    # parts of the kernel in which most holes were found
    **{"io_uring_setup": (425, 425), "io_uring_enter": (426, 426)},
    **{"io_uring_register": (427, 427), "bpf": (321, 280), "perf_event_open": (298, 241)},
    **{"userfaultfd": (323, 282), "modify_ldt": (154, -1)},
    **{"keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218)},
    # the machine as a whole
    **{"kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142)},
    **{"init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106)},
    **{"swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89), "quotactl": (179, 60)},
    **{"quotactl_fd": (443, 443), "syslog": (103, 116), "iopl": (172, -1), "ioperm": (173, -1)},
    **{"settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266)},
    **{"adjtimex": (159, 171), "sethostname": (170, 161), "setdomainname": (171, 162)},
    **{"vhangup": (153, 58)},
    # memory and messages that all of a user's processes share, PostgreSQL's among them
    **{"shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195)},
    **{"semget": (64, 190), "semop": (65, 193), "semtimedop": (220, 192), "semctl": (66, 191)},
    **{"msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187)},
    **{"mq_open": (240, 180), "mq_unlink": (241, 181)},
}
_EXECUTE = {"execve": (59, 221), "execveat": (322, 281)}
_FORK = {"fork": (57, -1), "vfork": (58, -1)}
_SIGNAL_BY_THREAD = {"tkill": (200, 130), "rt_sigqueueinfo": (129, 138)}
_SIGNAL_BY_THREAD |= {"rt_tgsigqueueinfo": (297, 240)}
_CLONE, _CLONE3 = (56, 220), (435, 435)
_KILL, _TGKILL, _PRLIMIT = (62, 129), (234, 131), (302, 261)
_SOCKET, _SOCKETPAIR = (41, 198), (53, 199)

_CLONE_THREAD = 0x00010000
# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_NEW_NAMESPACES = 0x00020000 | 0x02000000 | 0x7C000000


def missing() -> str | None:
    """Say why the kernel cannot refuse system calls here; None where it can."""
    if kernel.machine() not in _ARCHITECTURES:
        return f"system calls of this processor ({kernel.machine() or '32 bits'}) are not known"
    action = ctypes.c_uint32(_ERRNO)
    try:
        kernel.call(_seccomp(), _GET_ACTION_AVAIL, 0, ctypes.byref(action))
    except OSError as error:
        return f"this kernel does not refuse system calls by a filter ({error.strerror})"
    return None


def refuse(
    *, network: Network = "none", programs: bool = False, local_sockets: bool = False
) -> None:
    """Refuse, from now on and for all threads, what a child does not need; a later call adds to it.

    Args:
        network: Which sockets may be made.
        programs: Whether it may start processes and run programs.
        local_sockets: Whether processes of a group may meet over sockets of this machine.

    Raises:
        OSError: the kernel does not take it.
    """
    program = b"".join(assemble(kernel.machine(), network, programs, local_sockets))
    body = ctypes.create_string_buffer(program, len(program))

    class Filter(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("body", ctypes.c_void_p))

    handed = Filter(len(program) // 8, ctypes.addressof(body))
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    if kernel.call(_seccomp(), _SET_MODE_FILTER, _TSYNC, ctypes.byref(handed)) != 0:
        raise OSError(errno.EBUSY, "a thread has a filter of its own")


def _seccomp() -> int:
    return _ARCHITECTURES[kernel.machine()][1]


def assemble(
    machine: str, network: Network = "none", programs: bool = False, local_sockets: bool = False
) -> list[bytes]:
    """Return a filter's instructions for an architecture."""
    audit, _, column = _ARCHITECTURES[machine]
    own = os.getpid()
    made = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_IF_EQUAL, audit, 1, 0),
        _step(_RETURN, _KILL_PROCESS),
        _step(_LOAD, _NUMBER),
    ]
    if column == 0:
        made += [_step(_IF_AT_LEAST, _X32, 0, 1), _step(_RETURN, _KILL_PROCESS)]

    def on(numbers: tuple[int, int], *then: bytes) -> None:
        if numbers[column] >= 0:
            made.extend([_step(_IF_EQUAL, numbers[column], 0, len(then)), *then])

    for numbers in _NEVER.values():
        on(numbers, _refused())
    # Its flags lie in memory, where nobody can judge them; the C library then calls clone.
    on(_CLONE3, _refused(errno.ENOSYS))
    # Limits of other processes are a way to end them.
    on(_PRLIMIT, *_only(0, [0, own]))
    if programs:
        on(_CLONE, _argument(0), _step(_IF_ANY, _NEW_NAMESPACES, 0, 1), _refused(), _allowed())
    else:
        for numbers in (*_EXECUTE.values(), *_FORK.values(), *_SIGNAL_BY_THREAD.values()):
            on(numbers, _refused())
        on(_CLONE, _argument(0), _step(_IF_ANY, _CLONE_THREAD, 1, 0), _refused(), _allowed())
        on(_KILL, *_only(0, [own]))
        on(_TGKILL, *_only(0, [own]))
    if network == "none":
        on(_SOCKET, _refused(errno.EACCES))
        on(_SOCKETPAIR, _refused(errno.EACCES))
    else:
        on(_SOCKET, *_sockets(local_sockets))
    made.append(_allowed())
    return made


def _sockets(local: bool) -> list[bytes]:
    """Allow the internet's sockets, and what the C library asks for a machine's addresses."""
    families = [socket.AF_INET, socket.AF_INET6, *([socket.AF_UNIX] if local else [])]
    tests = [
        _step(_IF_EQUAL, family, len(families) + 3 - place, 0)
        for place, family in enumerate(families)
    ]
    is_route = [_step(_IF_EQUAL, socket.AF_NETLINK, 0, 2), _argument(2), _step(_IF_EQUAL, 0, 1, 0)]
    return [_argument(0), *tests, *is_route, _refused(errno.EACCES), _allowed()]


def _only(position: int, values: Sequence[int]) -> list[bytes]:
    """Allow a call if an argument, of 32 bits, is one of some values."""
    tests = [_step(_IF_EQUAL, value, len(values) - place, 0) for place, value in enumerate(values)]
    return [_argument(position), *tests, _refused(), _allowed()]


def _argument(position: int) -> bytes:
    return _step(_LOAD, _ARGUMENTS + 8 * position)


def _refused(number: int = errno.EPERM) -> bytes:
    return _step(_RETURN, _ERRNO | number)


def _allowed() -> bytes:
    return _step(_RETURN, _ALLOW)


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
