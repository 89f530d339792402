"""One job from claim to publish: the trainer's life, its events into rows, and what its end means.

The database may go away: what the trainer reports stays in its file and is read on later. Where the
database is on another machine, the trainer is stopped once the lease may have run out.
"""

import shutil
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass

import structlog
from sqlalchemy import func, make_url, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.adapters import registry as adapters
from app.core import db, settings
from app.core.models import Attempt, Desired, Job
from app.jobs import fence, metrics, protocol, shares
from app.machines import devices
from app.training import failpoints
from app.training.clock import boot_seconds
from app.training.events import (
    DETERMINISTIC_EXITS,
    EXIT_DEVICE,
    EXIT_DONE,
    EXIT_HELD,
    CheckpointEvent,
    DoneEvent,
    FailedEvent,
    PhaseEvent,
    StepEvent,
)
from worker import identity
from worker.gpu import endings, energy, spool, takeover
from worker.gpu.trainer_process import (
    DeviceBusy,
    Garbled,
    Trainer,
    Unkillable,
    kill_leftovers,
    take_runner,
    trainer_device,
)

_POLL_SECONDS = 0.04
# Steps differ in length; only one this many times the usual is a stall.
_STALL_FACTOR = 20
# One transaction holds no more, so that the lease is renewed in between.
_MOST_EVENTS = 2000
# What takes longer than this waits for somebody's lock; it is tried again.
_STATEMENT_SECONDS = 5
# Where nobody has to be watched, only a lock of somebody's may take longer.
_TAKEOVER_SECONDS = 60
_LOADING = frozenset({"starting", "loading", "preparing", "probing"})

_log = structlog.get_logger()


@dataclass(frozen=True)
class Saved:
    """A checkpoint that is whole on this disk."""

    step: int
    path: str  # below JOB_DIR


class Abandoned(Exception):
    """The database was out of reach for too long; another worker may have the job."""


class NoRoom(Exception):
    """The job's files would fill the disk."""

    def __init__(self, ending: endings.Interruption) -> None:
        super().__init__(ending.why)
        self.ending = ending


def run_one() -> bool:
    """Claim the next job and carry it to its end; says whether there was one."""
    claim = _claim(identity.me())
    if claim is None:
        return False
    log = _log.bind(job=claim.job_id, attempt=claim.attempt)
    # Whoever writes a line in this process meanwhile says what it is about.
    structlog.contextvars.bind_contextvars(job=claim.job_id, attempt=claim.attempt)
    log.info("job.claimed", resume_step=claim.resume_step)
    supervisor = Supervisor(claim)
    try:
        try:
            failpoints.hit("claim.committed")
            supervisor.carry()
        except (fence.Fenced, Abandoned):
            raise
        except Exception as error:
            log.exception("job.broken_off")
            supervisor.give_up(error)
    except fence.Fenced:
        log.warning("job.fenced")
    except Abandoned:
        log.warning("job.abandoned")
    return True


def _claim(worker: protocol.WorkerInfo) -> fence.Claim | None:
    with db.session() as session:
        claim = protocol.unheard(session, worker)
        if claim is None:
            # A worker id does one thing at a time: what it holds as it looks is left over.
            if protocol.take_back(
                session, worker.host, lambda a: a.worker_id != worker.id and identity.is_alive(a)
            ):
                failpoints.commit(session, "take_back")
            claim = protocol.claim(session, worker)
        failpoints.hit("claim.before_commit")
        session.commit()
    return claim


class Supervisor:
    """Holds one claimed job."""

    def __init__(self, claim: fence.Claim) -> None:
        self.claim = claim
        self.worker = identity.me()
        self.settings = settings.get()
        self.must_fence = must_fence(self.settings)
        # Counted from before the last heartbeat was sent, on a clock that suspension does not stop.
        self.held_at = boot_seconds()
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
        self.committed_step = 0  # of the newest checkpoint that the database knows of
        self.meter = energy.meter()
        self.metered_at = 0.0
        self.killed: endings.Kill | None = None
        self.done: DoneEvent | None = None
        self.failed: FailedEvent | None = None

    def carry(self) -> None:
        """Train and end the job; one that is finished on this disk is only published.

        Raises:
            jobs.Fenced: another worker may have it.
            Abandoned: the database was out of reach for too long.
        """
        with db.session() as session, self._as_holder(session):
            kill_leftovers(self.claim.job_id)
        try:
            done, saved = self._take_over()
            if done is not None:
                self._publish(done, tail="")
                return
            with self._holding():
                runner = take_runner()
            try:
                self._prepare(saved)
                until = self.held_at + self.settings.self_fence_seconds
                with closing(Trainer(self.claim, runner, until)) as trainer:
                    exit_code = self._watch(trainer)
            finally:
                runner.close()
        except DeviceBusy:
            self._requeue(endings.DEVICE_BUSY)
        except takeover.FolderHeld:
            self._requeue(endings.interruption(EXIT_HELD, None), EXIT_HELD)
        except Unkillable as error:
            self._leave_devices(str(error))
        except NoRoom as error:
            self._requeue(error.ending)
        except OSError as error:
            ending = endings.of_disk(error)
            if ending is None:
                raise
            _log.exception("job.disk", job=self.claim.job_id)
            self._requeue(ending)
        except Garbled:
            _log.exception("trainer.garbled", job=self.claim.job_id)
            self._requeue(endings.GARBLED, tail=trainer.log_tail())
        else:
            self._end(trainer, exit_code)

    def _take_over(self) -> tuple[DoneEvent | None, Saved | None]:
        """Find what to go on from: the newest that is whole on this disk, heard of or not.

        Returns:
            How it ended, where only the publishing is left; and the checkpoint.

        Raises:
            takeover.FolderHeld: a trainer of an earlier attempt does not end.
        """
        claim, found = self.claim, None
        with self._holding():  # files are hashed, however large
            takeover.wait_until_free(spool.job_dir(claim.job_id))
            with db.session() as session:
                known = spool.newest_checkpoint(session, claim)
            try:
                found = takeover.find(claim, known)
            except OSError:
                _log.exception("takeover.unreadable", job=claim.job_id)
        saved = Saved(known.step, known.path) if known else None
        if found is None:
            return None, saved
        chosen, is_taken = found, False

        def adopt(session: Session) -> None:
            nonlocal is_taken
            _limit(session, _TAKEOVER_SECONDS)
            try:
                self.claim = takeover.adopt(session, claim, chosen)
                is_taken = True
            except fence.Fenced:
                raise
            except Exception as error:
                if db.is_away(error):
                    raise
                # The database takes no such rows: it goes on as if the disk held nothing.
                _log.exception("takeover.refused", job=claim.job_id)
                session.rollback()

        self._persist(adopt, "takeover")
        if not is_taken:
            return None, saved
        _log.info("job.taken_over", job=claim.job_id, of=found.source.attempt, step=found.step)
        return found.done, Saved(found.step, f"checkpoints/step-{found.step:05d}")

    def _prepare(self, saved: Saved | None) -> None:
        """Write JOB_DIR for an attempt that begins with a checkpoint, or without one."""
        with db.session() as session, db.session() as reading:
            job = session.get_one(Job, self.claim.job_id)
            _check_room(job)
            spool.write_examples(reading, job, self._beat_if_due)
            step = saved.step if saved else 0
            if step != self.claim.resume_step:
                self.claim = protocol.roll_back(session, self.claim, step)
            path = saved.path if saved else None
            num_devices = len(identity.devices())
            with self._as_holder(session):
                if saved is None:
                    spool.forget(job.id)
                spool.write_spec(job, self.claim, trainer_device(), num_devices, path)
                failpoints.commit(session, "prepare")
        self.committed_step = step

    @contextmanager
    def _as_holder(self, session: Session) -> Iterator[None]:
        """Do something to the job's folder while the job's row is ours and locked; then commit.

        A process that was held up for longer than a lease finds out here, and neither ends the next
        attempt's trainer nor writes over what that one is to read.

        Raises:
            jobs.Fenced: another worker may have it.
        """
        sent_at = boot_seconds()
        fence.heartbeat(session, self.claim)
        yield
        session.commit()
        self.held_at = sent_at

    def give_up(self, error: Exception) -> None:
        """Give the job back after something unforeseen: nobody has to wait for the lease's end.

        Raises:
            jobs.Fenced: another worker may have it.
            Abandoned: the database was out of reach for too long.
        """
        self.is_uncertain = True  # what was being written may be there
        is_cut_off = db.is_away(error)
        self._requeue(endings.CUT_OFF if is_cut_off else endings.BROKEN_OFF)

    def _watch(self, trainer: Trainer) -> int:
        """Follow the trainer until it ends; returns its exit code, negative for a signal."""
        while True:
            # Asked before reading: what was written before the end is then certainly read.
            exit_code = trainer.process.poll()
            while self._read(trainer) and exit_code is not None:
                pass
            trainer.allow_until(self._deadline())
            trainer.keep(self.committed_step)
            self._flush_if_due(is_last=exit_code is not None)
            if exit_code is not None:
                return exit_code
            self._look(trainer)
            self._check_clocks(trainer)
            time.sleep(_POLL_SECONDS)

    def _read(self, trainer: Trainer) -> bool:
        """Read what the trainer has reported since; says whether there may be more."""
        begin = trainer.offset
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
        return trainer.offset > begin

    def _flush_if_due(self, is_last: bool) -> None:
        since = time.monotonic() - self.flushed_at
        due = self.pending and since >= self.settings.metrics_flush_seconds
        if due or since >= self.settings.heartbeat_seconds:
            self._try(self._flush)
        while is_last and self.pending:
            self._persist(self._flush, "flush")

    def _flush(self, session: Session) -> None:
        """Write what is pending, in one transaction with the heartbeat."""
        sent_at = boot_seconds()
        _limit(session)
        if self.is_uncertain:
            stored = session.scalar(
                select(Attempt.spool_offset).where(
                    Attempt.job_id == self.claim.job_id, Attempt.number == self.claim.attempt
                )
            )
            self.pending = [item for item in self.pending if item[0] > (stored or 0)]
        part = self.pending[:_MOST_EVENTS]
        if part:
            events = [event for _, event in part]
            job_id, attempt, worker_id = (
                self.claim.job_id,
                self.claim.attempt,
                self.claim.worker_id,
            )
            self.desired = metrics.ingest(session, job_id, attempt, events, part[-1][0], worker_id)
        else:
            self.desired = fence.heartbeat(session, self.claim)
        if time.monotonic() - self.metered_at >= self.settings.heartbeat_seconds:
            self._note_energy(session)
        failpoints.commit(session, "flush")
        del self.pending[: len(part)]
        self.is_uncertain = False
        self.held_at = sent_at
        self.flushed_at = time.monotonic()
        checkpoints = [event.step for _, event in part if isinstance(event, CheckpointEvent)]
        if checkpoints:
            self.committed_step = checkpoints[-1]
            failpoints.hit("checkpoint.recorded")

    def _note_energy(self, session: Session) -> None:
        self.meter.note(session, self.claim.job_id, self.claim.attempt)
        self.metered_at = time.monotonic()

    def _note_last_energy(self, session: Session) -> None:
        self._note_energy(session)
        session.commit()

    def _beat_if_due(self) -> None:
        if time.monotonic() - self.flushed_at >= self.settings.heartbeat_seconds:
            self._try(self._flush)

    def _look(self, trainer: Trainer) -> None:
        """See what people want, and whether this worker is to end; then act on it."""
        if time.monotonic() - self.looked_at < self.settings.watch_seconds:
            return
        self.looked_at = time.monotonic()
        # Also while the database is away.
        self.is_draining = self.is_draining or identity.is_draining()
        self._try(self._ask)
        if self.desired is Desired.CANCEL:
            self._kill(trainer, "cancel")
        elif (self.is_draining or self.desired is Desired.PAUSE) and self.stop_at is None:
            self.stop_at = time.monotonic()
            trainer.ask_to_stop()

    def _ask(self, session: Session) -> None:
        _limit(session)
        desired = session.scalar(
            select(Job.desired).where(
                Job.id == self.claim.job_id, Job.attempt == self.claim.attempt
            )
        )
        if desired is None:
            raise fence.Fenced(f"job {self.claim.job_id} is gone")
        self.desired = desired
        self.is_draining = (
            identity.is_draining()
            or protocol.is_out(session, self.worker)
            or shares.time_is_up(session, self.claim.job_id)
        )

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
        return self.must_fence and boot_seconds() - self.held_at > self.settings.self_fence_seconds

    def _deadline(self) -> float:
        """Return until when the trainer may make steps without hearing of us."""
        # Where nobody else could take the job over, it is enough that we are there.
        since = self.held_at if self.must_fence else boot_seconds()
        return since + self.settings.self_fence_seconds

    def _kill(self, trainer: Trainer, why: endings.Kill) -> None:
        if self.killed is None and why == "stall":
            trainer.show_stacks()
        self.killed = self.killed or why
        with self._holding():  # the system may take its time
            trainer.kill()

    def _end(self, trainer: Trainer, exit_code: int) -> None:
        """Publish, fail, cancel or requeue, as the exit code and our own deeds say."""
        tail = trainer.log_tail()
        self._try(self._note_last_energy)
        _log.info("trainer.ended", job=self.claim.job_id, exit_code=exit_code, killed=self.killed)
        if exit_code == EXIT_DONE and self.done is not None:
            self._publish(self.done, tail)
        elif self.killed is None and exit_code in DETERMINISTIC_EXITS:
            code, reason = endings.failure(exit_code, self.failed)
            self._persist(
                lambda session: protocol.fail(
                    session,
                    self.claim,
                    code=code,
                    reason=reason,
                    log_tail=tail,
                    exit_code=exit_code,
                ),
                "fail",
            )
        elif self.killed == "cancel":
            self._persist(
                lambda session: protocol.cancelled(session, self.claim, log_tail=tail), "cancel"
            )
        else:
            also = self._note_device_error if exit_code == EXIT_DEVICE else None
            self._requeue(endings.interruption(exit_code, self.killed), exit_code, tail, also)

    def _publish(self, done: DoneEvent, tail: str) -> None:
        folder = spool.job_dir(self.claim.job_id)
        try:
            with self._holding():
                self._persist(
                    lambda session: adapters.publish(session, self.claim, folder, done), "publish"
                )
        except (OSError, ValueError) as error:
            _log.exception("job.not_published", job=self.claim.job_id)
            self._requeue(endings.not_published(error), EXIT_DONE, tail)

    @contextmanager
    def _holding(self) -> Iterator[None]:
        """Renew the lease from beside while files are copied, however large and slow."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(self.settings.heartbeat_seconds):
                # Fenced, or away: whoever writes the end finds out.
                with suppress(fence.Fenced, DBAPIError), db.session() as session:
                    sent_at = boot_seconds()
                    _limit(session)
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

    def _leave_devices(self, who: str) -> None:
        """Give the job back and take its devices out of use: their trainer holds them for good."""

        def leave(session: Session) -> None:
            for device in dict.fromkeys(self.worker.devices):
                why = f"A trainer on it cannot be ended ({who})."
                devices.take_out(session, self.worker.id, self.worker.host, device, why)

        self._requeue(endings.UNKILLABLE, also=leave)

    def _requeue(
        self,
        ending: endings.Interruption,
        exit_code: int | None = None,
        tail: str | None = None,
        also: Callable[[Session], None] | None = None,
    ) -> None:
        def give_back(session: Session) -> None:
            protocol.requeue(
                session,
                self.claim,
                outcome=ending.outcome,
                why=ending.why,
                strike=ending.strike,
                delay_seconds=ending.delay_seconds,
                log_tail=tail,
                exit_code=exit_code,
            )
            if also is not None:
                also(session)

        self._persist(give_back, "requeue")

    def _note_device_error(self, session: Session) -> None:
        me = self.worker
        devices.after_device_error(session, me.id, me.host, me.devices)

    def _try(self, deed: Callable[[Session], object]) -> bool:
        """Do something in a session of its own; says whether the database could be reached."""
        if time.monotonic() < self.away_until:
            return False
        try:
            with db.session() as session:
                deed(session)
        except DBAPIError as error:
            if not db.is_away(error):
                raise
            self.is_uncertain = True
            self.away_until = time.monotonic() + self.settings.watch_seconds
            _log.warning("database.away", job=self.claim.job_id, error=str(error.orig).strip())
            return False
        return True

    def _persist(self, deed: Callable[[Session], object], name: str) -> None:
        """Do something that must happen, however long the database is away.

        Args:
            deed: What to do; committed afterwards.
            name: Of its failpoints.

        Raises:
            Abandoned: it is away for so long that another worker may have the job.
        """

        def once(session: Session) -> None:
            # The answer to a commit was lost. An attempt that holds its job no more was ended, by
            # that commit or by another worker: either way there is nothing left to do.
            if not self.is_uncertain or protocol.held_on(session, self.claim):
                deed(session)
                failpoints.commit(session, name)

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


def _check_room(job: Job) -> None:
    folder = spool.job_dir(job.id)
    folder.mkdir(parents=True, exist_ok=True)
    needed = spool.room_needed(job) + settings.get().disk_reserve_bytes
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise NoRoom(endings.no_room(needed, free))


def _limit(session: Session, statement_seconds: float = _STATEMENT_SECONDS) -> None:
    """Let this transaction's statements not wait for long: the trainer has to be watched.

    Where we stand still within it, the server ends it: nobody could take back, or cancel, a job
    whose row we have locked.
    """
    db.limit_silence(session, settings.get().lease_seconds)
    milliseconds = str(round(1000 * statement_seconds))
    session.execute(select(func.set_config("statement_timeout", milliseconds, True)))
