"""Workers, the devices taken out of use, and what processes tried to reach."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, LargeBinary, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core.models.base import Base, Json, enum_of
from app.core.models.people import User


class WorkerState(StrEnum):
    ACTIVE = "active"
    DRAINING = "draining"


class Worker(Base):
    __tablename__ = "worker"
    id: Mapped[str] = mapped_column(primary_key=True)  # e.g. "gpu-0@host"
    queue: Mapped[str]  # gpu or cpu
    host: Mapped[str]
    boot_id: Mapped[str]
    devices: Mapped[list[Any]] = mapped_column(JSONB)
    # What its device can do: app.training.plan.machine.DeviceInfo as JSON; plans are made for it.
    hardware: Mapped[Json | None]
    state: Mapped[WorkerState] = mapped_column(enum_of(WorkerState), default=WorkerState.ACTIVE)
    version: Mapped[str]
    # How its devices are just now: machines.devices.Readings as JSON.
    readings: Mapped[Json | None]
    last_seen: Mapped[datetime] = mapped_column(server_default=func.now())


class QuarantinedDevice(Base):
    """A device that no job gets until an administrator releases it."""

    __tablename__ = "quarantined_device"
    host: Mapped[str] = mapped_column(primary_key=True)
    device: Mapped[str] = mapped_column(primary_key=True)  # as a worker names it, e.g. "cuda:0"
    reason: Mapped[str]
    by_id: Mapped[int | None] = mapped_column(ForeignKey("user_account.id"))
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    by: Mapped[User | None] = relationship()


class MachineJoin(Base):
    """A one-time token with which another machine joins, stored hashed; then: that it has."""

    __tablename__ = "machine_join"
    id: Mapped[int] = mapped_column(primary_key=True)
    token_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    machine: Mapped[str] = mapped_column(unique=True)  # what it is called from then on
    by_id: Mapped[int | None] = mapped_column(ForeignKey("user_account.id", ondelete="SET NULL"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    used_from: Mapped[str] = mapped_column(default="", server_default="")  # its address then
    by: Mapped[User | None] = relationship()


class OutboundCount(Base):
    """What one process has tried to reach beyond its machine since it started."""

    __tablename__ = "outbound_count"
    process: Mapped[str] = mapped_column(primary_key=True)  # e.g. "web-8000@host", "cpu-0@host"
    # app.core.outbound.Counts: numbers by purpose, and by target where nothing allows it.
    allowed: Mapped[Json] = mapped_column(JSONB)
    unexpected: Mapped[Json] = mapped_column(JSONB)
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
