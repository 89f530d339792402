"""Rows for tests, as plain functions; each commits, so that other processes see them."""

from itertools import count
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.core.models import (
    Asking,
    AskingStatus,
    BaseModel,
    Dataset,
    DatasetVersion,
    Department,
    Example,
    ExampleKind,
    Job,
    JobStatus,
    ModelStatus,
    PrivacyReview,
    ProposedPair,
    ReviewStatus,
    Role,
    Split,
    StoredFile,
    User,
    Verdict,
    VersionStatus,
)
from app.people import auth
from app.training.config import PRESETS, TrainConfig

PASSWORD = "four quiet green lamps"
_number = count(1)


def make_department(db: Session, name: str | None = None) -> Department:
    department = Department(name=name or f"Ward {next(_number)}")
    db.add(department)
    db.commit()
    return department


def make_user(
    db: Session,
    *,
    role: Role = Role.MEMBER,
    department: Department | None = None,
    email: str | None = None,
    password: str | None = None,
) -> User:
    """A person of the first department unless another is given."""
    user = auth.create_user(
        db, None, email or f"person{next(_number)}@house.example", role, password=password
    )
    if department is not None:
        user.department_id = department.id
    db.commit()
    db.refresh(user)
    return user


def first_user(db: Session) -> User:
    return db.scalars(select(User).order_by(User.id)).first() or make_user(db)


def make_dataset_version(
    db: Session,
    *,
    user: User | None = None,
    name: str = "Ward questions",
    status: VersionStatus = VersionStatus.READY,
    num_train: int = 20,
    num_validation: int = 4,
    kind: ExampleKind = ExampleKind.CHAT,
    decided: bool = True,
    **columns: Any,
) -> DatasetVersion:
    """A dataset with one version; ready ones have examples, of one kind.

    `decided`: it has passed the privacy gate.
    """
    user = user or first_user(db)
    file = StoredFile(
        department_id=user.department_id,
        owner_id=user.id,
        filename="ward.csv",
        storage_key=f"uploads/test-{next(_number)}",
        size_bytes=1000,
        sha256="0" * 64,
    )
    dataset = Dataset(department_id=user.department_id, owner_id=user.id, name=name)
    db.add_all([file, dataset])
    db.flush()
    ready = status is VersionStatus.READY
    version = DatasetVersion(
        dataset_id=dataset.id,
        number=1,
        file_id=file.id,
        status=status,
        num_train=num_train if ready else 0,
        num_validation=num_validation if ready else 0,
        examples_sha256="1" * 64 if ready else None,
        **columns,
    )
    db.add(version)
    db.flush()
    if decided:
        pass_gate(db, version)
    if ready:
        for index in range(num_train + num_validation):
            db.add(
                Example(
                    version_id=version.id,
                    index=index,
                    split=Split.TRAIN if index < num_train else Split.VALIDATION,
                    kind=kind,
                    messages=_messages(kind, index),
                )
            )
    db.commit()
    return version


def _messages(kind: ExampleKind, index: int) -> list[dict[str, Any]]:
    answer = f"Rule {index} says: wash your hands."
    if kind is ExampleKind.TEXT:
        return [{"role": "text", "content": answer}]
    worse = {"rejected": "Look it up."} if kind is ExampleKind.PREFERENCE else {}
    return [
        {"role": "user", "content": f"What is rule {index}?"},
        {"role": "assistant", "content": answer, **worse},
    ]


def pass_gate(db: Session, version: DatasetVersion) -> None:
    """Decide about a version's personal details, whatever stood there before."""
    db.execute(delete(PrivacyReview).where(PrivacyReview.version_id == version.id))
    decision = {"default": "keep", "reason": "invented for a test"}
    db.add(PrivacyReview(version_id=version.id, status=ReviewStatus.DECIDED, decision=decision))
    db.commit()


def make_asking(
    db: Session,
    version: DatasetVersion,
    *,
    num_pairs: int = 3,
    verdict: Verdict = Verdict.OPEN,
    status: AskingStatus = AskingStatus.DONE,
    **columns: Any,
) -> list[ProposedPair]:
    """Questions that a model made up to a version's texts, two to a passage; returns them."""
    model = db.scalars(select(BaseModel)).first() or make_base_model(db)
    asking = Asking(
        version_id=version.id,
        owner_id=version.dataset.owner_id,
        base_model_id=model.id,
        status=status,
        per_passage=2,
        max_pairs=100,
        num_pairs=num_pairs,
        num_passages=num_pairs,
        **columns,
    )
    db.add(asking)
    db.flush()
    pairs = [
        ProposedPair(
            asking_id=asking.id,
            example_index=place // 2,
            heading="Hand hygiene",
            passage=f"Gloves are no help.\nRule {place // 2} says: wash your hands.",
            answer=f"Rule {place // 2} says: wash your hands.",
            question=f"What does rule {place // 2} say, asked {place}?",
            verdict=verdict,
        )
        for place in range(num_pairs)
    ]
    db.add_all(pairs)
    db.commit()
    return pairs


def make_base_model(
    db: Session,
    *,
    name: str = "house/tiny",
    status: ModelStatus = ModelStatus.READY,
    folder: str | None = "tiny",
    **columns: Any,
) -> BaseModel:
    model = BaseModel(
        name=name,
        label=name.rpartition("/")[2],
        status=status,
        source={"kind": "folder", "path": "/models/tiny"},
        folder=folder,
        manifest_sha256="2" * 64,
        licence="apache-2.0",
        **columns,
    )
    db.add(model)
    db.commit()
    return model


def make_job(
    db: Session,
    *,
    user: User | None = None,
    version: DatasetVersion | None = None,
    base_model: BaseModel | None = None,
    status: JobStatus = JobStatus.QUEUED,
    config: TrainConfig | None = None,
    **columns: Any,
) -> Job:
    user = user or first_user(db)
    version = version or make_dataset_version(db, user=user)
    base_model = base_model or db.scalars(select(BaseModel)).first() or make_base_model(db)
    job = Job(
        department_id=user.department_id,
        owner_id=user.id,
        name=columns.pop("name", "Ward questions, first try"),
        version_id=version.id,
        base_model_id=base_model.id,
        config=(config or PRESETS["quick"].config).model_dump(mode="json"),
        status=status,
        **columns,
    )
    db.add(job)
    db.commit()
    return job
