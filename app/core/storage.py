"""Files by key: put, open, delete. Keys are ours; a sender's file name never becomes a path.

Where machines share a storage (app/core/shared_storage.py), what is put here goes there as well
before anybody hears of its key, and what is opened here is fetched from there first. What lies here
is then a copy; app/core/local_copies.py keeps all of them within a limit.
"""

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from app.core import settings, shared_storage
from app.core.shared_storage import StorageAway
from app.training import manifests


class Stored(NamedTuple):
    key: str
    size_bytes: int
    sha256: str


def path(key: str) -> Path:
    """Return where a key's bytes lie on this machine; `file` and `folder` see that they do.

    Raises:
        ValueError: the key would leave the storage folder; our own slip, never a user's.
    """
    root = settings.get().storage_dir
    resolved = (root / key).resolve()
    if not resolved.is_relative_to(root.resolve()):
        raise ValueError(f"storage key {key!r} leaves the storage folder")
    return resolved


def new_key(kind: str) -> str:
    """Make an unused key, e.g. `uploads/3f…`."""
    return f"{kind}/{secrets.token_hex(16)}"


def put(kind: str, chunks: Iterable[bytes]) -> Stored:
    """Write bytes under a new key; whole and on disk when this returns, or not there at all."""
    key = new_key(kind)
    target = path(key)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    digest = hashlib.sha256()
    try:
        with partial.open("wb") as file:
            for chunk in chunks:
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        partial.rename(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)
    return _shared(Stored(key, size, digest.hexdigest()))


def adopt(kind: str, file: Path, sha256: str) -> Stored:
    """Move a finished file of the same disk under a new key."""
    key = new_key(kind)
    target = path(key)
    target.parent.mkdir(parents=True, exist_ok=True)
    with file.open("rb") as handle:
        os.fsync(handle.fileno())
    size = file.stat().st_size
    file.rename(target)
    sync_folder(target.parent)
    return _shared(Stored(key, size, sha256))


def file(key: str, sha256: str) -> Path:
    """Return a file's place on this machine, fetched from the shared storage if it is not here.

    It may be missing all the same, where the storage does not have it either.

    Raises:
        shared_storage.StorageAway: the shared storage cannot be read.
        shared_storage.Damaged: what lies there has another hash.
    """
    here, shared = path(key), shared_storage.get()
    if shared is not None:
        _mark(key)
        if not here.exists():
            with suppress(FileNotFoundError):
                shared_storage.fetch(shared, key, here, sha256)
    return here


def folder(key: str, manifest_sha256: str | None) -> Path:
    """Return the place of a folder with a manifest, as `file` does that of a file."""
    here = path(key)
    if shared_storage.get() is not None and manifest_sha256:
        _mark(key)
        if not here.exists():
            with suppress(FileNotFoundError):
                fetch_folder(key, manifest_sha256, here)
    return here


def fetch_folder(key: str, manifest_sha256: str, target: Path) -> None:
    """Bring a folder here whose manifest has this hash; each file is compared as it comes.

    Raises:
        FileNotFoundError: the shared storage does not have all of it, or there is none.
        shared_storage.Damaged: a file is not the one that the manifest names.
        shared_storage.StorageAway: the shared storage cannot be read.
    """
    shared = shared_storage.get()
    if shared is None:
        raise FileNotFoundError(f"no machine shares {key}")
    target.parent.mkdir(parents=True, exist_ok=True)
    # Of this process: two that want the same do not write into one.
    partial = target.with_name(f"{target.name}.{secrets.token_hex(4)}.partial")
    try:
        partial.mkdir()
        manifest = partial / manifests.NAME
        shared_storage.fetch(shared, f"{key}/{manifests.NAME}", manifest, manifest_sha256)
        for name, about in manifests.read_manifest(partial)[0].items():
            shared_storage.fetch(shared, f"{key}/{name}", partial / name, about["sha256"])
        sync_folder(partial)
        # The other was first: what it fetched is the same.
        with suppress(OSError):
            partial.rename(target)
        if not target.is_dir():
            raise FileNotFoundError(target)
        sync_folder(target.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def share_folder(key: str, source: Path | None = None) -> None:
    """Put a folder with a manifest into the shared storage, the manifest last; if there is one.

    Args:
        source: Where it lies; by default at its key's place.

    Raises:
        shared_storage.StorageAway: it cannot be written, or did not arrive as it was.
        OSError, ValueError: it cannot be read here.
    """
    shared = shared_storage.get()
    if shared is None:
        return
    source = source or path(key)
    files, digest = manifests.read_manifest(source)
    for name, about in files.items():
        shared_storage.send(shared, f"{key}/{name}", source / name, about["sha256"])
    shared_storage.send(shared, f"{key}/{manifests.NAME}", source / manifests.NAME, digest)


def delete(key: str) -> None:
    """Remove a file or a folder, here and where machines share it; one already gone is fine.

    A shared storage that does not answer keeps it until `left_over` finds it.
    """
    shared = shared_storage.get()
    if shared is not None:
        with suppress(StorageAway):
            shared.delete(key)
    forget(key)


def forget(key: str) -> None:
    """Remove what lies of a key on this machine."""
    target = path(key)
    if target.is_dir():
        shutil.rmtree(target, ignore_errors=True)
    else:
        target.unlink(missing_ok=True)
    _used(key).unlink(missing_ok=True)


def left_over(kind: str, seconds: float) -> set[str]:
    """Return the keys of a kind that were last written so long ago, here or in what is shared.

    Whether a row points to them is for the caller to say.
    """
    keys = old_here(kind, seconds)
    shared = shared_storage.get()
    if shared is not None:
        with suppress(StorageAway):
            keys |= shared.old(kind, time.time() - seconds)
    return keys


def old_here(kind: str, seconds: float) -> set[str]:
    """Return the keys of a kind that were last written here so long ago."""
    before = time.time() - seconds
    root, keys = settings.get().storage_dir / kind, set()
    if root.is_dir():
        for place in root.iterdir():
            with suppress(FileNotFoundError):  # somebody else removes it just now
                if place.stat().st_mtime < before:
                    keys.add(f"{kind}/{place.name}")
    return keys


def used_at(key: str) -> float:
    """Return when a copy that is here was last asked for, or made.

    Raises:
        FileNotFoundError: it is not here.
    """
    made_at = path(key).stat().st_mtime
    with suppress(FileNotFoundError):
        return max(made_at, _used(key).stat().st_mtime)
    return made_at


def _mark(key: str) -> None:
    """Keep the moment: what is about to be read must not be dropped."""
    place = _used(key)
    # A full disk keeps nobody from reading.
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()


def _used(key: str) -> Path:
    # Not the file's own times: a backup reads all of them each night, and browsers know a file
    # by its last change.
    return settings.get().cache_dir / "used" / key


def _shared(stored: Stored) -> Stored:
    """Put a new file into the shared storage; where that fails it is nowhere."""
    shared = shared_storage.get()
    if shared is not None:
        try:
            shared_storage.send(shared, stored.key, path(stored.key), stored.sha256)
        except BaseException:
            forget(stored.key)
            raise
    return stored


def sync_folder(folder: Path) -> None:
    """Make renames in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
