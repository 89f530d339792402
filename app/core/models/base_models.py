"""Starting models."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, CheckConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from app.core.models.base import Base, Json, Leased, enum_of


class ModelStatus(StrEnum):
    WAITING = "waiting"
    IMPORTING = "importing"
    READY = "ready"
    FAILED = "failed"


class BaseModel(Leased, Base):
    """A starting model in the registry; `folder` below models_dir holds verified safetensors."""

    __tablename__ = "base_model"
    id: Mapped[int] = mapped_column(primary_key=True)
    # e.g. "HuggingFaceTB/SmolLM2-135M-Instruct"; what /v1 calls a model.
    name: Mapped[str] = mapped_column(unique=True)
    label: Mapped[str]
    status: Mapped[ModelStatus] = mapped_column(enum_of(ModelStatus), default=ModelStatus.WAITING)
    # Where an import reads from: {"kind": "folder" | "starter" | "hub" | "upload", "path"?,
    # "repo"?, "revision"?, "id"?}; of a GGUF file afterwards also {"gguf": {"name", "sha256"}}.
    source: Mapped[Json]
    folder: Mapped[str | None]
    # SHA-256 of the MANIFEST.json that names every file.
    manifest_sha256: Mapped[str | None]
    licence: Mapped[str] = mapped_column(default="", server_default="")
    # Where the weights come from and what they are fit for, in a sentence or two.
    note: Mapped[str] = mapped_column(default="", server_default="")
    # The model's config.json, as checked at import.
    config: Mapped[Json | None]
    num_parameters: Mapped[int | None] = mapped_column(BigInteger)
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # Its files are gone from then on; the row stays for the jobs and adapters made with it.
    deleted_at: Mapped[datetime | None]
    __table_args__ = (
        CheckConstraint("(status = 'importing') = (lease_until IS NOT NULL)", name="lease"),
    )
