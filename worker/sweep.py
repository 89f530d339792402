"""A timer in every worker: says that it lives, takes back what the dead held, rings again.

It repairs the loss of messages, so it is a thread and never a message itself. Any number of
workers may sweep at once.
"""

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import structlog
from sqlalchemy import Select, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app import notices
from app.adapters import bin as adapter_bin
from app.adapters import conversations, exports, question_lists, sharing
from app.adapters import registry as adapters
from app.base_models import registry as base_models
from app.core import beats, clock, db, leases, local_copies, migrations, settings, wakeup
from app.core.models import Job, JobStatus, Worker, WorkerState
from app.datasets import deletion, part_uploads
from app.evaluation import evaluations, judging
from app.jobs import bin as job_bin
from app.jobs import inputs, protocol
from app.machines import devices, safeguards
from app.notices import outbox
from app.people import attempts
from app.training import failpoints
from app.training.clock import boot_seconds
from app.training.plan.machine import DeviceInfo
from worker import identity
from worker.answering import conversion
from worker.bell import Bell
from worker.gpu import checkpoint_copies, gauges
from worker.gpu.layer_rate import LayerRate

_CLEAN_SECONDS = 600.0
_LOCK_SECONDS = 5.0
# While nothing is held, whoever has fallen silent is looked for all the same.
_QUIET_REAP_SECONDS = 30.0

# The kernel shows them in containers that may not use them, too.
_CARDS = Path("/proc/driver/nvidia/gpus")
_UNUSED = (
    "This machine has an NVIDIA GPU, but this worker trains on the processor. With Docker, set "
    "COMPOSE_PROFILES=gpu in .env; elsewhere, run etude doctor."
)

_log = structlog.get_logger()
_stopping = threading.Event()


def _build_is_needed() -> Select[bool]:
    at_work = {JobStatus.QUEUED, JobStatus.RUNNING}
    found = [exists().where(Job.status == status) for status in sorted(at_work)]
    for rules in leases.RULES:
        statuses = [*rules.held_from, *rules.held_from.values()]
        found.append(exists().where(rules.table.status.in_(statuses)))
    return select(or_(*found))


_IS_NEEDED = _build_is_needed()


class _Work:
    """What this process does beside sweeping."""

    is_busy = False
    looked_at = float("-inf")  # when a hint last arrived
    thread: threading.Thread | None = None  # that sweeps


_work = _Work()


@contextmanager
def busy() -> Iterator[None]:
    """Mark this worker as at work: it needs no ringing."""
    _work.is_busy, _work.looked_at = True, boot_seconds()
    try:
        yield
    finally:
        _work.is_busy = False


def start(queue_name: Literal["gpu", "cpu"], bell: Bell) -> None:
    """Begin to sweep, in a thread of this process."""
    _stopping.clear()
    _work.thread = threading.Thread(target=_Sweep(queue_name, bell).run, name="sweep", daemon=True)
    _work.thread.start()


def stop() -> None:
    """Let the thread end before the interpreter does."""
    _stopping.set()


def say_goodbye() -> None:
    """Say that this worker ends because it was told to; without a database nobody hears of it."""
    if _work.thread is not None:
        _work.thread.join(_LOCK_SECONDS)  # it may be saying just now that we live
    try:
        with db.session() as session:
            devices.leave(session, identity.worker_id())
            session.commit()
    except DBAPIError as error:
        _log.warning("sweep.database_away", error=str(error.orig).strip())


class _Sweep:
    def __init__(self, queue_name: Literal["gpu", "cpu"], bell: Bell) -> None:
        self.queue = queue_name
        self.bell = bell
        self.settings = settings.get()
        self.worker = identity.me()
        self.gauges = gauges.Gauges()
        self.is_registered = False
        self.layer_rate = LayerRate()
        self.hardware: DeviceInfo | None = None
        self.problem = ""
        # Since when the database has answered without a break; nobody is reaped before that has
        # lasted: after an outage the living must have time to say so.
        self.answering_since: float | None = None
        self.beat_at = self.swept_at = self.reaped_at = float("-inf")
        # Whether anything waits or is held, on this site.
        self.is_needed = True
        self.cleaned_at = self.ticked_at = self.tick_began = boot_seconds()
        self.waiting_since: float | None = None

    def run(self) -> None:
        """Sweep until told to stop; a database out of reach is met again the next time."""
        while not self._pause():
            if boot_seconds() - self.ticked_at > self.settings.self_fence_seconds:
                # The machine slept, or we were held up: so were those who hold jobs here.
                self.answering_since = None
            try:
                with db.session() as session:
                    self._tick(session)
                    session.commit()
                self.gauges.new_xids.clear()  # written down; else they are told the next time
                if self.beat_at >= self.ticked_at:
                    beats.tell()
                if self._is_held_up():
                    self.answering_since = None
                self.answering_since = self.answering_since or boot_seconds()
            except DBAPIError as error:
                self.answering_since = None
                _log.warning("sweep.database_away", error=str(error.orig).strip())
            except Exception:
                # Whatever it was: a worker without its sweep would be lost for good.
                _log.exception("sweep.failed")
            self.ticked_at = boot_seconds()

    def _pause(self) -> bool:
        """Wait for the next tick; says whether to stop.

        Where nothing waits and nothing is held, a tick only finds what was not rung for, and a
        claim rings (app/jobs/protocol.py): from then on a worker's death shows within a second.
        """
        self.bell.wait("held", self._rest_seconds())
        return _stopping.is_set()

    def _rest_seconds(self) -> float:
        chosen = self.settings
        seconds = chosen.watch_seconds
        if self.bell.is_listening and not self.is_needed:
            seconds = max(seconds, min(chosen.sweep_seconds, chosen.self_fence_seconds / 2))
        # However often the bell rang meanwhile: a hint that was lost is repaired in time.
        due = self.swept_at + chosen.sweep_seconds - boot_seconds()
        return min(seconds, due) if due > 0 else seconds

    def _tick(self, session: Session) -> None:
        self.tick_began = boot_seconds()
        self.is_needed = bool(session.scalar(_IS_NEEDED))
        now = boot_seconds()
        is_beat = now - self.beat_at >= self.settings.heartbeat_seconds
        if self.is_needed:
            self._take_back(session)
        if self.is_needed or is_beat:
            self._give_way(session)
        if is_beat:
            self._say_alive(session)
            self.beat_at = now
        if now - self.swept_at >= self.settings.sweep_seconds:
            if self.is_needed or now - self.reaped_at >= _QUIET_REAP_SECONDS:
                self._reap(session)
                self.reaped_at = now
            # What waits must be visible to whom we ring for.
            session.commit()
            self._ring(session)
            self.swept_at = now
        if now - self.cleaned_at >= _CLEAN_SECONDS:
            clean(session)
            self.cleaned_at = now

    def _take_back(self, session: Session) -> None:
        """Take back at once what dead workers of this machine, in any container of it, held."""
        self._limit(session)
        taken = protocol.take_back(
            session, self.worker.host, identity.is_alive, boot_id=self.worker.boot_id
        )
        if taken:
            failpoints.commit(session, "take_back")
        else:
            session.commit()  # its limits were for this alone
        for job_id in taken:
            _log.warning("job.taken_back", job=job_id)

    def _give_way(self, session: Session) -> None:
        """Save the places of our jobs and take no more once the tables are a newer Etude's."""
        if not identity.is_draining() and migrations.is_outgrown(session.connection()):
            _log.error("worker.outgrown", why="a newer Etude has changed the tables")
            identity.drain()
            self.problem = "A newer Etude runs on this site: start this worker in its version."

    def _limit(self, session: Session) -> None:
        """Let this transaction fail where a table is locked: leases run out while nobody can write.

        What fails begins the wait anew that the living are given to say so.
        """
        db.limit_silence(session, self.settings.lease_seconds)
        wanted = func.set_config("lock_timeout", str(round(1000 * self._lock_seconds())), True)
        session.execute(select(wanted))

    def _lock_seconds(self) -> float:
        return min(_LOCK_SECONDS, self.settings.self_fence_seconds / 2)

    def _is_held_up(self) -> bool:
        """Say whether this tick waited for a locked table: nobody could say that they live."""
        return boot_seconds() - self.tick_began > self._lock_seconds()

    def _say_alive(self, session: Session) -> None:
        safeguards.record(session, self.worker.id)
        values = {
            "queue": self.queue,
            "host": self.worker.host,
            "boot_id": self.worker.boot_id,
            "devices": list(self.worker.devices),
            "version": identity.etude_version(),
            "readings": self._readings(session).model_dump(),
            "last_seen": clock.NOW,
        }
        rate = self.layer_rate.take() / len(self.worker.devices) if self.queue == "gpu" else 0.0
        if self.hardware is not None and self.hardware.layer_rate != rate:
            self.hardware = self.hardware.model_copy(update={"layer_rate": rate})
            values["hardware"] = self.hardware.model_dump()
        if self.is_registered:
            session.execute(update(Worker).where(Worker.id == self.worker.id).values(values))
            return
        # A GPU is asked when nothing of ours is on it: what is free then is what a job can have.
        # Whether it is drained is not for it to say: an administrator's wish outlasts a restart.
        hardware = identity.hardware()
        if hardware is not None:
            self.hardware = hardware.model_copy(update={"layer_rate": rate})
            values["hardware"] = self.hardware.model_dump()
        session.execute(
            insert(Worker)
            .values(id=self.worker.id, state=WorkerState.ACTIVE, **values)
            .on_conflict_do_update(index_elements=["id"], set_=values)
        )
        self.is_registered = hardware is not None  # else its driver is asked the next time, too

    def _readings(self, session: Session) -> devices.Readings:
        """Look at the devices, and take out of use what its driver has given up."""
        readings = self.gauges.read()
        readings.problem = self.problem or readings.problem or self._unused()
        for device, xid in self.gauges.new_xids:
            if xid in devices.FATAL_XIDS:
                why = f"The driver reported Xid {xid}: {devices.FATAL_XIDS[xid]}."
                if devices.take_out(session, self.worker.id, self.worker.host, device, why):
                    _log.error("device.taken_out", device=device, xid=xid)
        return readings

    def _unused(self) -> str:
        """Say where a GPU of this machine is not used though nobody has forbidden it."""
        if self.queue != "gpu" or not identity.on_cpu() or "CUDA_VISIBLE_DEVICES" in os.environ:
            return ""
        try:
            has_card = any(_CARDS.iterdir())
        except OSError:
            return ""
        return _UNUSED if has_card else ""

    def _reap(self, session: Session) -> None:
        inputs.fail_hopeless(session)
        if (
            self._is_held_up()
            or self.answering_since is None
            or boot_seconds() - self.answering_since < self.settings.reaper_patience_seconds
        ):
            return
        self._limit(session)
        notices.silent_workers(session)
        evaluations.fail_hopeless(session)
        judging.fail_hopeless(session)
        reaped = protocol.reap(session)
        if reaped:
            failpoints.commit(session, "reap")
        for job_id in reaped:
            _log.warning("job.reaped", job=job_id)
        for rules in leases.RULES:
            ids = leases.reap(session, rules)
            if rules is leases.EVALUATIONS:
                evaluations.given_up(session, ids)
            elif rules is leases.JUDGINGS:
                judging.given_up(session, ids)
            for row_id in ids:
                _log.warning("lease.reaped", table=rules.table.__tablename__, id=row_id)

    def _ring(self, session: Session) -> None:
        """Ring for what waits while we are idle; start afresh where that brings nothing."""
        if not self.is_needed or self._is_at_work() or not self._has_work(session):
            self.waiting_since = None
            return
        if not wakeup.hint(self.queue, self.worker.id):
            return  # no broker: that is not for us to mend
        self.waiting_since = self.waiting_since or boot_seconds()
        if boot_seconds() - max(self.waiting_since, _work.looked_at) > self.settings.deaf_seconds:
            _log.error("worker.deaf", queue=self.queue)
            os.kill(os.getppid(), signal.SIGTERM)
            self.waiting_since = None

    def _is_at_work(self) -> bool:
        return _work.is_busy or identity.is_draining()

    def _has_work(self, session: Session) -> bool:
        if self.queue == "gpu":
            # What we hold while we do nothing is a claim whose answer was lost on the way.
            return (
                protocol.is_holding(session, self.worker.id)
                or any(_waits(session, rules) for rules in leases.ON_GPU)
                or protocol.has_claimable(session, self.worker)
            )
        return any(_waits(session, rules) for rules in leases.RULES if rules not in leases.ON_GPU)


def _waits(session: Session, rules: leases.Rules) -> bool:
    waiting = select(exists().where(rules.table.status.in_(rules.held_from)))
    return bool(session.scalar(waiting))


def clean(session: Session) -> None:
    """Remove what is over its time, and what no row points to: folders of jobs and adapters."""
    # First: what goes here leaves files that the next lines remove.
    if job_bin.erase_old(session) + adapter_bin.erase_old(session):
        session.commit()
        deletion.purge(session)
    base_models.try_again_for_room(session)
    adapters.purge(session)
    exports.purge(session)
    base_models.purge(session)
    checkpoint_copies.purge(session)
    local_copies.trim()
    conversion.purge(session)
    part_uploads.remove_stale()
    outbox.forget_old(session)
    attempts.forget_old(session)
    conversations.forget_old(session)
    question_lists.forget_old(session)
    sharing.forget_old(session)
    safeguards.forget_old(session)
    folders = {path.name: path for path in settings.get().jobs_dir.glob("*") if path.is_dir()}
    numbers = [int(name) for name in folders if name.isdigit()]
    kept = set(session.scalars(select(Job.id).where(Job.id.in_(numbers))))
    for number in set(numbers) - kept:
        shutil.rmtree(folders[str(number)], ignore_errors=True)
