"""A stranger's folder with a model: its files are opened without following links out of it.

A link in such a folder may name a secret of this machine, which would then be kept as the model's
licence or template and be shown; a pipe in it would be waited for. So each file is looked at before
it is opened: it has to be a plain one, and to lie in the folder in truth.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


class Outside(Exception):
    """What stands in a folder is no file of its own; a sentence that says which."""


class ModelFolder:
    """A folder as it lies on this machine, or one file of it."""

    def __init__(self, path: Path) -> None:
        """Name a folder; links on the way to it are the administrator's own."""
        self.path = Path(os.path.realpath(path))
        self._root = _root(self.path)

    def names(self, ending: str = "") -> list[str]:
        """Return the names of what is in it, in order, whatever each of them is."""
        return sorted(entry.name for entry in os.scandir(self.path) if entry.name.endswith(ending))

    def has(self, name: str) -> bool:
        """Say whether something of this name is there."""
        return os.path.lexists(self.path / name)

    @contextmanager
    def opened(self, name: str) -> Iterator[BinaryIO]:
        """Open a file to read.

        Raises:
            Outside: it is a link out of the folder, or no plain file.
            FileNotFoundError: there is none.
        """
        with self.held(name) as path, path.open("rb") as file:
            yield file

    @contextmanager
    def held(self, name: str) -> Iterator[Path]:
        """Lend a path that leads to the very file that was looked at, whatever happens meanwhile.

        Raises:
            Outside, FileNotFoundError: as `opened`.
        """
        # O_PATH opens nothing yet: no pipe waits, no device wakes.
        handle = os.open(self.path / name, os.O_PATH | os.O_CLOEXEC)
        try:
            path = Path(f"/proc/self/fd/{handle}")
            leads_to = path.readlink()
            if not leads_to.is_relative_to(self._root):
                raise Outside(
                    f"{name} is a link to {leads_to}, outside the model's folder; put the file "
                    "itself there."
                )
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise Outside(f"{name} is not a plain file; put the model's own file there.")
            yield path
        finally:
            os.close(handle)


def _root(path: Path) -> Path:
    # The Hugging Face cache keeps a model's files in `blobs`, and links to them in `snapshots`.
    repository = path.parent.parent
    is_snapshot = path.parent.name == "snapshots" and repository.name.startswith("models--")
    return repository if is_snapshot else path
