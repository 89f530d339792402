"""Rows for tests, as plain functions; each commits, so that other processes see them."""

import io
import json
import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import count
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.core import storage
from app.core.models import (
    Adapter,
    Arm,
    Asking,
    AskingStatus,
    BaseModel,
    Dataset,
    DatasetVersion,
    Department,
    Evaluation,
    EvaluationAnswer,
    EvaluationQuestion,
    EvaluationStatus,
    Example,
    ExampleKind,
    Finish,
    Job,
    JobStatus,
    Mark,
    ModelStatus,
    Part,
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
from app.training import manifests
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
    num_test: int | None = None,
    kind: ExampleKind = ExampleKind.CHAT,
    decided: bool = True,
    **columns: Any,
) -> DatasetVersion:
    """A dataset with one version; ready ones have examples, of one kind.

    `num_test`: None makes two parts, as versions from before have.
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
        num_test=num_test if ready else None,
        examples_sha256="1" * 64 if ready else None,
        **columns,
    )
    db.add(version)
    db.flush()
    if decided:
        pass_gate(db, version)
    if ready:
        of_rows = [Split.TRAIN] * num_train + [Split.VALIDATION] * num_validation
        for index, split in enumerate(of_rows + [Split.TEST] * (num_test or 0)):
            db.add(
                Example(
                    version_id=version.id,
                    index=index,
                    split=split,
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


def make_adapter(
    db: Session, *, job: Job | None = None, user: User | None = None, **columns: Any
) -> Adapter:
    """An adapter with its own files and no zip, as a job has made it."""
    if job is None:
        job = make_job(db, user=user, status=JobStatus.SUCCEEDED, finished_at=datetime.now(UTC))
    config, base = TrainConfig.model_validate(job.config), job.base_model
    key = storage.new_key("adapters")
    folder = storage.path(key)
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    said: dict[str, Any] = {"r": config.lora_rank, "lora_alpha": config.lora_alpha}
    said |= {"use_rslora": config.use_rslora, "use_dora": config.use_dora}
    said |= {"target_modules": ["down_proj", "q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(said))
    about = {"base_model": {"name": base.name, "sha256": base.manifest_sha256}}
    adapter = Adapter(
        department_id=job.department_id,
        owner_id=job.owner_id,
        job_id=job.id,
        base_model_id=base.id,
        start_adapter_id=job.start_adapter_id,
        lineage=job.lineage,
        name=columns.pop("name", job.name),
        public_name=f"ft:{base.name}:ward::{job.public_id[-8:]}",
        storage_key=key,
        manifest_sha256=manifests.write_manifest(folder, **about),
        size_bytes=7,
        metrics={
            "validation_loss_before": 2.5,
            "validation_loss_after": 1.25,
            "train_loss": 1.1,
            "best_step": 40,
            "stopped_early": False,
        },
        samples=[
            {"question": "Where?", "reference": "Room 7.", "base": "Nowhere.", "tuned": "Room 7!"}
        ],
        **columns,
    )
    db.add(adapter)
    db.commit()
    return adapter


def make_evaluation(
    db: Session,
    *,
    adapter: Adapter | None = None,
    marks: Mapping[Arm, str] | None = None,
    practised: str = "",
    **columns: Any,
) -> Evaluation:
    """An evaluation that is done, counted as `verdict.count` does.

    Args:
        marks: Of each arm's answers in order, a letter each: right, partly, wrong or unsure.
        practised: The same of the tuned model's answers to questions that it practised.
    """
    from app.evaluation import verdict

    adapter = adapter or make_adapter(db)
    assert adapter.job is not None
    marks = marks or {Arm.TUNED: "rpwu" * 6, Arm.BASE: "w" * 24, Arm.LOOKUP: "rw" * 12}
    evaluation = Evaluation(
        department_id=adapter.department_id,
        owner_id=adapter.owner_id,
        adapter_id=adapter.id,
        base_model_id=adapter.base_model_id,
        version_id=adapter.job.version_id,
        practice_version_id=adapter.job.version_id,
        status=columns.pop("status", EvaluationStatus.DONE),
        arms=[arm.value for arm in marks],
        budget_seconds=120,
        finished_at=datetime.now(UTC),
        **columns,
    )
    db.add(evaluation)
    db.flush()
    num_test = max(map(len, marks.values()))
    num_train = adapter.job.version.num_train
    for position in range(num_test + len(practised)):
        is_test = position < num_test
        db.add(
            EvaluationQuestion(
                evaluation_id=evaluation.id,
                position=position,
                part=Part.TEST if is_test else Part.PRACTICE,
                index=num_train + position if is_test else position - num_test,
                group=position,
            )
        )
    db.flush()
    for arm, letters in marks.items():
        for position, letter in enumerate(letters):
            _answer(db, evaluation, position, arm, letter)
    for position, letter in enumerate(practised, num_test):
        _answer(db, evaluation, position, Arm.TUNED, letter)
    evaluation.num_rows = evaluation.num_questions = evaluation.num_answered = num_test
    db.flush()
    verdict.count(db, evaluation)
    db.commit()
    return evaluation


def _answer(db: Session, evaluation: Evaluation, position: int, arm: Arm, letter: str) -> None:
    mark = {mark.value[0]: mark for mark in Mark}[letter]
    db.add(
        EvaluationAnswer(
            evaluation_id=evaluation.id,
            position=position,
            arm=arm,
            text=f"{arm.value} says {position}",
            finish=Finish.STOP,
            mark=mark,
            why="a time is missing" if mark is Mark.WRONG else "",
            about="time" if mark is Mark.WRONG else None,
        )
    )


def make_lookup(
    db: Session, *, user: User | None = None, version: DatasetVersion | None = None, **columns: Any
) -> Adapter:
    """What answers with rows of a version, as its button makes it."""
    from app.evaluation import lookups

    user = user or first_user(db)
    version = version or make_dataset_version(db, user=user)
    base_model = db.scalars(select(BaseModel)).first() or make_base_model(db)
    made = lookups.use(db, user, version, base_model)
    for name, value in columns.items():
        setattr(made, name, value)
    db.commit()
    return made


def make_zipped_adapter(db: Session, user: User, content: bytes = b"weights") -> Adapter:
    """An adapter of a job of this person, with the zip that its page offers."""
    job = make_job(db, user=user, status=JobStatus.SUCCEEDED, finished_at=datetime.now(UTC))
    key = storage.new_key("adapters")
    folder = storage.path(key)
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(content)
    (folder / "MANIFEST.json").write_text(
        json.dumps(
            {
                "files": {
                    "adapter_model.safetensors": {"size_bytes": len(content), "sha256": "0" * 64}
                }
            }
        )
    )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as pack:
        pack.writestr("adapter_model.safetensors", content)
    stored = storage.put("results", [packed.getvalue()])
    file = StoredFile(
        department_id=user.department_id,
        owner_id=user.id,
        filename="ward-questions.zip",
        storage_key=stored.key,
        size_bytes=stored.size_bytes,
        sha256=stored.sha256,
    )
    db.add(file)
    db.flush()
    adapter = Adapter(
        department_id=user.department_id,
        owner_id=user.id,
        job_id=job.id,
        base_model_id=job.base_model_id,
        name="Ward questions",
        public_name=f"ft:house/tiny:ward::{job.id}",
        storage_key=key,
        manifest_sha256="0" * 64,
        size_bytes=len(content),
        metrics={
            "validation_loss_before": 2.5,
            "validation_loss_after": 1.25,
            "train_loss": 1.1,
            "best_step": 40,
            "stopped_early": False,
        },
        samples=[
            {"question": "Where?", "reference": "Room 7.", "base": "Nowhere.", "tuned": "Room 7!"}
        ],
        archive_file_id=file.id,
    )
    db.add(adapter)
    db.commit()
    return adapter
