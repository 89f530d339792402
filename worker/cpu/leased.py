"""Hold a leased row while a child works on it, and end the child where it must not go on."""

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from enum import StrEnum
from types import TracebackType
from typing import Any, TypeVar

import structlog

from app.core import db, leases, settings
from app.core.child import Child
from app.core.leases import Lease, LeaseLost
from app.core.models import Json
from worker import identity

_log = structlog.get_logger()
_T = TypeVar("_T")


class Draining(Exception):
    """This worker is to end: the row goes back to those that wait, without a strike."""


class Held:
    """Renews a lease beside the work, from `with` to the end of it."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._progress: Json | None = None
        self._child: Child | None = None
        self._lost = self._drains = False
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)

    def __enter__(self) -> "Held":
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
            raise LeaseLost(f"{self._lease.rules.table.__tablename__} {self._lease.id}")
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
            self._drains = identity.is_draining(self._lease.worker_id)
            # Somebody may be watching a page: news does not wait for the heartbeat.
            is_news = self._progress is not told
            if is_news or time.monotonic() - beat_at >= values.heartbeat_seconds:
                beat_at, told = time.monotonic(), self._progress
                self._renew()
            if self._child is not None and (self._lost or self._drains):
                self._child.kill()

    def _renew(self) -> None:
        try:
            with db.session() as session:
                leases.renew(session, self._lease, self._progress)
                session.commit()
        except LeaseLost:
            self._lost = True
        except Exception:
            # The database may be away for a moment; the fence holds whatever happens meanwhile.
            _log.exception("lease_not_renewed", row=self._lease.id)


def let_go(lease: Lease, status: StrEnum, **values: Any) -> None:
    """Release a row that nothing else is written for; one that was lost needs no word of ours."""
    with db.session() as session, suppress(LeaseLost):
        leases.release(session, lease, status, **values)
        session.commit()
