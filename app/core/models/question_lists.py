"""Sheets of questions that an adapter answers row by row."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core.models.base import Base, Leased, enum_of
from app.core.models.conversations import Finish
from app.core.models.jobs import Adapter


class ListStatus(StrEnum):
    """A list of questions on its way from a sheet to the sheet with answers.

    uploaded -> reading -> choosing -> waiting -> answering -> done; failed or cancelled.
    `reading` and `answering` are held by a worker under a lease. `adapters/question_lists.py` is
    the only writer.
    """

    UPLOADED = "uploaded"
    READING = "reading"
    CHOOSING = "choosing"  # waits for a person to say which column has the questions
    WAITING = "waiting"
    ANSWERING = "answering"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class QuestionList(Leased, Base):
    """A sheet of questions to one adapter; its owner's alone, and deleted some days later."""

    __tablename__ = "question_list"
    id: Mapped[int] = mapped_column(primary_key=True)
    department_id: Mapped[int] = mapped_column(ForeignKey("department.id"))
    owner_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="CASCADE"))
    # None once the adapter was deleted: its answers can still be downloaded.
    adapter_id: Mapped[int | None] = mapped_column(ForeignKey("adapter.id", ondelete="SET NULL"))
    adapter_name: Mapped[str]
    filename: Mapped[str]  # as the sender called it; shown, never used as a path
    # The file as it was sent; none once it is read.
    sheet: Mapped[bytes | None] = mapped_column(deferred=True)
    status: Mapped[ListStatus] = mapped_column(enum_of(ListStatus), default=ListStatus.UPLOADED)
    # The names of the sheet's columns, and which of them has the questions: proposed, then chosen.
    columns: Mapped[list[Any]] = mapped_column(
        JSONB, default=list, server_default=text("'[]'::jsonb")
    )
    question_column: Mapped[int | None]
    # What the reading noticed, one sentence each; said until the column is chosen.
    warnings: Mapped[list[Any]] = mapped_column(
        JSONB, default=list, server_default=text("'[]'::jsonb")
    )
    # How it is asked.
    beside_base: Mapped[bool] = mapped_column(default=True, server_default=text("true"))
    instruction: Mapped[str] = mapped_column(default="", server_default="")
    temperature: Mapped[float] = mapped_column(default=0, server_default="0")
    # Rows in all, and how many of them are behind it: they are done in their order.
    num_rows: Mapped[int] = mapped_column(default=0, server_default="0")
    num_done: Mapped[int] = mapped_column(default=0, server_default="0")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # Its last step or answer: so long ago it is deleted.
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # When a worker last took its sheet: people's sheets are read in turn.
    claimed_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    downloaded_at: Mapped[datetime | None]  # the first time that all of it was
    adapter: Mapped[Adapter | None] = relationship()
    __table_args__ = (
        CheckConstraint(
            "(status IN ('reading', 'answering')) = (lease_until IS NOT NULL)", name="lease"
        ),
        Index(None, "owner_id", "adapter_id"),
        Index(None, "status"),
        Index(None, "updated_at"),
    )


class QuestionAnswer(Base):
    """One row of the sheet: its cells as they were, and what was answered."""

    __tablename__ = "question_answer"
    list_id: Mapped[int] = mapped_column(
        ForeignKey("question_list.id", ondelete="CASCADE"), primary_key=True
    )
    index: Mapped[int] = mapped_column(primary_key=True)
    cells: Mapped[list[Any]] = mapped_column(JSONB)  # texts, one for each column
    question: Mapped[str | None]  # as it was asked
    tuned: Mapped[str | None]
    base: Mapped[str | None]
    # Rows of the data that were put before the question, by their places: [{"version", "index"}].
    sources: Mapped[list[Any] | None] = mapped_column(JSONB(none_as_null=True))
    finish: Mapped[Finish | None] = mapped_column(enum_of(Finish))
    error: Mapped[str | None]  # why there is no answer, as a sentence for a person
