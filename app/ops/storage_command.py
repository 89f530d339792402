"""Put what lies on one machine into the storage that machines share."""

from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.base_models import copies
from app.core import settings, shared_storage, storage
from app.core.models import Adapter, BaseModel, Export, ExportStatus, ModelStatus, StoredFile
from app.core.sentences import counted
from app.training import manifests


def share(db: Session) -> Iterator[str]:
    """Put every file that a row points to, and say how many; those that are there stay.

    Raises:
        SystemExit: no storage is shared.
        StorageAway: it cannot be written.
    """
    shared = shared_storage.get()
    if shared is None:
        raise SystemExit("etude: ETUDE_STORAGE is empty; set it to a folder or a bucket first.")
    num_files = num_folders = 0
    missing: list[str] = []
    for key, sha256 in _files(db):
        here = storage.path(key)
        if here.is_file() and not shared_storage.has(shared, key):
            shared_storage.send(shared, key, here, sha256)
            num_files += 1
        elif not here.is_file() and not shared_storage.has(shared, key):
            missing.append(key)
    for key, place in _folders(db):
        manifest = f"{key}/{manifests.NAME}"  # which is put last
        if place.is_dir() and not shared_storage.has(shared, manifest):
            storage.share_folder(key, place)
            num_folders += 1
        elif not place.is_dir() and not shared_storage.has(shared, manifest):
            missing.append(key)
    yield counted(
        num_files + num_folders,
        "1 file or folder was put into the shared storage.",
        "{n} files and folders were put into the shared storage.",
    )
    if missing:
        yield counted(
            len(missing),
            "1 is neither here nor there: {names}",
            "{n} are neither here nor there: {names}",
            names=", ".join(missing[:5]) + (", …" if len(missing) > 5 else ""),
        )


def _files(db: Session) -> Iterator[tuple[str, str]]:
    kept = select(StoredFile.storage_key, StoredFile.sha256).where(StoredFile.deleted_at.is_(None))
    exported = select(Export.storage_key, Export.sha256).where(
        Export.status == ExportStatus.READY, Export.storage_key.is_not(None)
    )
    for query in (kept, exported):
        for key, sha256 in db.execute(query):
            if key and sha256:
                yield key, sha256


def _folders(db: Session) -> Iterator[tuple[str, Path]]:
    for key in db.scalars(select(Adapter.storage_key).where(Adapter.storage_key.is_not(None))):
        assert key is not None
        yield key, storage.path(key)
    for model in db.scalars(select(BaseModel).where(BaseModel.status == ModelStatus.READY)):
        if model.manifest_sha256 and model.folder:
            yield copies.key(model.manifest_sha256), settings.get().models_dir / model.folder
