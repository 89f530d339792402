"""From the trainer's file to rows: what it reports is kept, and written with the heartbeat."""

import time
from collections.abc import Callable

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core import db, settings
from app.core.models import Attempt, Desired
from app.jobs import fence, metrics
from app.jobs.wishes import Wishes
from app.training import failpoints
from app.training.clock import boot_seconds
from app.training.events import CheckpointEvent, DoneEvent, FailedEvent
from worker.gpu import energy
from worker.gpu.hold import JobHold
from worker.gpu.trainer_process import Trainer

# One transaction holds no more, so that the lease is renewed in between.
_MOST_EVENTS = 2000


class EventPump:
    """Carries events of one attempt into the database, each exactly once."""

    def __init__(self, holder: JobHold) -> None:
        # Called with each newest checkpoint that the database knows of.
        self.tell_saved: Callable[[CheckpointEvent], object] = lambda _: None
        self.desired = Desired.RUN  # what people want, as was last heard
        self.is_over = False  # and whether this worker is to give the job back anyway
        self.heard_at = 0.0  # when that was, by this process's clock
        self.committed_step = 0  # of the newest checkpoint that the database knows of
        self.done: DoneEvent | None = None
        self.done_at: float | None = None  # when it was heard, by this process's clock
        self.failed: FailedEvent | None = None
        self._hold = holder
        self._settings = settings.get()
        self._pending: list[tuple[int, metrics.TrainerEvent]] = []
        self._meter = energy.meter()
        self._flushed_at = self._metered_at = 0.0

    def read(self, trainer: Trainer, tell: Callable[[metrics.TrainerEvent], None]) -> bool:
        """Take what the trainer has reported since; says whether there may be more.

        With its result it has said all that counts.

        Args:
            tell: Called with each event.
        """
        begin = trainer.offset
        if self.done is not None:
            return False
        for offset, event in trainer.read():
            self._pending.append((offset, event))
            match event:
                case DoneEvent():
                    self.done, self.done_at = event, time.monotonic()
                case FailedEvent():
                    self.failed = event
            tell(event)
            if self.done is not None:
                break
        return trainer.offset > begin

    def flush_if_due(self, *, is_last: bool) -> None:
        """Write what is pending, or a heartbeat, when it is time; at the end, all of it.

        Raises:
            Fenced: another worker may have the job.
            Abandoned: the database was out of reach for too long.
        """
        since = time.monotonic() - self._flushed_at
        due = self._pending and since >= self._settings.metrics_flush_seconds
        if due or since >= self._settings.heartbeat_seconds:
            self._flush_now()
        while is_last and self._pending:
            self._hold.persist(self._flush, "flush", db.holding, is_end=False)

    def beat_if_due(self) -> None:
        """Renew the lease where nothing is reported yet."""
        if time.monotonic() - self._flushed_at >= self._settings.heartbeat_seconds:
            self._flush_now()

    def hear(self, wished: Wishes) -> None:
        """Keep what people want of the job."""
        self.desired, self.is_over = wished
        self.heard_at = time.monotonic()

    def note_last_energy(self) -> None:
        """Write what the devices have taken up to the end."""

        def note(session: Session) -> None:
            self._note_energy(session)
            session.commit()

        self._hold.attempt(note)

    def _flush_now(self) -> None:
        events = [event for _, event in self._pending[:_MOST_EVENTS]]
        # To open and commit a transaction would cost as much again as the one statement.
        is_alone = metrics.is_one_statement(events) and not self._is_energy_due()
        self._hold.attempt(
            lambda session: self._flush(session, is_alone=is_alone),
            lambda: db.holding(glance=is_alone),
        )

    def _flush(self, session: Session, *, is_alone: bool = False) -> None:
        """Write what is pending, in one transaction with the heartbeat.

        Args:
            is_alone: One statement does it, which is committed as it ends.
        """
        sent_at, claim = boot_seconds(), self._hold.claim
        if self._hold.is_uncertain:
            stored = session.scalar(
                select(Attempt.spool_offset).where(
                    Attempt.job_id == claim.job_id, Attempt.number == claim.attempt
                )
            )
            self._pending = [item for item in self._pending if item[0] > (stored or 0)]
        part = self._pending[:_MOST_EVENTS]
        if is_alone:
            failpoints.hit("flush.before_commit")
        if part:
            events = [event for _, event in part]
            wished = metrics.ingest(
                session, claim.job_id, claim.attempt, events, part[-1][0], claim.worker_id
            )
            self.hear(wished)
        else:
            self.desired = fence.heartbeat(session, claim)
        if self._is_energy_due():
            self._note_energy(session)
        if is_alone:
            failpoints.hit("flush.committed")
        else:
            failpoints.commit(session, "flush")
        del self._pending[: len(part)]
        self._hold.is_uncertain = False
        self._hold.held_at = sent_at
        self._flushed_at = time.monotonic()
        checkpoints = [event for _, event in part if isinstance(event, CheckpointEvent)]
        if checkpoints:
            self.committed_step = checkpoints[-1].step
            self.tell_saved(checkpoints[-1])
            failpoints.hit("checkpoint.recorded")

    def _is_energy_due(self) -> bool:
        return time.monotonic() - self._metered_at >= self._settings.heartbeat_seconds

    def _note_energy(self, session: Session) -> None:
        self._meter.note(session, self._hold.claim.job_id, self._hold.claim.attempt)
        self._metered_at = time.monotonic()
