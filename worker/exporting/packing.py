"""A proved export with its card, as one zip that was read again before anybody gets it."""

import hashlib
import os
import shutil
import zipfile
from collections.abc import Callable
from typing import Any

from app.training import manifests
from worker.exporting.requests import EXPORT, Pack

ARCHIVE = "export.zip"
_CARD = "README.md"
_BLOCK_BYTES = 1024 * 1024
# Weights are noise: packing them costs minutes and saves nothing.
_STORED = (".safetensors", ".gguf")


def pack(request: Pack, tell: Callable[[str, float], object]) -> dict[str, Any]:
    """Write the card and a manifest into the export, and the whole into one zip.

    Returns:
        {"size_bytes", "sha256"} of the zip.

    Raises:
        OSError: it could not be written, or reads otherwise than it was written.
    """
    folder, target = request.out / EXPORT, request.out / ARCHIVE
    (folder / _CARD).write_text(request.card, encoding="utf-8")
    tell("hashing the files", 0)
    manifests.write_manifest(folder, **request.about)
    files, _ = manifests.read_manifest(folder)
    names = sorted([*files, manifests.NAME])
    partial = target.with_name(target.name + ".tmp")
    with zipfile.ZipFile(partial, "w") as archive:
        for number, name in enumerate(names):
            tell("packing", 0.2 + 0.5 * number / len(names))
            path = folder / name
            # The same files give the same bytes.
            entry = zipfile.ZipInfo(f"{request.folder_name}/{name}", (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            entry.file_size = path.stat().st_size  # beyond 2 GB the entry needs to know
            is_stored = path.suffix in _STORED
            entry.compress_type = zipfile.ZIP_STORED if is_stored else zipfile.ZIP_DEFLATED
            with path.open("rb") as file, archive.open(entry, "w") as packed:
                shutil.copyfileobj(file, packed, _BLOCK_BYTES)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    tell("reading the zip again", 0.8)
    with zipfile.ZipFile(partial) as archive:
        for name, written in files.items():
            if _sha256(archive, f"{request.folder_name}/{name}") != written["sha256"]:
                raise OSError(f"{name} reads otherwise than it was written")
    partial.rename(target)
    return {"size_bytes": target.stat().st_size, "sha256": manifests.file_sha256(target)}


def _sha256(archive: zipfile.ZipFile, name: str) -> str:
    digest = hashlib.sha256()
    with archive.open(name) as packed:
        while block := packed.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
