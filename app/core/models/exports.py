"""What an adapter is taken along as: a file that other programs open."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core.models.base import Base, Leased, enum_of, public_id
from app.core.models.jobs import Adapter
from app.core.models.people import User


class ExportStatus(StrEnum):
    """waiting -> making -> ready; failed, cancelled or, after its time, gone.

    `making` is held by a cpu worker under a lease. `app/adapters/exports.py` is the only writer.
    """

    WAITING = "waiting"
    MAKING = "making"
    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"
    GONE = "gone"  # the row stays: it can be made again by a click


class ExportForm(StrEnum):
    ADAPTER = "adapter"
    MERGED = "merged"
    GGUF = "gguf"  # the adapter alone
    GGUF_MERGED = "gguf-merged"
    OLLAMA = "ollama"
    VLLM = "vllm"


class Quantization(StrEnum):
    """How exact a form's numbers are; as_trained: the adapter's own, on 16-bit weights."""

    AS_TRAINED = "as_trained"
    BF16 = "bf16"
    F16 = "f16"
    Q8_0 = "q8_0"
    Q4_K_M = "q4_k_m"


class Export(Leased, Base):
    """One adapter in one form; only what is ready here is ever handed over."""

    __tablename__ = "export"
    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True, default=lambda: public_id("export"))
    department_id: Mapped[int] = mapped_column(ForeignKey("department.id"))
    owner_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"))
    adapter_id: Mapped[int] = mapped_column(
        ForeignKey("adapter.id", ondelete="CASCADE"), index=True
    )
    form: Mapped[ExportForm] = mapped_column(enum_of(ExportForm))
    quantization: Mapped[Quantization] = mapped_column(enum_of(Quantization))
    status: Mapped[ExportStatus] = mapped_column(
        enum_of(ExportStatus), default=ExportStatus.WAITING
    )
    # One zip below storage; its SHA-256. None: it is not ready.
    storage_key: Mapped[str | None]
    filename: Mapped[str] = mapped_column(default="", server_default="")
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    sha256: Mapped[str | None]
    # worker/exporting/agreement.py: one for each program that opened it, with its bounds.
    agreement: Mapped[list[Any]] = mapped_column(default=list, server_default=text("'[]'"))
    # Sentences about this very file, e.g. which rows got another kind than its name says.
    notes: Mapped[list[Any]] = mapped_column(default=list, server_default=text("'[]'"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]
    kept_until: Mapped[datetime | None]
    adapter: Mapped[Adapter] = relationship(lazy="joined")
    owner: Mapped[User] = relationship(lazy="joined")
    __table_args__ = (
        CheckConstraint("(status = 'making') = (lease_until IS NOT NULL)", name="lease"),
        CheckConstraint(
            "(status = 'ready') = (storage_key IS NOT NULL AND sha256 IS NOT NULL"
            " AND size_bytes IS NOT NULL AND kept_until IS NOT NULL)",
            name="files",
        ),
        # Of each form one at a time is waited for, made or handed over.
        Index(
            "uq_export_open",
            "adapter_id",
            "form",
            "quantization",
            unique=True,
            postgresql_where=text("status IN ('waiting', 'making', 'ready')"),
        ),
    )
