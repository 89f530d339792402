"""Questions that a model made up to a version's texts."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core.models.base import Base, Json, Leased, enum_of
from app.core.models.base_models import BaseModel
from app.core.models.people import User


class AskingStatus(StrEnum):
    """waiting -> asking -> done; cancelled or failed. `asking` is held by a worker under a lease.

    `datasets/questions/runs.py` is the only writer.
    """

    WAITING = "waiting"
    ASKING = "asking"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


class Verdict(StrEnum):
    """What a person says of a pair whose question a model made up."""

    OPEN = "open"
    ACCEPTED = "accepted"
    REFUSED = "refused"


class Asking(Leased, Base):
    """A starting model makes up questions to the texts of one version; people judge each pair."""

    __tablename__ = "asking"
    id: Mapped[int] = mapped_column(primary_key=True)
    version_id: Mapped[int] = mapped_column(
        ForeignKey("dataset_version.id", ondelete="CASCADE"), index=True
    )
    owner_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"))
    base_model_id: Mapped[int] = mapped_column(ForeignKey("base_model.id"))
    status: Mapped[AskingStatus] = mapped_column(
        enum_of(AskingStatus), default=AskingStatus.WAITING
    )
    # What was asked for: questions to one passage at most, and pairs in all at most.
    per_passage: Mapped[int]
    max_pairs: Mapped[int]
    seed: Mapped[int] = mapped_column(default=0, server_default="0")
    # How far it is: passages that are behind it, pairs that were proposed.
    num_passages: Mapped[int] = mapped_column(default=0, server_default="0")
    num_pairs: Mapped[int] = mapped_column(default=0, server_default="0")
    # Attempts at a question that were thrown away, by reason: {"no_question": 4}.
    refused: Mapped[Json] = mapped_column(default=dict, server_default=text("'{}'"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]
    owner: Mapped[User] = relationship(lazy="joined")
    base_model: Mapped[BaseModel] = relationship(lazy="joined")
    __table_args__ = (
        CheckConstraint("(status = 'asking') = (lease_until IS NOT NULL)", name="lease"),
        # One at a time for each version.
        Index(
            "uq_asking_open",
            "version_id",
            unique=True,
            postgresql_where=text("status IN ('waiting', 'asking')"),
        ),
    )


class ProposedPair(Base):
    """A question that a model made up to words of a document, beside the passage they stand in."""

    __tablename__ = "proposed_pair"
    id: Mapped[int] = mapped_column(primary_key=True)
    asking_id: Mapped[int] = mapped_column(ForeignKey("asking.id", ondelete="CASCADE"), index=True)
    # The text of the version that the passage is quoted from.
    example_index: Mapped[int]
    heading: Mapped[str]
    passage: Mapped[str]
    # What stands in the passage word for word, until a person edits it.
    answer: Mapped[str]
    question: Mapped[str]
    verdict: Mapped[Verdict] = mapped_column(enum_of(Verdict), default=Verdict.OPEN)
    is_edited: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    decided_by_id: Mapped[int | None] = mapped_column(ForeignKey("user_account.id"))
    decided_at: Mapped[datetime | None]
    asking: Mapped[Asking] = relationship(lazy="joined")
    decided_by: Mapped[User | None] = relationship()
