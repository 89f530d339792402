"""Which checkpoints stay on disk, and which of them the database knows of; no torch here.

The supervisor writes the step of the newest one that is committed into attempts/<n>/committed. That
one stays, however many the trainer writes while the database is away: the rows name it, and what is
written after it counts only where this attempt's events can still be read.
"""

import os
import re
import shutil
import struct
from pathlib import Path

STEP = re.compile(r"step-(\d{5,})")
_NUMBER = struct.Struct("q")


def folders(job_dir: Path) -> list[tuple[int, Path]]:
    """Return all checkpoints by step; from 100,000 on names do not sort."""
    named = ((STEP.fullmatch(f.name), f) for f in (job_dir / "checkpoints").glob("step-*"))
    return sorted((int(match[1]), folder) for match, folder in named if match)


def tidy(job_dir: Path, attempt: int, step: int) -> None:
    """Keep the newest two checkpoints up to the present step, and the newest committed one."""
    committed = _committed(job_dir / "attempts" / str(attempt))
    earlier = [(saved, folder) for saved, folder in folders(job_dir) if saved < step]
    for saved, folder in earlier[:-1]:
        if saved != committed:
            shutil.rmtree(folder)


def write_committed(handle: int, step: int) -> None:
    """Say which checkpoint the database knows of; eight bytes, so nobody reads half of it."""
    os.pwrite(handle, _NUMBER.pack(step), 0)


def _committed(attempt_dir: Path) -> int:
    """Return the step of the newest committed checkpoint; 0 where there is none."""
    try:
        return int(_NUMBER.unpack((attempt_dir / "committed").read_bytes())[0])
    except (FileNotFoundError, struct.error):
        return 0
