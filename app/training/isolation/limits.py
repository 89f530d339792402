"""How much of the machine a child may take."""

import resource
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# Half of the machine's memory, added to what a process has when the kernel looks for one to end
# (proc_pid_oom_score_adj(5)).
_BADNESS = 500
# Above what any library starts for the cores of a machine.
_MAX_TASKS = 1024


@dataclass(frozen=True)
class Limits:
    """None: as much as there is."""

    # All that is mapped; no measure for what maps files of weights, or a GPU.
    address_space_bytes: int | None = None
    # What is its own alone: heaps and stacks.
    data_bytes: int | None = None
    cpu_seconds: int | None = None
    open_files: int = 64
    file_bytes: int | None = 0  # the size of each file that it writes


def go_first() -> None:
    """Offer this process to a kernel whose memory is used up, before the database and the web.

    How much a model or a file needs is known to nobody beforehand; a child that is killed for it
    is told of in a sentence and costs nobody else anything.
    """
    place = Path("/proc/self/oom_score_adj")
    with suppress(OSError, ValueError):  # no Linux, or a container that lets nobody write there
        place.write_text(str(max(_BADNESS, int(place.read_text()))))


def limit(limits: Limits, *, counts_alone: bool) -> None:
    """Set them for this process and whatever it starts; nothing raises them again.

    Args:
        counts_alone: Whether processes are counted by themselves. Otherwise those of all of a
            user's programs count, and root's never do.
    """
    for kind, value in _values(limits, counts_alone):
        soft, hard = value if isinstance(value, tuple) else (value, value)
        least = resource.getrlimit(kind)[1]
        if least != resource.RLIM_INFINITY:  # somebody has been stricter
            soft, hard = min(soft, least), min(hard, least)
        resource.setrlimit(kind, (soft, hard))


def _values(limits: Limits, counts_alone: bool) -> Iterator[tuple[int, int | tuple[int, int]]]:
    yield resource.RLIMIT_CORE, 0
    yield resource.RLIMIT_NOFILE, limits.open_files
    if limits.cpu_seconds is not None:
        # The hard limit kills without saying why, so it comes after the soft one.
        yield resource.RLIMIT_CPU, (limits.cpu_seconds, limits.cpu_seconds + 5)
    if limits.address_space_bytes is not None:
        yield resource.RLIMIT_AS, limits.address_space_bytes
    if limits.data_bytes is not None:
        yield resource.RLIMIT_DATA, limits.data_bytes
    if limits.file_bytes is not None:
        yield resource.RLIMIT_FSIZE, limits.file_bytes
    if counts_alone:
        yield resource.RLIMIT_NPROC, _MAX_TASKS
