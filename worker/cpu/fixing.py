"""The cpu worker's part of putting a finding right where it is about many examples.

    waiting -> working -> done, under a lease (app/core/leases.py)

The next version appears in the transaction that ends the lease, whole or not at all.
"""

from collections.abc import Iterator

import structlog
from sqlalchemy.orm import Session

from app.core import db, leases
from app.core.errors import AppError
from app.core.leases import Lease, LeaseLost
from app.core.models import DatasetVersion, FixRun, FixStatus
from app.datasets import changes
from app.datasets.changes import Change
from app.datasets.doctor import fixes
from worker import leased
from worker.leased import LeaseHolder, Unfinished

log = structlog.get_logger()
_TOLD_EVERY = 500


def fix_next(worker_id: str) -> bool:
    """Put right what was asked for first.

    Returns:
        Whether there was something to do; ask again until there is nothing.
    """
    return leased.run(leases.FIXES, worker_id, _fetch, _fix, name="fix")


def _fetch(session: Session, lease: Lease) -> FixRun | None:
    return session.get(FixRun, lease.id)


def _fix(holder: LeaseHolder, run: FixRun) -> None:
    log.info("fixing", fix=run.id, attempt=holder.lease.attempt)
    try:
        _make(holder, run)
    except AppError as error:
        raise Unfinished(str(error)) from error


def _make(holder: LeaseHolder, run: FixRun) -> None:
    # Two sessions: one reads on while the other writes.
    with db.session() as session, db.session() as reading:
        session.add(run)
        base = session.get(DatasetVersion, run.version_id)
        if base is None:
            raise LeaseLost  # its dataset was deleted just now
        fix = fixes.choose(run.kind, run.fix)
        seen = reading.get_one(DatasetVersion, base.id)
        told = _told(fixes.made(reading, seen, run.kind, fix), holder)
        version = changes.derive(session, run.owner, base, told, fix.done, patience_seconds=None)
        leases.release(
            session, holder.lease, FixStatus.DONE, reason=None, result_version_id=version.id
        )
        session.commit()


def _told(made: Iterator[Change], holder: LeaseHolder) -> Iterator[Change]:
    for number, change in enumerate(made, start=1):
        if number % _TOLD_EVERY == 0:
            holder.tell({"examples": number})
            holder.check()
        yield change
