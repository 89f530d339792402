"""The cpu worker's part of putting a finding right where it is about many examples.

    waiting -> working -> done, under a lease (app/core/leases.py)

The next version appears in the transaction that ends the lease, whole or not at all.
"""

from collections.abc import Iterator

import structlog

from app.core import db, leases
from app.core.errors import AppError
from app.core.leases import Lease, LeaseLost
from app.core.models import DatasetVersion, FixRun, FixStatus
from app.datasets import changes
from app.datasets.changes import Change
from app.datasets.doctor import fixes
from worker.cpu.leased import Draining, Held, let_go

log = structlog.get_logger()
_TOLD_EVERY = 500


def fix_next(worker_id: str) -> bool:
    """Put right what was asked for first.

    Returns:
        Whether there was something to do; ask again until there is nothing.
    """
    with db.session() as session:
        leases.take_back(session, leases.FIXES, worker_id)
        lease = leases.claim(session, leases.FIXES, worker_id)
        session.commit()
    if lease is None:
        return False
    log.info("fixing", fix=lease.id, attempt=lease.attempt)
    try:
        with Held(lease) as held:
            _fix(lease, held)
    except LeaseLost:
        log.warning("lease_lost", fix=lease.id, attempt=lease.attempt)
    except Draining:
        let_go(lease, lease.came_from)
    except AppError as error:
        let_go(lease, FixStatus.FAILED, reason=str(error))
    return True


def _fix(lease: Lease, held: Held) -> None:
    # Two sessions: one reads on while the other writes.
    with db.session() as session, db.session() as reading:
        run = session.get(FixRun, lease.id)
        if run is None:
            raise LeaseLost  # its dataset was deleted just now
        base = session.get_one(DatasetVersion, run.version_id)
        fix = fixes.choose(run.kind, run.fix)
        seen = reading.get_one(DatasetVersion, base.id)
        told = _told(fixes.made(reading, seen, run.kind, fix), held)
        version = changes.derive(session, run.owner, base, told, fix.done, patience_seconds=None)
        leases.release(session, lease, FixStatus.DONE, reason=None, result_version_id=version.id)
        session.commit()


def _told(made: Iterator[Change], held: Held) -> Iterator[Change]:
    for number, change in enumerate(made, start=1):
        if number % _TOLD_EVERY == 0:
            held.tell({"examples": number})
            held.check()
        yield change
