"""Backup and restore as an administrator does them: with a job under way, into an empty site."""

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import delete, inspect, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.core import db as database
from app.core import settings, storage
from app.core.models import (
    Adapter,
    AuditEvent,
    BaseModel,
    DatasetVersion,
    Job,
    JobStatus,
    ModelStatus,
    QuestionAnswer,
    QuestionList,
    StoredFile,
    User,
    VersionStatus,
    WebSession,
    Worker,
)
from app.jobs import metrics
from app.ops import backup
from app.ops.backup import bundle, file_holds, tables
from app.ops.embedded import folder
from app.ops.embedded.postgres import Postgres
from app.people import auth
from app.training import manifests
from tests import patience
from tests.factories import PASSWORD, first_user, make_base_model, make_job, make_user
from tests.up import STAND_IN, Etude
from tests.worker.conftest import ROOT, WorkerProcess, until_final, until_step, wait_for

REFUSED = r"is damaged|not a complete backup|no backup of Etude"


def named_job(db: Session, name: str) -> Job:
    job = make_job(db)
    job.name = name
    db.commit()
    return job


def add_file(db: Session, content: bytes) -> StoredFile:
    user = first_user(db)
    kept = storage.put("uploads", [content])
    row = StoredFile(
        department_id=user.department_id,
        owner_id=user.id,
        filename="ward.csv",
        storage_key=kept.key,
        size_bytes=kept.size_bytes,
        sha256=kept.sha256,
    )
    db.add(row)
    db.commit()
    return row


def wait_until(look: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + patience.seconds(seconds)
    while not look():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def site(db: Session, data_dir: Path) -> Path:
    """A site with a person, a file and a job, and a folder beside it for backups."""
    for name in ("storage", "run", "jobs", "models"):
        (data_dir / name).mkdir(parents=True, exist_ok=True)
    make_user(db, email="ada@house.example", password=PASSWORD)
    add_file(db, b"question,answer\n")
    named_job(db, "steps=20")
    return data_dir.parent


@pytest.fixture
def other(site: Path, postgres: Postgres) -> Iterator[settings.Settings]:
    """An empty site: a data directory that is not there yet, and a database without tables."""
    name = f"other{os.getpid()}"
    server = postgres.url.replace("@/etude?", "@/postgres?")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
    url = postgres.url.replace("@/etude?", f"@/{name}?")
    yield settings.load(data_dir=site / "new").model_copy(
        update={"database_url": url, "database_owner_url": url}
    )
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


# --- the whole way -------------------------------------------------------------------------


def test_a_backup_amid_training_goes_on_in_an_empty_house(
    db: Session, gpu_worker: WorkerProcess, data_dir: Path, server_dir: Path
) -> None:
    make_user(db, email="ada@house.example", password=PASSWORD)
    upload = add_file(db, b"question,answer\n" * 1000)
    done = until_final(db, named_job(db, "steps=12 every=6"))
    assert done.adapter is not None
    running = named_job(db, "steps=120 every=10 hold=40")
    waiting = named_job(db, "steps=8")
    until_step(db, running, 25)
    target = data_dir.parent / "house.tar"
    backup.take(target)
    assert target.stat().st_mode & 0o777 == 0o600
    db.refresh(running)
    assert running.status is JobStatus.RUNNING, "it was copied while it ran"
    gpu_worker.end()

    new = Etude(server_dir / "another house" / "var", environment=STAND_IN)
    new.data_dir.parent.mkdir()
    restored = new.command("restore", str(target))
    assert restored.returncode == 0, restored.stderr
    assert "2 jobs are in the queue" in restored.stdout
    new.start()
    try:
        with new.database() as there:
            for old in (running, waiting):
                job = there.get_one(Job, old.id)
                wait_for(there, lambda job=job: job.status.is_final, 60)  # type: ignore[misc]
                assert job.status is JobStatus.SUCCEEDED, job.reason
            steps = [step for step, _ in metrics.series(there, running.id)["loss"]]
            assert steps == list(range(1, 121))
            resumed = there.get_one(Job, running.id)
            assert resumed.attempt == 2, "from its checkpoint and not from the start"
            assert resumed.strikes == 0
            kept = there.get_one(Adapter, done.adapter.id)
            file = there.get_one(StoredFile, upload.id)
            root = new.data_dir / "storage"
            assert (root / file.storage_key).read_bytes() == b"question,answer\n" * 1000
            for path in (settings.get().storage_dir / str(kept.storage_key)).iterdir():
                assert (root / str(kept.storage_key) / path.name).read_bytes() == path.read_bytes()
            assert kept.archive_file is not None
            archive = (root / kept.archive_file.storage_key).read_bytes()
            assert hashlib.sha256(archive).hexdigest() == kept.archive_file.sha256
            assert there.scalars(select(WebSession)).first() is None
            assert {worker.id.partition("@")[2] for worker in there.scalars(select(Worker))} == {
                os.uname().nodename
            }, "workers of the old site stay there"
    finally:
        new.end(signal.SIGTERM)


def test_what_is_kept_is_what_was_there(site: Path, db: Session, other: settings.Settings) -> None:
    """Every kept table comes back row by row, counters go on, triggers and keys hold again."""
    user = db.scalars(select(User).where(User.email == "ada@house.example")).one()
    auth.open_session(db, user)
    version = db.scalars(select(DatasetVersion)).first()
    assert version is not None
    version.status, version.worker_id = VersionStatus.BUILDING, "cpu-0@old"
    version.lease_until = version.created_at
    listed = QuestionList(
        department_id=user.department_id,
        owner_id=user.id,
        adapter_name="Ward",
        filename="ward.xlsx",
        sheet=b"PK\x00\xff\\",
    )
    db.add(listed)
    db.flush()
    db.add(QuestionAnswer(list_id=listed.id, index=0, cells=["Where?\t\\N", ""]))
    db.commit()
    before = rows(os.environ["DATABASE_URL"])
    summary = backup.take(site)
    assert summary.path is not None
    assert summary.path.parent == site
    # A factory's rows name files that were never there: said, and no reason to keep nothing.
    assert len(summary.missing) == 2
    assert "models/tiny" in summary.missing
    said = backup.restore(other, site)  # the newest in the folder
    assert "1 jobs are in the queue" in said[1]
    after = rows(other.database_url)
    changed = {"audit_event", "dataset_version", *tables.LEFT_OUT}
    assert {name: after[name] for name in after.keys() - changed} == {
        name: before[name] for name in before.keys() - changed
    }
    engine = database.make_engine(other.database_url)
    with Session(engine) as there:
        assert there.scalars(select(WebSession)).all() == []
        assert there.get_one(DatasetVersion, version.id).status is VersionStatus.CONFIRMED
        last = there.scalars(select(AuditEvent).order_by(AuditEvent.id.desc())).first()
        assert last is not None
        assert last.action == "backup.restore"
        one_more = make_user(there)
        assert one_more.id == max(int(str(row[0])) for row in before["user_account"]) + 1
        with pytest.raises(DBAPIError, match="append-only"):
            there.execute(delete(AuditEvent))
        there.rollback()
        with pytest.raises(DBAPIError, match="foreign key"):
            there.execute(delete(User))
    engine.dispose()


def rows(url: str) -> dict[str, list[tuple[object, ...]]]:
    engine = database.make_engine(url)
    with engine.connect() as connection:
        names = [name for name in inspect(engine).get_table_names() if name != "alembic_version"]
        found = {
            name: sorted(
                (tuple(row) for row in connection.exec_driver_sql(f'SELECT * FROM "{name}"')),
                key=repr,
            )
            for name in names
        }
    engine.dispose()
    return found


def test_models_that_can_be_fetched_again_may_be_left_out(
    site: Path, db: Session, data_dir: Path, other: settings.Settings
) -> None:
    for name, kind in (("house/own", "folder"), ("hub/other", "hub")):
        path = data_dir / "models" / kind
        path.mkdir(parents=True)
        (path / "model.safetensors").write_bytes(b"weights")
        manifests.write_manifest(path)
        model = make_base_model(db, name=name, folder=kind)
        model.source = {"kind": kind}
    db.commit()
    summary = backup.take(site / "small.tar", with_models=False)
    assert summary.models_left_out == ["hub/other"]
    assert "A worker will download these again: hub/other." in backup.restore(
        other, site / "small.tar"
    )
    assert (other.models_dir / "folder" / "model.safetensors").read_bytes() == b"weights"
    assert not (other.models_dir / "hub").exists()
    engine = database.make_engine(other.database_url)
    with Session(engine) as there:
        states = {model.name: model.status for model in there.scalars(select(BaseModel))}
    engine.dispose()
    assert states["house/own"] is ModelStatus.READY
    assert states["hub/other"] is ModelStatus.WAITING


# --- cut off, damaged, in the way ----------------------------------------------------------


def test_a_backup_that_was_cut_off_never_looks_whole(
    site: Path, db: Session, data_dir: Path, other: settings.Settings
) -> None:
    big = add_file(db, b"")
    with (data_dir / "storage" / big.storage_key).open("r+b") as file:
        file.truncate(2 * 1024**3)  # sparse: takes no disk, but a while to copy
    target = site / "cut.tar"
    partial = site / "cut.tar.partial"
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "backup", str(target)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    wait_until(lambda: partial.exists() and partial.stat().st_size > 20 * 1024**2)
    process.kill()
    process.wait()
    assert not target.exists()
    with pytest.raises(SystemExit, match="not a complete backup"):
        backup.restore(other, partial)
    assert not (site / "new").exists()
    assert (data_dir / "run" / "backup-held").exists()
    os.truncate(data_dir / "storage" / big.storage_key, 0)
    summary = backup.take(target)
    assert summary.damaged == [] or summary.damaged == [f"storage/{big.storage_key}"]
    assert list(site.glob("*.partial")) == []
    assert not (data_dir / "run" / "backup-held").exists()


def test_a_damaged_byte_is_refused_wherever_it_is(site: Path, other: settings.Settings) -> None:
    good = site / "good.tar"
    backup.take(good)
    with tarfile.open(good) as tar:
        places = [
            member.offset_data + at
            for member in tar.getmembers()
            for at in {0, member.size // 2, member.size - 1}
            if member.size
        ]
        end = tar.getmembers()[-1]
        places += [member.offset + 2 for member in tar.getmembers()]  # in a name
    whole = good.read_bytes()
    bad = site / "bad.tar"
    for place in places:
        bad.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(SystemExit, match=REFUSED):
            backup.restore(other, bad)
    for length in (0, 700, len(whole) // 2, end.offset, end.offset_data + 5):
        bad.write_bytes(whole[:length])
        with pytest.raises(SystemExit, match=REFUSED):
            backup.restore(other, bad)
    assert not (site / "new").exists(), "nothing is touched before all of it is verified"


def test_a_house_that_is_not_empty_is_left_alone(site: Path, data_dir: Path) -> None:
    kept = site / "kept.tar"
    backup.take(kept)
    with pytest.raises(SystemExit, match="exists; a backup never replaces"):
        backup.take(kept)
    with pytest.raises(SystemExit, match="is not empty"):
        backup.restore(settings.get(), kept)
    elsewhere = settings.load(data_dir=site / "new")  # an empty folder, but our full database
    with pytest.raises(SystemExit, match="database is not empty"):
        backup.restore(elsewhere, kept)
    with pytest.raises(SystemExit, match="there is no backup in"):
        backup.restore(elsewhere, data_dir)


def test_a_newer_backup_is_refused(site: Path, other: settings.Settings) -> None:
    kept, newer = site / "kept.tar", site / "newer.tar"
    backup.take(kept)
    with bundle.reading(kept) as old, bundle.writing(newer) as writer:
        for name, entry in old.manifest["files"].items():
            with old.open(name) as source:
                writer.add(name, source, entry["size_bytes"])
        rest = {key: value for key, value in old.manifest.items() if key not in ("files", "format")}
        writer.finish(**rest | {"revision": "9999", "etude": "9.0"})
    with pytest.raises(SystemExit, match=r"newer Etude \(9.0\)"):
        backup.restore(other, newer)


def test_a_restore_that_was_cut_off_does_not_start(site: Path) -> None:
    there = site / "half"
    there.mkdir()
    (there / "RESTORING").touch()
    with pytest.raises(SystemExit, match="was cut off"):
        folder.prepare(settings.load(data_dir=there))
    with pytest.raises(SystemExit, match="is not empty"):
        backup.restore(settings.load(data_dir=there), backup.take(site).path or site)


def test_what_is_held_stays_although_it_is_deleted(site: Path, data_dir: Path) -> None:
    step = data_dir / "jobs/7/checkpoints/step-00010"
    with manifests.new_folder(step) as folder:
        (folder / "state.json").write_text("10")
        manifests.write_manifest(folder)
    with file_holds.hold(settings.get()) as hold:
        files, missing = hold.take([file_holds.Wanted("jobs/7/checkpoints/step-00010")])
        shutil.rmtree(step)
        assert missing == []
        assert sorted(file.path.name for file in files) == ["MANIFEST.json", "state.json"]
        assert files[-1].path.read_text() == "10"
        with pytest.raises(SystemExit, match="Another backup"), file_holds.hold(settings.get()):
            pass
        assert hold.take([file_holds.Wanted("jobs/7/checkpoints/step-00010")])[1] != []


def test_a_backup_goes_through_a_pipe(
    site: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    backup.take(None)
    with tarfile.open(fileobj=io.BytesIO(capfdbinary.readouterr().out)) as tar:
        manifest = tar.extractfile("MANIFEST.json")
        assert manifest is not None
        assert json.load(manifest)["format"] == bundle.FORMAT


def test_no_kept_table_points_to_one_that_is_left_out() -> None:
    from app.core.models import Base

    pointing = {
        (table.name, key.column.table.name)
        for table in Base.metadata.tables.values()
        for key in table.foreign_keys
        if key.column.table.name in tables.LEFT_OUT and table.name not in tables.LEFT_OUT
    }
    assert pointing == set()
