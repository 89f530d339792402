"""Who may do what with a dataset, and what stays of it."""

from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core import storage
from app.core.errors import Conflict, Forbidden, Invalid, NotFound
from app.core.models import (
    AuditEvent,
    Dataset,
    DatasetVersion,
    Example,
    JobStatus,
    Role,
    User,
    VersionStatus,
)
from app.datasets import deletion, versions
from app.datasets.mapping import Mapping
from tests.factories import make_dataset_version, make_department, make_job, make_user

MAPPING = Mapping.model_validate({"columns": {"q": "question", "a": "answer"}})
INSPECTION = {
    "format": "csv",
    "place": "line",
    "columns": ["q", "a"],
    "num_rows": 30,
    "preview": [{"number": 2, "values": {"q": "Where?", "a": "There"}}],
}


def upload(db: Session, user: User, filename: str = "ward.csv") -> DatasetVersion:
    version = versions.add(db, user, storage.put("uploads", [b"q,a\nWhere?,There\n"]), filename)
    db.commit()
    return version


def test_an_upload_waits_to_be_read(db: Session) -> None:
    user = make_user(db)
    version = upload(db, user, "../../etc/Ward\u202e questions.csv")
    assert (version.number, version.status) == (1, VersionStatus.UPLOADED)
    assert (version.file.filename, version.dataset.name) == ("Ward questions.csv", "Ward questions")
    assert versions.list_versions(db, user, [VersionStatus.UPLOADED]) == [version]
    assert versions.list_versions(db, user, [VersionStatus.READY]) == []
    event = db.scalars(select(AuditEvent).order_by(AuditEvent.id.desc())).first()
    assert event is not None
    assert (event.action, event.actor) == ("dataset.add", user.email)


@pytest.mark.parametrize(
    ("filename", "shown"),
    [
        ("../../x.csv", "x.csv"),
        ("C:\\Users\\me\\x.csv", "x.csv"),
        ("..", "file"),
        ("a\0b\n.csv", "ab.csv"),
        ("/", "file"),
        ("x" * 300 + ".csv", "x" * 196 + ".csv"),
    ],
)
def test_file_names_are_shown_and_nothing_else(filename: str, shown: str) -> None:
    assert versions.clean_filename(filename) == shown


def test_an_empty_file_leaves_no_row(db: Session) -> None:
    user = make_user(db)
    with pytest.raises(Invalid, match="This file is empty") as caught:
        versions.add(db, user, storage.put("uploads", []), "x.csv")
    assert caught.value.field == "file"
    assert db.scalar(select(func.count()).select_from(Dataset)) == 0


def test_strangers_find_nothing_and_viewers_change_nothing(db: Session) -> None:
    owner = make_user(db)
    version = upload(db, owner)
    stranger = make_user(db, department=make_department(db))
    assert versions.list_versions(db, stranger, list(VersionStatus)) == []
    with pytest.raises(NotFound):
        versions.get_dataset(db, stranger, version.dataset_id)
    with pytest.raises(NotFound):
        versions.get_version(db, stranger, version.id)
    viewer = make_user(db, role=Role.VIEWER)
    assert versions.get_version(db, viewer, version.id) is version
    for act in (
        lambda: upload(db, viewer),
        lambda: versions.rename(db, viewer, version.dataset, "x"),
        lambda: deletion.delete_dataset(db, viewer, version.dataset),
        lambda: versions.confirm(db, viewer, version, MAPPING),
    ):
        with pytest.raises(Forbidden):
            act()


def test_confirming(db: Session) -> None:
    user = make_user(db)
    version = upload(db, user)
    with pytest.raises(Conflict, match="still being read"):
        versions.confirm(db, user, version, MAPPING)
    version.status, version.inspection = VersionStatus.MAPPING, INSPECTION
    db.commit()
    with pytest.raises(Invalid, match="no column “zzz”"):
        versions.confirm(db, user, version, Mapping.model_validate({"columns": {"zzz": "text"}}))
    with pytest.raises(Invalid, match="from 0 to 50%"):
        versions.confirm(db, user, version, MAPPING, 0.9)
    versions.confirm(db, user, version, MAPPING, 0.2, seed=7)
    db.commit()
    assert (version.status, version.validation_share, version.split_seed) == (
        VersionStatus.CONFIRMED,
        0.2,
        7,
    )
    assert versions.mapping_of(version) == MAPPING


@pytest.mark.parametrize("name", ["", " \n", "x" * 121])
def test_names_that_cannot_be(db: Session, name: str) -> None:
    version = upload(db, make_user(db))
    with pytest.raises(Invalid) as caught:
        versions.rename(db, version.dataset.owner, version.dataset, name)
    assert caught.value.field == "name"


def test_deleting_takes_the_examples_and_the_file_and_keeps_the_lineage(db: Session) -> None:
    user = make_user(db)
    version = make_dataset_version(db, user=user, inspection=INSPECTION)
    version.file.storage_key = storage.put("uploads", [b"q,a\n"]).key
    job = make_job(db, user=user, version=version)
    db.commit()
    path: Path = storage.path(version.file.storage_key)
    with pytest.raises(Conflict, match="still needs this dataset"):
        deletion.delete_dataset(db, user, version.dataset)
    db.rollback()
    job.status = JobStatus.CANCELLED
    db.commit()
    deletion.delete_dataset(db, user, version.dataset)
    db.commit()
    with pytest.raises(NotFound):
        versions.get_version(db, user, version.id)
    assert db.scalar(select(func.count()).select_from(Example)) == 0
    assert deletion.purge(db) == 1
    db.commit()
    assert not path.exists()
    assert deletion.purge(db) == 0
    db.refresh(version)
    assert (version.status, version.num_train, version.inspection) == (
        VersionStatus.READY,
        20,
        None,
    )
    assert version.examples_sha256 == "1" * 64
