"""What the streams of a job find out together: one read for all that stand at the same place.

Ten people may watch one job, and each of its steps wakes all their streams at once. Without this
each stream would ask the database the same by itself, and the web would do little else.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from sqlalchemy import bindparam, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import defer, lazyload

from app.core import db
from app.core.errors import NotFound
from app.core.models import Job
from app.jobs import metrics, practice, progress

T = TypeVar("T")

BATCH = 500
# The figures beside the chart are for people: points go out at once, these once a second.
FIGURES_SECONDS = 1.0
# Not its data and its model with all that they hold: a read has no use for them.
_ALONE = (lazyload(Job.version), lazyload(Job.base_model), defer(Job.samples), defer(Job.config))
# Built once: each step of a job that is watched asks it.
_READ = (
    select(Job, *metrics.build_after(Job.id, Job.event_seq))
    .options(*_ALONE)
    .where(Job.id == bindparam("job_id"))
)
# So that pages, which people wait for, find a thread and a connection whatever the streams do.
_at_once = CapacityLimiter(4)


async def aside(work: Callable[..., T], *arguments: Any) -> T:
    """Do a stream's work in one of the few threads that streams may have."""
    return await to_thread.run_sync(work, *arguments, limiter=_at_once)


@dataclass(frozen=True)
class Figures:
    """What stands beside the chart, as an event, and when that was so on the monotonic clock."""

    text: str
    at: float
    state: tuple[object, ...]


@dataclass(frozen=True)
class StreamRead:
    """What one read of the tables found; the state was read before the items were."""

    text: str  # events, as they are sent
    seq: int  # the last of them
    has_all: bool  # more than a batch may have happened
    status: str
    is_final: bool
    figures: Figures


class SharedReads:
    """The reads of one job that its streams share."""

    def __init__(self, job_id: int) -> None:
        self.job_id = job_id
        self.num_streams = 0
        # By the sequence number after which they read.
        self._begun: dict[int, asyncio.Task[StreamRead]] = {}
        self._following: dict[int, asyncio.Task[StreamRead]] = {}
        self._figures: Figures | None = None
        # Of which attempt, and what its losses are measured on: all that a read needs of the data.
        self._asked = (0, "")

    async def after(self, seq: int) -> StreamRead:
        """Read what came after a sequence number; all that was there before the call is seen.

        A read that has begun may have read the tables already, so whoever comes meanwhile waits
        for the one that follows it, together with all others.

        Raises:
            NotFound: the job is gone.
            SQLAlchemyError: the database cannot be asked.
        """
        task = self._following.get(seq)
        if task is None:
            task = asyncio.create_task(self._take_turn(seq))
            self._following[seq] = task
        return await asyncio.shield(task)  # who closes the page does not end it for the others

    async def _take_turn(self, seq: int) -> StreamRead:
        if before := self._begun.get(seq):
            await asyncio.wait([before])
        task = self._following.pop(seq)
        self._begun[seq] = task
        try:
            return await aside(self._read, seq)
        finally:
            if self._begun.get(seq) is task:
                del self._begun[seq]

    def _read(self, seq: int) -> StreamRead:
        try:
            return self._read_once(seq)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            # It had died while it lay idle. What woke the stream comes only once.
            return self._read_once(seq)

    def _read_once(self, seq: int) -> StreamRead:
        with db.watching() as session:
            # At one moment: once its status is final, nothing is added to what has happened.
            found = session.execute(
                _READ, {"job_id": self.job_id, "after": seq, "most": BATCH}
            ).one_or_none()
            if found is None:
                raise NotFound("There is no such job.")
            job: Job = found.Job
            state = (job.status.value, job.desired.value, job.phase, job.attempt)
            items = metrics.read_items(found, BATCH)
            kept, now = self._figures, time.monotonic()
            if kept is None or kept.state != state or now - kept.at >= FIGURES_SECONDS:
                # Which rows are asked is settled before a job's first step.
                if job.phase == "training" and self._asked[0] != job.attempt:
                    self._asked = job.attempt, practice.chosen_by(job)
                asked = self._asked[1] if self._asked[0] == job.attempt else ""
                figures = progress.figures(session, job, asked)
                kept = Figures(encode("job", figures), now, state)
                self._figures = kept
        return StreamRead(
            text="".join(encode(item.event, item.data, item.seq) for item in items),
            seq=items[-1].seq if items else seq,
            has_all=len(items) < BATCH,
            status=job.status.value,
            is_final=job.status.is_final,
            figures=kept,
        )


@contextmanager
def shared(reads: dict[int, SharedReads], job_id: int) -> Iterator[SharedReads]:
    """Lend a stream the reads of its job; they are forgotten with the last stream."""
    mine = reads.setdefault(job_id, SharedReads(job_id))
    mine.num_streams += 1
    try:
        yield mine
    finally:
        mine.num_streams -= 1
        if not mine.num_streams:
            del reads[job_id]


def encode(event: str, data: dict[str, Any], seq: int | None = None) -> str:
    """Write an event as an event stream has it."""
    number = f"id: {seq}\n" if seq is not None else ""
    return f"event: {event}\n{number}data: {json.dumps(data, ensure_ascii=False)}\n\n"
