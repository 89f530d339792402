"""What departments and people may have of the machines, and what they had."""

from __future__ import annotations

from datetime import date, time

from sqlalchemy import CheckConstraint, ForeignKey, text
from sqlalchemy.orm import Mapped, mapped_column

from app.core.models.base import Base


class QueueRule(Base):
    """What a department, or a person, may have of the machines; without a row: as much as it is."""

    __tablename__ = "line_rule"
    id: Mapped[int] = mapped_column(primary_key=True)
    department_id: Mapped[int | None] = mapped_column(
        ForeignKey("department.id", ondelete="CASCADE"), unique=True
    )
    user_id: Mapped[int | None] = mapped_column(
        ForeignKey("user_account.id", ondelete="CASCADE"), unique=True
    )
    # Of two departments, one with twice the share gets twice the time when both wait.
    share: Mapped[float] = mapped_column(default=1, server_default="1")
    max_running: Mapped[int | None]
    max_queued: Mapped[int | None]
    month_hours: Mapped[float | None]  # of one device
    # From when to when its jobs may run, in the site's time zone; past midnight where the end is
    # the smaller one. On weekends all day, where that is allowed.
    opens: Mapped[time | None]
    closes: Mapped[time | None]
    weekends: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    __table_args__ = (
        CheckConstraint("(department_id IS NULL) <> (user_id IS NULL)", name="whose"),
        CheckConstraint("share > 0", name="share"),
        CheckConstraint("(opens IS NULL) = (closes IS NULL)", name="hours"),
    )


class DeviceUse(Base):
    """Device-seconds that a person's jobs have had in a month; app/jobs/shares.py writes it."""

    __tablename__ = "device_use"
    month: Mapped[date] = mapped_column(primary_key=True)  # its first day, in the site's time zone
    user_id: Mapped[int] = mapped_column(
        ForeignKey("user_account.id", ondelete="CASCADE"), primary_key=True
    )
    department_id: Mapped[int] = mapped_column(ForeignKey("department.id"), primary_key=True)
    seconds: Mapped[float]
