"""A .gz around one file: unpacked as it is read, within the bounds that archives have."""

import gzip
import io
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, cast

from app.datasets.readers.files import MAX_HELD_BYTES, Entry, File, Inner
from app.datasets.readers.sniffing import MAX_ZIP_RATIO, SMALL_BYTES
from app.datasets.readers.unreadable import Unreadable

MAX_UNPACKED_BYTES = 16 * 1024**3
_CHUNK_BYTES = 1024**2
# What has to be at hand as a whole: packages, workbooks, Parquet, PDF.
_HELD = (b"PK\x03\x04", b"PK\x05\x06", b"\xd0\xcf\x11\xe0", b"PAR1")
_DAMAGED = "This gzip file is damaged or incomplete ({what}); pack the file again and upload that."


def unpacked(file: File) -> File:
    """Return the file in a gzip file.

    Raises:
        Unreadable: it is a trap or damaged, or holds what is packed once more.
    """
    if isinstance(file, Entry):
        raise Unreadable(
            "This is an archive inside an archive; unpack it and put its files into one ZIP."
        )
    inner = Gzipped(file.path)
    head = inner.head(1024)
    if head.startswith(b"\x1f\x8b"):
        raise Unreadable("This file is packed by gzip twice; unpack it once and upload that.")
    return Held(file.path, inner.whole()) if head.startswith(_HELD) or b"%PDF-" in head else inner


def size_hint(path: Path) -> int:
    """Return how many bytes have to be read for a file: for gzip those that it says it holds."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        if size < 18 or stream.read(2) != b"\x1f\x8b":
            return size
        stream.seek(-4, io.SEEK_END)
        said = int.from_bytes(stream.read(4), "little")
    return max(size, min(said, size * MAX_ZIP_RATIO))


@dataclass(frozen=True)
class Held(Inner):
    """A file that was unpacked into memory."""

    content: bytes

    @property
    def size_bytes(self) -> int:
        return len(self.content)

    def open(self) -> BinaryIO:
        """Open the bytes at their start."""
        return io.BytesIO(self.content)

    def held(self) -> io.BytesIO:
        return io.BytesIO(self.content)


class Gzipped(Inner):
    """The file in a gzip file; `path` is the gzip file."""

    @cached_property
    def size_bytes(self) -> int:
        with self.open() as stream:
            return sum(iter(lambda: len(stream.read(_CHUNK_BYTES)), 0))

    def open(self) -> BinaryIO:
        """Open the bytes at their start; they end in an error where they are a trap."""
        return cast(BinaryIO, io.BufferedReader(_Bounded(self.path.open("rb")), _CHUNK_BYTES))

    def whole(self) -> bytes:
        """Unpack the file into memory.

        Raises:
            Unreadable: it is too large for that.
        """
        with self.open() as stream:
            content = stream.read(MAX_HELD_BYTES + 1)
        if len(content) > MAX_HELD_BYTES:
            raise Unreadable(
                f"This file would unpack to more than {MAX_HELD_BYTES / 1e6:,.0f} MB, which is the "
                "most that can be read of its kind from a gzip file; unpack it and upload that."
            )
        return content


class _Bounded(io.RawIOBase):
    """What gzip gives, counted; a file that grows beyond measure is refused."""

    def __init__(self, packed: BinaryIO) -> None:
        self._packed = packed
        packed.seek(0, io.SEEK_END)
        self._packed_bytes = max(packed.tell(), 1)
        packed.seek(0)
        self._stream = gzip.GzipFile(fileobj=packed, mode="rb")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        try:
            content = self._stream.read(len(buffer))
        except EOFError:
            raise Unreadable(_DAMAGED.format(what="it breaks off")) from None
        except gzip.BadGzipFile as error:
            is_sum = "CRC" in str(error) or "length" in str(error)
            what = "its checksum is wrong" if is_sum else "it is not gzip throughout"
            raise Unreadable(_DAMAGED.format(what=what)) from None
        except (OSError, zlib.error):
            raise Unreadable(_DAMAGED.format(what="it cannot be unpacked")) from None
        buffer[: len(content)] = content
        self._check(self._stream.tell())
        return len(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        try:
            return self._stream.seek(offset, whence)
        except (OSError, EOFError, zlib.error):
            raise Unreadable(_DAMAGED.format(what="it breaks off")) from None

    def tell(self) -> int:
        return self._stream.tell()

    def close(self) -> None:
        self._stream.close()
        self._packed.close()
        super().close()

    def _check(self, size: int) -> None:
        if size > MAX_UNPACKED_BYTES or (
            size > SMALL_BYTES and size / self._packed_bytes > MAX_ZIP_RATIO
        ):
            raise Unreadable(_bomb(size, self._packed_bytes))


def _bomb(unpacked: int, packed: int) -> str:
    # How much more there is nobody knows: it was not unpacked any further.
    return (
        f"This gzip file unpacks to more than {unpacked / 1e6:,.0f} MB from "
        f"{packed / 1e6:,.1f} MB, which looks like a trap (a “zip bomb”); save the rows as "
        "CSV and upload that."
    )
