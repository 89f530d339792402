"""Restore a backup into an empty site: verified first, whole or recognisably not."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, delete, inspect, select, text, update
from sqlalchemy.orm import Session

from app.core import audit, db, leases, migrations, settings, storage
from app.core.models import Answerer, BaseModel, Job, JobStatus, ModelStatus
from app.jobs import fence, protocol
from app.ops.backup import bundle, tables
from app.ops.backup.take import newest
from app.ops.embedded import folder
from app.ops.embedded.postgres import Postgres

_DATABASE = "database/"
# What people made. A database that `etude migrate` has only prepared has none of it.
_OF_PEOPLE = ("user_account", "dataset", "job")
_SPARE_BYTES = 256 * 1024**2


def restore(chosen: settings.Settings, source: Path) -> list[str]:
    """Fill an empty data directory and an empty database; returns what to tell the administrator.

    Args:
        source: A backup, or a folder whose newest one is meant.

    Raises:
        SystemExit: the backup is damaged or too new, or the site is not empty; one sentence, and
            nothing was changed.
    """
    source = source.expanduser()
    if source.is_dir():
        source = newest(source)
    try:
        with bundle.reading(source) as backup:
            _require_readable(backup)
            _require_empty(chosen)
            _require_room(chosen, backup)
            backup.verify()
            folder.prepare(chosen)
            with folder.lock(chosen, "etude restore", wait_seconds=3):
                return _restore(chosen, backup)
    except bundle.Damaged as error:
        raise SystemExit(f"etude: {error}") from None
    except folder.Busy as busy:
        raise SystemExit(f"etude: {chosen.data_dir} is in use by {busy}; stop it first.") from None


def _restore(chosen: settings.Settings, backup: bundle.Reader) -> list[str]:
    unfinished = chosen.data_dir / folder.RESTORING
    with _database(chosen) as engine:
        _require_no_rows(engine)
        unfinished.touch()
        storage.sync_folder(chosen.data_dir)
        names = [name for name in backup.manifest["files"] if not name.startswith(_DATABASE)]
        for name in names:
            backup.extract(name, chosen.data_dir / name)
        # Tables as that version had them, the rows, then what has changed in tables since.
        if inspect(engine).has_table("alembic_version"):
            migrations.downgrade(engine)
        migrations.upgrade(engine, backup.manifest["revision"])
        num_rows = _fill(engine, backup)
        migrations.upgrade(engine)
        with Session(engine, expire_on_commit=False) as session:
            num_jobs = _settle(session, backup)
            session.commit()
    unfinished.unlink()
    storage.sync_folder(chosen.data_dir)
    said = [
        f"Restored {num_rows:,} rows and {len(names):,} files of {backup.manifest['taken_at']} "
        f"into {chosen.data_dir}.",
        f"At the next start {num_jobs:,} jobs are in the queue; people have to sign in again.",
    ]
    if backup.manifest["models_left_out"]:
        names_out = ", ".join(backup.manifest["models_left_out"])
        said.append(f"A worker will download these again: {names_out}.")
    return said


def _fill(engine: Engine, backup: bundle.Reader) -> int:
    num_rows = 0
    with engine.begin() as connection:
        with tables.filling(connection):
            for table, said in backup.manifest["tables"].items():
                with backup.open(f"{_DATABASE}{table}.copy.gz") as source:
                    num_loaded = tables.load(connection, table, said["columns"], source)  # type: ignore[arg-type]
                if num_loaded != said["rows"]:
                    raise bundle.Damaged(f"{backup.path} is damaged: rows of {table} are missing.")
                num_rows += num_loaded
        tables.set_sequences(connection, backup.manifest["sequences"])
    return num_rows


def _settle(db: Session, backup: bundle.Reader) -> int:
    """Let go of what workers of the old site held; returns how many jobs wait or go on."""
    for job in db.execute(
        select(Job.id, Job.attempt, Job.worker_id, Job.durable_step).where(
            Job.status == JobStatus.RUNNING
        )
    ).all():
        held = fence.Claim(job.id, job.attempt, job.worker_id or "", job.durable_step)
        why = "Etude was restored from a backup."
        protocol.requeue(db, held, outcome="restored", why=why, strike=False)
    for rules in leases.RULES:
        leases.hand_back(db, rules)
    db.execute(delete(Answerer))  # where they listened, and under which secret
    db.execute(
        update(BaseModel)
        .where(BaseModel.name.in_(backup.manifest["models_left_out"]))
        .where(BaseModel.status == ModelStatus.READY)
        .values(status=ModelStatus.WAITING, folder=None)
    )
    taken_at = backup.manifest["taken_at"]
    audit.record(db, None, "backup.restore", "everything", taken_at=taken_at)
    queued = select(Job.id).where(Job.status == JobStatus.QUEUED)
    return len(db.scalars(queued).all())


# --- may it be restored, and here? ---------------------------------------------------------


def _require_readable(backup: bundle.Reader) -> None:
    said = backup.manifest
    if said.get("format") != bundle.FORMAT or not migrations.is_known(str(said["revision"])):
        raise SystemExit(
            f"etude: {backup.path} was taken by a newer Etude ({said.get('etude')}); install that "
            "version or a later one, then restore."
        )


def _require_empty(chosen: settings.Settings) -> None:
    there = chosen.data_dir.exists()
    parts = ("postgres", "storage", "models", "jobs", folder.RESTORING)
    full = [name for name in parts if there and _holds_something(chosen.data_dir / name)]
    if full:
        raise SystemExit(
            f"etude: {chosen.data_dir} is not empty ({', '.join(full)}); restore into a new "
            "--data-dir, or move this one away first."
        )


def _holds_something(path: Path) -> bool:
    if path.is_dir():
        return any(not each.is_dir() for each in path.rglob("*"))
    return path.exists()


def _require_no_rows(engine: Engine) -> None:
    there = set(inspect(engine).get_table_names())
    if there and "alembic_version" not in there:
        raise SystemExit(
            "etude: the database holds tables that are not Etude's; give an empty one."
        )
    with engine.connect() as connection:
        revision = migrations.current(connection)
        if revision is not None and not migrations.is_known(revision):
            raise SystemExit("etude: a newer Etude has used this database; give an empty one.")
        for table in there.intersection(_OF_PEOPLE):
            if connection.scalar(text(f"SELECT EXISTS (SELECT FROM {table})")):  # noqa: S608 - ours
                raise SystemExit(
                    "etude: the database is not empty (DATABASE_URL); give an empty one."
                )


def _require_room(chosen: settings.Settings, backup: bundle.Reader) -> None:
    folder = next(each for each in (chosen.data_dir, *chosen.data_dir.parents) if each.exists())
    needed = sum(entry["size_bytes"] for entry in backup.manifest["files"].values()) + _SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SystemExit(
            f"etude: {folder} has {free / 1e9:.1f} GB free, and the backup needs at least "
            f"{needed / 1e9:.1f} GB."
        )


@contextmanager
def _database(chosen: settings.Settings) -> Iterator[Engine]:
    """Give the database to fill: the one that is named, or a new one of ours."""
    server = None if chosen.database_url else Postgres(chosen)
    owner_url = chosen.database_owner_url or chosen.database_url
    if server is None:
        db.check_server(owner_url)
    else:
        server.start()
    engine = db.make_engine(server.url if server else owner_url)
    try:
        yield engine
    finally:
        engine.dispose()
        if server is not None:
            server.stop()
