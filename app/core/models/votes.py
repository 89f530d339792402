"""Colleagues who say, without names, which of two answers is better."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, func
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core.models.base import Base, enum_of
from app.core.models.evaluations import Arm, Evaluation


class Choice(StrEnum):
    FIRST = "first"
    SECOND = "second"
    BOTH = "both"  # are good
    NEITHER = "neither"


class VoteRound(Base):
    """Two who answered the same questions, put to the vote; dies with their evaluations."""

    __tablename__ = "vote_round"
    id: Mapped[int] = mapped_column(primary_key=True)
    department_id: Mapped[int] = mapped_column(ForeignKey("department.id"))
    owner_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"))
    first_evaluation_id: Mapped[int] = mapped_column(
        ForeignKey("evaluation.id", ondelete="CASCADE")
    )
    first_arm: Mapped[Arm] = mapped_column(enum_of(Arm, "first_arm"))
    second_evaluation_id: Mapped[int] = mapped_column(
        ForeignKey("evaluation.id", ondelete="CASCADE")
    )
    second_arm: Mapped[Arm] = mapped_column(enum_of(Arm, "second_arm"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    closed_at: Mapped[datetime | None]
    first_evaluation: Mapped[Evaluation] = relationship(foreign_keys=[first_evaluation_id])
    second_evaluation: Mapped[Evaluation] = relationship(foreign_keys=[second_evaluation_id])
    __table_args__ = (
        Index(None, "first_evaluation_id"),
        Index(None, "second_evaluation_id"),
    )


class VotePair(Base):
    """One question of a round with the positions of its two answers."""

    __tablename__ = "vote_pair"
    round_id: Mapped[int] = mapped_column(
        ForeignKey("vote_round.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True)
    first_position: Mapped[int]
    second_position: Mapped[int]


class Vote(Base):
    """What one person said of one pair: who was meant, and not on which side it stood."""

    __tablename__ = "vote"
    round_id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(
        ForeignKey("user_account.id", ondelete="CASCADE"), primary_key=True
    )
    choice: Mapped[Choice] = mapped_column(enum_of(Choice))
    why: Mapped[str] = mapped_column(default="", server_default="")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (
        ForeignKeyConstraint(
            ["round_id", "number"], ["vote_pair.round_id", "vote_pair.number"], ondelete="CASCADE"
        ),
        CheckConstraint("length(why) <= 2000", name="why"),
    )
