"""The one runner of leased rows: what a worker does, jobs apart, it does through `run`."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from enum import StrEnum
from types import TracebackType
from typing import Any, TypeVar

import structlog
from sqlalchemy.orm import Session

from app.core import db, leases, plain_errors, settings
from app.core.child import Child
from app.core.leases import Lease, LeaseLost, Rules
from app.core.models import Json
from app.core.shared_storage import StorageAway
from worker import identity

_log = structlog.get_logger()
_T = TypeVar("_T")


def run(
    rules: Rules,
    worker_id: str,
    fetch: Callable[[Session, Lease], _T | None],
    work: Callable[["LeaseHolder", _T], None],
    *,
    name: str,
    tidy: Callable[[Session], object] | None = None,
    given_up: Callable[[Session, Sequence[int]], object] | None = None,
) -> bool:
    """Do what has waited longest, if anything waits.

    1. Take back what an earlier process of this very worker held when it died, and claim the
       oldest row that waits, in one transaction: from its commit on the row is ours.
    2. Fetch what the work needs. A row that was deleted just now needs nothing more.
    3. Work, and renew the lease meanwhile. The work writes its result in the transaction that
       releases the lease: all of it or nothing.
    4. If the lease is lost, another worker may have the row: write nothing more for it.
    5. If this worker is to end, hand the row back without a strike.
    6. If the work came to no result, fail the row, with a sentence for a person.

    Args:
        name: What the row is called in the log.
        tidy: Done before the claim, in its transaction.
        given_up: Told of rows that have just failed, or came back, in the transaction of that.

    Returns:
        Whether there was something to do; ask again until there is nothing.
    """
    with db.session() as session:  # 1
        if tidy is not None:
            tidy(session)
        taken = leases.take_back(session, rules, worker_id)
        if taken and given_up is not None:
            given_up(session, taken)
        lease = leases.claim(session, rules, worker_id)
        session.commit()
        if lease is None:
            return False
        fetched = fetch(session, lease)  # 2
    if fetched is None:
        return True
    try:
        with LeaseHolder(lease) as holder:
            work(holder, fetched)  # 3
    except LeaseLost:  # 4
        _log.warning("lease_lost", **{name: lease.id}, attempt=lease.attempt)
    except Draining:  # 5
        _release(lease, lease.came_from)
    except (Unfinished, StorageAway) as error:  # 6
        _release(lease, rules.failed, given_up, reason=plain_errors.cleaned(str(error)))
    return True


class Unfinished(Exception):
    """The work came to no result; the message is a sentence for a person."""


class Draining(Exception):
    """This worker is to end: the row goes back to those that wait, without a strike."""


class LeaseHolder:
    """Renews a lease beside the work, from `with` to the end of it."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self._progress: Json | None = None
        self._child: Child | None = None
        self._lost = self._drains = False
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)

    def __enter__(self) -> "LeaseHolder":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join()

    def tell(self, progress: Json) -> None:
        """Say how far the work is; it stands in the row a moment later."""
        self._progress = progress

    def check(self) -> None:
        """Stop here where the work must not go on.

        Raises:
            LeaseLost: another worker may have the row by now.
            Draining: this worker is to end.
        """
        if self._lost:
            raise LeaseLost(f"{self.lease.rules.table.__tablename__} {self.lease.id}")
        if self._drains:
            raise Draining

    def hear(self, child: Child, messages: Iterable[_T]) -> Iterator[_T]:
        """Yield what a child says; it is ended where the work must not go on.

        Raises:
            LeaseLost, Draining: as `check`, in place of what the child's end looks like.
        """
        self._child = child
        try:
            yield from messages
        except Exception:
            self.check()
            raise
        self.check()

    def _beat(self) -> None:
        values = settings.get()
        beat_at, told = time.monotonic(), self._progress
        while not self._end.wait(min(values.watch_seconds, values.heartbeat_seconds)):
            self._drains = identity.is_draining()
            # Somebody may be watching a page: news does not wait for the heartbeat.
            is_news = self._progress is not told
            if is_news or time.monotonic() - beat_at >= values.heartbeat_seconds:
                beat_at, told = time.monotonic(), self._progress
                self._renew()
            else:
                self._look()
            if self._child is not None and (self._lost or self._drains):
                self._child.kill()

    def _look(self) -> None:
        """Notice soon where somebody has cancelled it."""
        try:
            with db.session() as session:
                self._lost = self._lost or not leases.stands(session, self.lease)
        except Exception as error:  # the next beat says more
            _log.debug("lease_not_looked_at", row=self.lease.id, error=type(error).__name__)

    def _renew(self) -> None:
        try:
            with db.session() as session:
                leases.renew(session, self.lease, self._progress)
                session.commit()
        except LeaseLost:
            self._lost = True
        except Exception:
            # The database may be away for a moment; the fence holds whatever happens meanwhile.
            _log.exception("lease_not_renewed", row=self.lease.id)


def _release(
    lease: Lease,
    status: StrEnum,
    told: Callable[[Session, Sequence[int]], object] | None = None,
    **values: Any,
) -> None:
    """Release a row that nothing else is written for; one that was lost needs no word of ours."""
    with db.session() as session, suppress(LeaseLost):
        leases.release(session, lease, status, **values)
        if told is not None:
            told(session, [lease.id])
        session.commit()
