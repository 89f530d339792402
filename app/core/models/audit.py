"""Who did what."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from app.core.models.base import Base, Json


class AuditEvent(Base):
    """Who did what to which data; append-only (a trigger refuses anything else), hash-chained."""

    __tablename__ = "audit_event"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    at: Mapped[datetime]
    actor: Mapped[str]  # e-mail, or "system"
    department_id: Mapped[int | None] = mapped_column(ForeignKey("department.id"))
    action: Mapped[str]  # e.g. "job.create"
    subject: Mapped[str]  # e.g. "job 7"
    detail: Mapped[Json]
    previous_hash: Mapped[bytes] = mapped_column(LargeBinary)
    hash: Mapped[bytes] = mapped_column(LargeBinary)
