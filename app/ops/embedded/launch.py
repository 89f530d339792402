"""Become another program that ends with its parent; run by path, with the standard library only.

    python launch.py --parent PID --signal N [--hide-root UID | --user NAME] -- PROGRAM ARGUMENTS…

A program of its own and not a `preexec_fn`, because that would run Python between fork and exec of
a process that may have threads.
"""

import argparse
import ctypes
import os
import pwd
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_CLONE_NEWUSER = 0x10000000
EXIT_NO_NAMESPACE = 97
EXIT_ORPHANED = 98


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--signal", type=int, required=True)
    parser.add_argument("--hide-root", type=int)
    parser.add_argument("--user")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    if options.hide_root is not None:
        _hide_root(options.hide_root)
    if options.user is not None:
        _become(options.user)
    # Last, because a change of user clears it.
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, options.signal, 0, 0, 0)
    if os.getppid() != options.parent:
        sys.exit(EXIT_ORPHANED)
    os.execv(options.command[0], options.command)  # noqa: S606 - a list, and never a shell


def _hide_root(uid: int) -> None:
    """Look like `uid` to ourselves while files stay root's: a user namespace of our own."""
    mine, group = os.geteuid(), os.getegid()
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER) != 0:
        sys.exit(EXIT_NO_NAMESPACE)
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {mine} 1")
        Path("/proc/self/gid_map").write_text(f"{uid} {group} 1")
    except OSError:
        sys.exit(EXIT_NO_NAMESPACE)


def _become(name: str) -> None:
    person = pwd.getpwnam(name)
    os.setgroups([])
    os.setgid(person.pw_gid)
    os.setuid(person.pw_uid)


if __name__ == "__main__":
    main()
