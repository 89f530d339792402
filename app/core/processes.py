"""What the kernel says of processes, ours and others'."""

from pathlib import Path


def start_ticks(pid: int) -> int | None:
    """Return when a process began, in clock ticks after boot; nothing for a dead one.

    With it a process id that was given to another process later is told apart.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return None if fields[0] in "ZX" else int(fields[19])
