"""Copies that a machine keeps of what lies in the shared storage, held within a limit.

What was used least recently goes first. Nothing goes that was used in the last hours, since whoever
was told its place may still read there, and nothing that the shared storage does not have: before
machines shared one, the only copy was here.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import structlog

from app.core import settings, shared_storage, storage
from app.core.shared_storage import SharedStorage, StorageAway
from app.training import manifests

KINDS = ("uploads", "adapters", "results", "exports")
_USED_SECONDS = 6 * 3600

_log = structlog.get_logger()


class _Copy(NamedTuple):
    used_at: float
    key: str
    size_bytes: int


def trim() -> int:
    """Drop copies until all of them fit into ETUDE_COPY_CACHE_BYTES; says how many went."""
    shared = shared_storage.get()
    if shared is None:
        return 0
    copies = sorted(_copies())
    beyond = sum(copy.size_bytes for copy in copies) - settings.get().copy_cache_bytes
    num_dropped = 0
    # A storage that is away keeps everything here until the next time.
    with suppress(StorageAway, FileNotFoundError):
        for copy in copies:
            if beyond <= 0 or not _is_idle(copy.key):
                break
            if _is_shared(shared, copy.key):
                _drop(copy.key)
                beyond -= copy.size_bytes
                num_dropped += 1
    if num_dropped:
        _log.info("copies.dropped", copies=num_dropped)
    return num_dropped


def _copies() -> Iterator[_Copy]:
    root = settings.get().storage_dir
    for kind in KINDS:
        for place in root.glob(f"{kind}/*"):
            # Half of something, or what an export is made in.
            if place.name.startswith(".") or place.suffix:
                continue
            with suppress(FileNotFoundError):  # somebody else removes it just now
                key = f"{kind}/{place.name}"
                yield _Copy(storage.used_at(key), key, _size(place))


def _is_idle(key: str) -> bool:
    with suppress(FileNotFoundError):
        return storage.used_at(key) < time.time() - _USED_SECONDS
    return True


def _is_shared(shared: SharedStorage, key: str) -> bool:
    # Of a folder the manifest is put last.
    is_folder = storage.path(key).is_dir()
    return shared_storage.has(shared, f"{key}/{manifests.NAME}" if is_folder else key)


def _drop(key: str) -> None:
    place = storage.path(key)
    if place.is_dir():
        # Under another name first: half of a folder must not be taken for it.
        going = place.with_name(f"{place.name}.going.partial")
        shutil.rmtree(going, ignore_errors=True)
        place.rename(going)
        shutil.rmtree(going, ignore_errors=True)
    storage.forget(key)


def _size(place: Path) -> int:
    if place.is_dir():
        return sum(path.stat().st_size for path in place.iterdir())
    return place.stat().st_size
