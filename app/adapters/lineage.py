"""What an adapter was trained further from, and what was trained from it in turn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.models import Adapter


@dataclass(frozen=True)
class Ancestor:
    """An adapter that another one came from."""

    id: int | None  # none: it was deleted since, or is in the bin
    name: str
    public_name: str
    manifest_sha256: str


def ancestors(db: Session, entries: Sequence[dict[str, Any]]) -> list[Ancestor]:
    """Return those that a job's or an adapter's lineage names, the nearest first."""
    if not entries:
        return []
    wanted = [entry["adapter_id"] for entry in entries]
    there = {
        row.id: row.name
        for row in db.execute(
            select(Adapter.id, Adapter.name).where(
                Adapter.id.in_(wanted), Adapter.binned_at.is_(None)
            )
        )
    }
    return [
        Ancestor(
            id=entry["adapter_id"] if entry["adapter_id"] in there else None,
            name=there.get(entry["adapter_id"], entry["name"]),
            public_name=entry["public_name"],
            manifest_sha256=entry["manifest_sha256"],
        )
        for entry in entries
    ]


def descendants(db: Session, adapter: Adapter) -> list[Adapter]:
    """Return the adapters that were trained from this one directly, the oldest first."""
    query = select(Adapter).where(
        Adapter.start_adapter_id == adapter.id, Adapter.binned_at.is_(None)
    )
    return list(db.scalars(query.order_by(Adapter.id)))
