"""What every table stands on: the base class, its types, a row's lease, and its way to the bin."""

from __future__ import annotations

import secrets
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import DateTime, Enum, ForeignKey, MetaData
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Json = dict[str, Any]


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        Json: JSONB,
        list[Any]: JSONB,
        datetime: DateTime(timezone=True),
    }


def enum_of(kind: type[StrEnum], name: str = "") -> Enum:
    """Return the type of a column; a second one of this kind in a table has a name of its own."""
    # Text with a check, not a native type: a value can be added in a plain migration.
    return Enum(
        kind,
        native_enum=False,
        length=20,
        create_constraint=True,
        name=name or kind.__name__.lower(),
        values_callable=lambda members: [member.value for member in members],
    )


def public_id(prefix: str) -> str:
    """Make an id that may be shown to programs, e.g. `ftjob-…`; not a secret."""
    return f"{prefix}-{secrets.token_hex(12)}"


class Leased:
    """A row that one worker at a time may hold; the attempt number is the fence."""

    attempt: Mapped[int] = mapped_column(default=0, server_default="0")
    worker_id: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    strikes: Mapped[int] = mapped_column(default=0, server_default="0")
    # Why it failed, as a sentence for a person.
    reason: Mapped[str | None]
    # What the worker last said, e.g. {"rows": 12000}; shown while it works.
    progress: Mapped[Json | None]


class Binned:
    """A row that people delete and may have back for some days; its wing's `bin.py` writes these.

    In the bin it is shown, used and counted nowhere else.
    """

    binned_at: Mapped[datetime | None]
    binned_by_id: Mapped[int | None] = mapped_column(ForeignKey("user_account.id"))
