"""A claimed job in the database: what is written for it, and for how long it is surely ours.

The database may go away: what must be written waits, and where another worker could take the job
over meanwhile, it is given up in time.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta

import structlog
from sqlalchemy import exists, func, make_url, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.core import clock, db, settings
from app.core.models import Worker
from app.jobs import fence, protocol
from app.training import failpoints
from app.training.clock import boot_seconds
from worker import identity

POLL_SECONDS = 0.04
# A worker elsewhere that was seen so lately may take a job over while we cannot see it.
_ELSEWHERE_LATELY = timedelta(hours=1)

_log = structlog.get_logger()


class Abandoned(Exception):
    """The database was out of reach for too long; another worker may have the job."""


class JobHold:
    """One worker's hold on one job, from its claim to its end."""

    def __init__(self, claim: fence.Claim) -> None:
        self.claim = claim
        self.is_uncertain = False  # the last transaction may or may not have been committed
        # Counted from before the last heartbeat was sent, on a clock that suspension does not stop.
        self.held_at = boot_seconds()
        self._settings = settings.get()
        self._must_fence = must_fence(self._settings)
        self._away_until = 0.0

    def attempt(
        self,
        operation: Callable[[Session], object],
        session: Callable[[], AbstractContextManager[Session]] = db.session,
    ) -> bool:
        """Do something in a session of its own; says whether the database could be reached."""
        if time.monotonic() < self._away_until:
            return False
        try:
            with session() as opened:
                operation(opened)
        except DBAPIError as error:
            if not db.is_away(error):
                raise
            self.is_uncertain = True
            self._away_until = time.monotonic() + self._settings.watch_seconds
            _log.warning("database.away", job=self.claim.job_id, error=str(error.orig).strip())
            return False
        return True

    def persist(
        self,
        operation: Callable[[Session], object],
        name: str,
        session: Callable[[], AbstractContextManager[Session]] = db.session,
        *,
        is_end: bool = True,
    ) -> None:
        """Do something that must happen, however long the database is away.

        Args:
            operation: What to do; committed afterwards.
            name: Of its failpoints.
            is_end: Whether it ends the attempt; other operations find out by themselves what of
                them was committed, and whether the job is still theirs.

        Raises:
            Abandoned: it is away for so long that another worker may have the job.
        """

        def once(opened: Session) -> None:
            # The answer to a commit was lost. An attempt that holds its job no more was ended, by
            # that commit or by another worker: either way there is nothing left to do.
            if not (is_end and self.is_uncertain) or protocol.held_on(opened, self.claim):
                operation(opened)
                failpoints.commit(opened, name)

        while not self.attempt(once, session):
            if self.may_be_lost():
                raise Abandoned
            time.sleep(POLL_SECONDS)

    def may_be_lost(self) -> bool:
        """Say whether the lease may run out before we could know of it."""
        since = boot_seconds() - self.held_at
        return self._must_fence and since > self._settings.self_fence_seconds

    def deadline(self) -> float:
        """Return until when (boot clock) the trainer may make steps without hearing of us."""
        # Where nobody else could take the job over, it is enough that we are there.
        since = self.held_at if self._must_fence else boot_seconds()
        return since + self._settings.self_fence_seconds

    @contextmanager
    def locked(self, session: Session) -> Iterator[None]:
        """Do something to the job's folder while the job's row is ours and locked; then commit.

        A process that was held up for longer than a lease finds out here, and neither ends the next
        attempt's trainer nor writes over what that one is to read.

        Raises:
            Fenced: another worker may have it.
        """
        sent_at = boot_seconds()
        fence.heartbeat(session, self.claim)
        yield
        session.commit()
        self.held_at = sent_at

    @contextmanager
    def renewed(self) -> Iterator[None]:
        """Renew the lease from beside while files are copied, however large and slow."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(self._settings.heartbeat_seconds):
                # Fenced, or away: whoever writes the end finds out.
                with suppress(fence.Fenced, DBAPIError), db.holding() as session:
                    sent_at = boot_seconds()
                    fence.heartbeat(session, self.claim)
                    session.commit()
                    self.held_at = sent_at

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def must_fence(chosen: settings.Settings) -> bool:
    """Say whether a worker cut off from the database must fear that another takes over."""
    if chosen.fence_on_db_loss != "auto":
        return chosen.fence_on_db_loss == "yes"
    url = make_url(chosen.database_url)
    host = url.host or str(url.query.get("host", ""))
    if host in ("", "localhost", "127.0.0.1", "::1") or host.startswith("/"):
        return False
    # What a name leads to may be a container of this machine, where an outage of the database is
    # one for all: what counts is whether somebody elsewhere trains.
    return _trains_elsewhere()


def _trains_elsewhere() -> bool:
    elsewhere = exists().where(
        Worker.queue == "gpu",
        Worker.boot_id != identity.boot_id(),
        Worker.host != identity.host(),  # a row of our own, from before this machine was restarted
        Worker.last_seen > clock.NOW - _ELSEWHERE_LATELY,
    )
    try:
        with db.holding(glance=True) as session:
            return bool(session.scalar(select(elsewhere)))
    except DBAPIError:
        return True


def limit(session: Session, statement_seconds: float) -> None:
    """Let this transaction's statements not wait for long: the trainer has to be watched.

    Where we stand still within it, the server ends it: nobody could take back, or cancel, a job
    whose row we have locked.
    """
    milliseconds = str(round(1000 * statement_seconds))
    wanted = func.set_config("statement_timeout", milliseconds, True)
    session.execute(select(db.silence_limit(settings.get().lease_seconds), wanted))
