"""What the bin shows: what was deleted, by whom, until when it is kept, and what it takes."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.adapters import bin as adapter_bin
from app.core import bins, settings
from app.core.models import Adapter, Job, User
from app.jobs import bin as job_bin
from app.jobs import rights

_MOST = 200


@dataclass(frozen=True)
class Line:
    """One thing in the bin."""

    noun: Literal["jobs", "adapters"]
    id: int
    name: str
    what: str  # e.g. its starting model
    size_bytes: int  # as its list says it
    disk_bytes: int  # with what is made anew of it
    binned_at: datetime
    binned_by: str
    kept_until: datetime
    can_control: bool


@dataclass(frozen=True)
class BinPage:
    """bin/show.html: what was deleted last comes first."""

    lines: list[Line]
    size_bytes: int
    days: float


def bin_page(db: Session, user: User) -> BinPage:
    """Gather what a department has in the bin."""
    jobs = job_bin.list_of(db, user, _MOST)
    adapters = adapter_bin.list_of(db, user, _MOST)
    ids = {row.binned_by_id for row in jobs} | {row.binned_by_id for row in adapters}
    people = {
        number: name or email
        for number, name, email in db.execute(
            select(User.id, User.name, User.email).where(User.id.in_(ids))
        )
    }
    lines = [_job(user, row, people) for row in jobs]
    lines += [_adapter(user, row, people) for row in adapters]
    lines.sort(key=lambda line: line.binned_at, reverse=True)
    return BinPage(lines, sum(line.disk_bytes for line in lines), settings.get().bin_days)


def _job(user: User, row: Job, people: dict[int, str]) -> Line:
    assert row.binned_at is not None
    return Line(
        noun="jobs",
        id=row.id,
        name=row.name,
        what="Job, with its curve and log",
        size_bytes=0,
        disk_bytes=0,
        binned_at=row.binned_at,
        binned_by=people.get(row.binned_by_id or 0, ""),
        kept_until=bins.kept_until(row),
        can_control=rights.may_control(user, row),
    )


def _adapter(user: User, row: Adapter, people: dict[int, str]) -> Line:
    assert row.binned_at is not None
    archive = row.archive_file
    return Line(
        noun="adapters",
        id=row.id,
        name=row.name,
        what=f"Trained model, for {row.base_model.label}",
        size_bytes=(archive or row).size_bytes,
        disk_bytes=row.size_bytes + (archive.size_bytes if archive is not None else 0),
        binned_at=row.binned_at,
        binned_by=people.get(row.binned_by_id or 0, ""),
        kept_until=bins.kept_until(row),
        can_control=adapter_bin.may_restore(user),
    )
