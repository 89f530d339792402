"""Leaving the network: as root, and as somebody without rights."""

import os
import subprocess
import sys

import pytest

NOBODY = 65534
PROGRAM = """
import ctypes, encodings.idna, os, socket, sys
from app.training import isolation
if os.geteuid() != int(sys.argv[1]):
    os.setgroups([])
    os.setgid(int(sys.argv[1]))
    os.setuid(int(sys.argv[1]))
    ctypes.CDLL(None).prctl(4, 1)  # "dumpable", as one that began as this user is
if not isolation.can_leave_network():
    sys.exit(77)
assert isolation.leave_network()
assert (os.geteuid(), os.getegid()) == (int(sys.argv[1]),) * 2
names = [name for _, name in socket.if_nameindex()]
assert names == ["lo"], names
with socket.create_server(("127.0.0.1", 0)) as here:
    socket.create_connection(here.getsockname(), timeout=5).close()
try:
    socket.create_connection(("192.0.2.1", 80), timeout=5)
except OSError as error:
    assert error.errno == 101, error  # network is unreachable
else:
    raise AssertionError("there is a way out")
"""


@pytest.mark.parametrize("user", [os.geteuid(), NOBODY])
def test_nothing_but_a_loopback_is_left(user: int) -> None:
    if user != os.geteuid() and os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(user)],
        capture_output=True,
        text=True,
    )
    if done.returncode == 77:
        pytest.skip("this kernel lets no process leave the network")
    assert done.returncode == 0, done.stderr
