"""Jobs, their attempts, what these reported, and the adapter that a job yields."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    LargeBinary,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core.models.base import Base, Binned, Json, Leased, enum_of, public_id
from app.core.models.base_models import BaseModel
from app.core.models.datasets import DatasetVersion, StoredFile
from app.core.models.people import User
from app.core.models.sharing import Release


class JobStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)


class Desired(StrEnum):
    """What people want of a job; set at any time, never in a race with its status."""

    RUN = "run"
    PAUSE = "pause"
    CANCEL = "cancel"


class Job(Leased, Binned, Base):
    """One request to fine-tune; `app/jobs` is the only writer of status and desired."""

    __tablename__ = "job"
    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True, default=lambda: public_id("ftjob"))
    department_id: Mapped[int] = mapped_column(ForeignKey("department.id"))
    owner_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"))
    name: Mapped[str]
    version_id: Mapped[int] = mapped_column(ForeignKey("dataset_version.id"))
    # A version of its own for testing, where a program sent one (/v1 validation_file).
    validation_version_id: Mapped[int | None] = mapped_column(ForeignKey("dataset_version.id"))
    base_model_id: Mapped[int] = mapped_column(ForeignKey("base_model.id"))
    retry_of_id: Mapped[int | None] = mapped_column(ForeignKey("job.id", ondelete="SET NULL"))
    # The adapter whose weights it begins with; made after its own job, hence use_alter.
    start_adapter_id: Mapped[int | None] = mapped_column(
        ForeignKey("adapter.id", ondelete="SET NULL", use_alter=True), index=True
    )
    # That adapter and what it came from in turn, the nearest first, as they were when the job was
    # made: [{"adapter_id", "name", "public_name", "manifest_sha256"}, …]; empty: a fresh adapter.
    lineage: Mapped[list[Any]] = mapped_column(default=list, server_default=text("'[]'"))
    # Of the rows to be tested on, those that an adapter of the lineage has practised:
    # {"num_moved", "num_left_out", "is_checked"}; none: it has not been looked yet, or a fresh one.
    practised_before: Mapped[Json | None]
    # Of its practice rows it takes so many, for a learning curve (app/evaluation/curves.py).
    rows_percent: Mapped[int] = mapped_column(default=100, server_default="100")
    curve_id: Mapped[int | None] = mapped_column(
        ForeignKey("learning_curve.id", ondelete="SET NULL", use_alter=True), index=True
    )
    # app.training.config.TrainConfig, frozen when the job was made.
    config: Mapped[Json]
    # app.training.plan.choose.Plan: what was predicted, shown beside what was measured.
    plan: Mapped[Json | None]
    measured: Mapped[Json | None]
    status: Mapped[JobStatus] = mapped_column(enum_of(JobStatus), default=JobStatus.QUEUED)
    desired: Mapped[Desired] = mapped_column(enum_of(Desired), default=Desired.RUN)
    # Who last asked to pause, resume or cancel it.
    desired_by_id: Mapped[int | None] = mapped_column(ForeignKey("user_account.id"))
    # Its data was not searched for personal details yet when it was made: where some are found, it
    # fails. False as soon as it has begun.
    awaits_scan: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    priority: Mapped[int] = mapped_column(default=0, server_default="0")  # smaller goes first
    # What its plan asks of a worker: memory of each device, and how many; none: nobody can say.
    needs_bytes: Mapped[int | None] = mapped_column(BigInteger)
    needs_devices: Mapped[int] = mapped_column(default=1, server_default="1")
    run_after: Mapped[datetime] = mapped_column(server_default=func.now())
    # Step of the newest verified checkpoint; an attempt goes on from here.
    durable_step: Mapped[int] = mapped_column(default=0, server_default="0")
    # The last sequence number given to a metric or an event of this job.
    event_seq: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    # What the trainer is doing (TrainerPhase in docs/life-of-a-job.md) and where it stands.
    phase: Mapped[str | None]
    step: Mapped[int] = mapped_column(default=0, server_default="0")
    total_steps: Mapped[int | None]
    trained_tokens: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    # A stable word for why it failed (out_of_memory, loss_not_finite, …) beside `reason`.
    error_code: Mapped[str | None]
    log_tail: Mapped[str | None]
    samples: Mapped[list[Any] | None] = mapped_column(JSONB)
    # /v1: the caller's own labels, the wanted name's end, and what was sent.
    labels: Mapped[Json | None]
    suffix: Mapped[str | None]
    api_request: Mapped[Json | None]
    # What it yielded, once that is deleted: {"model": "ft:…", "files": ["file-…", …]}.
    deleted_result: Mapped[Json | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    owner: Mapped[User] = relationship(foreign_keys=[owner_id])
    version: Mapped[DatasetVersion] = relationship(foreign_keys=[version_id], lazy="joined")
    base_model: Mapped[BaseModel] = relationship(lazy="joined")
    adapter: Mapped[Adapter | None] = relationship(
        back_populates="job", foreign_keys="Adapter.job_id"
    )
    start_adapter: Mapped[Adapter | None] = relationship(foreign_keys=[start_adapter_id])
    __table_args__ = (
        CheckConstraint(
            "(status = 'running') = (worker_id IS NOT NULL AND lease_until IS NOT NULL)",
            name="lease",
        ),
        CheckConstraint("rows_percent BETWEEN 1 AND 100", name="rows_percent"),
        Index("ix_job_queued", "priority", "id", postgresql_where=text("status = 'queued'")),
        # A claim reads the first of each department, whatever waits behind it.
        Index(
            "ix_job_line",
            "department_id",
            "priority",
            "id",
            postgresql_where=text("status = 'queued'"),
        ),
        # From data or a model that failed to the jobs that wait for it.
        Index("ix_job_queued_version", "version_id", postgresql_where=text("status = 'queued'")),
        Index(
            "ix_job_queued_validation",
            "validation_version_id",
            postgresql_where=text("status = 'queued'"),
        ),
        Index("ix_job_queued_model", "base_model_id", postgresql_where=text("status = 'queued'")),
        Index("ix_job_running", "lease_until", postgresql_where=text("status = 'running'")),
        Index(None, "department_id", "created_at"),
        # Of data, what was made of it.
        Index(None, "version_id"),
        # A list's pages, the newest first; and one's own, which are few among many.
        Index("ix_job_list", "department_id", "id", postgresql_where=text("binned_at IS NULL")),
        Index("ix_job_own", "owner_id", "id", postgresql_where=text("binned_at IS NULL")),
        Index("ix_job_binned", "binned_at", postgresql_where=text("binned_at IS NOT NULL")),
    )


class Attempt(Base):
    """One worker's hold on a job, from claim to its end."""

    __tablename__ = "attempt"
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    worker_id: Mapped[str]
    host: Mapped[str]
    # With the trainer's process id and start time: lets a worker of this host prove it dead.
    boot_id: Mapped[str]
    supervisor_pid: Mapped[int]
    supervisor_started: Mapped[int] = mapped_column(BigInteger)
    devices: Mapped[list[Any]] = mapped_column(JSONB)  # e.g. ["cpu"]; may hold several GPUs
    resume_step: Mapped[int]
    spool_offset: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    # The last step that it reported; none: it has reported none.
    last_step: Mapped[int | None]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
    exit_code: Mapped[int | None]
    # What its devices took so far, and whose counter says so ("gpu" or "cpu"); none: not measured.
    energy_joules: Mapped[float | None]
    energy_source: Mapped[str | None]
    __table_args__ = (
        # The last line of defence against two workers on one job.
        Index("uq_attempt_open", "job_id", unique=True, postgresql_where=text("ended_at IS NULL")),
    )


class Metric(Base):
    """One (step, name, value). `seq` orders a job's stream; rows of one step share it."""

    __tablename__ = "metric"
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float]
    attempt: Mapped[int]
    seq: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[datetime]  # when the trainer wrote it
    __table_args__ = (Index(None, "job_id", "seq"),)


class JobEvent(Base):
    """A sentence about a job; `seq` is shared with its metrics."""

    __tablename__ = "job_event"
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    level: Mapped[str]  # info, warn, error
    kind: Mapped[str]  # phase, resumed, evaluation, checkpoint, note, status
    message: Mapped[str]
    data: Mapped[Json | None]


class Checkpoint(Base):
    __tablename__ = "checkpoint"
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True, default=lambda: public_id("ftckpt"))
    attempt: Mapped[int]
    path: Mapped[str]  # below the job's JOB_DIR
    manifest_sha256: Mapped[str]
    metrics: Mapped[Json]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class AdapterKind(StrEnum):
    TUNED = "tuned"  # weights that a job has learned
    LOOKUP = "lookup"  # no weights: the starting model, with rows of the data in its prompt
    ALONE = "alone"  # no weights either: the starting model, as it was counted on the data


class Adapter(Binned, Base):
    """What a job yields, or a starting model that does without; only what is here is served."""

    __tablename__ = "adapter"
    id: Mapped[int] = mapped_column(primary_key=True)
    department_id: Mapped[int] = mapped_column(ForeignKey("department.id"))
    owner_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"))
    kind: Mapped[AdapterKind] = mapped_column(
        enum_of(AdapterKind), default=AdapterKind.TUNED, server_default=AdapterKind.TUNED.value
    )
    job_id: Mapped[int | None] = mapped_column(
        ForeignKey("job.id", ondelete="SET NULL"), unique=True
    )
    base_model_id: Mapped[int] = mapped_column(ForeignKey("base_model.id"))
    # What it was trained further from, as in its job, which may be deleted.
    start_adapter_id: Mapped[int | None] = mapped_column(
        ForeignKey("adapter.id", ondelete="SET NULL"), index=True
    )
    lineage: Mapped[list[Any]] = mapped_column(default=list, server_default=text("'[]'"))
    name: Mapped[str]
    # "ft:{base}:{organisation}:{suffix}:{short id}"; what /v1 calls the tuned model.
    public_name: Mapped[str] = mapped_column(unique=True)
    # The folder; MANIFEST.json names its files. None: it has no weights.
    storage_key: Mapped[str | None]
    manifest_sha256: Mapped[str | None]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    # Whose practice rows are put before each question; None: it looks nothing up. Of a starting
    # model alone: on whose questions it was counted; it is shown no rows. What has no weights dies
    # with that data (datasets/deletion.py), a tuned adapter goes on without.
    lookup_version_id: Mapped[int | None] = mapped_column(
        ForeignKey("dataset_version.id"), index=True
    )
    # {"validation_loss_before", "validation_loss_after", "train_loss", "best_step", …}; {}: none.
    metrics: Mapped[Json]
    # [{"question", "reference", "base", "tuned"}, …]
    samples: Mapped[list[Any]] = mapped_column(JSONB)
    # The zip and the metrics CSV as files, for programs (/v1 result_files).
    archive_file_id: Mapped[int | None] = mapped_column(ForeignKey("stored_file.id"))
    metrics_file_id: Mapped[int | None] = mapped_column(ForeignKey("stored_file.id"))
    # What the card in the zip says of how many answers are right; empty: nothing yet.
    counted: Mapped[str] = mapped_column(default="", server_default="")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    job: Mapped[Job | None] = relationship(back_populates="adapter", foreign_keys=[job_id])
    # Who may ask it (app/adapters/sharing.py is the only writer of these).
    release: Mapped[Release] = mapped_column(
        enum_of(Release), default=Release.PRIVATE, server_default=Release.PRIVATE.value
    )
    purpose: Mapped[str] = mapped_column(default="", server_default="")  # what it is for
    limits: Mapped[str] = mapped_column(default="", server_default="")  # what it is not for
    # Why it was released although it was not ready for that; shown to everybody who asks it.
    release_reason: Mapped[str] = mapped_column(default="", server_default="")
    asks_per_day: Mapped[int] = mapped_column(default=50, server_default="50")  # of one person
    keeps_questions: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    base_model: Mapped[BaseModel] = relationship(lazy="joined")
    archive_file: Mapped[StoredFile | None] = relationship(foreign_keys=[archive_file_id])
    metrics_file: Mapped[StoredFile | None] = relationship(foreign_keys=[metrics_file_id])
    lookup_version: Mapped[DatasetVersion | None] = relationship(foreign_keys=[lookup_version_id])
    __table_args__ = (
        CheckConstraint(
            "(kind = 'tuned') = (storage_key IS NOT NULL AND manifest_sha256 IS NOT NULL)",
            name="weights",
        ),
        CheckConstraint("kind = 'tuned' OR lookup_version_id IS NOT NULL", name="looks_up"),
        Index("ix_adapter_list", "department_id", "id", postgresql_where=text("binned_at IS NULL")),
        Index("ix_adapter_own", "owner_id", "id", postgresql_where=text("binned_at IS NULL")),
        Index("ix_adapter_binned", "binned_at", postgresql_where=text("binned_at IS NOT NULL")),
    )

    @property
    def has_weights(self) -> bool:
        """Whether a job has learned it; what has none is the starting model itself."""
        return self.kind is AdapterKind.TUNED

    @property
    def is_lookup(self) -> bool:
        """Whether it has no weights and answers with rows of the data alone."""
        return self.kind is AdapterKind.LOOKUP

    @property
    def looks_up(self) -> bool:
        """Whether rows of the data are put before each question."""
        return self.lookup_version_id is not None and self.kind is not AdapterKind.ALONE


class PractisedRows(Base):
    """Which rows an adapter has practised, those before it included (app/datasets/practised.py)."""

    __tablename__ = "practised_rows"
    adapter_id: Mapped[int] = mapped_column(
        ForeignKey("adapter.id", ondelete="CASCADE"), primary_key=True
    )
    # Of which key the fingerprints are; by another one they tell nothing.
    key_id: Mapped[str]
    fingerprints: Mapped[bytes] = mapped_column(LargeBinary)
    # False: of an adapter before it nobody knows the rows any more.
    is_complete: Mapped[bool]
