"""The doctor: each thing is broken for real, found, and comes with what to do about it."""

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from importlib import metadata
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, text, update
from sqlalchemy.orm import Session

from app.adapters import answering
from app.core import audit, migrations, secrets, settings
from app.core import db as database
from app.core.models import Answerer, Job, StoredFile, Worker
from app.core.processes import start_ticks
from app.machines import devices
from app.ops import doctor
from app.ops.doctor import SystemFinding, machine
from app.ops.embedded import folder
from app.ops.embedded.servers import redis_client
from app.ops.embedded.valkey import Valkey
from app.training import isolation, manifests
from app.training.isolation import Wall
from tests.app.web.jobs.test_event_stream import free_port
from tests.factories import first_user, make_base_model, make_job
from tests.small_disk import small_disk

VERSION = metadata.version("etude")


@pytest.fixture
def site(db: Session, broker: str, data_dir: Path) -> Iterator[settings.Settings]:
    """A site in which nothing is wrong: workers and answering live, no files are missing."""
    chosen = settings.get()
    folder.prepare(chosen)
    for queue in ("gpu", "cpu"):
        db.add(Worker(id=f"{queue}-0@here", queue=queue, host="here", boot_id="", devices=["cpu"],
                      version=VERSION, last_seen=func.clock_timestamp()))  # fmt: skip
    answering.claim(db, "answer-0@here", "127.0.0.1:1", "secret")
    db.commit()
    yield chosen
    database.engine().dispose()


def unwell(chosen: settings.Settings, *, deep: bool = False) -> dict[str, str]:
    """What is wrong, by check; each has a sentence and, but for servers', advice."""
    found: dict[str, str] = {}
    for finding in doctor.examine(chosen, deep=deep):
        if finding.state == "wrong":
            found[finding.check] = f"{finding.sentence} {finding.advice}"
    return found


def notes(chosen: settings.Settings) -> str:
    return "\n".join(f.sentence for f in doctor.examine(chosen) if f.state == "note")


def test_nobody_answers(site: settings.Settings, db: Session) -> None:
    assert "answering" not in unwell(site)
    db.execute(update(Answerer).values(lease_until=func.clock_timestamp() - timedelta(seconds=1)))
    db.commit()
    assert "No process answers questions" in unwell(site)["answering"]


def test_a_house_that_is_well(site: settings.Settings) -> None:
    assert unwell(site, deep=True) == {}
    said: list[str] = []
    assert doctor.run(site, as_json=True, say=said.append) == 0
    report = json.loads(said[0])
    assert report["ok"] is True
    checks = {finding["check"] for finding in report["findings"]}
    assert checks >= {
        "python", "packages", "disk", "memory", "permissions", "port", "gpu", "isolation",
        "leftovers", "database", "migrations", "clock", "broker", "models", "files", "trainers",
        "workers", "line",
    }  # fmt: skip


def test_walls_that_cannot_stand(site: settings.Settings) -> None:
    found = [Wall("files", False, "this kernel has no Landlock"), Wall("network", True)]
    (said,) = machine.walls(site.model_copy(update={"walls": "auto"}), found)
    assert said.state == "note"
    assert said.sentence.endswith("and Etude's passwords: this kernel has no Landlock.")
    (said,) = machine.walls(site.model_copy(update={"walls": "required"}), found)
    assert said.state == "wrong"
    assert said.sentence.endswith("Nothing is read or trained without.")
    # For want of a user of their own nothing is refused.
    found = [Wall(isolation.USER, False, "what they need lies where root alone may read")]
    (said,) = machine.walls(site.model_copy(update={"walls": "required"}), found)
    assert (said.state, "root alone may read." in said.sentence) == ("note", True)
    (said,) = machine.walls(site, [Wall("files", True), Wall("network", True, "by sockets")])
    assert said.state == "ok"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has children of other users")
def test_folders_are_open_to_roots_children_and_nobody_else(site: settings.Settings) -> None:
    assert stat.S_IMODE(site.storage_dir.stat().st_mode) == 0o750
    assert stat.S_IMODE(site.secrets_dir.stat().st_mode) == 0o700
    assert "permissions" not in unwell(site)
    os.chown(site.storage_dir, -1, 0)
    assert "can be read by other people" in unwell(site)["permissions"]


def test_old_and_unwanted_packages(
    site: settings.Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, version in (("transformers", "5.2.0"), ("flower", "2.0.1")):
        info = tmp_path / "old" / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    monkeypatch.syspath_prepend(tmp_path / "old")
    said = [f.sentence for f in machine.checks(site) if f.state == "wrong"]
    assert len(said) == 3
    assert "transformers 5.2.0 is installed; Etude was made for" in said[0]
    assert "transformers 5.2.0 has known security holes; 5.3.0" in said[1]
    assert "package flower is installed" in said[2]


def test_a_full_disk_and_one_that_takes_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "2m") as place:
        chosen = settings.load(data_dir=place)
        assert "GB free; training needs" in unwell(chosen)["disk"]
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        assert "Nothing can be written" in unwell(chosen)["disk"]


def test_little_memory() -> None:
    said = list(machine.memory("MemTotal: 4000000 kB\nMemAvailable: 900000 kB\n"))
    assert said[0].state == "note"
    assert "0.9 of 4.1 GB" in said[0].sentence


def test_secrets_that_others_can_read(site: settings.Settings) -> None:
    secrets.get(site, "valkey-password").encode()
    (site.secrets_dir / "valkey-password").chmod(0o644)
    assert "valkey-password can be read by other people" in unwell(site)["permissions"]
    (site.secrets_dir / "valkey-password").chmod(0o600)
    (site.data_dir / "storage").chmod(0o755)
    assert "chmod go=" in unwell(site)["permissions"]


def test_a_port_that_something_else_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        monkeypatch.setenv("ETUDE_PORT", str(other.getsockname()[1]))
        monkeypatch.delenv("DATABASE_URL", raising=False)
        chosen = settings.load(data_dir=tmp_path / "new")
        assert "is in use, and not by the Etude" in unwell(chosen)["port"]


_UP = """
import os, socket, sys, time
from pathlib import Path
from app.core import settings
from app.ops.embedded import folder
chosen = settings.get()
folder.prepare(chosen)
server = socket.create_server(("127.0.0.1", int(sys.argv[2])))
with folder.lock(chosen, "etude up"):
    print("up", flush=True)
    time.sleep(600)
"""


def test_a_site_that_is_up_on_another_port_is_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("ETUDE_PORT", str(free_port()))
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-c", _UP, "--port", str(port)], stdout=subprocess.PIPE, text=True
    ) as up:
        try:
            assert up.stdout is not None
            assert up.stdout.readline() == "up\n"
            chosen = settings.load(data_dir=tmp_path)
            (found,) = machine._port(chosen)
            assert (found.state, found.sentence) == ("ok", f"Etude is up on port {port}")
        finally:
            up.kill()
    (found,) = machine._port(chosen)
    assert found.sentence == f"port {chosen.port} is free"


def test_a_driver_that_does_not_work(
    site: settings.Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    program.write_text(
        "#!/bin/sh\necho 'Failed to initialize NVML: Driver/library mismatch'\nexit 9\n"
    )
    program.chmod(0o755)
    assert "driver does not work: Failed to initialize NVML" in unwell(site)["gpu"]
    program.write_text("#!/bin/sh\necho 'NVIDIA L4, 470.1, 23034, 100, 7'\n")
    said = [f.sentence for f in machine.checks(site) if f.check == "gpu" and f.state == "wrong"]
    assert "torch was installed without CUDA" in said[0] or "too old for CUDA" in said[0]
    assert "counted 7 memory errors" in said[1]
    advice = "the faster kernels for a GPU cannot be compiled"
    monkeypatch.setenv("CC", "cc")
    assert not any(advice in found.sentence for found in machine.checks(site))
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", str(program.parent))
    assert any(advice in found.sentence for found in machine.checks(site))


def test_a_database_of_another_version(site: settings.Settings, owner: Connection) -> None:
    owner.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert "revision 9999, which a newer Etude made" in unwell(site)["migrations"]
    with pytest.raises(SystemExit, match="by a newer Etude"):
        migrations.upgrade(owner.engine)
    head = {"head": migrations.head()}
    owner.execute(text("UPDATE alembic_version SET version_num = :head"), head)
    migrations.downgrade(owner.engine, "0004")
    assert "is at revision 0004" in unwell(site)["migrations"]
    assert "etude migrate" in unwell(site)["migrations"]


def test_a_clock_that_is_wrong(site: settings.Settings, owner: Connection) -> None:
    name = owner.scalar(text("SELECT current_database()"))
    owner.execute(text("CREATE SCHEMA wrong"))
    owner.execute(text("GRANT USAGE ON SCHEMA wrong TO PUBLIC"))
    owner.execute(
        text(
            "CREATE FUNCTION wrong.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS "
            "$$ SELECT pg_catalog.clock_timestamp() - interval '1 day' $$"
        )
    )
    owner.execute(text(f"ALTER DATABASE {name} SET search_path = wrong, pg_catalog, public"))
    database.engine().dispose()
    assert "is 86,400 s behind this machine's" in unwell(site)["clock"]


def test_a_broker_that_forgets(site: settings.Settings, server_dir: Path) -> None:
    broker = Valkey(settings.load(data_dir=server_dir / "forgets"), more_rights="+config")
    broker.start()
    try:
        with redis_client(broker.url, timeout_seconds=5) as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
            client.config_set("appendonly", "no")
        its = site.model_copy(update={"redis_url": broker.url})
        assert "throw messages away" in unwell(its)["broker"]
        assert "forgets its messages" in notes(its)
    finally:
        broker.stop()
    away = site.model_copy(update={"redis_url": "redis://127.0.0.1:9/0"})
    assert "REDIS_URL" in unwell(away)["broker"]


def test_files_that_are_not_what_they_were(site: settings.Settings, db: Session) -> None:
    model = site.models_dir / "tiny"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"weights")
    make_base_model(db).manifest_sha256 = manifests.write_manifest(model)
    user = first_user(db)
    (site.storage_dir / "upload").write_bytes(b"12345")
    db.add(StoredFile(department_id=user.department_id, owner_id=user.id, filename="a.csv",
                      storage_key="upload", size_bytes=5, sha256="0" * 64))  # fmt: skip
    db.commit()
    assert unwell(site) == {}
    assert "its content has changed" in unwell(site, deep=True)["files"]
    (site.storage_dir / "upload").write_bytes(b"123")
    assert "missing or cut off" in unwell(site)["files"]
    (model / "model.safetensors").write_bytes(b"weightS")
    assert "models" not in unwell(site)
    assert "does not have the content" in unwell(site, deep=True)["models"]
    (model / "model.safetensors").unlink()
    assert "model.safetensors is missing" in unwell(site)["models"]


def test_a_trainer_without_a_worker(site: settings.Settings, db: Session) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as orphan:
        note = site.jobs_dir / "7" / "attempts" / "1" / "trainer.json"
        note.parent.mkdir(parents=True)
        started = start_ticks(orphan.pid)
        note.write_text(json.dumps({"pid": orphan.pid, "started": started}))
        assert f"Process {orphan.pid} still trains job 7" in unwell(site)["trainers"]
        orphan.kill()
    assert "trainers" not in unwell(site)


def test_a_silent_worker_and_a_deaf_one(site: settings.Settings, db: Session) -> None:
    job = make_job(db)
    (site.models_dir / "tiny").mkdir()
    job.base_model.manifest_sha256 = manifests.write_manifest(site.models_dir / "tiny")
    job.version.file.deleted_at = func.now()
    db.execute(Job.__table__.update().values(run_after=func.now() - timedelta(hours=1)))  # type: ignore[attr-defined]
    db.commit()
    assert "gpu-0@here is free and takes none" in unwell(site)["line"]
    worker = db.get_one(Worker, "gpu-0@here")
    worker.last_seen = func.now() - timedelta(minutes=10)
    db.commit()
    found = unwell(site)
    assert "gpu-0@here has not responded for 10 minutes" in found["workers"]
    assert "line" not in found
    db.delete(worker)
    db.commit()
    assert "No gpu worker has ever been seen" in unwell(site)["workers"]


def test_a_worker_of_another_version(site: settings.Settings, db: Session) -> None:
    assert "runs Etude" not in notes(site)
    db.get_one(Worker, "gpu-0@here").version = "0.0.9"
    db.commit()
    assert f"gpu-0@here runs Etude 0.0.9, and this is {VERSION}." in notes(site)


def test_who_was_told_to_end_is_not_missed(site: settings.Settings, db: Session) -> None:
    worker = db.get_one(Worker, "gpu-0@here")
    worker.last_seen = func.now() - timedelta(hours=2)
    db.add(Worker(id="gpu-1@here", queue="gpu", host="here", boot_id="", devices=["cpu"],
                  version="1", last_seen=func.clock_timestamp()))  # fmt: skip
    devices.leave(db, "gpu-0@here")
    db.commit()
    assert unwell(site) == {}
    devices.leave(db, "gpu-1@here")
    db.commit()
    assert "Every gpu worker was stopped." in unwell(site)["workers"]


def test_a_backup_that_is_wanted_and_not_there(
    site: settings.Settings, db: Session, owner: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "No backup has been taken." in notes(site)
    monkeypatch.setenv("ETUDE_BACKUP_AT", "02:30")
    settings.get.cache_clear()
    wanting = settings.get()
    audit.record(db, None, "user.add", "somebody")
    db.commit()
    assert "backups" not in unwell(wanting), "its first night has not come yet"
    owner.execute(text("ALTER TABLE audit_event DISABLE TRIGGER USER"))
    owner.execute(text("UPDATE audit_event SET at = at - interval '27 hours'"))
    assert "and none was ever taken" in unwell(wanting)["backups"]
    audit.record(db, None, "backup.take", "everything", to="/backups/etude.tar")
    db.commit()
    said = [f.sentence for f in doctor.examine(wanting) if f.check == "backups"]
    assert said == ["the last backup is less than an hour old (/backups/etude.tar)"]
    owner.execute(text("UPDATE audit_event SET at = at - interval '50 hours'"))
    assert "the last is 2 days old" in unwell(wanting)["backups"]


def test_a_variable_that_nothing_reads(
    site: settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_TIMEZONE", "Europe/Berlin")
    assert "ETUDE_TIMEZONE is no setting of Etude; ETUDE_TIME_ZONE is." in notes(site)


def test_what_was_left_behind(site: settings.Settings, valkey: Valkey) -> None:
    (site.run_dir / "backup-held").mkdir()
    assert "A backup was killed" in notes(site)
    running = settings.load(data_dir=valkey.settings.data_dir)  # a server without its Etude
    said = [f for f in machine.checks(running) if f.check == "leftovers"]
    assert any("still runs although Etude is down" in f.sentence for f in said)
    (site.data_dir / folder.RESTORING).touch()
    assert "was cut off" in unwell(site)["leftovers"]


def test_an_audit_log_changed_by_hand(
    site: settings.Settings, db: Session, owner: Connection
) -> None:
    audit.record(db, None, "job.create", "job 1")
    audit.record(db, None, "job.cancel", "job 1")
    db.commit()
    owner.execute(text("ALTER TABLE audit_event DISABLE TRIGGER USER"))
    owner.execute(text("UPDATE audit_event SET actor = 'eve' WHERE action = 'job.create'"))
    assert unwell(site) == {}
    assert "was changed by hand" in unwell(site, deep=True)["audit"]


def test_a_check_that_breaks_is_a_finding_too(site: settings.Settings, owner: Connection) -> None:
    owner.execute(text("ALTER TABLE stored_file RENAME TO gone"))
    found = unwell(site)
    assert "could not be checked" in found["files"]
    assert "workers" not in found
    assert isinstance(next(doctor.examine(site)), SystemFinding)
