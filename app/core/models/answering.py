"""The processes that answer for models."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func
from sqlalchemy.orm import Mapped, mapped_column

from app.core.models.base import Base, Json


class Answerer(Base):
    """One `etude answer`: where it listens, and until when that is believed.

    A row stays for as long as there is a process of that name; a new start raises `attempt`, and
    what an earlier one of the same name still writes finds no row.
    """

    __tablename__ = "answerer"
    id: Mapped[int] = mapped_column(primary_key=True)
    worker_id: Mapped[str] = mapped_column(unique=True)  # e.g. "answer-0@host"
    attempt: Mapped[int] = mapped_column(default=1, server_default="1")
    host: Mapped[str]
    address: Mapped[str]  # "host:port", for the web
    secret: Mapped[str]  # made at each start; whoever connects says it first
    # adapters.answering.AnswererState as JSON, for the page.
    state: Mapped[Json]
    lease_until: Mapped[datetime | None]  # none: it has ended in order
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
