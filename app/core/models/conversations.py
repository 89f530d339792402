"""What people asked an adapter and what it answered, and what they say of the answers."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core.models.base import Base, enum_of
from app.core.models.jobs import Adapter


class Beside(StrEnum):
    """Who answers the same questions beside the adapter."""

    BASE = "base"
    ADAPTER = "adapter"
    NOBODY = "nobody"


class Finish(StrEnum):
    """How an answer ended; one without is being written, or its process died."""

    STOP = "stop"
    LENGTH = "length"
    BROKEN_OFF = "broken_off"  # by a person, or with the page
    FAILED = "failed"


class Conversation(Base):
    """Questions to one adapter; its owner's alone, and deleted some days after the last one."""

    __tablename__ = "conversation"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="CASCADE"))
    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapter.id", ondelete="CASCADE"))
    # As of the last question.
    beside: Mapped[Beside] = mapped_column(enum_of(Beside))
    beside_adapter_id: Mapped[int | None] = mapped_column(
        ForeignKey("adapter.id", ondelete="SET NULL")
    )
    instruction: Mapped[str]
    temperature: Mapped[float]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    adapter: Mapped[Adapter] = relationship(foreign_keys=[adapter_id])
    turns: Mapped[list[ConversationTurn]] = relationship(
        back_populates="conversation", order_by="ConversationTurn.id", passive_deletes=True
    )
    __table_args__ = (
        Index(None, "owner_id", "adapter_id", "updated_at"),
        Index(None, "updated_at"),
    )


class ConversationTurn(Base):
    """One question."""

    __tablename__ = "conversation_turn"
    id: Mapped[int] = mapped_column(primary_key=True)
    conversation_id: Mapped[int] = mapped_column(
        ForeignKey("conversation.id", ondelete="CASCADE"), index=True
    )
    question: Mapped[str]
    # It is this example of the held-out set, asked without what was said before.
    example_index: Mapped[int | None]
    # The example of the practice set whose question is most like it. Its words stay in the version.
    nearest_index: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    conversation: Mapped[Conversation] = relationship(back_populates="turns")
    answers: Mapped[list[ConversationAnswer]] = relationship(
        back_populates="turn", order_by="ConversationAnswer.place", passive_deletes=True
    )


class ConversationAnswer(Base):
    """What one model answered to one question; `attempt` is the fence between two tries."""

    __tablename__ = "conversation_answer"
    id: Mapped[int] = mapped_column(primary_key=True)
    turn_id: Mapped[int] = mapped_column(ForeignKey("conversation_turn.id", ondelete="CASCADE"))
    place: Mapped[int]  # 0: the conversation's adapter; 1: who answers beside it
    # Who answers, where that is no adapter: the starting model. `label` says it after a deletion.
    is_base: Mapped[bool]
    adapter_id: Mapped[int | None] = mapped_column(ForeignKey("adapter.id", ondelete="SET NULL"))
    label: Mapped[str]
    attempt: Mapped[int] = mapped_column(default=0, server_default="0")
    text: Mapped[str] = mapped_column(default="", server_default="")
    finish: Mapped[Finish | None] = mapped_column(enum_of(Finish))
    reason: Mapped[str | None]  # why it failed, as a sentence for a person
    seconds: Mapped[float | None]
    num_tokens: Mapped[int | None]
    # The rows that it was shown, the best first: [{"version", "index"}, …, {"note"}?]; none: it
    # looked nothing up.
    sources: Mapped[list[Any] | None] = mapped_column(JSONB(none_as_null=True))
    # What a person says of it: 1 good, -1 not good; and how it should have been.
    thumb: Mapped[int | None]
    better: Mapped[str | None]
    judged_at: Mapped[datetime | None]
    turn: Mapped[ConversationTurn] = relationship(back_populates="answers")
    __table_args__ = (
        UniqueConstraint("turn_id", "place"),
        CheckConstraint("thumb IN (-1, 1)", name="thumb"),
    )
