"""What people said of an adapter's answers: given to its owner, to be made into data."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, false, func
from sqlalchemy.orm import Mapped, mapped_column

from app.core.models.base import Base


class Feedback(Base):
    """One question and answer with a thumb or a better answer; the conversation stays private."""

    __tablename__ = "feedback"
    id: Mapped[int] = mapped_column(primary_key=True)
    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapter.id", ondelete="CASCADE"))
    # None once the conversation is over its time.
    answer_id: Mapped[int | None] = mapped_column(
        ForeignKey("conversation_answer.id", ondelete="SET NULL"), unique=True
    )
    author_id: Mapped[int | None] = mapped_column(
        ForeignKey("user_account.id", ondelete="SET NULL")
    )
    question: Mapped[str]
    # What was asked before it is not given along, so it may make no sense alone.
    is_follow_up: Mapped[bool] = mapped_column(default=False, server_default=false())
    answer: Mapped[str]
    label: Mapped[str]  # who gave it
    # It is this example of this version's held-out rows.
    example_index: Mapped[int | None]
    held_out_version_id: Mapped[int | None] = mapped_column(
        ForeignKey("dataset_version.id", ondelete="SET NULL")
    )
    thumb: Mapped[int | None]
    better: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # When it became data, and in which version.
    used_at: Mapped[datetime | None]
    used_version_id: Mapped[int | None] = mapped_column(
        ForeignKey("dataset_version.id", ondelete="SET NULL")
    )
    __table_args__ = (
        Index(None, "adapter_id", "id"),
        CheckConstraint("thumb IN (-1, 1)", name="thumb"),
    )
