"""Deleting datasets and files: what people wrote goes, what adapters came from stays known."""

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import delete as delete_rows
from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from app import notices
from app.core import audit, storage
from app.core.errors import Conflict
from app.core.models import (
    Adapter,
    AdapterKind,
    Asking,
    Dataset,
    DatasetCheck,
    DatasetVersion,
    Evaluation,
    Example,
    Finding,
    FixRun,
    Job,
    JobStatus,
    SearchBits,
    StoredFile,
    User,
    VersionStatus,
)
from app.datasets import stored_files, versions
from app.datasets.privacy import reviews


def delete_dataset(db: Session, user: User, dataset: Dataset) -> None:
    """Delete a dataset's files and examples; counts and hashes stay for the adapters' lineage.

    A worker that reads the file is fenced off; `purge` then removes the bytes.

    Raises:
        Conflict: a job that is not over needs it.
    """
    versions.require_editor(user)
    db.refresh(dataset, with_for_update={"key_share": True, "of": Dataset})
    # A job being made at this moment waits for this lock, or is seen below.
    rows = db.scalars(
        select(DatasetVersion)
        .where(DatasetVersion.dataset_id == dataset.id)
        .with_for_update(of=DatasetVersion)
        .execution_options(populate_existing=True)
    ).all()
    ids = [version.id for version in rows]
    job = db.scalars(
        select(Job)
        .where(
            or_(Job.version_id.in_(ids), Job.validation_version_id.in_(ids)),
            Job.status.in_((JobStatus.QUEUED, JobStatus.RUNNING)),
        )
        .limit(1)
    ).first()
    if job is not None:
        raise Conflict(
            f"The job “{job.name}” still needs this dataset; wait for it or cancel it, then delete."
        )
    now = datetime.now(UTC)
    for version in rows:
        if version.status is not VersionStatus.READY:
            version.status = VersionStatus.FAILED
            version.reason = "The dataset was deleted."
            version.worker_id = version.lease_until = version.progress = None
        # The preview holds rows of the file.
        version.inspection = None
        version.file.deleted_at = now
    dataset.deleted_at = now
    db.flush()
    reviews.forget(db, ids)
    of_these = or_(Evaluation.version_id.in_(ids), Evaluation.practice_version_id.in_(ids))
    notices.evaluations_go(db, of_these)
    db.execute(delete_rows(Evaluation).where(of_these))
    _forget_lookups(db, ids)
    for table in (Example, DatasetCheck, Finding, FixRun, SearchBits, Asking):
        db.execute(delete_rows(table).where(table.version_id.in_(ids)))
    audit.record(db, user, "dataset.delete", f"dataset {dataset.id}")


def _forget_lookups(db: Session, ids: Sequence[int]) -> None:
    """Delete what was made of these versions without training; tuned adapters go on without."""
    looks_here = Adapter.lookup_version_id.in_(ids)
    db.execute(delete_rows(Adapter).where(looks_here, Adapter.kind != AdapterKind.TUNED))
    db.execute(
        update(Adapter)
        .where(looks_here)
        .values(lookup_version_id=None)
        .execution_options(synchronize_session=False)
    )


def delete_file(db: Session, user: User, file: StoredFile) -> None:
    """Delete a file, with the dataset that was read from it."""
    version = stored_files.version_of(db, file)
    if version is not None:
        delete_dataset(db, user, version.dataset)
        return
    file.deleted_at = func.now()
    db.flush()
    audit.record(db, user, "file.delete", f"file {file.id}")


def purge(db: Session) -> int:
    """Remove the bytes of deleted files; the cpu worker does so whenever it looks for work."""
    files = db.scalars(
        select(StoredFile)
        .where(StoredFile.deleted_at.is_not(None), StoredFile.storage_key != "")
        .with_for_update(skip_locked=True)
    ).all()
    for file in files:
        storage.delete(file.storage_key)
        file.storage_key = ""
    db.flush()
    return len(files)
