"""Datasets and their versions: add, list, get, confirm, rename; writes the statuses.

The worker moves a version between `uploaded` and `ready` (worker/cpu/reading.py); people do the
rest.
"""

import re
from collections.abc import Sequence

from psycopg.errors import LockNotAvailable
from sqlalchemy import BindParameter, Select, func, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, contains_eager, defer, lazyload

from app.core import audit, storage
from app.core.db import read_once
from app.core.errors import Conflict, Forbidden, Invalid, NotFound
from app.core.models import (
    Dataset,
    DatasetVersion,
    PrivacyReview,
    StoredFile,
    User,
    VersionStatus,
)
from app.datasets.mapping import Mapping
from app.datasets.readers.inspections import Inspection, ReadAs
from app.people.auth import can_edit

MAX_NAME_LENGTH = 120
MAX_FILENAME_LENGTH = 200
MAX_VALIDATION_SHARE = 0.5
# A browser waits so long for a version that a worker makes.
PATIENCE_SECONDS = 5.0
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# Statuses in which no worker and no reader of examples depends on the mapping.
_CHANGEABLE = (VersionStatus.MAPPING, VersionStatus.READY, VersionStatus.FAILED)
# What only a page about one version shows.
_SELDOM = (
    DatasetVersion.inspection,
    DatasetVersion.left_out,
    DatasetVersion.mapping,
    DatasetVersion.model_fits,
    DatasetVersion.read_as,
    DatasetVersion.token_lengths,
)


def add(
    db: Session,
    user: User,
    stored: storage.Stored,
    filename: str,
    name: str = "",
    *,
    auto_confirm: bool = False,
    purpose: str = "fine-tune",
) -> DatasetVersion:
    """Make a dataset of a stored file; its first version waits for the cpu queue to read it.

    Raises:
        Forbidden: viewers look only.
        Invalid: the file is empty; with the field `file`.
    """
    require_editor(user)
    if stored.size_bytes == 0:
        raise Invalid(
            "This file is empty (0 bytes); save it again in the program it comes from, "
            "then choose it here.",
            field="file",
        )
    shown = clean_filename(filename)
    file = StoredFile(
        department_id=user.department_id,
        owner_id=user.id,
        filename=shown,
        purpose=purpose,
        storage_key=stored.key,
        size_bytes=stored.size_bytes,
        sha256=stored.sha256,
    )
    dataset = Dataset(
        department_id=user.department_id,
        owner_id=user.id,
        name=_checked_name(name or shown.rpartition(".")[0] or shown),
    )
    version = DatasetVersion(dataset=dataset, number=1, file=file, auto_confirm=auto_confirm)
    db.add_all([file, dataset, version])
    db.flush()
    audit.record(
        db,
        user,
        "dataset.add",
        f"dataset {dataset.id}",
        file=file.public_id,
        sha256=stored.sha256,
        size_bytes=stored.size_bytes,
    )
    return version


def clean_filename(filename: str) -> str:
    """What is shown of a sender's file name: no folders, no control or direction characters."""
    last = re.split(r"[/\\]", filename)[-1]
    cleaned = _CONTROL.sub("", last).strip()
    return cleaned[-MAX_FILENAME_LENGTH:] if cleaned.strip(".") else "file"


def newest(department_id: int | BindParameter[int]) -> Select[DatasetVersion, PrivacyReview]:
    """Select of each of a department's datasets the newest version, with its review, if any."""
    last = select(func.max(DatasetVersion.number)).where(DatasetVersion.dataset_id == Dataset.id)
    return (
        select(DatasetVersion, PrivacyReview)
        .select_from(DatasetVersion)
        .join(Dataset, DatasetVersion.dataset_id == Dataset.id)
        .outerjoin(PrivacyReview, PrivacyReview.version_id == DatasetVersion.id)
        .where(
            Dataset.department_id == department_id,
            Dataset.deleted_at.is_(None),
            DatasetVersion.number == last.correlate(Dataset).scalar_subquery(),
        )
    )


def list_versions(
    db: Session, user: User, statuses: Sequence[VersionStatus], limit: int | None = None
) -> list[DatasetVersion]:
    """Return the department's versions in one of these statuses, by their datasets, newest first.

    At most `limit` of them, where that is said. What is long and seldom looked at is fetched when
    it is.
    """
    return list(
        db.scalars(
            select(DatasetVersion)
            .join(DatasetVersion.dataset)
            .where(
                Dataset.department_id == user.department_id,
                Dataset.deleted_at.is_(None),
                DatasetVersion.status.in_(statuses),
            )
            .options(
                contains_eager(DatasetVersion.dataset),
                lazyload(DatasetVersion.file),
                *map(defer, _SELDOM),
            )
            .order_by(Dataset.created_at.desc(), Dataset.id.desc(), DatasetVersion.number.desc())
            .limit(limit)
        )
    )


@read_once
def get_dataset(db: Session, user: User, dataset_id: int) -> Dataset:
    """Return one dataset.

    Raises:
        NotFound: there is none, it was deleted, or it belongs to another department.
    """
    dataset = db.scalars(
        select(Dataset).where(
            Dataset.id == dataset_id,
            Dataset.department_id == user.department_id,
            Dataset.deleted_at.is_(None),
        )
    ).one_or_none()
    if dataset is None:
        raise NotFound("This dataset does not exist, or it has been deleted.")
    return dataset


def get_version(db: Session, user: User, version_id: int) -> DatasetVersion:
    """Return one version of a dataset.

    Raises:
        NotFound: as for get_dataset.
    """
    version = db.get(DatasetVersion, version_id)
    if version is None:
        raise NotFound("This dataset does not exist, or it has been deleted.")
    get_dataset(db, user, version.dataset_id)
    return version


def inspection_of(version: DatasetVersion) -> Inspection | None:
    """Return what the reader found in the version's file, once it has."""
    return Inspection.model_validate(version.inspection) if version.inspection else None


def mapping_of(version: DatasetVersion) -> Mapping | None:
    """Return the mapping that is proposed or, after `mapping`, confirmed."""
    return Mapping.model_validate(version.mapping) if version.mapping else None


def confirm(
    db: Session,
    user: User,
    version: DatasetVersion,
    mapping: Mapping,
    validation_share: float = 0.1,
    *,
    seed: int = 0,
) -> DatasetVersion:
    """Settle what the columns mean; the cpu queue then builds the examples.

    A version that is ready stays as it is: another mapping of its file becomes the next version.

    Returns:
        The version that will be built.

    Raises:
        Invalid: the mapping or the share cannot be used; with `columns` or `validation_share`.
        Conflict: the file is being read just now.
    """
    require_editor(user)
    lock(db, version)
    inspection = inspection_of(version)
    if inspection is None or version.status not in _CHANGEABLE:
        raise Conflict("This file is still being read; wait until its columns are shown.")
    mapping.check(inspection.columns)
    if not 0 <= validation_share <= MAX_VALIDATION_SHARE:
        raise Invalid(
            f"The test set may take from 0 to {MAX_VALIDATION_SHARE:.0%} of the examples.",
            field="validation_share",
        )
    if not 0 <= seed < 2**31:
        raise Invalid("The seed is a whole number from 0 to 2147483647.", field="seed")
    if version.status is VersionStatus.READY:
        version = next_version(db, version)
    version.mapping = mapping.model_copy(update=inspection.reading).model_dump(mode="json")
    version.validation_share = validation_share
    version.split_seed = seed
    version.status = VersionStatus.CONFIRMED
    version.reason = None
    version.strikes = 0
    db.flush()
    audit.record(
        db,
        user,
        "dataset.confirm",
        f"dataset version {version.id}",
        kind=mapping.kind.value,
        validation_share=validation_share,
        seed=seed,
    )
    return version


def read_again(db: Session, user: User, version: DatasetVersion, read_as: ReadAs) -> None:
    """Read the file anew in another way, e.g. another encoding or sheet.

    Raises:
        Conflict: the version is ready, or the file is being read just now.
    """
    require_editor(user)
    lock(db, version)
    if version.status not in (VersionStatus.MAPPING, VersionStatus.FAILED):
        raise Conflict("This file cannot be read again now; upload it again instead.")
    version.read_as = read_as.model_dump(exclude_defaults=True)
    version.status = VersionStatus.UPLOADED
    version.inspection = version.mapping = version.reason = None
    version.strikes = 0
    db.flush()


def take_inspection(
    db: Session, version: DatasetVersion, read_as: ReadAs, inspection: Inspection, mapping: Mapping
) -> None:
    """Keep what a reading process found in a file before the file was stored."""
    version.read_as = read_as.model_dump(exclude_defaults=True)
    version.inspection = inspection.model_dump(mode="json")
    version.mapping = mapping.model_dump(mode="json")
    version.status = VersionStatus.MAPPING
    db.flush()


def rename(db: Session, user: User, dataset: Dataset, name: str) -> None:
    """Give a dataset another name.

    Raises:
        Invalid: the name is empty or too long; with the field `name`.
    """
    require_editor(user)
    dataset.name = _checked_name(name)
    db.flush()
    audit.record(db, user, "dataset.rename", f"dataset {dataset.id}")


def _checked_name(name: str) -> str:
    cleaned = " ".join(_CONTROL.sub(" ", name).split())
    if not cleaned:
        raise Invalid("Give the dataset a name.", field="name")
    if len(cleaned) > MAX_NAME_LENGTH:
        raise Invalid(f"Use at most {MAX_NAME_LENGTH} characters.", field="name")
    return cleaned


def require_editor(user: User) -> None:
    """Refuse those who may only look.

    Raises:
        Forbidden: the person is a viewer.
    """
    if not can_edit(user):
        raise Forbidden("You can view datasets, but not change them.")


def lock(db: Session, version: DatasetVersion) -> None:
    """Decide by the rows as they are now: a worker may be at it, or somebody may delete it.

    The dataset comes first for everyone, so that nobody waits in a circle.

    Raises:
        Conflict: somebody is at it, for longer than a browser waits.
    """
    _lock_dataset(db, version, PATIENCE_SECONDS)
    db.refresh(version, with_for_update={"of": DatasetVersion})


def lock_to_derive(db: Session, base: DatasetVersion, patience_seconds: float | None) -> None:
    """Keep a version from being deleted, and others from deriving one: as `lock`, for minutes.

    Meanwhile jobs may be made of the version, and its page may write down what it has counted.

    Args:
        patience_seconds: How long to wait for whoever is at it; None: as long as it takes.
    """
    _lock_dataset(db, base, patience_seconds)
    db.refresh(base, with_for_update={"read": True, "key_share": True, "of": DatasetVersion})


def _lock_dataset(db: Session, version: DatasetVersion, patience_seconds: float | None) -> None:
    limit = f"{round(1000 * (patience_seconds or 0))}ms"
    db.execute(select(func.set_config("lock_timeout", limit, True)))
    try:
        db.refresh(version.dataset, with_for_update={"key_share": True, "of": Dataset})
    except OperationalError as error:
        if not isinstance(error.orig, LockNotAvailable):
            raise
        raise Conflict("This dataset is being changed right now; try again in a moment.") from None
    db.execute(select(func.set_config("lock_timeout", "0", True)))


def next_version(db: Session, version: DatasetVersion) -> DatasetVersion:
    """Add the version after the newest, of the same file and based on this one; lock first."""
    newest = db.scalars(
        select(func.max(DatasetVersion.number)).where(
            DatasetVersion.dataset_id == version.dataset_id
        )
    ).one()
    following = DatasetVersion(
        dataset=version.dataset,
        number=newest + 1,
        base_version_id=version.id,
        file_id=version.file_id,
        inspection=version.inspection,
        read_as=version.read_as,
    )
    db.add(following)
    db.flush()
    return following
