"""Files by key: put, open, delete. Keys are ours; a sender's file name never becomes a path."""

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from app.core import settings


class Stored(NamedTuple):
    key: str
    size_bytes: int
    sha256: str


def path(key: str) -> Path:
    """Return where a key's bytes lie.

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
    return Stored(key, size, digest.hexdigest())


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
    return Stored(key, size, sha256)


def delete(key: str) -> None:
    """Remove a file or a folder; one already gone is fine."""
    target = path(key)
    if target.is_dir():
        shutil.rmtree(target, ignore_errors=True)
    else:
        target.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
