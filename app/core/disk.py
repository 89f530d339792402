"""Room on a disk, promised before it is used: no byte is promised to two.

A promise is a small file: how much will be written, and where. It stands for what of that is not
written yet, so a process of any kind that asks for room sees what others are still to write. It
ends with the block that holds it, or with the process, whose lock on the file goes with it; one
that is to outlive processes ends with the file that it was made for.
"""

import fcntl
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from pydantic import BaseModel, ValidationError

from app.core import settings


class NoRoom(Exception):
    """The disk has less room than is asked for, what others were promised apart."""

    def __init__(self, needed_bytes: int, free_bytes: int) -> None:
        super().__init__(f"{needed_bytes} bytes are needed, {free_bytes} are free")
        self.needed_bytes = needed_bytes  # with what always stays free
        self.free_bytes = free_bytes


class _Promise(BaseModel):
    size_bytes: int
    places: list[Path]  # files and folders that will hold it
    bytes_before: int  # in them, when it was made
    device: int
    made_for: Path | None = None  # a file: without it the promise is over
    quiet_seconds: float = 0  # and so it is when nobody has written for so long

    @property
    def left_bytes(self) -> int:
        return max(0, self.size_bytes - max(0, _size(self.places) - self.bytes_before))


class Reservation:
    """Room that is held from `with` to the end of it, at most as long as this process lives."""

    def __init__(self, size_bytes: int, places: Sequence[Path]) -> None:
        """
        Args:
            size_bytes: What will be written beyond what is there.
            places: Where; files and folders that may not be there yet, on one disk.

        Raises:
            NoRoom: the disk has not got it.
        """
        self.size_bytes = size_bytes
        self._places = list(places)
        with _ledger():
            made = _require(size_bytes, self._places, besides=None)
            self._file = (_folder() / f"{secrets.token_hex(16)}.json").open("wb")
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX)
                _write(self._file, made)
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def grow(self, more_bytes: int) -> None:
        """Hold more.

        Raises:
            NoRoom: the disk has not got it; what is held stays held.
        """
        with _ledger():
            path = Path(self._file.name)
            before = _read(path)
            assert before is not None
            _require(before.left_bytes + more_bytes, self._places, besides=path)
            before.size_bytes += more_bytes
            _write(self._file, before)
        self.size_bytes += more_bytes

    def close(self) -> None:
        """Let go of what was not written."""
        Path(self._file.name).unlink(missing_ok=True)
        self._file.close()


def promise(size_bytes: int, places: Sequence[Path], made_for: Path, quiet_seconds: float) -> None:
    """Hold room for as long as a file is there, whatever becomes of this process.

    Args:
        quiet_seconds: When nobody has written to the places for so long, it is over as well: who
            begins much and sends nothing keeps nobody else from sending.

    Raises:
        NoRoom: the disk has not got it.
    """
    with _ledger():
        made = _require(size_bytes, places, besides=None)
        made.made_for, made.quiet_seconds = made_for, quiet_seconds
        _name_of(made_for).write_text(made.model_dump_json(), encoding="utf-8")


def release(made_for: Path) -> None:
    """Let go of what was promised for a file."""
    _name_of(made_for).unlink(missing_ok=True)


def _require(size_bytes: int, places: Sequence[Path], besides: Path | None) -> _Promise:
    place = next(parent for parent in (places[0], *places[0].parents) if parent.exists())
    device = place.stat().st_dev
    before = _size(places)
    made = _Promise(size_bytes=size_bytes, places=list(places), bytes_before=before, device=device)
    promised = sum(
        each.left_bytes for path, each in _standing() if path != besides and each.device == device
    )
    free = max(0, shutil.disk_usage(place).free - promised)
    needed = size_bytes + settings.get().disk_reserve_bytes
    if free < needed:
        raise NoRoom(needed, free)
    return made


def _standing() -> Iterator[tuple[Path, _Promise]]:
    """Yield the promises that hold, and remove what is left of others."""
    for path in _folder().glob("*.json"):
        made = _read(path)
        if made is not None and _stands(path, made):
            yield path, made
        else:
            path.unlink(missing_ok=True)


def _stands(path: Path, made: _Promise) -> bool:
    if made.made_for is not None:
        written_at = max((_written_at(each) for each in (path, *made.places)), default=0.0)
        return made.made_for.exists() and time.time() - written_at < made.quiet_seconds
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False  # nobody holds it: its process is gone


def _read(path: Path) -> _Promise | None:
    try:
        return _Promise.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):  # gone, or half written when its process died
        return None


def _write(file: IO[bytes], made: _Promise) -> None:
    body = made.model_dump_json().encode()
    file.seek(0)
    file.truncate()
    file.write(body)
    file.flush()


def _written_at(path: Path) -> float:
    with suppress(OSError):
        return path.stat().st_mtime  # of a folder: when a file came or went
    return 0.0


def _size(places: Sequence[Path]) -> int:
    """Count the bytes of files, and of all files in folders."""
    total = 0
    for place in places:
        with suppress(OSError):
            if not place.is_dir():
                total += place.lstat().st_size
                continue
            for folder, _, names in os.walk(place):
                for name in names:
                    with suppress(OSError):  # it went meanwhile
                        total += (Path(folder) / name).lstat().st_size
    return total


@contextmanager
def _ledger() -> Iterator[None]:
    """Let one process at a time ask for room."""
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _name_of(made_for: Path) -> Path:
    return _folder() / f"{hashlib.sha256(os.fsencode(made_for)).hexdigest()[:32]}.json"


def _folder() -> Path:
    return settings.get().data_dir / "promises"
