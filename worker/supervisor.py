"""One job from claim to publish: the trainer's life, its events into rows, and what its end means.

The database may go away: what the trainer reports stays in its file and is read on later. Where the
database is on another machine, the trainer is stopped once the lease may have run out.
"""

import statistics
import time
from collections import deque
from collections.abc import Callable

import structlog
from sqlalchemy import make_url, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app import adapters, db, jobs, metrics, settings
from app.models import Attempt, Desired, Job, Worker, WorkerState
from app.train_config import (
    DETERMINISTIC_EXITS,
    EXIT_DONE,
    CheckpointEvent,
    DoneEvent,
    FailedEvent,
    PhaseEvent,
    StepEvent,
)
from worker import endings, identity, spool
from worker.trainer_process import (
    DeviceBusy,
    Garbled,
    Trainer,
    kill_leftovers,
    take_runner,
    trainer_device,
)

_POLL_SECONDS = 0.04
# Steps differ in length; only one this many times the usual is a stall.
_STALL_FACTOR = 20
_LOADING = frozenset({"starting", "loading", "preparing", "probing"})

_log = structlog.get_logger()


class Abandoned(Exception):
    """The database was out of reach for too long; another worker may have the job."""


def run_one() -> bool:
    """Claim the next job and carry it to its end; says whether there was one."""
    worker = identity.me()
    with db.session() as session:
        # A worker id does one thing at a time: what it holds as it looks for work is left over.
        jobs.take_back(
            session, worker.host, lambda a: a.worker_id != worker.id and identity.is_alive(a)
        )
        session.commit()
        claim = jobs.claim(session, worker)
        session.commit()
    if claim is None:
        return False
    log = _log.bind(job=claim.job_id, attempt=claim.attempt)
    log.info("job.claimed", resume_step=claim.resume_step)
    try:
        Supervisor(claim).carry()
    except jobs.Fenced:
        log.warning("job.fenced")
    except Abandoned:
        log.warning("job.abandoned")
    return True


class Supervisor:
    """Holds one claimed job."""

    def __init__(self, claim: jobs.Claim) -> None:
        self.claim = claim
        self.settings = settings.get()
        # Counted from before the last heartbeat was sent, on a clock that suspension does not stop.
        self.held_at = _boottime()
        self.pending: list[tuple[int, metrics.TrainerEvent]] = []
        self.is_uncertain = False  # the last transaction may or may not have been committed
        self.desired = Desired.RUN
        self.phase = "starting"
        self.event_at = time.monotonic()
        self.flushed_at = self.looked_at = self.away_until = 0.0
        self.step_at: float | None = None
        self.step_seconds: deque[float] = deque(maxlen=50)
        self.stop_at: float | None = None
        self.is_draining = False
        self.killed: endings.Kill | None = None
        self.done: DoneEvent | None = None
        self.failed: FailedEvent | None = None

    def carry(self) -> None:
        """Train and end the job.

        Raises:
            jobs.Fenced: another worker may have it.
            Abandoned: the database was out of reach for too long.
        """
        kill_leftovers(self.claim.job_id)
        try:
            runner = take_runner()
            try:
                self._prepare()
                trainer = Trainer(self.claim, runner)
                exit_code = self._watch(trainer)
            finally:
                runner.close()
        except DeviceBusy:
            self._requeue(endings.DEVICE_BUSY)
        except OSError as error:
            if not endings.is_disk_full(error):
                raise
            self._requeue(endings.DISK_FULL)
        except Garbled:
            _log.exception("trainer.garbled", job=self.claim.job_id)
            self._requeue(endings.GARBLED, tail=trainer.log_tail())
        else:
            self._end(trainer, exit_code)

    def _prepare(self) -> None:
        """Write JOB_DIR and choose the checkpoint to go on from."""
        with db.session() as session, db.session() as reading:
            job = session.get_one(Job, self.claim.job_id)
            spool.write_examples(reading, job, self._beat_if_due)
            checkpoint = spool.newest_checkpoint(session, self.claim)
            step = checkpoint.step if checkpoint else 0
            if step != self.claim.resume_step:
                self.claim = jobs.roll_back(session, self.claim, step)
            path = checkpoint.path if checkpoint else None
            num_devices = len(identity.devices())
            spool.write_spec(job, self.claim, trainer_device(), num_devices, path)
            session.commit()

    def _watch(self, trainer: Trainer) -> int:
        """Follow the trainer until it ends; returns its exit code, negative for a signal."""
        while True:
            # Asked before reading: what was written before the end is then certainly read.
            exit_code = trainer.process.poll()
            self._read(trainer)
            self._flush_if_due(is_last=exit_code is not None)
            if exit_code is not None:
                return exit_code
            self._look(trainer)
            self._check_clocks(trainer)
            time.sleep(_POLL_SECONDS)

    def _read(self, trainer: Trainer) -> None:
        for offset, event in trainer.read():
            self.pending.append((offset, event))
            now = self.event_at = time.monotonic()
            match event:
                case PhaseEvent():
                    self.phase, self.step_at = event.phase, None
                case StepEvent():
                    if self.step_at is not None:
                        self.step_seconds.append(now - self.step_at)
                    self.step_at = now
                case DoneEvent():
                    self.done = event
                case FailedEvent():
                    self.failed = event
                case CheckpointEvent():
                    self.step_at = None

    def _flush_if_due(self, is_last: bool) -> None:
        since = time.monotonic() - self.flushed_at
        due = self.pending and since >= self.settings.metrics_flush_seconds
        if due or since >= self.settings.heartbeat_seconds:
            self._try(self._flush)
        while is_last and self.pending:
            self._persist(self._flush)

    def _flush(self, session: Session) -> None:
        """Write what is pending, in one transaction with the heartbeat."""
        sent_at = _boottime()
        if self.is_uncertain:
            stored = session.scalar(
                select(Attempt.spool_offset).where(
                    Attempt.job_id == self.claim.job_id, Attempt.number == self.claim.attempt
                )
            )
            self.pending = [item for item in self.pending if item[0] > (stored or 0)]
        if self.pending:
            events = [event for _, event in self.pending]
            offset = self.pending[-1][0]
            job_id, attempt = self.claim.job_id, self.claim.attempt
            self.desired = metrics.ingest(session, job_id, attempt, events, offset)
        else:
            self.desired = jobs.heartbeat(session, self.claim)
        session.commit()
        self.pending.clear()
        self.is_uncertain = False
        self.held_at = sent_at
        self.flushed_at = time.monotonic()

    def _beat_if_due(self) -> None:
        if time.monotonic() - self.flushed_at >= self.settings.heartbeat_seconds:
            self._try(self._flush)

    def _look(self, trainer: Trainer) -> None:
        """See what people want, and whether this worker is to end; then act on it."""
        if time.monotonic() - self.looked_at < self.settings.watch_seconds:
            return
        self.looked_at = time.monotonic()
        self._try(self._ask)
        if self.desired is Desired.CANCEL:
            self._kill(trainer, "cancel")
        elif (self.is_draining or self.desired is Desired.PAUSE) and self.stop_at is None:
            self.stop_at = time.monotonic()
            trainer.ask_to_stop()

    def _ask(self, session: Session) -> None:
        desired = session.scalar(
            select(Job.desired).where(
                Job.id == self.claim.job_id, Job.attempt == self.claim.attempt
            )
        )
        if desired is None:
            raise jobs.Fenced(f"job {self.claim.job_id} is gone")
        self.desired = desired
        state = session.scalar(select(Worker.state).where(Worker.id == self.claim.worker_id))
        self.is_draining = identity.is_draining() or state is WorkerState.DRAINING

    def _check_clocks(self, trainer: Trainer) -> None:
        now = time.monotonic()
        if self.stop_at is not None and now - self.stop_at > self.settings.drain_seconds:
            self._kill(trainer, "drain")
        elif now - self.event_at > self._patience():
            self._kill(trainer, "stall")
        elif self._may_be_lost():
            self._kill(trainer, "db")

    def _patience(self) -> float:
        if self.phase in _LOADING:
            return self.settings.load_timeout_seconds
        usual = statistics.median(self.step_seconds) if self.step_seconds else 0.0
        return max(self.settings.stall_seconds, _STALL_FACTOR * usual)

    def _may_be_lost(self) -> bool:
        """Say whether the lease may run out before we could know of it."""
        if _boottime() - self.held_at <= self.settings.self_fence_seconds:
            return False
        return must_fence(self.settings)

    def _kill(self, trainer: Trainer, why: endings.Kill) -> None:
        self.killed = self.killed or why
        trainer.kill()

    def _end(self, trainer: Trainer, exit_code: int) -> None:
        """Publish, fail, cancel or requeue, as the exit code and our own deeds say."""
        tail = trainer.log_tail()
        _log.info("trainer.ended", job=self.claim.job_id, exit_code=exit_code, killed=self.killed)
        if exit_code == EXIT_DONE and self.done is not None:
            self._publish(self.done, tail)
        elif self.killed is None and exit_code in DETERMINISTIC_EXITS:
            code, reason = endings.failure(exit_code, self.failed)
            self._persist(
                lambda session: jobs.fail(
                    session,
                    self.claim,
                    code=code,
                    reason=reason,
                    log_tail=tail,
                    exit_code=exit_code,
                )
            )
        elif self.killed == "cancel":
            self._persist(lambda session: jobs.cancelled(session, self.claim, log_tail=tail))
        else:
            self._requeue(endings.interruption(exit_code, self.killed), exit_code, tail)

    def _publish(self, done: DoneEvent, tail: str) -> None:
        folder = spool.job_dir(self.claim.job_id)
        try:
            self._persist(lambda session: adapters.publish(session, self.claim, folder, done))
        except (OSError, ValueError) as error:
            _log.exception("job.not_published", job=self.claim.job_id)
            self._requeue(endings.not_published(error), EXIT_DONE, tail)

    def _requeue(
        self, ending: endings.Interruption, exit_code: int | None = None, tail: str | None = None
    ) -> None:
        self._persist(
            lambda session: jobs.requeue(
                session,
                self.claim,
                outcome=ending.outcome,
                why=ending.why,
                strike=ending.strike,
                delay_seconds=ending.delay_seconds,
                log_tail=tail,
                exit_code=exit_code,
            )
        )

    def _try(self, deed: Callable[[Session], object]) -> bool:
        """Do something in a session of its own; says whether the database could be reached."""
        if time.monotonic() < self.away_until:
            return False
        try:
            with db.session() as session:
                deed(session)
        except DBAPIError as error:
            if not _is_away(error):
                raise
            self.is_uncertain = True
            self.away_until = time.monotonic() + self.settings.watch_seconds
            _log.warning("database.away", job=self.claim.job_id, error=str(error.orig).strip())
            return False
        return True

    def _persist(self, deed: Callable[[Session], object]) -> None:
        """Do something that must happen, however long the database is away.

        Raises:
            Abandoned: it is away for so long that another worker may have the job.
        """

        def once(session: Session) -> None:
            # The answer to a commit was lost. An attempt that holds its job no more was ended, by
            # that commit or by another worker: either way there is nothing left to do.
            job_id, attempt = self.claim.job_id, self.claim.attempt
            if not self.is_uncertain or jobs.held_on(session, job_id, attempt):
                deed(session)
                session.commit()

        while not self._try(once):
            if self._may_be_lost():
                raise Abandoned
            time.sleep(_POLL_SECONDS)


def must_fence(chosen: settings.Settings) -> bool:
    """Say whether a worker cut off from the database must fear that another takes over."""
    if chosen.fence_on_db_loss != "auto":
        return chosen.fence_on_db_loss == "yes"
    url = make_url(chosen.database_url)
    host = url.host or str(url.query.get("host", ""))
    return not (host in ("", "localhost", "127.0.0.1", "::1") or host.startswith("/"))


def _is_away(error: DBAPIError) -> bool:
    from psycopg import InterfaceError, OperationalError

    return error.connection_invalidated or isinstance(error.orig, OperationalError | InterfaceError)


def _boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
