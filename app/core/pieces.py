"""A file that comes in pieces, each of which begins where the one before it ended.

How much is there is the file's own size, so that a killed process leaves nothing to disagree with;
a lock lets one request write. `app/web/tus.py` is what browsers speak to it.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from app.core.errors import Conflict, NotFound


@contextmanager
def writing(path: Path, offset: int) -> Iterator[BinaryIO]:
    """Lend a file for one piece that begins at an offset; nobody else may write meanwhile.

    Raises:
        Conflict: another request is writing, or the piece does not follow from what is there.
        NotFound: the upload ended meanwhile.
    """
    try:
        file = path.open("r+b")
    except FileNotFoundError:
        raise NotFound("This upload no longer exists; start it again.") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict("Another request writes to this upload.", code="locked") from None
        there = file.seek(0, os.SEEK_END)
        if offset != there:
            raise Conflict(f"This upload holds {there} bytes, not {offset}.", code="offset")
        yield file


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Let one upload of a folder begin or end at a time: sixty at once are counted one by one."""
    with folder.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
