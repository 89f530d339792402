"""Which files a snapshot's rows point to, and a hold on them until they are copied.

Files of Etude never change under their name, but they are deleted: checkpoints by the trainer, data
by people. A hard link keeps the bytes at no cost; only between the snapshot and the link can one
vanish, and then the snapshot is taken anew.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, select

from app.core import settings, shared_storage, storage
from app.core.models import (
    Adapter,
    BaseModel,
    Checkpoint,
    Job,
    JobStatus,
    ModelStatus,
    StoredFile,
)
from app.training import manifests
from worker.gpu import checkpoint_copies

# Sources from which a worker can fetch a model again.
FETCHABLE = ("starter", "hub")
_HOLD = "backup-held"
_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)


@dataclass(frozen=True)
class Wanted:
    """One file or folder below the data directory that a row points to."""

    name: str  # e.g. "storage/uploads/3f…"
    sha256: str | None = None  # of a file, where the row says so
    # Of a folder that machines share: its key, and the hash of its manifest.
    shared_as: tuple[str, str] | None = None


@dataclass(frozen=True)
class Held:
    """One file as it will stand in the backup."""

    name: str
    path: Path
    sha256: str | None  # what it should be


def wanted(connection: Connection, *, with_models: bool) -> tuple[list[Wanted], list[str]]:
    """List what the snapshot's rows point to, and the models that are left out."""
    items = [
        Wanted(f"storage/{key}", sha256)
        for key, sha256 in connection.execute(
            select(StoredFile.storage_key, StoredFile.sha256)
            .where(StoredFile.deleted_at.is_(None))
            .order_by(StoredFile.id)
        )
    ]
    has_files = Adapter.storage_key.is_not(None)
    adapters = select(Adapter.storage_key, Adapter.manifest_sha256).where(has_files)
    items += [
        Wanted(f"storage/{key}", shared_as=(key, sha256) if key and sha256 else None)
        for key, sha256 in connection.execute(adapters.order_by(Adapter.id))
        if key is not None and sha256 is not None
    ]
    left_out = []
    for name, folder, source in connection.execute(
        select(BaseModel.name, BaseModel.folder, BaseModel.source)
        .where(BaseModel.status == ModelStatus.READY)
        .order_by(BaseModel.id)
    ):
        if not with_models and source.get("kind") in FETCHABLE:
            left_out.append(name)
        else:
            items.append(Wanted(f"models/{folder}"))
    # Of jobs that are over, the adapter is what remains; the others go on from a checkpoint.
    checkpoints = connection.execute(
        select(Checkpoint.job_id, Checkpoint.path, Checkpoint.manifest_sha256)
        .join(Job, Job.id == Checkpoint.job_id)
        .where(Job.status.in_((JobStatus.QUEUED, JobStatus.RUNNING)))
        .where(Checkpoint.step <= Job.durable_step)
        .order_by(Checkpoint.job_id, Checkpoint.step.desc())
    ).all()
    newest: set[int] = set()
    for job_id, path, sha256 in checkpoints:
        # Older ones are there or not, as the trainer cleared up; the newest must be.
        name = f"jobs/{job_id}/{path}"
        if job_id not in newest or (settings.get().data_dir / name).is_dir():
            items.append(Wanted(name, shared_as=(checkpoint_copies.key(job_id, sha256), sha256)))
        newest.add(job_id)
    return items, left_out


@contextmanager
def hold(chosen: settings.Settings) -> Iterator["Hold"]:
    """Lend a place for links; what an earlier backup left when it was killed goes first.

    Raises:
        SystemExit: another backup is being taken.
    """
    with (chosen.run_dir / "backup.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit("Another backup is being taken; wait until it is done.") from None
        folder = chosen.run_dir / _HOLD
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        try:
            yield Hold(chosen.data_dir, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


class Hold:
    def __init__(self, data_dir: Path, folder: Path) -> None:
        self._data_dir = data_dir
        self._folder = folder

    def take(self, items: list[Wanted]) -> tuple[list[Held], list[str]]:
        """Keep what is wanted; returns the files, and the names of what is not there."""
        held: list[Held] = []
        missing: list[str] = []
        for item in items:
            try:
                held += self._take(item)
            except (FileNotFoundError, NotADirectoryError):
                missing.append(item.name)
        return held, missing

    def clear(self) -> None:
        """Let go of everything."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(mode=0o700)

    def _take(self, item: Wanted) -> list[Held]:
        source, target = self._data_dir / item.name, self._folder / item.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not source.exists():
            _fetch(item, target)  # what another machine made
        elif not source.is_dir():
            _link(source, target)
        if target.is_file():
            return [Held(item.name, target, item.sha256)]
        for path in sorted(source.rglob("*")):
            if path.is_file() and not path.is_symlink():
                inside = target / path.relative_to(source)
                inside.parent.mkdir(parents=True, exist_ok=True)
                _link(path, inside)
        return [
            Held(f"{item.name}/{name}", target / name, digest)
            for name, digest in sorted(_expected(target, item.name).items())
        ]


def _fetch(item: Wanted, target: Path) -> None:
    """Bring what is not on this machine from the storage that machines share, if there is one."""
    shared = shared_storage.get()
    try:
        if item.shared_as is not None:
            storage.fetch_folder(*item.shared_as, target)
        elif shared is not None and item.sha256 is not None:
            shared_storage.fetch(shared, item.name.removeprefix("storage/"), target, item.sha256)
        else:
            raise FileNotFoundError(item.name)
    except shared_storage.Damaged:
        raise FileNotFoundError(item.name) from None


def _expected(folder: Path, name: str) -> dict[str, str | None]:
    """Name a folder's files, each with the hash that its own manifest gives it."""
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    try:
        files, _ = manifests.read_manifest(folder)
    except ValueError:
        raise FileNotFoundError(f"{name} is not whole") from None
    if files.keys() - there:
        raise FileNotFoundError(f"{name} was removed while it was held")
    return {each: files[each]["sha256"] if each in files else None for each in there}


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copyfile(source, target)
