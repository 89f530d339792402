"""Starting models that this machine fetched by their hash, kept within a limit.

The machine that imported a model has it in a folder of models_dir for as long as it is registered.
Every other one fetches it when it is needed, and drops what was used least recently where
ETUDE_MODEL_CACHE_BYTES would be passed. A model in use is locked, by a file that goes with the
process, and is never dropped.
"""

import fcntl
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import structlog

from app.core import disk, settings, storage

_log = structlog.get_logger()


def key(manifest_sha256: str) -> str:
    """Return under which key the machines share a model."""
    return f"models/{manifest_sha256}"


def place(manifest_sha256: str) -> Path:
    """Return where this machine keeps a model that it has fetched."""
    return _root() / manifest_sha256


@contextmanager
def in_use(folder: Path, manifest_sha256: str, size_bytes: int) -> Iterator[None]:
    """Have a model's files at a folder, and nobody drop them, from `with` to the end of it.

    Args:
        folder: As the registry says: where it was imported, and stays as it is, or `place`.
        size_bytes: Of its files, as the registry knows.

    Raises:
        FileNotFoundError: the shared storage does not have it.
        disk.NoRoom: there is no room for it, within the limit or on the disk.
        StorageAway, shared_storage.Damaged: it cannot be fetched.
    """
    if folder != place(manifest_sha256):
        yield
        return
    with _lock(manifest_sha256) as lock:
        while True:
            fcntl.flock(lock, fcntl.LOCK_SH)
            if folder.is_dir():
                break
            # Whoever waits here meanwhile finds it afterwards.
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.is_dir():
                _fetch(manifest_sha256, folder, size_bytes)
        os.utime(lock.fileno())  # what was used last goes last
        yield


def drop_unknown(known: Collection[str]) -> None:
    """Remove what was fetched of models that nobody has registered any more."""
    for sha256, folder in _kept():
        if sha256 not in known:
            _drop(sha256, folder)


def _fetch(manifest_sha256: str, folder: Path, size_bytes: int) -> None:
    for left in _root().glob(f"{manifest_sha256}.*.partial"):
        shutil.rmtree(left, ignore_errors=True)  # of who died over it: the lock is ours
    _make_room(size_bytes)
    with disk.Reservation(size_bytes, [_root()]):
        storage.fetch_folder(key(manifest_sha256), manifest_sha256, folder)
    _log.info("model.fetched", sha256=manifest_sha256, size_bytes=size_bytes)


def _make_room(size_bytes: int) -> None:
    """Drop what was used least recently until so much fits within the limit.

    Raises:
        disk.NoRoom: what is in use leaves too little.
    """
    limit = settings.get().model_cache_bytes
    kept = [(sha256, folder, _size(folder)) for sha256, folder in _kept()]
    total = sum(size for _, _, size in kept)
    for sha256, folder, size in kept:
        if total + size_bytes <= limit:
            break
        if _drop(sha256, folder):
            total -= size
    if total + size_bytes > limit:
        raise disk.NoRoom(size_bytes, max(0, limit - total))


def _kept() -> list[tuple[str, Path]]:
    """Return what was fetched, the least recently used first; half of one that nobody fetches goes.

    A file of locks stays, at some bytes a model: whoever removed it would part those who wait for
    it from those who come.
    """
    found = []
    for path in _root().glob("*"):
        sha256, is_partial = path.name.partition(".")[0], path.suffix == ".partial"
        if not path.is_dir():
            continue
        if is_partial:
            _drop(sha256, path)
        else:
            with suppress(OSError):
                found.append((_lock_file(sha256).stat().st_mtime, sha256, path))
    return [(sha256, path) for _, sha256, path in sorted(found)]


def _drop(sha256: str, folder: Path) -> bool:
    """Remove a folder unless somebody uses or fetches that model; says whether it is gone."""
    with _lock(sha256) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        # Under another name first: half of a model must not be taken for it.
        going = folder.with_name(f"{sha256}.going.partial")
        shutil.rmtree(going, ignore_errors=True)
        with suppress(FileNotFoundError):
            folder.rename(going)
        shutil.rmtree(going, ignore_errors=True)
    _log.info("model.dropped", sha256=sha256)
    return True


@contextmanager
def _lock(sha256: str) -> Iterator[IO[str]]:
    file = _lock_file(sha256)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as lock:
        yield lock


def _lock_file(sha256: str) -> Path:
    return _root() / f"{sha256}.lock"


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _root() -> Path:
    # Where what reads models may look.
    return settings.get().models_dir / "fetched"
