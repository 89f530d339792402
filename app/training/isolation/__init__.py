"""Walls around a child: what reads strangers' files, or trains on people's data, reaches only that.

`confine` takes away, in this process and whatever it starts, all that a kind of child does not
need: root's name, capabilities, files, system calls, the network, and more of the machine than its
share. A kernel or a container may not let a wall stand; `standing` says which do, and
ETUDE_WALLS=required refuses to go on without (docs/decisions/0025-walls-around-children.md).
Standard library only.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from app.training.isolation import kernel, landlock, limits, network, places, privileges, seccomp
from app.training.isolation import user as users
from app.training.isolation.landlock import READ, WRITE, Rule
from app.training.isolation.limits import Limits
from app.training.isolation.seccomp import Network

__all__ = [
    "CHILDREN",
    "USER",
    "Limits",
    "Needs",
    "Wall",
    "WallsMissing",
    "can_leave_network",
    "confine",
]
__all__ += ["die_with", "leave_network", "let_in", "refuse_network", "standing", "take_back"]

VARIABLE = "ETUDE_WALLS"
_REQUIRED = "required"
# Nobody is refused for want of this one: where Python lies in root's own folder, no other user can
# run at all, and the other walls stand around root's children, too.
USER = "user"
_PROBE_SECONDS = 30

leave_network = network.leave_network
let_in, take_back = users.let_in, users.take_back
CHILDREN = users.GROUP
can_leave_network = network.can_leave_network


@dataclass(frozen=True)
class Needs:
    """What a kind of child needs of the machine."""

    reads: Sequence[Path] = ()
    writes: Sequence[Path] = ()
    network: Network = "none"
    # Whether it runs programs: Python, the C compiler and Triton's assembler, and no others.
    programs: bool = False
    gpu: bool = False
    # Whether it is one of several processes that share memory and sockets of this machine, in the
    # network of the one that started it.
    is_of_a_group: bool = False
    # Whether it starts those. Each raises the wall around files itself, with its own part of /proc.
    is_launcher: bool = False
    # Of root's children each has a user of its own. Those that go on in one folder, one after the
    # other or together, name the work by which they share theirs.
    work: int | None = None
    limits: Limits = field(default_factory=Limits)


class Wall(NamedTuple):
    """One wall; why it does not stand, or what it lets through."""

    name: str
    stands: bool
    why: str = ""


class WallsMissing(Exception):
    """A wall that has to stand does not; a sentence."""


def confine(needs: Needs) -> list[Wall]:
    """Take away from this process, for good, all that it does not need.

    Call it before the first thread starts: the kernel's rules for files reach no other ones.

    Raises:
        WallsMissing: a wall does not stand, and the site wants none to be missing.
    """
    limits.go_first()
    if not needs.programs:
        _settle_temporary_files(needs)
    namespace = _user_namespace()
    has_left = needs.network != "anywhere" and not needs.is_of_a_group and network.leave_network()
    was_root = os.geteuid() == 0
    user = _own_user(needs)
    counts_alone = _user_namespace() != namespace or (was_root and user.stands)
    limits.limit(needs.limits, counts_alone=counts_alone)
    walls = [
        user,
        _raise("privileges", privileges.drop),
        _raise("files", lambda: _refuse_files(needs), landlock.missing),
        _raise("system calls", lambda: _refuse_calls(needs), seccomp.missing),
    ]
    walls.append(_network_wall(needs, has_left, walls[-1].stands))
    if os.environ.get(VARIABLE) == _REQUIRED:
        for wall in walls:
            if not wall.stands and wall.name != USER:
                raise WallsMissing(_sentence(wall))
    return walls


def die_with(parent: int) -> None:
    """End with the process that started this one."""
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)


def refuse_network() -> None:
    """Let a child that has fetched what it needs go on without a network.

    Raises:
        WallsMissing: the kernel does not refuse it, and the site wants no wall to be missing.
    """
    wall = _raise("network", seccomp.refuse, seccomp.missing)
    if not wall.stands and os.environ.get(VARIABLE) == _REQUIRED:
        raise WallsMissing(_sentence(wall))


@lru_cache
def standing(*reads: Path) -> list[Wall]:
    """Say which walls stand on this machine, by raising them around a process that ends at once.

    Args:
        reads: Folders that children have to read.
    """
    try:
        tried = subprocess.run(
            [sys.executable, "-m", __name__, *map(str, reads)],
            capture_output=True,
            cwd=Path(__file__).resolve().parents[3],
            env={"PATH": os.environ.get("PATH", "")},
            timeout=_PROBE_SECONDS,
            check=True,
        )
        return [Wall(*each) for each in json.loads(tried.stdout)]
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        why = f"the process that should try it did not end well ({type(error).__name__})"
        return [
            Wall(name, False, why)
            for name in (USER, "privileges", "files", "system calls", "network")
        ]


def _settle_temporary_files(needs: Needs) -> None:
    """Name the folder that libraries ask for as they are loaded, and mostly put nothing into.

    Where nothing may be written, one that is there has to do.
    """
    tempfile.tempdir = str(needs.writes[0]) if needs.writes else sys.prefix
    os.environ |= {"TMPDIR": tempfile.tempdir, "TORCHINDUCTOR_CACHE_DIR": sys.prefix}


def _own_user(needs: Needs) -> Wall:
    if os.geteuid() != 0:
        return Wall(USER, True)  # the one that Etude has is nobody's but Etude's
    number = users.own(needs.work)
    return _raise(
        USER,
        lambda: users.become(number, needs.writes),
        lambda: users.why_not(number, needs.reads),
    )


def _refuse_files(needs: Needs) -> None:
    if not needs.is_launcher:
        landlock.restrict(_rules(needs), refuses_tcp=needs.network == "none")


def _refuse_calls(needs: Needs) -> None:
    seccomp.refuse(
        network=needs.network,
        programs=needs.programs,
        local_sockets=needs.gpu and (needs.is_of_a_group or needs.is_launcher),
    )


def _user_namespace() -> str:
    return str(Path("/proc/self/ns/user").readlink())


def _network_wall(needs: Needs, has_left: bool, refuses_sockets: bool) -> Wall:
    if needs.network == "anywhere" or needs.is_of_a_group or has_left:
        return Wall("network", True)
    if needs.network == "none" and refuses_sockets:
        return Wall("network", True, "no network namespace; sockets are refused instead")
    return Wall(
        "network",
        False,
        "neither this kernel nor, in a container, its profile lets a process leave the network",
    )


def _raise(
    name: str, build: Callable[[], None], missing: Callable[[], str | None] | None = None
) -> Wall:
    why = missing() if missing is not None else None
    if why is None:
        try:
            build()
        except OSError as error:
            why = f"{error.strerror or error}"
    return Wall(name, why is None, why or "")


def _sentence(wall: Wall) -> str:
    return (
        f"This machine cannot wall off a process that handles data of others ({wall.name}: "
        f"{wall.why}), and {VARIABLE}={_REQUIRED} runs none without; ask your administrator to run "
        "etude doctor."
    )


def _rules(needs: Needs) -> Iterator[Rule]:
    yield from places.common()
    yield from (Rule(path, READ) for path in needs.reads)
    yield from (Rule(path, WRITE) for path in needs.writes)
    if needs.gpu:
        yield from places.gpu()
    if needs.programs:
        yield from places.programs()
    if needs.network == "anywhere":
        yield from places.names()
    if needs.is_of_a_group:
        yield places.shared_memory()
