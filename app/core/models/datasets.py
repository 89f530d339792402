"""Datasets, their versions and the files that they were read from."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core.models.base import Base, Json, Leased, enum_of, public_id
from app.core.models.people import User


class VersionStatus(StrEnum):
    """A dataset version on its way from a file to examples.

    uploaded -> inspecting -> mapping -> confirmed -> building -> ready; failed from any of them.
    `inspecting` and `building` are held by a worker under a lease.
    """

    UPLOADED = "uploaded"
    INSPECTING = "inspecting"
    MAPPING = "mapping"  # waits for a person to confirm the columns
    CONFIRMED = "confirmed"
    BUILDING = "building"
    READY = "ready"
    FAILED = "failed"


class StoredFile(Base):
    """Raw bytes that somebody sent, or that Etude made for a program to fetch."""

    __tablename__ = "stored_file"
    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True, default=lambda: public_id("file"))
    department_id: Mapped[int] = mapped_column(ForeignKey("department.id"))
    owner_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"))
    filename: Mapped[str]  # as the sender called it; shown, never used as a path
    purpose: Mapped[str] = mapped_column(default="fine-tune", server_default="fine-tune")
    storage_key: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # The bytes are gone from then on; the row stays so that jobs can name what they used.
    deleted_at: Mapped[datetime | None]


class Dataset(Base):
    __tablename__ = "dataset"
    id: Mapped[int] = mapped_column(primary_key=True)
    department_id: Mapped[int] = mapped_column(ForeignKey("department.id"))
    owner_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"))
    name: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # File and examples are gone from then on; counts and hashes stay for the adapters' lineage.
    deleted_at: Mapped[datetime | None]
    owner: Mapped[User] = relationship()
    versions: Mapped[list[DatasetVersion]] = relationship(
        back_populates="dataset", order_by="DatasetVersion.number"
    )
    __table_args__ = (Index(None, "department_id", "created_at"),)


class DatasetVersion(Leased, Base):
    """A file read with a mapping, or a base plus what changed; immutable once ready."""

    __tablename__ = "dataset_version"
    id: Mapped[int] = mapped_column(primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id", ondelete="CASCADE"))
    number: Mapped[int]
    base_version_id: Mapped[int | None] = mapped_column(ForeignKey("dataset_version.id"))
    # Ids of the versions whose rows it is read through, its own first, the one with all rows last;
    # none: it has all of its rows itself (app/datasets/examples.py).
    layers: Mapped[list[Any] | None] = mapped_column(JSONB)
    # What makes it differ from its base: {"why", "num_edited", "num_moved", "num_removed"} and
    # "num_added" where there are new ones; {"why", "num_accepted"} where it holds questions that a
    # model made up; {"why", "num_added", "pairs_of"} where it holds what people preferred.
    changes: Mapped[Json | None]
    file_id: Mapped[int] = mapped_column(ForeignKey("stored_file.id"))
    status: Mapped[VersionStatus] = mapped_column(
        enum_of(VersionStatus), default=VersionStatus.UPLOADED
    )
    # No person is there to ask (the API): a mapping that is sure is taken, another is an error.
    auto_confirm: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    # How a person says to read the file: readers.inspections.ReadAs as JSON; none: by content.
    read_as: Mapped[Json | None]
    # What the reader found: readers.inspections.Inspection as JSON.
    inspection: Mapped[Json | None]
    # Columns -> messages: app.datasets.mapping.Mapping as JSON; proposed, then confirmed.
    mapping: Mapped[Json | None]
    # Of the rows, those that test (app/datasets/parts.py).
    validation_share: Mapped[float] = mapped_column(default=0.1, server_default="0.1")
    split_seed: Mapped[int] = mapped_column(default=0, server_default="0")
    num_train: Mapped[int] = mapped_column(default=0, server_default="0")
    num_validation: Mapped[int] = mapped_column(default=0, server_default="0")
    # None: it has two parts, as all had once; its `validation` rows test, and choose, too.
    num_test: Mapped[int | None]
    # Rows that became no example, by reason: {"empty_answer": 12}.
    left_out: Mapped[Json | None]
    # Token lengths by base model id: app.training.plan.shape.LengthHistogram as JSON.
    token_lengths: Mapped[Json | None]
    # What starting models take of it, by their id: app.datasets.fits.Fits as JSON.
    model_fits: Mapped[Json | None]
    # SHA-256 over the examples, in order: what a model card can name. Of a long derived version it
    # is known once a job has read all of it.
    examples_sha256: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # When a worker last took it: people's files are read in turn.
    claimed_at: Mapped[datetime | None]
    ready_at: Mapped[datetime | None]
    dataset: Mapped[Dataset] = relationship(back_populates="versions", lazy="joined")
    file: Mapped[StoredFile] = relationship(lazy="joined")
    __table_args__ = (
        UniqueConstraint("dataset_id", "number"),
        Index(None, "status"),
        CheckConstraint(
            "(status IN ('inspecting', 'building')) = (lease_until IS NOT NULL)", name="lease"
        ),
    )

    @property
    def num_rows(self) -> int:
        """Return how many examples it has, in all parts together."""
        return self.num_train + self.num_validation + (self.num_test or 0)
