"""What people ask of jobs, and who may: owner, viewer, stranger."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.adapters import registry as adapters
from app.core.errors import AppError, Conflict, Forbidden, Invalid, NotFound
from app.core.models import (
    Adapter,
    Attempt,
    AuditEvent,
    BaseModel,
    Desired,
    Job,
    JobEvent,
    JobStatus,
    ModelStatus,
    Release,
    Role,
    StoredFile,
    User,
    VersionStatus,
    Worker,
)
from app.jobs import plans, protocol, queue_view, requests
from app.training.config import PRESETS, TrainConfig
from app.training.plan.machine import DeviceInfo
from tests.app.datasets.test_lengths import byte_model
from tests.factories import (
    make_base_model,
    make_dataset_version,
    make_department,
    make_job,
    make_user,
)

WORKER = protocol.WorkerInfo("gpu-0@here", "here", "boot", 1234, 99, ("cpu",))


@pytest.fixture
def member(db: Session) -> User:
    return make_user(db)


def create(db: Session, user: User, version_id: int, base_model_id: int) -> Job:
    job = requests.create(
        db,
        user,
        name="  Ward \n questions ",
        version_id=version_id,
        base_model_id=base_model_id,
        config=PRESETS["quick"].config,
        labels={"ward": "7"},
    )
    db.commit()
    return job


def test_a_new_job_waits_with_its_settings_frozen(db: Session, member: User) -> None:
    job = create(db, member, make_dataset_version(db).id, make_base_model(db).id)
    assert (job.status, job.desired, job.name) == (JobStatus.QUEUED, Desired.RUN, "Ward questions")
    assert TrainConfig.model_validate(job.config) == PRESETS["quick"].config
    assert queue_view.position(db, job) == 1
    audit = db.scalars(select(AuditEvent).order_by(AuditEvent.id.desc())).first()
    assert audit is not None
    assert (audit.action, audit.subject, audit.actor) == (
        "job.create",
        f"job {job.id}",
        member.email,
    )
    assert db.scalars(select(JobEvent.message)).all() == ["Waiting in the queue."]
    assert requests.list_jobs(db, member, labels={"ward": "7"}) == [job]
    assert requests.list_jobs(db, member, labels={"ward": "8"}) == []


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"status": VersionStatus.FAILED, "reason": "Line 3 is odd."}, "Line 3 is odd."),
        ({"status": VersionStatus.MAPPING}, "not confirmed yet"),
    ],
)
def test_unusable_data_is_refused_beside_its_field(
    db: Session, member: User, columns: dict[str, object], words: str
) -> None:
    version = make_dataset_version(db, **columns)  # type: ignore[arg-type]
    with pytest.raises(Invalid, match=words) as refused:
        create(db, member, version.id, make_base_model(db).id)
    assert refused.value.field == "version_id"
    assert db.scalar(select(func.count()).select_from(Job)) == 0


def test_a_model_that_failed_to_import_is_refused(db: Session, member: User) -> None:
    model = make_base_model(db, status=ModelStatus.FAILED)
    with pytest.raises(Invalid) as refused:
        create(db, member, make_dataset_version(db).id, model.id)
    assert refused.value.field == "base_model_id"


DEEDS: list[Callable[[Session, User, Job], object]] = [
    requests.cancel,
    requests.pause,
    lambda db, user, job: requests.rename(db, user, job, "Mine"),
    requests.delete,
]


@pytest.mark.parametrize("deed", DEEDS)
def test_a_viewer_may_look_but_not_touch(
    db: Session, member: User, deed: Callable[[Session, User, Job], object]
) -> None:
    job = make_job(db, user=member)
    viewer = make_user(db, role=Role.VIEWER)
    assert requests.get(db, viewer, job.id) is job
    with pytest.raises(Forbidden):
        deed(db, viewer, job)
    db.rollback()
    db.refresh(job)
    assert (job.status, job.desired) == (JobStatus.QUEUED, Desired.RUN)
    with pytest.raises(Forbidden):
        create(db, viewer, job.version_id, job.base_model_id)


def test_a_viewer_may_not_retry(db: Session, member: User) -> None:
    job = make_job(db, user=member, status=JobStatus.FAILED)
    with pytest.raises(Forbidden):
        requests.retry(db, make_user(db, role=Role.VIEWER), job)


def test_a_stranger_finds_nothing(db: Session, member: User) -> None:
    job = make_job(db, user=member)
    stranger = make_user(db, role=Role.ADMIN, department=make_department(db))
    looks: list[Callable[[], object]] = [
        lambda: requests.get(db, stranger, job.id),
        lambda: requests.by_public_id(db, stranger, job.public_id),
        lambda: create(db, stranger, job.version_id, job.base_model_id),
    ]
    for look in looks:
        with pytest.raises(NotFound):
            look()
    assert requests.list_jobs(db, stranger) == []
    assert requests.list_jobs(db, member) == [job]


def test_cancel_ends_a_waiting_job_at_once_and_asks_a_running_one(
    db: Session, member: User
) -> None:
    running, waiting = make_job(db, user=member), make_job(db, user=member)
    assert protocol.claim(db, WORKER) is not None
    db.commit()
    for job in (waiting, running):
        requests.cancel(db, member, job)
    db.commit()
    assert (waiting.status, waiting.finished_at is None) == (JobStatus.CANCELLED, False)
    assert (running.status, running.desired) == (JobStatus.RUNNING, Desired.CANCEL)
    with pytest.raises(Conflict):
        requests.cancel(db, member, waiting)
    with pytest.raises(Conflict):
        requests.pause(db, member, running)


def test_a_paused_job_keeps_its_place_but_is_not_taken(db: Session, member: User) -> None:
    job = make_job(db, user=member)
    requests.pause(db, member, job)
    db.commit()
    assert protocol.claim(db, WORKER) is None
    assert queue_view.position(db, job) is None
    requests.resume(db, member, job)
    db.commit()
    assert protocol.claim(db, WORKER) is not None


def test_retry_makes_a_new_job_that_names_the_old(db: Session, member: User) -> None:
    old = make_job(db, user=member, status=JobStatus.FAILED, suffix="ward")
    new = requests.retry(db, member, old)
    db.commit()
    assert (new.retry_of_id, new.config, new.suffix) == (old.id, old.config, "ward")
    assert (old.status, new.status) == (JobStatus.FAILED, JobStatus.QUEUED)
    with pytest.raises(Conflict):
        requests.retry(db, member, new)


@pytest.mark.parametrize("name", ["", "   \n", "x" * 201])
def test_a_name_must_be_one(db: Session, member: User, name: str) -> None:
    with pytest.raises(Invalid) as refused:
        requests.rename(db, member, make_job(db, user=member), name)
    assert refused.value.field == "name"


def test_delete_takes_the_curve_along_and_leaves_the_adapter(db: Session, member: User) -> None:
    job = make_job(db, user=member)
    with pytest.raises(AppError, match="cancel it first"):
        requests.delete(db, member, job)
    claim = protocol.claim(db, WORKER)
    assert claim is not None
    protocol.succeed(db, claim, measured={})
    adapter = make_adapter(db, job)
    requests.delete(db, member, job)
    db.commit()
    for table in (Job, Attempt, JobEvent):
        assert db.scalar(select(func.count()).select_from(table)) == 0
    db.refresh(adapter)
    assert adapter.job_id is None


def test_adapters_are_the_departments_own(db: Session, member: User) -> None:
    adapter = make_adapter(db, make_job(db, user=member))
    viewer = make_user(db, role=Role.VIEWER)
    stranger = make_user(db, role=Role.ADMIN, department=make_department(db))
    assert adapters.get(db, viewer, adapter.id) is adapter
    assert adapters.by_public_name(db, viewer, adapter.public_name) is adapter
    assert adapters.list_adapters(db, stranger) == []
    with pytest.raises(NotFound):
        adapters.get(db, stranger, adapter.id)
    with pytest.raises(NotFound):
        adapters.by_public_name(db, stranger, adapter.public_name)
    with pytest.raises(Forbidden):
        adapters.rename(db, viewer, adapter, "Mine")
    with pytest.raises(Forbidden):
        adapters.delete(db, viewer, adapter)


def test_taking_an_adapter_home_is_written_down(db: Session, member: User) -> None:
    adapter = make_adapter(db, make_job(db, user=member))
    assert adapters.archive(db, member, adapter).filename == "ward.zip"
    db.commit()
    last = db.scalars(select(AuditEvent).order_by(AuditEvent.id.desc())).first()
    assert last is not None and (last.action, last.actor) == ("adapter.download", member.email)
    adapter.release = Release.WITHDRAWN
    with pytest.raises(Conflict, match="was withdrawn"):
        adapters.archive(db, member, adapter)
    adapters.delete(db, member, adapter)
    db.commit()
    assert db.scalars(select(StoredFile.deleted_at).where(StoredFile.filename == "ward.zip")).one()


def test_a_model_that_one_device_holds_is_planned_for_one(db: Session) -> None:
    assert plans.devices(db) == []
    now = datetime.now(UTC)
    gib = 1024**3
    for name, free, count, age in (
        ("gpu-0", 40, 1, 5), ("gpu-1", 8, 1, 0), ("gpu-all", 8, 2, 0), ("old", 80, 4, 3600)
    ):  # fmt: skip
        info = DeviceInfo(
            kind="cuda", name=f"GPU of {name}", free_bytes=free * gib, num_devices=count
        )
        worker = Worker(id=f"{name}@here", queue="gpu", host="here", boot_id="b", devices=[])
        worker.hardware, worker.version = info.model_dump(), "0"
        worker.last_seen = now - timedelta(seconds=age)
        db.add(worker)
    db.commit()
    one, other, both = plans.devices(db)
    assert [info.name for info in (one, other, both)] == [
        "GPU of gpu-1", "GPU of gpu-0", "GPU of gpu-all"
    ]  # fmt: skip
    user = make_user(db)
    version = make_dataset_version(db, user=user)
    shape = {
        "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "vocab_size": 32000, "torch_dtype": "bfloat16",
    }  # fmt: skip
    tiny = shape | {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    small = byte_model(db)
    small.config, small.num_parameters = tiny, 300_000
    large = make_base_model(db, name="house/large", config=shape, num_parameters=14_000_000_000)
    assert plans.fits(small, [one, both]) == "yes"
    assert plans.fits(large, [one]) == "no"

    def create(model: BaseModel) -> Job:
        return requests.create(
            db, user, name="x", version_id=version.id, base_model_id=model.id,
            config=PRESETS["quick"].config,
        )  # fmt: skip

    assert create(small).needs_devices == 1
    db.delete(db.get_one(Worker, "gpu-0@here"))  # whose one device holds it, too
    wide = create(large)
    assert wide.needs_devices == 2
    assert wide.plan is not None and wide.plan["strategy"] == "fsdp"


def make_adapter(db: Session, job: Job) -> Adapter:
    file = StoredFile(
        department_id=job.department_id,
        owner_id=job.owner_id,
        filename="ward.zip",
        storage_key="results/none",
        size_bytes=1,
        sha256="0" * 64,
    )
    db.add(file)
    db.flush()
    adapter = Adapter(
        department_id=job.department_id,
        owner_id=job.owner_id,
        job_id=job.id,
        base_model_id=job.base_model_id,
        name="Ward",
        public_name=f"ft:house/tiny:house::{job.id}",
        storage_key="adapters/none",
        manifest_sha256="0" * 64,
        size_bytes=1,
        metrics={},
        samples=[],
        archive_file_id=file.id,
    )
    db.add(adapter)
    db.commit()
    return adapter
