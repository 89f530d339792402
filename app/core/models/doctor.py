"""What the dataset doctor found in a version, and its fixes."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core.kinds import Severity
from app.core.models.base import Base, Json, Leased, enum_of
from app.core.models.datasets import DatasetVersion
from app.core.models.people import User


class CheckStatus(StrEnum):
    """waiting -> checking -> done; or failed. `checking` is held by a worker under a lease."""

    WAITING = "waiting"
    CHECKING = "checking"
    DONE = "done"
    FAILED = "failed"


class FixStatus(StrEnum):
    """waiting -> working -> done; or failed. `working` is held by a worker under a lease."""

    WAITING = "waiting"
    WORKING = "working"
    DONE = "done"
    FAILED = "failed"


class DatasetCheck(Leased, Base):
    """The doctor's check of all examples of one version (app/datasets/doctor)."""

    __tablename__ = "dataset_check"
    id: Mapped[int] = mapped_column(primary_key=True)
    version_id: Mapped[int] = mapped_column(
        ForeignKey("dataset_version.id", ondelete="CASCADE"), unique=True
    )
    status: Mapped[CheckStatus] = mapped_column(enum_of(CheckStatus), default=CheckStatus.WAITING)
    # app.datasets.doctor.report.Report as JSON: what is said of all examples.
    report: Mapped[Json | None]
    # Indexes of the examples from the shortest to the longest, four bytes each.
    by_length: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # When a worker last took it: people's data is looked at in turn.
    claimed_at: Mapped[datetime | None]
    checked_at: Mapped[datetime | None]
    __table_args__ = (
        Index(None, "status"),
        CheckConstraint("(status = 'checking') = (lease_until IS NOT NULL)", name="lease"),
    )


class Finding(Base):
    """What the doctor found of one kind, and in which examples; their texts stay where they are."""

    __tablename__ = "finding"
    version_id: Mapped[int] = mapped_column(
        ForeignKey("dataset_version.id", ondelete="CASCADE"), primary_key=True
    )
    kind: Mapped[str] = mapped_column(primary_key=True)  # a key of doctor.kinds.KINDS
    severity: Mapped[Severity] = mapped_column(enum_of(Severity))
    count: Mapped[int]
    # Indexes of the examples in rising order, four bytes each; beside each, where there is one, the
    # index of the example that it repeats, contradicts or gives away.
    rows: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    partners: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    # Numbers for the sentence, e.g. {"median": 410}.
    detail: Mapped[Json]


class FixRun(Leased, Base):
    """A finding that a worker puts right in the next version: more than a browser waits for."""

    __tablename__ = "fix_run"
    id: Mapped[int] = mapped_column(primary_key=True)
    version_id: Mapped[int] = mapped_column(
        ForeignKey("dataset_version.id", ondelete="CASCADE"), index=True
    )
    owner_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"))
    status: Mapped[FixStatus] = mapped_column(enum_of(FixStatus), default=FixStatus.WAITING)
    kind: Mapped[str]  # a key of doctor.fixes.FIXES
    fix: Mapped[str]  # a key of that
    result_version_id: Mapped[int | None] = mapped_column(
        ForeignKey("dataset_version.id", ondelete="SET NULL")
    )
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    owner: Mapped[User] = relationship(lazy="joined")
    result: Mapped[DatasetVersion | None] = relationship(foreign_keys=[result_version_id])
    __table_args__ = (
        CheckConstraint("(status = 'working') = (lease_until IS NOT NULL)", name="lease"),
        # One at a time for each version.
        Index(
            "uq_fix_run_open",
            "version_id",
            unique=True,
            postgresql_where=text("status IN ('waiting', 'working')"),
        ),
    )
