"""The examples of a version, and what finds words in them."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, Index, LargeBinary, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.core.kinds import ExampleKind
from app.core.models.base import Base, Json, enum_of


class Split(StrEnum):
    """The part that a row stands in (app/datasets/parts.py)."""

    TRAIN = "train"  # practice
    VALIDATION = "validation"  # check; in versions from before, test
    TEST = "test"


class Example(Base):
    __tablename__ = "example"
    version_id: Mapped[int] = mapped_column(
        ForeignKey("dataset_version.id", ondelete="CASCADE"), primary_key=True
    )
    index: Mapped[int] = mapped_column(primary_key=True)
    split: Mapped[Split] = mapped_column(enum_of(Split))
    kind: Mapped[ExampleKind] = mapped_column(enum_of(ExampleKind))
    # chat: [{"role", "content", "weight"?, "tool_calls"?, "tool_call_id"?, "name"?}, …];
    # text: [{"role": "text", "content"}]; preference: a chat whose last message, the better answer,
    # has the worse one beside it as "rejected".
    messages: Mapped[list[Any]] = mapped_column(JSONB)
    # What the model is told that it may call, as OpenAI writes it: [{"type", "function"}, …].
    tools: Mapped[list[Any] | None] = mapped_column(JSONB(none_as_null=True))
    # Where it came from and what was noticed: {"row": 14}; of a question that a model made up
    # {"proposed": 7}, the pair's id.
    flags: Mapped[Json | None]
    # In a derived version: the base's example of this index is left out.
    is_removed: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    __table_args__ = (Index(None, "version_id", "split", "index"),)


class SearchBits(Base):
    """Which blocks of a version's examples hold some four bytes (app/datasets/search.py)."""

    __tablename__ = "search_bits"
    version_id: Mapped[int] = mapped_column(
        ForeignKey("dataset_version.id", ondelete="CASCADE"), primary_key=True
    )
    bucket: Mapped[int] = mapped_column(primary_key=True)
    blocks: Mapped[bytes] = mapped_column(LargeBinary)
