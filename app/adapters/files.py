"""Stored files that programs take or delete: an adapter's own are more than bytes."""

from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.adapters import registry
from app.core import storage
from app.core.errors import Conflict, Forbidden, NotFound
from app.core.models import Adapter, StoredFile, User
from app.datasets import deletion
from app.people.auth import can_edit


def zipped_in(db: Session, file: StoredFile) -> Adapter | None:
    """Return the adapter whose job's zip a file is."""
    return db.scalars(select(Adapter).where(Adapter.archive_file_id == file.id)).one_or_none()


def open_path(db: Session, user: User, file: StoredFile) -> Path:
    """Return where a file's bytes lie; taking an adapter home is written down.

    Raises:
        Conflict: the adapter was withdrawn.
        NotFound: the disk no longer has them.
    """
    if (adapter := zipped_in(db, file)) is not None:
        registry.archive(db, user, adapter)
    path = storage.file(file.storage_key, file.sha256)
    if not path.is_file():
        raise NotFound(
            "This file is no longer on the server's disk; an administrator can restore it from a "
            "backup."
        )
    return path


def delete(db: Session, user: User, file: StoredFile) -> None:
    """Delete a training file, with the dataset that was read from it.

    Raises:
        Forbidden: the person may only look.
        Conflict: an adapter's own file, or a job that is not over needs it.
    """
    if not can_edit(user):
        raise Forbidden("You can view files, but not delete them.")
    adapter = db.scalars(
        select(Adapter).where(
            (Adapter.archive_file_id == file.id) | (Adapter.metrics_file_id == file.id)
        )
    ).first()
    if adapter is not None:
        raise Conflict(
            f"This file belongs to the model {adapter.public_name}; delete that instead."
        )
    deletion.delete_file(db, user, file)
