"""One job from claim to publish: the trainer's life, its events into rows, and what its end means.

Beside it: `hold.py` writes for the job and knows for how long it is ours, `event_pump.py` carries
the trainer's events into rows, `watchdog.py` knows when it has been silent for too long,
`takeover.py` finds what an earlier attempt left here, `endings.py` says what an end means.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass

import structlog
from sqlalchemy.orm import Session

from app.adapters import registry as adapters
from app.base_models import copies
from app.base_models import registry as base_models
from app.core import db, disk, settings, shared_storage, storage
from app.core.models import Attempt, Desired, Job
from app.evaluation import evaluations
from app.jobs import fence, metrics, practice, protocol, wishes
from app.jobs.stream import say
from app.machines import devices
from app.training import failpoints
from app.training.events import (
    DETERMINISTIC_EXITS,
    EXIT_DEVICE,
    EXIT_DONE,
    EXIT_HELD,
    EXIT_NOT_FINITE,
    DoneEvent,
)
from worker import identity
from worker.gpu import checkpoint_copies, endings, hold, shared_cache, spool, takeover
from worker.gpu.event_pump import EventPump
from worker.gpu.hold import POLL_SECONDS, Abandoned, JobHold
from worker.gpu.trainer_process import (
    DeviceBusy,
    Garbled,
    Trainer,
    Unkillable,
    kill_leftovers,
    take_runner,
    trainer_device,
)
from worker.gpu.watchdog import Watchdog

# Where nobody has to be watched, only a lock of somebody's may take longer.
_TAKEOVER_SECONDS = 60

# What this process gave up because the database was out of reach: by the books it holds it still.
_abandoned: list[fence.Claim] = []

_log = structlog.get_logger()


@dataclass(frozen=True)
class Saved:
    """A checkpoint that is whole on this disk."""

    step: int
    path: str  # below JOB_DIR


class NotNow(Exception):
    """What the job needs on this disk cannot be had at present."""

    def __init__(self, ending: endings.Interruption) -> None:
        super().__init__(ending.why)
        self.ending = ending


class NotTrainable(Exception):
    """What a job starts from is gone, or nothing would be left to test it on."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


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
        _abandoned[:] = [supervisor.claim]
        log.warning("job.abandoned")
    finally:
        supervisor.room.close()
    return True


def _claim(worker: protocol.WorkerInfo) -> fence.Claim | None:
    with db.session() as session:
        claim = None

        def is_alive(attempt: Attempt) -> bool:
            # A worker id does one thing at a time: what it holds as it asks is left over.
            return attempt.worker_id != worker.id and identity.is_alive(attempt)

        if not all(map(is_alive, protocol.held_here(session, worker.host))):
            claim = protocol.unheard(session, worker)
            cut_off = _abandoned[-1] if _abandoned else None
            if claim is None and protocol.take_back(
                session, worker.host, is_alive, cut_off=cut_off
            ):
                failpoints.commit(session, "take_back")
        if claim is None:
            claim = protocol.claim(session, worker)
        failpoints.hit("claim.before_commit")
        session.commit()
    return claim


class Supervisor:
    """Holds one claimed job."""

    def __init__(self, claim: fence.Claim) -> None:
        self.worker = identity.me()
        self.settings = settings.get()
        self.room = ExitStack()  # on the disk, for what the attempt will write
        self.hold = JobHold(claim)
        self.pump = EventPump(self.hold)
        self.copies = checkpoint_copies.Copies(claim.job_id, spool.job_dir(claim.job_id))
        self.pump.tell_saved = lambda saved: self.copies.offer(saved.path, saved.manifest_sha256)
        self.room.callback(self.copies.close, is_needed=False)
        self.watchdog = Watchdog()
        self.capped_at = 0.0
        self.stop_at: float | None = None
        self.is_draining = False
        self.killed: endings.Kill | None = None

    @property
    def claim(self) -> fence.Claim:
        return self.hold.claim

    def carry(self) -> None:
        """Train and end the job; one that is finished on this disk is only published.

        Raises:
            Fenced: another worker may have it.
            Abandoned: the database was out of reach for too long.
        """
        with db.session() as session, self.hold.locked(session):
            kill_leftovers(self.claim.job_id)
        try:
            done, saved = self._take_over()
            if done is not None:
                self._publish(done, tail="")
                return
            self._bring_files()
            with self.hold.renewed():
                runner = take_runner()
            try:
                self._prepare(saved)
                until = self.hold.held_at + self.settings.self_fence_seconds
                with closing(Trainer(self.claim, runner, until)) as trainer:
                    exit_code = self._watch(trainer)
                with self.hold.renewed():  # what it saved last is on its way to other machines
                    self.copies.close(is_needed=self.pump.done is None and self.killed is None)
            finally:
                runner.close()
        except DeviceBusy:
            self._requeue(endings.DEVICE_BUSY)
        except takeover.FolderHeld:
            self._requeue(endings.interruption(EXIT_HELD, None), EXIT_HELD)
        except Unkillable as error:
            self._leave_devices(str(error))
        except NotNow as error:
            self._requeue(error.ending)
        except NotTrainable as error:
            self._fail(error.code, error.reason)
        except OSError as error:
            ending = endings.of_disk(error)
            if ending is None:
                raise
            _log.exception("job.disk", job=self.claim.job_id)
            self._requeue(ending)
        except metrics.NoNumber:
            _log.exception("trainer.no_number", job=self.claim.job_id)
            self._fail(*endings.failure(EXIT_NOT_FINITE, None), trainer.log_tail())
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
        claim, leftover = self.claim, None
        with self.hold.renewed():  # files are hashed, however large
            takeover.wait_until_free(spool.job_dir(claim.job_id))
            with db.session() as session:
                known = spool.newest_checkpoint(session, claim)
            try:
                leftover = takeover.find(claim, known)
            except OSError:
                _log.exception("takeover.unreadable", job=claim.job_id)
        saved = Saved(known.step, known.path) if known else None
        if leftover is None:
            return None, saved
        chosen, is_taken = leftover, False

        def adopt(session: Session) -> None:
            nonlocal is_taken
            hold.limit(session, _TAKEOVER_SECONDS)
            try:
                self.hold.claim = takeover.adopt(session, claim, chosen)
                is_taken = True
            except fence.Fenced:
                raise
            except Exception as error:
                if db.is_away(error):
                    raise
                # The database takes no such rows: it goes on as if the disk held nothing.
                _log.exception("takeover.refused", job=claim.job_id)
                session.rollback()

        self.hold.persist(adopt, "takeover")
        if not is_taken:
            return None, saved
        _log.info(
            "job.taken_over", job=claim.job_id, of=leftover.source.attempt, step=leftover.step
        )
        return leftover.done, Saved(leftover.step, f"checkpoints/step-{leftover.step:05d}")

    def _bring_files(self) -> None:
        """Have the starting model, and the adapter that the job starts from, on this disk.

        Raises:
            NotNow, OSError: they cannot be had.
        """
        with db.session() as session:
            job = session.get_one(Job, self.claim.job_id)
            model, start = job.base_model, job.start_adapter
            folder = base_models.folder(model)
        needed = copies.in_use(folder, model.manifest_sha256 or "", model.size_bytes or 0)
        try:
            with self.hold.renewed():
                self.room.enter_context(needed)
                if start is not None and start.storage_key is not None:
                    storage.folder(start.storage_key, start.manifest_sha256)
        except disk.NoRoom as error:
            raise NotNow(endings.no_room(error.needed_bytes, error.free_bytes)) from None
        except shared_storage.Damaged as error:
            raise NotNow(endings.damaged(error.message)) from None

    def _prepare(self, saved: Saved | None) -> None:
        """Write JOB_DIR for an attempt that begins with a checkpoint, or without one."""
        with db.session() as session, db.session() as reading:
            job = session.get_one(Job, self.claim.job_id)
            self.room.enter_context(_hold_room(job))
            spool.write_examples(reading, job, self.pump.beat_if_due)
            if _sorts_otherwise(session, job):
                saved = None
            step = saved.step if saved else 0
            if step != self.claim.resume_step:
                self.hold.claim = protocol.roll_back(session, self.claim, step)
            path = saved.path if saved else None
            num_devices = len(identity.devices())
            with self.hold.locked(session):
                if saved is None:
                    spool.forget(job.id)
                spec = spool.write_spec(job, self.claim, trainer_device(), num_devices, path)
                failpoints.commit(session, "prepare")
            is_sharded = (job.plan or {}).get("strategy") == "fsdp"
        with self.hold.renewed():
            shared_cache.fill(spec, is_sharded=is_sharded)
        self.pump.committed_step = step

    def give_up(self, error: Exception) -> None:
        """Give the job back after something unforeseen: nobody has to wait for the lease's end.

        Raises:
            Fenced: another worker may have it.
            Abandoned: the database was out of reach for too long.
        """
        self.hold.is_uncertain = True  # what was being written may be there
        is_cut_off = db.is_away(error)
        self._requeue(endings.CUT_OFF if is_cut_off else endings.BROKEN_OFF)

    def _watch(self, trainer: Trainer) -> int:
        """Follow the trainer until it ends; returns its exit code, negative for a signal."""
        while True:
            # Asked before reading: what was written before the end is then certainly read.
            exit_code = trainer.process.poll()
            while self.pump.read(trainer, self.watchdog.hear) and exit_code is not None:
                pass
            trainer.allow_until(self.hold.deadline())
            trainer.keep(self.pump.committed_step)
            self.pump.flush_if_due(is_last=exit_code is not None)
            if exit_code is not None:
                return exit_code
            self._heed_wishes(trainer)
            self._check_clocks(trainer)
            time.sleep(POLL_SECONDS)

    def _heed_wishes(self, trainer: Trainer) -> None:
        """See what people want, and whether this worker is to end; then act on it."""
        if time.monotonic() - self.capped_at >= self.settings.watch_seconds:
            self.capped_at = time.monotonic()
            trainer.cap_log()
        # What the trainer reports brings the answer back with it.
        if time.monotonic() - self.pump.heard_at >= self.settings.watch_seconds:
            self.hold.attempt(self._ask, lambda: db.holding(glance=True))
        # The first also while the database is away.
        self.is_draining = self.is_draining or identity.is_draining() or self.pump.is_over
        if self.pump.desired is Desired.CANCEL:
            self._kill(trainer, "cancel")
        elif (self.is_draining or self.pump.desired is Desired.PAUSE) and self.stop_at is None:
            self.stop_at = time.monotonic()
            trainer.ask_to_stop()

    def _ask(self, session: Session) -> None:
        self.pump.hear(wishes.of(session, self.claim, self.worker.host, self.worker.devices))

    def _check_clocks(self, trainer: Trainer) -> None:
        if (
            self.stop_at is not None
            and time.monotonic() - self.stop_at > self.settings.drain_seconds
        ):
            self._kill(trainer, "drain")
        elif self._lingers():
            self._kill(trainer, "lingers")
        elif self.pump.done_at is None and self.watchdog.is_stalled():
            self._kill(trainer, "stall")
        elif self.hold.may_be_lost():
            self._kill(trainer, "db")

    def _lingers(self) -> bool:
        """Say whether the process has outlived its whole result for too long."""
        # It reports nothing more; it only holds up the next job.
        done_at = self.pump.done_at
        return done_at is not None and time.monotonic() - done_at > self.settings.exit_seconds

    def _kill(self, trainer: Trainer, why: endings.Kill) -> None:
        if self.killed is None and why == "stall":
            trainer.show_stacks()
        self.killed = self.killed or why
        with self.hold.renewed():  # the system may take its time
            trainer.kill()

    def _end(self, trainer: Trainer, exit_code: int) -> None:
        """Publish, fail, cancel or requeue, as the exit code and our own reason for a kill say.

        A result that the trainer has called whole is published, however its process ended; its
        files are verified on the way.
        """
        tail = trainer.log_tail()
        self.pump.note_last_energy()
        _log.info("trainer.ended", job=self.claim.job_id, exit_code=exit_code, killed=self.killed)
        if self.pump.done is not None and self.killed != "cancel":
            self._publish(self.pump.done, tail)
        elif self.killed is None and exit_code in DETERMINISTIC_EXITS:
            code, reason = endings.failure(exit_code, self.pump.failed)
            self._fail(code, reason, tail, exit_code)
        elif self.killed == "cancel":
            self.hold.persist(
                lambda session: protocol.cancelled(session, self.claim, log_tail=tail), "cancel"
            )
        else:
            also = self._note_device_error if exit_code == EXIT_DEVICE else None
            self._requeue(endings.interruption(exit_code, self.killed), exit_code, tail, also)

    def _fail(
        self, code: str, reason: str, tail: str | None = None, exit_code: int | None = None
    ) -> None:
        self.hold.persist(
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

    def _publish(self, done: DoneEvent, tail: str) -> None:
        folder = spool.job_dir(self.claim.job_id)
        try:
            with self.hold.renewed():
                rows = spool.practised_rows(self.claim.job_id)

                def publish(session: Session) -> None:
                    adapter = adapters.publish(session, self.claim, folder, done, rows)
                    if adapter is not None:
                        evaluations.request_after_job(session, adapter)

                self.hold.persist(publish, "publish")
        except (OSError, ValueError) as error:
            # Of a storage that is away, what its library tried says nothing more, minute by minute.
            is_told = isinstance(error, shared_storage.StorageAway)
            _log.error(
                "job.not_published", job=self.claim.job_id, error=str(error), exc_info=not is_told
            )
            self._requeue(endings.not_published(error), EXIT_DONE, tail)
        else:
            checkpoint_copies.forget(self.claim.job_id)

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

        self.hold.persist(give_back, "requeue")

    def _note_device_error(self, session: Session) -> None:
        me = self.worker
        devices.after_device_error(session, me.id, me.host, me.devices)


def _sorts_otherwise(session: Session, job: Job) -> bool:
    """Keep and say what of the test set had been practised before the job.

    Returns:
        Whether an earlier attempt found something else, as where the data of an earlier adapter is
        gone since and this machine has no fingerprints of it: then no checkpoint fits any more.

    Raises:
        NotTrainable: the adapter that it starts from is gone, or too little is left to test on.
    """
    if not job.lineage:
        return False
    name = job.lineage[0]["name"]
    if job.start_adapter is None:
        raise NotTrainable(
            "adapter_gone", f"The trained model “{name}”, from which this job starts, was deleted."
        )
    before, found = job.practised_before, spool.practised_before(job.id)
    if found is None or found == before:
        return False
    job.practised_before = found
    for sentence in practice.sentences(job):
        say(session, job.id, "note", sentence, level="info" if found["is_checked"] else "warn")
    num_new = found["num_test"] - found["num_moved"] - found["num_left_out"]
    if practice.is_too_few(found["num_test"], num_new):
        session.commit()
        reason = practice.too_few(name, found["num_test"], num_new)
        raise NotTrainable("dataset_invalid", reason)
    return before is not None


def _hold_room(job: Job) -> disk.Reservation:
    """Hold room for what an attempt will write, its adapter's published files with it."""
    folder = spool.job_dir(job.id)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return disk.Reservation(spool.room_needed(job), [folder])
    except disk.NoRoom as error:
        raise NotNow(endings.no_room(error.needed_bytes, error.free_bytes)) from None
