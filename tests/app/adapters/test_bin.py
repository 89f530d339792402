"""What people delete can be had back for some days; what people wrote cannot."""

import os
import shutil
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.adapters import answering, exports, registry, sharing, states
from app.adapters import bin as adapter_bin
from app.core import bins, settings, storage
from app.core.errors import AppError, Conflict, Forbidden, Invalid, NotFound
from app.core.models import (
    Adapter,
    AuditEvent,
    Beside,
    Conversation,
    DatasetVersion,
    EvaluationStatus,
    ExportForm,
    Feedback,
    Job,
    JobStatus,
    KeptQuestion,
    Release,
    Role,
    StoredFile,
    User,
)
from app.datasets import deletion
from app.evaluation import comparing, evaluations, reading
from app.jobs import bin as job_bin
from app.jobs import requests, start
from app.training.config import PRESETS
from tests.factories import (
    make_adapter,
    make_department,
    make_evaluation,
    make_job,
    make_user,
    make_zipped_adapter,
)
from worker import sweep


class Usage(NamedTuple):
    """A disk as shutil tells of it."""

    total: int
    used: int
    free: int


@pytest.fixture
def owner(db: Session) -> User:
    return make_user(db)


@pytest.fixture
def adapter(db: Session, owner: User) -> Adapter:
    return make_adapter(db, user=owner, name="Night shifts")


def put(db: Session, user: User, adapter: Adapter) -> None:
    adapter_bin.put(db, user, adapter)
    db.commit()


def days_ago(row: Adapter | Job, days: float) -> None:
    row.binned_at = datetime.now(UTC) - timedelta(days=days)


# --- adapters ------------------------------------------------------------------------------------


def test_an_adapter_goes_to_the_bin_and_comes_back_as_it_was(
    db: Session, owner: User, adapter: Adapter
) -> None:
    adapter.release, adapter.purpose = Release.RELEASED, "for the ward"
    db.commit()
    put(db, owner, adapter)
    assert states.of(adapter).state is states.State.IN_BIN
    assert states.of(adapter).may == set()
    assert registry.folder(adapter).is_dir(), "its files stay"
    assert [one.id for one in adapter_bin.list_of(db, owner, 9)] == [adapter.id]
    put(db, owner, adapter)  # a button pressed twice
    adapter_bin.restore(db, owner, adapter)
    db.commit()
    assert states.of(adapter).state is states.State.RELEASED
    assert registry.get(db, owner, adapter.id) is adapter
    assert not adapter_bin.list_of(db, owner, 9)
    said = list(db.scalars(select(AuditEvent.action).order_by(AuditEvent.id)))
    assert [action for action in said if action.startswith("adapter.")] == [
        "adapter.bin",
        "adapter.restore",
    ]


def test_what_is_in_the_bin_is_nowhere_else(db: Session, owner: User, adapter: Adapter) -> None:
    evaluation = make_evaluation(db, adapter=adapter)
    later = make_adapter(db, user=owner, name="Later")
    adapter.release = Release.RELEASED
    db.commit()
    assert sharing.released(db, owner) == [adapter]
    put(db, owner, adapter)
    with pytest.raises(NotFound, match="“Night shifts” is in the bin"):
        registry.get(db, owner, adapter.id)
    with pytest.raises(NotFound):
        registry.by_public_name(db, owner, adapter.public_name)
    with pytest.raises(NotFound, match="is in the bin"):
        reading.get(db, owner, evaluation.id)
    with pytest.raises(NotFound):
        reading.by_public_id(db, owner, evaluation.public_id)
    assert registry.list_adapters(db, owner) == [later]
    assert sharing.released(db, owner) == []
    assert adapter.id in answering.gone(db, [adapter.id])
    assert not any(
        wanted.adapter is not None and wanted.adapter.id == adapter.id
        for wanted in answering.likely(db)
    )
    assert comparing.contenders(db, evaluation.version) == []
    assert "is in the bin" in exports.why_not(adapter, ExportForm.ADAPTER)


def test_it_is_not_asked_released_evaluated_or_started_from(
    db: Session, owner: User, adapter: Adapter
) -> None:
    put(db, owner, adapter)
    with pytest.raises(NotFound, match="in the bin, so it cannot be used") as refused:
        sharing.require_asking(owner, adapter)
    assert refused.value.code == "model_not_found"
    with pytest.raises(AppError, match="in the bin"):
        evaluations.request(db, owner, adapter)
    config = PRESETS["quick"].config
    with pytest.raises(Invalid, match="is in the bin"):
        start.require(db, owner, adapter, adapter.base_model, config)


def test_a_job_that_started_from_it_says_so_when_it_is_tried_again(
    db: Session, owner: User, adapter: Adapter
) -> None:
    job = make_job(
        db,
        user=owner,
        status=JobStatus.FAILED,
        start_adapter_id=adapter.id,
        lineage=start.lineage(adapter),
    )
    put(db, owner, adapter)
    with pytest.raises(Conflict, match="“Night shifts”, from which this job starts, is in the bin"):
        requests.retry(db, owner, job)


def test_what_a_job_needs_does_not_go_to_the_bin(
    db: Session, owner: User, adapter: Adapter
) -> None:
    make_job(db, user=owner, name="Further", start_adapter_id=adapter.id)
    with pytest.raises(Conflict, match="“Further” starts from this trained model"):
        adapter_bin.put(db, owner, adapter)


def test_what_people_said_is_erased_at_once(db: Session, owner: User, adapter: Adapter) -> None:
    db.add(
        Conversation(
            owner_id=owner.id,
            adapter_id=adapter.id,
            beside=Beside.NOBODY,
            instruction="",
            temperature=0,
        )
    )
    db.add(KeptQuestion(adapter_id=adapter.id, question="Who?", answer="She."))
    db.flush()
    put(db, owner, adapter)
    for table in (Conversation, KeptQuestion, Feedback):
        assert db.scalar(select(func.count()).select_from(table)) == 0
    # Nor does an answer that was on its way leave anything.
    adapter.release, adapter.keeps_questions = Release.RELEASED, True
    sharing.keep(db, adapter, "Who?", "She.")
    db.flush()
    assert db.scalar(select(func.count()).select_from(KeptQuestion)) == 0


def test_what_goes_on_with_it_ends(db: Session, owner: User, adapter: Adapter) -> None:
    evaluation = evaluations.request(db, owner, adapter)
    db.commit()
    put(db, owner, adapter)
    db.refresh(evaluation)
    assert evaluation.status is EvaluationStatus.CANCELLED
    assert evaluation.reason == "Its model was put into the bin."


def test_who_may_only_look_neither_deletes_nor_restores(
    db: Session, owner: User, adapter: Adapter
) -> None:
    viewer = make_user(db, role=Role.VIEWER)
    with pytest.raises(Forbidden):
        adapter_bin.put(db, viewer, adapter)
    put(db, owner, adapter)
    for operation in (adapter_bin.restore, adapter_bin.erase):
        with pytest.raises(Forbidden):
            operation(db, viewer, adapter)


def test_another_department_sees_nothing_of_it(db: Session, owner: User, adapter: Adapter) -> None:
    put(db, owner, adapter)
    stranger = make_user(db, department=make_department(db))
    assert adapter_bin.list_of(db, stranger, 9) == []
    with pytest.raises(NotFound):
        adapter_bin.get(db, stranger, adapter.id)


def test_what_was_restored_meanwhile_is_not_erased(
    db: Session, owner: User, adapter: Adapter
) -> None:
    put(db, owner, adapter)
    adapter_bin.restore(db, owner, adapter)
    with pytest.raises(NotFound, match="no longer in the bin"):
        adapter_bin.erase(db, owner, adapter)
    assert db.get(Adapter, adapter.id) is not None


# --- jobs ----------------------------------------------------------------------------------------


def test_a_job_goes_to_the_bin_and_comes_back(db: Session, owner: User) -> None:
    job = make_job(db, user=owner, name="First try", status=JobStatus.FAILED)
    job_bin.put(db, owner, job)
    db.commit()
    with pytest.raises(NotFound, match="“First try” is in the bin"):
        requests.get(db, owner, job.id)
    with pytest.raises(NotFound):
        requests.get_any(db, make_user(db, role=Role.ADMIN), job.id)
    with pytest.raises(NotFound):
        requests.by_public_id(db, owner, job.public_id)
    assert requests.list_jobs(db, owner) == []
    assert [one.id for one in job_bin.list_of(db, owner, 9)] == [job.id]
    job_bin.restore(db, owner, job)
    assert requests.get(db, owner, job.id).status is JobStatus.FAILED


def test_a_job_that_is_not_over_does_not_go_there(db: Session, owner: User) -> None:
    with pytest.raises(Conflict, match="has not ended yet"):
        job_bin.put(db, owner, make_job(db, user=owner))


def test_only_who_may_delete_a_job_restores_it(db: Session, owner: User) -> None:
    job = make_job(db, user=owner, status=JobStatus.FAILED)
    job_bin.put(db, owner, job)
    colleague = make_user(db)
    for operation in (job_bin.put, job_bin.restore, job_bin.erase):
        with pytest.raises(Forbidden):
            operation(db, colleague, job)


# --- the sweep -----------------------------------------------------------------------------------


def test_the_sweep_erases_what_is_over_its_time(db: Session, owner: User) -> None:
    old, young = make_zipped_adapter(db, owner), make_adapter(db, user=owner, name="Young")
    job = make_job(db, user=owner, status=JobStatus.FAILED)
    zipped = old.archive_file
    assert zipped is not None
    key = zipped.storage_key
    for row in (old, young):
        put(db, owner, row)
    job_bin.put(db, owner, job)
    job_folder = settings.get().jobs_dir / str(job.id)
    job_folder.mkdir(parents=True)
    days_ago(old, 7.1)
    days_ago(young, 6.9)
    days_ago(job, 7.1)
    db.commit()
    old_id, young_id, job_id, file_id = old.id, young.id, job.id, zipped.id
    sweep.clean(db)
    db.commit()
    db.expire_all()
    assert db.get(Adapter, old_id) is None
    assert db.get(Job, job_id) is None
    assert db.get(Adapter, young_id) is not None
    assert not storage.path(key).exists()
    assert not job_folder.exists()
    assert db.get_one(StoredFile, file_id).deleted_at is not None


def test_what_a_killed_sweep_left_the_next_one_removes(
    db: Session, owner: User, adapter: Adapter
) -> None:
    put(db, owner, adapter)
    days_ago(adapter, 8)
    db.commit()
    folder = registry.folder(adapter)
    old = (datetime.now(UTC) - timedelta(days=9)).timestamp()
    os.utime(folder, (old, old))
    assert adapter_bin.erase_old(db) == 1
    db.rollback()  # killed before the commit: nothing has happened
    assert folder.is_dir()
    assert db.get(Adapter, adapter.id) is not None
    assert adapter_bin.erase_old(db) == 1
    db.commit()  # killed after it: its files are nobody's
    assert folder.is_dir()
    sweep.clean(db)
    assert not folder.exists()


def test_a_short_disk_empties_the_bin_earlier(
    db: Session, owner: User, adapter: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = make_adapter(db, user=owner, name="Kept")
    put(db, owner, adapter)
    assert adapter_bin.erase_old(db) == 0
    reserve = settings.get().disk_reserve_bytes
    usage = Usage(10**12, 0, 2 * reserve - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    assert bins.is_disk_short()
    assert adapter_bin.erase_old(db) == 1
    assert adapter_bin.erase_old(db) == 0, "and nothing else"
    assert db.get(Adapter, kept.id) is not None


def test_the_bin_says_what_it_holds(db: Session, owner: User) -> None:
    adapter = make_zipped_adapter(db, owner, b"x" * 1000)
    assert adapter_bin.size_bytes(db) == 0
    put(db, owner, adapter)
    assert adapter.archive_file is not None
    expected = adapter.size_bytes + adapter.archive_file.size_bytes
    assert adapter_bin.size_bytes(db) == adapter_bin.size_bytes(db, owner) == expected
    assert adapter_bin.size_bytes(db, make_user(db, department=make_department(db))) == 0


def test_an_adapter_in_the_bin_outlasts_its_data(
    db: Session, owner: User, adapter: Adapter
) -> None:
    job = adapter.job
    assert job is not None
    version = db.get_one(DatasetVersion, job.version_id)
    put(db, owner, adapter)
    deletion.delete_dataset(db, owner, version.dataset)
    db.commit()
    adapter_bin.restore(db, owner, adapter)
    assert registry.get(db, owner, adapter.id) is adapter
