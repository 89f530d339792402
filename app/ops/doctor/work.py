"""What Etude holds and does: models, adapters, files; workers, the queue, notices to be sent."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.adapters import answering
from app.adapters import bin as adapter_bin
from app.core import audit, clock, db, settings, storage
from app.core.models import (
    Adapter,
    Attempt,
    AuditEvent,
    BaseModel,
    Channel,
    Job,
    JobStatus,
    ModelStatus,
    Outgoing,
    StoredFile,
    Worker,
    WorkerState,
)
from app.core.processes import start_ticks
from app.core.sentences import counted, listed
from app.core.shared_storage import Damaged, StorageAway
from app.jobs import standstill
from app.machines import devices, safeguards
from app.ops.doctor.finding import SystemFinding, guarded, note, ok, wrong
from app.ops.doctor.service import Reached
from app.training import manifests

_SHOWN = 5
_UNDELIVERED = {
    Channel.MAIL: (
        "1 mail could not be delivered yet: {error}",
        "{n} mails could not be delivered yet: {error}",
    ),
    Channel.WEBHOOK: (
        "1 call to a webhook could not be delivered yet: {error}",
        "{n} calls to webhooks could not be delivered yet: {error}",
    ),
    Channel.MLFLOW: (
        "The figures of 1 job could not be sent to MLflow yet: {error}",
        "The figures of {n} jobs could not be sent to MLflow yet: {error}",
    ),
}
_START = {
    "gpu": "Start one: etude worker gpu. With Docker, set COMPOSE_PROFILES=gpu or cpu in .env.",
    "cpu": "Start one: etude worker cpu. With Docker it is the service “cpu-worker”.",
}
_RESTART = "Restart it (`etude up` does so by itself); its log is in logs/ of the data directory."


def checks(chosen: settings.Settings, reached: Reached, *, deep: bool) -> Iterator[SystemFinding]:
    yield from _guarded("models", lambda session: _models(session, chosen, deep=deep))
    yield from _guarded("files", lambda session: _files(session, deep=deep))
    yield from _guarded("trainers", lambda session: _trainers(session, chosen))
    if reached.is_up:
        yield from _guarded("workers", lambda session: _workers(session, chosen))
        yield from _guarded("line", lambda session: _queue(session, chosen))
        yield from _guarded("answering", _answering)
    yield from _guarded("backups", lambda session: _backups(session, chosen))
    yield from _guarded("notices", _notices)
    if deep:
        yield from _guarded("audit", _audit)


def _guarded(
    check: str, run: Callable[[Session], Iterator[SystemFinding]]
) -> Iterator[SystemFinding]:
    def once() -> Iterator[SystemFinding]:
        with db.session() as session:
            yield from run(session)

    yield from guarded(check, once)


def _answering(session: Session) -> Iterator[SystemFinding]:
    states = answering.state(session)
    if not states:
        yield wrong(
            "answering",
            "No process answers questions (`etude answer`).",
            f"{_RESTART} With compose it is the service “answer”.",
        )
    for state in states:
        loaded = [f"“{model.label}”" for model in state.models]
        in_memory = f"in memory: {listed(loaded)}" if loaded else "no model is in memory just now"
        yield ok("answering", f"questions are answered; {in_memory}")


def _models(session: Session, chosen: settings.Settings, *, deep: bool) -> Iterator[SystemFinding]:
    num_whole = 0
    for model in session.scalars(
        select(BaseModel).where(BaseModel.deleted_at.is_(None)).order_by(BaseModel.id)
    ):
        again = f"Import “{model.label}” again: etude models add, under another name."
        if model.status is ModelStatus.FAILED:
            yield note("models", f"“{model.label}” could not be imported: {model.reason}", again)
        if model.status is not ModelStatus.READY:
            continue
        problem = _unlike(chosen.models_dir / (model.folder or ""), model.manifest_sha256, deep)
        if problem:
            yield wrong("models", f"The files of “{model.label}” are incomplete: {problem}", again)
        else:
            num_whole += 1
    yield ok("models", f"{num_whole} starting models are complete")


def _files(session: Session, *, deep: bool) -> Iterator[SystemFinding]:
    restore = (
        "Restore a backup elsewhere and copy the files from there, or delete them on the page."
    )
    broken = []
    for adapter in session.scalars(select(Adapter).order_by(Adapter.id)):
        if adapter.storage_key is None:
            continue
        try:
            folder = storage.folder(adapter.storage_key, adapter.manifest_sha256)
            problem = _unlike(folder, adapter.manifest_sha256, deep)
        except (StorageAway, Damaged) as error:
            problem = error.message
        if problem:
            broken.append(f"adapter {adapter.id} ({problem})")
    for file in session.scalars(
        select(StoredFile).where(StoredFile.deleted_at.is_(None)).order_by(StoredFile.id)
    ):
        try:
            path = storage.file(file.storage_key, file.sha256)
        except (StorageAway, Damaged) as error:
            broken.append(f"file {file.id} ({error.message})")
            continue
        if not path.is_file() or path.stat().st_size != file.size_bytes:
            broken.append(f"file {file.id} (missing or cut off)")
        elif deep and manifests.file_sha256(path) != file.sha256:
            broken.append(f"file {file.id} (its content has changed)")
    if broken:
        some = "; ".join(broken[:_SHOWN]) + ("; …" if len(broken) > _SHOWN else "")
        sentence = counted(
            len(broken),
            "1 file is not what it was: {some}",
            "{n} files are not what they were: {some}",
            some=some,
        )
        yield wrong("files", sentence, restore)
    else:
        yield ok("files", "uploads and adapters are all there")
    if binned := adapter_bin.size_bytes(session):
        yield ok("files", f"the bin holds {binned / 1e6:,.1f} MB, and lets go of it in time")


def _unlike(folder: Path, manifest_sha256: str | None, deep: bool) -> str:
    """Say how a folder differs from its manifest and its row; nothing where it does not."""
    try:
        if deep:
            digest = manifests.verify_manifest(folder)
        else:
            files, digest = manifests.read_manifest(folder)
            for name, entry in files.items():
                if not (folder / name).is_file():
                    return f"{name} is missing"
                if (folder / name).stat().st_size != entry["size_bytes"]:
                    return f"{name} does not have its size"
    except ValueError as error:
        return str(error)
    return "" if digest == manifest_sha256 else "its manifest is not the one that was registered"


def _trainers(session: Session, chosen: settings.Settings) -> Iterator[SystemFinding]:
    """Find trainers of this machine that no attempt under way has started."""
    held = set(
        session.scalars(
            select(Attempt.job_id).where(
                Attempt.ended_at.is_(None), Attempt.host == socket.gethostname()
            )
        )
    )
    left = []
    for file in chosen.jobs_dir.glob("*/attempts/*/trainer.json"):
        with suppress(OSError, ValueError, KeyError):
            noted = json.loads(file.read_text())
            job_id = int(file.parts[-4])
            if job_id not in held and start_ticks(noted["pid"]) == noted["started"]:
                left.append((noted["pid"], job_id))
    for pid, job_id in left:
        yield wrong(
            "trainers",
            f"Process {pid} still trains job {job_id}, which no worker holds any more.",
            f"End it: kill {pid}. The job itself is safe.",
        )
    if not left:
        yield ok("trainers", "no trainer is left running")


def _workers(session: Session, chosen: settings.Settings) -> Iterator[SystemFinding]:
    silence = clock.NOW - Worker.last_seen
    rows = session.execute(select(Worker, func.extract("epoch", silence)).order_by(Worker.id)).all()
    for worker, seconds in rows:
        if devices.has_left(worker):
            yield ok("workers", f"worker {worker.id} was stopped, and takes nothing")
        elif seconds > chosen.lease_seconds:
            yield wrong(
                "workers",
                f"Worker {worker.id} has not responded for {seconds / 60:,.0f} minutes.",
                _RESTART,
            )
        elif worker.state is not WorkerState.ACTIVE:
            yield note(
                "workers",
                f"Worker {worker.id} takes no jobs: it is paused for maintenance.",
                "Let it take jobs again on the Queue page once maintenance is done.",
            )
        elif worker.version != version("etude"):
            yield note(
                "workers",
                f"Worker {worker.id} runs Etude {worker.version}, and this is {version('etude')}.",
                "Start it anew in this version (in the help: Updating Etude).",
            )
        else:
            yield ok("workers", f"worker {worker.id} is running ({worker.version})")
    for queue in ("gpu", "cpu"):
        of_queue = [worker for worker, _ in rows if worker.queue == queue]
        if not of_queue:
            yield wrong("workers", f"No {queue} worker has ever been seen.", _START[queue])
        elif all(devices.has_left(worker) for worker in of_queue):
            yield wrong("workers", f"Every {queue} worker was stopped.", _START[queue])


def _queue(session: Session, chosen: settings.Settings) -> Iterator[SystemFinding]:
    now = func.clock_timestamp()
    lapsed = timedelta(
        seconds=chosen.reap_grace_seconds
        + chosen.reaper_patience_seconds
        + 2 * chosen.sweep_seconds
    )
    stuck = session.scalars(
        select(Job.id).where(Job.status == JobStatus.RUNNING, Job.lease_until < now - lapsed)
    ).all()
    if stuck:
        yield wrong(
            "line",
            counted(
                len(stuck),
                "Job {jobs} is held by a worker that no longer runs.",
                "Jobs {jobs} are held by workers that no longer run.",
                jobs=", ".join(map(str, stuck[:_SHOWN])),
            ),
            "No worker is left to take them back: start one.",
        )
    # Twice the time after which a deaf worker starts afresh by itself.
    patience = timedelta(seconds=2 * chosen.deaf_seconds)
    waiting = session.scalars(
        select(func.count())
        .select_from(Job)
        .where(Job.status == JobStatus.QUEUED, Job.run_after < now - patience)
    ).one()
    still = standstill.standing_still(session)
    if still:
        yield wrong(
            "line",
            standstill.in_words(still),
            "Restart it; if it happens again, look at its log and the broker's.",
        )
    elif not stuck:
        yield ok("line", f"{waiting} jobs have waited for longer than {patience.seconds} s")


def _backups(session: Session, chosen: settings.Settings) -> Iterator[SystemFinding]:
    backup = safeguards.last_backup(session)
    if backup.is_late:
        since = "none was ever taken" if backup.at is None else f"the last is {backup.age} old"
        yield wrong(
            "backups",
            f"A backup is wanted every night at {chosen.backup_at}, and {since}.",
            "Look at the log of `etude backup --nightly` (docker compose logs backup).",
        )
    elif backup.at is None:
        yield note(
            "backups",
            "No backup has been taken.",
            "Run etude backup FOLDER, or every night by ETUDE_BACKUP_AT (in the help: Backups).",
        )
    else:
        yield ok("backups", f"the last backup is {backup.age} old ({backup.place})")


def _notices(session: Session) -> Iterator[SystemFinding]:
    waiting = [Outgoing.sent_at.is_(None), Outgoing.last_error.is_not(None)]
    rows = session.execute(
        select(Outgoing.channel, func.count(), func.max(Outgoing.last_error))
        .where(*waiting)
        .group_by(Outgoing.channel)
    ).all()
    for channel, number, error in rows:
        yield note(
            "notices",
            counted(number, *_UNDELIVERED[channel], error=error),
            "See /webhooks; for mails look at the ETUDE_SMTP_… settings, for MLflow at "
            "ETUDE_MLFLOW_….",
        )
    if not rows:
        yield ok("notices", "every notice was delivered or waits for its first try")


def _audit(session: Session) -> Iterator[SystemFinding]:
    every = select(AuditEvent).order_by(AuditEvent.id).execution_options(yield_per=1000)
    with closing(session.scalars(every)) as events:
        broken = audit.first_break(events)
    if broken is None:
        yield ok("audit", "the audit log's chain is intact")
    else:
        yield wrong(
            "audit",
            f"The audit log was changed by hand: entry {broken} does not follow the one before.",
            "Compare it with the last backup; somebody had access to the database.",
        )
