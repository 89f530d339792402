"""`python -m tests.own_network COMMAND …`: run a command in a network of its own that counts.

Beside the loopback it has one interface, `away`, with the route to everywhere else: whatever is
sent beyond this machine ends there and is counted by the kernel. `sent(pid)` reads how much it was.
Code 77 says that the kernel allows no such network.
"""

import fcntl
import os
import socket
import struct
import sys
from pathlib import Path

from app.training import isolation

REFUSED = 77
NAME, _OTHER = "away", "nobody"
_RTM_NEWLINK, _RTM_NEWADDR, _RTM_NEWROUTE = 16, 20, 24
_REQUEST_CREATE = 0x1 | 0x4 | 0x200 | 0x400  # request, acknowledge, exclusive, create
_SIOCSIFFLAGS, _IFF_UP, _IFF_NOARP = 0x8914, 0x1, 0x80


def sent(pid: int) -> int:
    """Return how many packets the network of a process has sent beyond the machine."""
    for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == NAME:
            return int(numbers.split()[9])
    raise AssertionError("this process has no network of its own")


def main() -> None:
    if not isolation.leave_network():
        print("this kernel lets no process leave the network", file=sys.stderr)
        raise SystemExit(REFUSED)
    try:
        _make_way()
    except OSError as error:
        print(f"this kernel makes no interface: {error}", file=sys.stderr)
        raise SystemExit(REFUSED) from None
    os.execvp(sys.argv[1], sys.argv[1:])


def _make_way() -> None:
    # A pair of ends, since not every kernel has dummies; nobody listens at the other one.
    kind = _attribute(1, b"veth\0")
    other = _attribute(1, struct.pack("BxHiII", 0, 0, 0, 0, 0) + _named(_OTHER))
    info = _attribute(18, kind + _attribute(2, other))
    _ask(_RTM_NEWLINK, struct.pack("BxHiII", 0, 0, 0, 0, 0) + _named(NAME) + info)
    for name in (NAME, _OTHER):
        # The kernel itself greets its neighbours over IPv6 on each interface that comes up.
        file = Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6")
        if file.exists():
            file.write_text("1")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            wanted = struct.pack("16sH14s", name.encode(), _IFF_UP | _IFF_NOARP, b"")
            fcntl.ioctl(probe, _SIOCSIFFLAGS, wanted)
    index = socket.if_nametoindex(NAME)
    here = socket.inet_aton("10.99.0.1")
    address = struct.pack("BBBBI", socket.AF_INET, 24, 0, 0, index)
    _ask(_RTM_NEWADDR, address + _attribute(1, here) + _attribute(2, here))
    route = struct.pack("BBBBBBBBI", socket.AF_INET, 0, 0, 0, 254, 4, 253, 1, 0)
    _ask(_RTM_NEWROUTE, route + _attribute(4, struct.pack("i", index)))


def _named(name: str) -> bytes:
    return _attribute(3, name.encode() + b"\0")


def _attribute(kind: int, content: bytes) -> bytes:
    packed = struct.pack("HH", 4 + len(content), kind) + content
    return packed + bytes(-len(packed) % 4)


def _ask(kind: int, body: bytes) -> None:
    """Ask the kernel by netlink, and raise what it answers."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.send(struct.pack("IHHII", 16 + len(body), kind, _REQUEST_CREATE, 1, 0) + body)
        (code,) = struct.unpack_from("i", kernel.recv(4096), 16)
    if code != 0:
        raise OSError(-code, os.strerror(-code))


if __name__ == "__main__":
    main()
