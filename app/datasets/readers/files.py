"""A file to read: on the disk, within an archive or packed; opened anew as often as needed."""

import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from app.datasets.readers.unreadable import Unreadable

# Formats that need their whole file at hand have to fit into the reading process.
MAX_HELD_BYTES = 256 * 1024**2
# What zipfile raises of a package that is cut off, damaged, or packed in an unknown way.
DAMAGES = (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, zlib.error)


@dataclass(frozen=True)
class File:
    """A file on the disk."""

    path: Path

    @property
    def size_bytes(self) -> int:
        return self.path.stat().st_size

    def open(self) -> BinaryIO:
        """Open the bytes at their start."""
        return self.path.open("rb")

    def head(self, num_bytes: int) -> bytes:
        """Return the first bytes, all of them unless the file is shorter."""
        with self.open() as file:
            return file.read(num_bytes)

    def text(self, encoding: str) -> io.TextIOWrapper:
        """Open as text; line ends stay as they are."""
        return io.TextIOWrapper(self.open(), encoding=encoding, newline="")


class Inner(File):
    """A file that is no file of the disk: `path` is what it stands in."""

    def held(self) -> io.BytesIO:
        """Hold the whole file in memory.

        Raises:
            Unreadable: it is too large for that.
        """
        if self.size_bytes > MAX_HELD_BYTES:
            raise Unreadable(
                f"This file would unpack to {self.size_bytes / 1e6:,.0f} MB, and inside an archive "
                f"at most {MAX_HELD_BYTES / 1e6:,.0f} MB can be read; upload it by itself."
            )
        with self.open() as file:
            return io.BytesIO(file.read())


@dataclass(frozen=True)
class Entry(Inner):
    """A file inside a ZIP archive; `path` is the archive. Inflated as it is read."""

    archive: zipfile.ZipFile
    info: zipfile.ZipInfo

    @property
    def size_bytes(self) -> int:
        return self.info.file_size

    def open(self) -> BinaryIO:
        """Open the entry; it never gives more bytes than the archive declares for it."""
        return cast(BinaryIO, self.archive.open(self.info))
