"""What points to people in a version's examples, and what was decided about it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core.models.base import Base, Json, Leased, enum_of
from app.core.models.people import User


class ReviewStatus(StrEnum):
    """A version's way through the privacy gate; `datasets/privacy/reviews.py` is the only writer.

    stated -> waiting -> scanning -> undecided -> decided, or requested -> replacing -> replaced;
    failed from any of them. `scanning` and `replacing` are held by a worker under a lease.
    """

    STATED = "stated"  # somebody decided before there were examples to look at
    WAITING = "waiting"
    SCANNING = "scanning"
    UNDECIDED = "undecided"  # waits for a person
    REQUESTED = "requested"  # decided: a worker has to replace or blank
    REPLACING = "replacing"
    DECIDED = "decided"  # may be learned from
    REPLACED = "replaced"  # another version takes its place
    FAILED = "failed"


class PrivacyReview(Leased, Base):
    """What was found in a version that points to people, and what was decided about it."""

    __tablename__ = "privacy_review"
    id: Mapped[int] = mapped_column(primary_key=True)
    version_id: Mapped[int] = mapped_column(
        ForeignKey("dataset_version.id", ondelete="CASCADE"), unique=True
    )
    status: Mapped[ReviewStatus] = mapped_column(
        enum_of(ReviewStatus), default=ReviewStatus.WAITING
    )
    # How many findings of each kind: {"name": 14}; never what they say.
    found: Mapped[Json | None]
    num_examples: Mapped[int] = mapped_column(default=0, server_default="0")
    # app.datasets.privacy.reviews.Decision as JSON.
    decision: Mapped[Json | None]
    # What became of what was found: {"name": {"replace": 6, "keep": 1}}. Of a version made by a
    # decision: what was kept and still stands in it.
    done: Mapped[Json | None]
    # Made before the findings were seen: by a program, or for a sample of ours.
    is_stated: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    decided_by_id: Mapped[int | None] = mapped_column(ForeignKey("user_account.id"))
    decided_at: Mapped[datetime | None]
    # The version in which stand-ins stand.
    result_version_id: Mapped[int | None] = mapped_column(ForeignKey("dataset_version.id"))
    # The highest number given to a stand-in of each kind so far: {"name": 9}.
    stand_ins: Mapped[Json | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # When a worker last took it: people's data is looked at in turn.
    claimed_at: Mapped[datetime | None]
    decided_by: Mapped[User | None] = relationship()
    __table_args__ = (
        Index(None, "status"),
        CheckConstraint(
            "(status IN ('scanning', 'replacing')) = (lease_until IS NOT NULL)", name="lease"
        ),
    )


class PrivacyFinding(Base):
    """Where something that points to a person stands, not what it says."""

    __tablename__ = "privacy_finding"
    # The version that holds the example's row: a derived version has those of its own rows alone.
    version_id: Mapped[int] = mapped_column(
        ForeignKey("dataset_version.id", ondelete="CASCADE"), primary_key=True
    )
    index: Mapped[int] = mapped_column(primary_key=True)
    # Which of the example's texts (app/datasets/privacy/texts.py), and from where to where in it.
    text: Mapped[int] = mapped_column(primary_key=True)
    start: Mapped[int] = mapped_column(primary_key=True)
    end: Mapped[int]
    kind: Mapped[str]
    # Equal for equal values, so that they can be counted and shown once.
    key: Mapped[str]
    __table_args__ = (Index(None, "version_id", "kind", "key"),)


class PrivacyPattern(Base):
    """What an administrator wants found besides: a regular expression, for the whole site."""

    __tablename__ = "privacy_pattern"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    kind: Mapped[str]
    pattern: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
