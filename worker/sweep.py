"""A timer in every worker: says that it lives, takes back what the dead held, rings again.

It repairs the loss of messages, so it is a thread and never a message itself. Any number of
workers may sweep at once.
"""

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import structlog
from sqlalchemy import exists, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app import adapters, db, jobs, leases, queue, settings
from app.models import Job, Worker, WorkerState
from worker import identity

_CLEAN_SECONDS = 600.0

_log = structlog.get_logger()
_stopping = threading.Event()


class _Work:
    """What this process does beside sweeping."""

    is_busy = False
    looked_at = float("-inf")  # when a hint last arrived


_work = _Work()


@contextmanager
def busy() -> Iterator[None]:
    """Mark this worker as at work: it needs no ringing."""
    _work.is_busy, _work.looked_at = True, _now()
    try:
        yield
    finally:
        _work.is_busy = False


def start(queue_name: Literal["gpu", "cpu"]) -> None:
    """Begin to sweep, in a thread of this process."""
    _stopping.clear()
    threading.Thread(target=_Sweep(queue_name).run, name="sweep", daemon=True).start()


def stop() -> None:
    """Let the thread end before the interpreter does."""
    _stopping.set()


class _Sweep:
    def __init__(self, queue_name: Literal["gpu", "cpu"]) -> None:
        self.queue = queue_name
        self.settings = settings.get()
        self.worker = identity.me()
        self.is_registered = False
        # Since when the database has answered without a break; nobody is reaped before that has
        # lasted: after an outage the living must have time to say so.
        self.answering_since: float | None = None
        self.beat_at = self.swept_at = float("-inf")
        self.cleaned_at = _now()
        self.waiting_since: float | None = None

    def run(self) -> None:
        """Sweep until told to stop; a database out of reach is met again the next time."""
        while not _stopping.wait(self.settings.watch_seconds):
            try:
                with db.session() as session:
                    self._tick(session)
                    session.commit()
                self.answering_since = self.answering_since or _now()
            except DBAPIError as error:
                self.answering_since = None
                _log.warning("sweep.database_away", error=str(error.orig).strip())
            except Exception:
                # Whatever it was: a worker without its sweep would be lost for good.
                _log.exception("sweep.failed")

    def _tick(self, session: Session) -> None:
        self._take_back(session)
        now = _now()
        if now - self.beat_at >= self.settings.heartbeat_seconds:
            self._say_alive(session)
            self.beat_at = now
        if now - self.swept_at >= self.settings.sweep_seconds:
            self._reap(session)
            # What waits must be visible to whom we ring for.
            session.commit()
            self._ring(session)
            self.swept_at = now
        if now - self.cleaned_at >= _CLEAN_SECONDS:
            clean(session)
            self.cleaned_at = now

    def _take_back(self, session: Session) -> None:
        """Take back at once what dead workers of this machine held."""
        for job_id in jobs.take_back(session, self.worker.host, identity.is_alive):
            _log.warning("job.taken_back", job=job_id)

    def _say_alive(self, session: Session) -> None:
        values = {
            "queue": self.queue,
            "host": self.worker.host,
            "boot_id": self.worker.boot_id,
            "devices": list(self.worker.devices),
            "version": identity.etude_version(),
            "last_seen": func.clock_timestamp(),
        }
        if self.is_registered:
            session.execute(update(Worker).where(Worker.id == self.worker.id).values(values))
            return
        # A GPU is asked when nothing of ours is on it: what is free then is what a job can have.
        values |= {"state": WorkerState.ACTIVE, "hardware": identity.hardware().model_dump()}
        session.execute(
            insert(Worker)
            .values(id=self.worker.id, **values)
            .on_conflict_do_update(index_elements=["id"], set_=values)
        )
        self.is_registered = True

    def _reap(self, session: Session) -> None:
        jobs.fail_hopeless(session)
        if (
            self.answering_since is None
            or _now() - self.answering_since < self.settings.reaper_patience_seconds
        ):
            return
        for job_id in jobs.reap(session):
            _log.warning("job.reaped", job=job_id)
        for rules in leases.RULES:
            for row_id in leases.reap(session, rules):
                _log.warning("lease.reaped", table=rules.table.__tablename__, id=row_id)

    def _ring(self, session: Session) -> None:
        """Ring for what waits while we are idle; start afresh where that brings nothing."""
        if _work.is_busy or identity.is_draining() or not self._has_work(session):
            self.waiting_since = None
            return
        if not queue.hint(self.queue):
            return  # no broker: that is not for us to mend
        self.waiting_since = self.waiting_since or _now()
        if _now() - max(self.waiting_since, _work.looked_at) > self.settings.deaf_seconds:
            _log.error("worker.deaf", queue=self.queue)
            os.kill(os.getppid(), signal.SIGTERM)
            self.waiting_since = None

    def _has_work(self, session: Session) -> bool:
        if self.queue == "gpu":
            # A drained worker leaves the line to others, and to itself when it is active again.
            state = session.scalar(select(Worker.state).where(Worker.id == self.worker.id))
            return state is not WorkerState.DRAINING and jobs.has_claimable(session)
        return any(
            session.scalar(select(exists().where(rules.table.status.in_(rules.held_from))))
            for rules in leases.RULES
        )


def clean(session: Session) -> None:
    """Remove what no row points to: folders of deleted jobs, and of adapters that never were."""
    adapters.purge(session)
    folders = {path.name: path for path in settings.get().jobs_dir.glob("*") if path.is_dir()}
    numbers = [int(name) for name in folders if name.isdigit()]
    kept = set(session.scalars(select(Job.id).where(Job.id.in_(numbers))))
    for number in set(numbers) - kept:
        shutil.rmtree(folders[str(number)], ignore_errors=True)


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
