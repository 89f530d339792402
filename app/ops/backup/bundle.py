"""The backup's file: a tar with MANIFEST.json and that one's SHA-256 as its last two members.

What was cut off has no manifest, and what was damaged does not agree with it. While it is written
it has another name, so no file of the wanted name is ever half a backup.
"""

import hashlib
import io
import json
import os
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO

from app.core import storage
from app.training import manifests

FORMAT = 1
DIGEST = f"{manifests.NAME}.sha256"
_CHUNK_BYTES = 1024 * 1024


class Damaged(Exception):
    """The file is no backup, was never finished, or has changed; the text says which."""


class Writer:
    """Adds files to a backup and remembers their hashes."""

    def __init__(self, out: IO[bytes], beside: Path) -> None:
        self._tar = tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self._beside = beside
        self.files: dict[str, dict[str, Any]] = {}

    def add(self, name: str, source: IO[bytes], size_bytes: int) -> str:
        """Copy a file; returns its SHA-256."""
        digest = _Digest(source)
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = size_bytes, 0o600
        self._tar.addfile(entry, digest)
        self.files[name] = {"size_bytes": size_bytes, "sha256": digest.hexdigest()}
        return digest.hexdigest()

    @contextmanager
    def scratch(self) -> Iterator[BinaryIO]:
        """Lend a nameless file beside the target, for what has no known size yet."""
        with tempfile.TemporaryFile(dir=self._beside) as file:
            yield file

    def finish(self, **extra: Any) -> None:
        """Write the manifest: from now on the backup is whole."""
        body = json.dumps({"format": FORMAT, **extra, "files": self.files}, indent=1) + "\n"
        digest = hashlib.sha256(body.encode()).hexdigest()
        for name, content in ((manifests.NAME, body), (DIGEST, digest + "\n")):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content.encode()), 0o600
            self._tar.addfile(entry, io.BytesIO(content.encode()))
        self._tar.close()


@contextmanager
def writing(target: Path | None) -> Iterator[Writer]:
    """Give a writer; the file appears under its name at the end, or not at all.

    Args:
        target: None writes to standard output, where only a missing manifest tells a torn one.

    Raises:
        FileExistsError: there is a file of that name.
    """
    if target is None:
        yield Writer(sys.stdout.buffer, Path(tempfile.gettempdir()))
        sys.stdout.buffer.flush()
        return
    if target.exists():
        raise FileExistsError(f"{target} exists; a backup never replaces one.")
    partial = target.with_name(target.name + ".partial")
    # Of an earlier one that was killed. It holds the site's data: closed to others from the start.
    partial.unlink(missing_ok=True)
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as out:
            yield Writer(out, target.parent)
            out.flush()
            os.fsync(out.fileno())
        partial.rename(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    storage.sync_folder(target.parent)


class Reader:
    """A backup that is there: its manifest, its files."""

    def __init__(self, path: Path, tar: tarfile.TarFile) -> None:
        self.path = path
        self._tar = tar
        try:
            self._members = {member.name: member for member in tar.getmembers()}
            body = self._bytes(manifests.NAME)
            agrees = self._bytes(DIGEST) == hashlib.sha256(body).hexdigest().encode() + b"\n"
            self.manifest: dict[str, Any] = json.loads(body) if agrees else {}
        except (tarfile.TarError, KeyError, ValueError, EOFError, OSError):
            raise Damaged(
                f"{path} is not a complete backup: it has no manifest. It was cut off, or it "
                "is something else."
            ) from None
        if not agrees:
            raise Damaged(f"{path} is damaged: its manifest has changed since it was written.")

    def verify(self) -> None:
        """Read every byte and compare it with the manifest.

        Raises:
            Damaged: something is missing, added or changed.
        """
        names = {*self.manifest["files"], manifests.NAME, DIGEST}
        if names != self._members.keys():
            odd = ", ".join(sorted(names ^ self._members.keys())[:3])
            raise Damaged(f"{self.path} is damaged: it does not hold what it should ({odd}).")
        for name in self.manifest["files"]:
            with self.open(name) as source:
                for _ in iter(lambda source=source: source.read(_CHUNK_BYTES), b""):  # type: ignore[misc]
                    pass

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Read one file; at the end of the block all of it must have agreed with the manifest.

        Raises:
            Damaged: it does not.
        """
        entry, member = self.manifest["files"][name], self._members[name]
        if not member.isreg() or not _is_inside(name):
            raise Damaged(f"{self.path} is damaged: {name} is no plain file.")
        raw = self._tar.extractfile(member)
        assert raw is not None
        digest = _Digest(raw)
        try:
            yield digest  # type: ignore[misc]
            for _ in iter(lambda: digest.read(_CHUNK_BYTES), b""):
                pass
        except (tarfile.TarError, EOFError):
            raise Damaged(f"{self.path} is damaged: {name} is cut off.") from None
        if digest.hexdigest() != entry["sha256"] or member.size != entry["size_bytes"]:
            raise Damaged(f"{self.path} is damaged: {name} does not have the content it had.")

    def extract(self, name: str, target: Path) -> None:
        """Write one file to disk; nothing of it stays where it turns out to be damaged."""
        target.parent.mkdir(parents=True, exist_ok=True)  # in a folder closed to others
        try:
            with self.open(name) as source, target.open("xb") as out:
                shutil.copyfileobj(source, out, _CHUNK_BYTES)
                out.flush()
                os.fsync(out.fileno())
        except Damaged:
            target.unlink(missing_ok=True)
            raise

    def _bytes(self, name: str) -> bytes:
        file = self._tar.extractfile(self._members[name])
        if file is None:
            raise KeyError(name)
        return file.read()


@contextmanager
def reading(path: Path) -> Iterator[Reader]:
    """Open a backup.

    Raises:
        Damaged: it is none, or was never finished.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        try:
            tar = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115
        except (tarfile.TarError, EOFError):
            raise Damaged(f"{path} is no backup of Etude.") from None
        with tar:
            yield Reader(path, tar)


class _Digest:
    """A file that is hashed as it is read."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        block = self._source.read(size)
        self._hash.update(block)
        return block

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts
