"""Adapters that colleagues may ask: who used them how much, what was kept, what was reported."""

from __future__ import annotations

import datetime as dt
from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, ForeignKey, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from app.core.models.base import Base


class Release(StrEnum):
    """Who may ask an adapter."""

    PRIVATE = "private"  # those of the department who may train
    RELEASED = "released"  # viewers, too
    WITHDRAWN = "withdrawn"  # nobody, by whatever way


class AdapterUse(Base):
    """How often one person asked an adapter on one day; not what."""

    __tablename__ = "adapter_use"
    adapter_id: Mapped[int] = mapped_column(
        ForeignKey("adapter.id", ondelete="CASCADE"), primary_key=True
    )
    user_id: Mapped[int] = mapped_column(
        ForeignKey("user_account.id", ondelete="CASCADE"), primary_key=True
    )
    day: Mapped[dt.date] = mapped_column(primary_key=True)  # the site's
    num_asked: Mapped[int]


class KeptQuestion(Base):
    """What colleagues asked an adapter whose owner said on its page that it is kept; not who."""

    __tablename__ = "kept_question"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapter.id", ondelete="CASCADE"))
    question: Mapped[str]
    answer: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (Index("ix_kept_question_adapter", "adapter_id", "id"),)


class AnswerReport(Base):
    """An answer that a colleague showed to an adapter's owner."""

    __tablename__ = "answer_report"
    id: Mapped[int] = mapped_column(primary_key=True)
    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapter.id", ondelete="CASCADE"))
    reporter_id: Mapped[int | None] = mapped_column(
        ForeignKey("user_account.id", ondelete="SET NULL")
    )
    question: Mapped[str]
    answer: Mapped[str]
    note: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    handled_at: Mapped[datetime | None]
    __table_args__ = (Index("ix_answer_report_adapter", "adapter_id", "id"),)
