"""Storage that several machines share: a folder that all of them mount, or a bucket (S3).

What lies below data_dir/storage is then this machine's copy (app/core/storage.py). Bytes are
compared by SHA-256 at both ends: after they were put, by reading them back, and before they are
used, as they come.
"""

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import structlog

from app.core import plain_errors, settings
from app.core.errors import AppError, Unavailable

_log = structlog.get_logger()

_CHUNK_BYTES = 4 * 1024**2
_PIECE_BYTES = 32 * 1024**2  # that one request to a bucket asks for
_CONNECT_SECONDS, _READ_SECONDS, _TRIES = 5, 60, 3


class StorageAway(Unavailable, OSError):
    """The storage cannot be reached or takes nothing: the same may succeed a little later."""


class Damaged(AppError, ValueError):
    """What lies in the storage is not what was put there."""

    status = 500
    code = "storage_damaged"


class SharedStorage(Protocol):
    """Where bytes lie by key, e.g. `adapters/3f…/MANIFEST.json`."""

    def put(self, key: str, file: Path) -> None:
        """Write a file's bytes under a key: all of them, or none; what was there is replaced.

        Raises:
            StorageAway: it cannot be written.
        """

    def read(self, key: str) -> Iterator[bytes]:
        """Yield a key's bytes, a piece at a time.

        Raises:
            FileNotFoundError: there are none.
            StorageAway: they cannot be read.
        """

    def delete(self, key: str) -> None:
        """Remove a key, and all that lies below it; one already gone is fine.

        Raises:
            StorageAway: it cannot be removed.
        """

    def old(self, kind: str, before: float) -> set[str]:
        """Return the keys of a kind, e.g. `adapters/3f…`, of which nothing is younger.

        Args:
            before: A moment of the clock that the storage keeps.

        Raises:
            StorageAway: they cannot be listed.
        """


def get() -> SharedStorage | None:
    """Return what ETUDE_STORAGE names; None: all files stay on this machine."""
    return of(settings.get())


def of(chosen: settings.Settings) -> SharedStorage | None:
    """Return what some settings name."""
    if not chosen.storage:
        return None
    if chosen.storage.startswith("s3://"):
        return _bucket(
            chosen.storage,
            chosen.s3_endpoint,
            chosen.s3_region,
            chosen.s3_key,
            chosen.s3_secret,
        )
    return _Folder(Path(chosen.storage))


def has(shared: SharedStorage, key: str) -> bool:
    """Say whether there are bytes under a key.

    Raises:
        StorageAway: nobody can say.
    """
    with suppress(FileNotFoundError):
        for _ in shared.read(key):
            break
        return True
    return False


def send(shared: SharedStorage, key: str, file: Path, sha256: str) -> None:
    """Put a file, and compare what then lies there.

    Raises:
        StorageAway: it cannot be written, or it did not arrive as it was.
    """
    shared.put(key, file)
    digest = hashlib.sha256()
    for chunk in shared.read(key):
        digest.update(chunk)
    if digest.hexdigest() != sha256:
        shared.delete(key)
        raise StorageAway(
            "The shared storage did not keep a file as it was sent; nothing was lost. Please tell "
            "your administrator."
        )


def fetch(shared: SharedStorage, key: str, target: Path, sha256: str) -> None:
    """Bring a file here; it has its name only once it was compared.

    Raises:
        FileNotFoundError: the storage does not have it.
        Damaged: its bytes are others.
        StorageAway: it cannot be read.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # Several processes may want the same at once; whoever is last replaces like with like.
    partial = target.with_name(f"{target.name}.{secrets.token_hex(4)}.partial")
    digest = hashlib.sha256()
    try:
        with partial.open("wb") as file:
            for chunk in shared.read(key):
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != sha256:
            raise Damaged(
                "A file in the shared storage is not what was put there, so it is not used. "
                "Please tell your administrator: “etude doctor --deep” names what is damaged."
            )
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)


class _Folder:
    """A folder that every machine mounts, e.g. by NFS."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, key: str, file: Path) -> None:
        target = self._place(key)
        partial = target.with_name(f"{target.name}.{secrets.token_hex(4)}.partial")
        with self._explained():
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with file.open("rb") as source, partial.open("wb") as written:
                    shutil.copyfileobj(source, written, _CHUNK_BYTES)
                    written.flush()
                    os.fsync(written.fileno())
                partial.rename(target)
            finally:
                partial.unlink(missing_ok=True)

    def read(self, key: str) -> Iterator[bytes]:
        with self._explained(), self._place(key).open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk

    def delete(self, key: str) -> None:
        target = self._place(key)
        with self._explained():
            if target.is_dir():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)

    def old(self, kind: str, before: float) -> set[str]:
        with self._explained():
            root = self._place(kind)
            if not root.is_dir():
                return set()
            found = {}
            for path in root.iterdir():
                with suppress(FileNotFoundError):  # somebody else removes it just now
                    found[f"{kind}/{path.name}"] = path.stat().st_mtime
        return {key for key, changed_at in found.items() if changed_at < before}

    def _place(self, key: str) -> Path:
        # Not made by us: where it is not mounted, files would go to a disk that nobody shares.
        if not self._root.is_dir():
            raise StorageAway(
                f"The shared storage {self._root} is not there; is it mounted? What was saved is "
                "safe."
            )
        return _below(self._root, key)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, StorageAway):
            raise
        except OSError as error:
            raise StorageAway(
                f"The shared storage {self._root} cannot be used: {plain_errors.words(error)}."
            ) from error


def _why(error: Exception) -> str:
    """Say what a bucket's library met; its own words name classes and calls."""
    answer: dict[str, Any] = getattr(error, "response", {})
    if status := answer.get("ResponseMetadata", {}).get("HTTPStatusCode"):
        return f"it answered {status}{_ANSWERS.get(status, '')}"
    return plain_errors.words(error) if isinstance(error, OSError) else "it does not answer"


_ANSWERS = {
    401: " (the key is wrong)",
    403: " (this key may not do this)",
    404: " (there is no such bucket)",
}


class _Bucket:
    """A bucket of any server that speaks S3, below a prefix."""

    def __init__(self, place: str, endpoint: str, region: str, key: str, secret: str) -> None:
        parts = urlsplit(place)
        self._root = f"{parts.netloc}{parts.path}".rstrip("/")
        self._endpoint = endpoint
        self._options: dict[str, Any] = {
            "key": key,
            "secret": secret,
            "endpoint_url": endpoint,
            "client_kwargs": {"region_name": region},
            "config_kwargs": {
                "connect_timeout": _CONNECT_SECONDS,
                "read_timeout": _READ_SECONDS,
                "retries": {"max_attempts": 1},  # s3fs tries again itself
                # The name of a bucket before that of the server needs names that few sites have.
                "s3": {"addressing_style": "path"},
                # Not every server knows the newer sums; ours are compared in any case.
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
            },
            "use_listings_cache": False,
            "skip_instance_cache": True,
        }
        self._of_process = 0
        self._made: Any = None

    @property
    def _files(self) -> Any:
        # Its connections and its thread are not for whom we fork.
        if self._of_process != os.getpid():
            from s3fs import S3FileSystem

            self._made, self._of_process = S3FileSystem(**self._options), os.getpid()
            self._made.retries = _TRIES
        return self._made

    def put(self, key: str, file: Path) -> None:
        with self._explained():
            self._files.put_file(str(file), self._place(key))

    def read(self, key: str) -> Iterator[bytes]:
        with (
            self._explained(),
            self._files.open(
                self._place(key), "rb", block_size=_PIECE_BYTES, cache_type="readahead"
            ) as file,
        ):
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk

    def delete(self, key: str) -> None:
        with self._explained(), suppress(FileNotFoundError):
            self._files.rm(self._place(key), recursive=True)

    def old(self, kind: str, before: float) -> set[str]:
        newest: dict[str, float] = {}
        place = self._place(kind)
        with self._explained(), suppress(FileNotFoundError):
            for name, about in self._files.find(place, detail=True).items():
                key = f"{kind}/{name[len(place) + 1 :].partition('/')[0]}"
                newest[key] = max(newest.get(key, 0), about["LastModified"].timestamp())
        return {key for key, changed_at in newest.items() if changed_at < before}

    def _place(self, key: str) -> str:
        return f"{self._root}/{key}"

    @contextmanager
    def _explained(self) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

        try:
            yield
        except (FileNotFoundError, AppError):
            raise
        except (OSError, BotoCoreError, ClientError, HTTPClientError, TimeoutError) as error:
            _log.info("storage.refused", endpoint=self._endpoint, error=str(error))
            raise StorageAway(
                f"The shared storage at {self._endpoint} cannot be used: {_why(error)}. What was "
                "saved is safe."
            ) from error


@lru_cache
def _bucket(place: str, endpoint: str, region: str, key: str, secret: str) -> _Bucket:
    return _Bucket(place, endpoint, region, key, secret)


def _below(root: Path, key: str) -> Path:
    place = (root / key).resolve()
    if not place.is_relative_to(root.resolve()):
        raise ValueError(f"storage key {key!r} leaves the storage folder")
    return place
