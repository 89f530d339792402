"""Folders that are whole or not there: hash manifests, fsync, rename. Standard library only.

`MANIFEST.json` = {"files": {name: {"size_bytes", "sha256"}}, …extra}; written last, so a folder
that has one is whole, and one whose hashes agree is the one that was written.
"""

import ctypes
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from app.training import isolation

NAME = "MANIFEST.json"
_HEX_SHA256 = re.compile(r"[0-9a-f]{64}")
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # renameat2(2)


def write_manifest(
    folder: Path, told: Callable[[int], object] = lambda _: None, /, **extra: Any
) -> str:
    """Name every file of a folder with its size and hash; everything is on disk afterwards.

    Args:
        told: Called with the bytes of each file, once it is hashed.

    Returns:
        The SHA-256 of the manifest itself, which pins the whole folder.
    """
    files: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise ValueError(f"{path} is a link; a manifest names only real files.")
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != NAME:
            isolation.let_in(path)  # safetensors keeps what it writes to its owner alone
            _sync(path)
            files[name] = {"size_bytes": path.stat().st_size, "sha256": file_sha256(path)}
            told(files[name]["size_bytes"])
    body = json.dumps({"files": files, **extra}, indent=2, sort_keys=True) + "\n"
    manifest = folder / NAME
    manifest.write_text(body, encoding="utf-8")
    _sync(manifest)
    isolation.let_in(folder)
    _sync(folder)
    return hashlib.sha256(body.encode()).hexdigest()


def verify_manifest(folder: Path) -> str:
    """Check that a folder holds exactly what its manifest names.

    Returns:
        The SHA-256 of the manifest itself.

    Raises:
        ValueError: the manifest is missing or unreadable, or a file is missing, added or changed.
    """
    files, digest = read_manifest(folder)
    present = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    } - {NAME}
    if present != files.keys():
        odd = sorted(present ^ files.keys())
        raise ValueError(f"{folder} does not hold the files its manifest names: {', '.join(odd)}")
    for name, entry in files.items():
        path = folder / name
        if path.is_symlink() or path.stat().st_size != entry["size_bytes"]:
            raise ValueError(f"{path} does not have the size in its manifest.")
        if file_sha256(path) != entry["sha256"]:
            raise ValueError(f"{path} does not have the content in its manifest.")
    return digest


def verify_once(folder: Path, cache: Path | None) -> str:
    """Check a folder as `verify_manifest` does, unless these very files were checked before.

    Args:
        cache: Where a note says which files were; None checks always.

    Returns:
        The SHA-256 of the manifest itself.

    Raises:
        ValueError, OSError: the files are not what their manifest says.
    """
    files, digest = read_manifest(folder)
    if cache is None:
        return verify_manifest(folder)
    seen = cache / f"verified-{digest[:32]}.json"
    marks = {name: _mark(folder / name) for name in files}
    with suppress(OSError, ValueError):
        if json.loads(seen.read_text()) == marks:
            return digest
    verify_manifest(folder)
    with suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        partial = seen.with_name(f"{seen.name}.{os.getpid()}")
        partial.write_text(json.dumps(marks))
        partial.rename(seen)
    return digest


def _mark(path: Path) -> list[int]:
    """Return what changes whenever a file is written or replaced."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def read_manifest(folder: Path) -> tuple[dict[str, dict[str, Any]], str]:
    """Return the files that a manifest names and the manifest's own SHA-256.

    Raises:
        ValueError: the manifest is missing, unreadable, or names files outside the folder.
    """
    path = folder / NAME
    try:
        body = path.read_bytes()
        files = json.loads(body)["files"]
        shapely = all(
            not (Path(name).is_absolute() or ".." in Path(name).parts)
            and isinstance(entry["size_bytes"], int)
            and _HEX_SHA256.fullmatch(entry["sha256"])
            for name, entry in files.items()
        )
    except FileNotFoundError:
        raise ValueError(f"{folder} has no {NAME}; it was never finished.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read.") from error
    if not shapely:
        raise ValueError(f"{path} names files that cannot be right.")
    return files, hashlib.sha256(body).hexdigest()


def read_extra(folder: Path) -> dict[str, Any]:
    """Return what a manifest says beside its files.

    Raises:
        ValueError: the manifest is missing or unreadable.
    """
    read_manifest(folder)
    said: dict[str, Any] = json.loads((folder / NAME).read_bytes())
    return {name: value for name, value in said.items() if name != "files"}


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Give `<name>.tmp` to fill; renamed to `target` at the end, removed after an error.

    The caller writes the manifest last. A target of the same name is replaced, in one step where
    the file system can, so that a kill at any moment leaves one of the two.
    """
    partial = target.with_name(target.name + ".tmp")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        _sync(partial)
        if not target.exists():
            partial.rename(target)
        elif not _exchange(partial, target):
            old = target.with_name(target.name + ".old")
            shutil.rmtree(old, ignore_errors=True)
            target.rename(old)
            partial.rename(target)
            shutil.rmtree(old)
        _sync(target.parent)
        shutil.rmtree(partial, ignore_errors=True)  # what it was exchanged for
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def file_sha256(path: Path) -> str:
    """Hash a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; False where the C library or the file system cannot."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    names = os.fsencode(one.absolute()), os.fsencode(other.absolute())
    return rename is not None and not rename(
        _AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE
    )


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
