"""Stored files as programs see them: who may have one, and which version reads it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from app.core.errors import NotFound
from app.core.models import DatasetVersion, StoredFile, User


def visible(user: User) -> Select[StoredFile]:
    """Select the files that a person may have: their department's, as long as they exist."""
    return select(StoredFile).where(
        StoredFile.department_id == user.department_id, StoredFile.deleted_at.is_(None)
    )


def get(db: Session, user: User, public_id: str) -> StoredFile:
    """Return one file by the id that programs know.

    Raises:
        NotFound: there is none, it was deleted, or it belongs to another department.
    """
    file = db.scalars(visible(user).where(StoredFile.public_id == public_id)).one_or_none()
    if file is None:
        raise NotFound(f"No such file: {public_id!r}. It may have been deleted.", field="file_id")
    return file


def version_of(db: Session, file: StoredFile) -> DatasetVersion | None:
    """Return the newest dataset version that was made from a file."""
    return db.scalars(
        select(DatasetVersion)
        .where(DatasetVersion.file_id == file.id)
        .order_by(DatasetVersion.id.desc())
        .limit(1)
    ).one_or_none()


def versions_of(db: Session, files: Sequence[StoredFile]) -> dict[int, DatasetVersion]:
    """Return the newest version of each file, by file id; files that are no data have none."""
    rows = db.scalars(
        select(DatasetVersion)
        .where(DatasetVersion.file_id.in_([file.id for file in files]))
        .order_by(DatasetVersion.id)
    )
    return {version.file_id: version for version in rows}


def just_sent(
    db: Session, user: User, filename: str, sha256: str, within: timedelta
) -> StoredFile | None:
    """Find the same file from the same sender, as a repeated request would send it again."""
    return db.scalars(
        visible(user)
        .where(
            StoredFile.owner_id == user.id,
            StoredFile.filename == filename,
            StoredFile.sha256 == sha256,
            StoredFile.created_at > datetime.now(UTC) - within,
        )
        .order_by(StoredFile.id.desc())
        .limit(1)
    ).one_or_none()
