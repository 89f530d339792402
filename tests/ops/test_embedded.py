"""The servers from wheels: they keep their data through a kill, and stand in nobody's way."""

import os
import pwd
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import redis
from celery import Celery

from app.core import secrets, settings
from app.ops.embedded import folder
from app.ops.embedded.postgres import Postgres
from app.ops.embedded.servers import check_broker, redis_client
from app.ops.embedded.valkey import Valkey
from tests import patience

FAST = {"fsync": "off"}
IS_ROOT = os.geteuid() == 0


@pytest.fixture
def site(server_dir: Path, request: pytest.FixtureRequest) -> settings.Settings:
    """A data directory of the test's own, with a space in its name."""
    return settings.load(data_dir=server_dir / f"a site {request.node.name[:40]}")


@pytest.fixture
def postgres_here(site: settings.Settings) -> Iterator[Postgres]:
    server = Postgres(site, FAST)
    yield server
    server.stop()


@pytest.fixture
def valkey_here(site: settings.Settings) -> Iterator[Valkey]:
    server = Valkey(site)
    yield server
    server.stop()


def write_row(server: Postgres) -> None:
    with psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE kept (word text)")
        connection.execute("INSERT INTO kept VALUES ('étude')")


def read_row(server: Postgres) -> object:
    with psycopg.connect(server.url) as connection:
        row = connection.execute("SELECT word FROM kept").fetchone()
    return row and row[0]


def is_gone(pid: int, seconds: float = 10) -> bool:
    """Wait until a process has ended; a zombie has."""
    deadline = time.monotonic() + patience.seconds(seconds)
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_rows_survive_a_kill_and_a_stop(postgres_here: Postgres) -> None:
    postgres_here.start()
    write_row(postgres_here)
    assert postgres_here.process is not None
    postgres_here.process.kill()
    postgres_here.start()
    assert read_row(postgres_here) == "étude"
    postgres_here.stop()
    assert postgres_here.pid() is None
    postgres_here.start()
    assert read_row(postgres_here) == "étude"


def test_the_database_wants_its_password(postgres_here: Postgres, site: settings.Settings) -> None:
    postgres_here.start()
    password = (site.secrets_dir / "postgres-password").read_text()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres_here.url.replace(password, "guess"))
    assert (site.secrets_dir / "postgres-password").stat().st_mode & 0o777 == 0o600
    assert site.secrets_dir.stat().st_mode & 0o777 == 0o700


def test_a_left_over_server_makes_way(site: settings.Settings, postgres_here: Postgres) -> None:
    left_over = Postgres(site, FAST)
    left_over.start()
    write_row(left_over)
    assert left_over.process is not None
    postgres_here.start()
    assert left_over.process.wait(timeout=patience.seconds(5)) == 0  # an orderly end, not a kill
    assert read_row(postgres_here) == "étude"


def test_a_process_id_with_a_new_owner_does_not_stop_the_start(postgres_here: Postgres) -> None:
    postgres_here.start()
    stale = (postgres_here.data / "postmaster.pid").read_text().splitlines()
    postgres_here.stop()
    (postgres_here.data / "postmaster.pid").write_text("\n".join([str(os.getpid()), *stale[1:]]))
    postgres_here.start()
    assert postgres_here.is_ready()


def test_a_start_that_was_cut_off_leaves_no_half_cluster(postgres_here: Postgres) -> None:
    partial = postgres_here.data.with_name("postgres.partial")
    partial.mkdir(parents=True)
    (partial / "PG_VERSION").write_text("18\n")
    postgres_here.start()
    assert postgres_here.is_ready()
    assert not partial.exists()


def test_another_version_is_refused(postgres_here: Postgres) -> None:
    folder.prepare(postgres_here.settings)
    (postgres_here.data / "PG_VERSION").write_text("17\n")
    with pytest.raises(SystemExit, match=r"written by PostgreSQL 17.*pg_upgrade"):
        postgres_here.start()
    assert (postgres_here.data / "PG_VERSION").read_text() == "17\n"


def test_a_server_that_cannot_start_says_why(postgres_here: Postgres) -> None:
    postgres_here.start()
    postgres_here.stop()
    postgres_here.options = {"shared_buffers": "rubbish"}
    with pytest.raises(SystemExit, match=r"postgres\.log.*rubbish"):
        postgres_here.start()


def test_a_long_path_is_no_hindrance(server_dir: Path) -> None:
    server = Postgres(settings.load(data_dir=server_dir / ("long" * 30)), FAST)
    server.start()
    try:
        assert server.is_ready()
    finally:
        server.stop()
        folder.socket_folder(server.settings, "pg").rmdir()


@pytest.mark.parametrize("user", ["us", "nobody"] if IS_ROOT else ["us"])
def test_who_runs_the_server(user: str, site: settings.Settings, postgres_here: Postgres) -> None:
    """As root it runs as us in a user namespace or, where it cannot, as nobody."""
    owner = pwd.getpwuid(os.geteuid()) if user == "us" else pwd.getpwnam(user)
    folder.prepare(site)
    # A folder of nobody's is what an earlier start without namespaces left.
    os.chown(postgres_here.data, owner.pw_uid, owner.pw_gid)
    postgres_here.start()
    write_row(postgres_here)
    assert (postgres_here.data / "PG_VERSION").stat().st_uid == owner.pw_uid
    assert Path(f"/proc/{postgres_here.pid()}").stat().st_uid == owner.pw_uid
    postgres_here.stop()
    postgres_here.start()
    assert read_row(postgres_here) == "étude"


def test_servers_end_with_whoever_started_them(site: settings.Settings, tmp_path: Path) -> None:
    program = """
import sys, time
from app.core import settings
from app.ops.embedded.postgres import Postgres
from app.ops.embedded.valkey import Valkey
chosen = settings.load(data_dir=sys.argv[1])
servers = [Postgres(chosen, {"fsync": "off"}), Valkey(chosen)]
for server in servers:
    server.start()
print(*[server.pid() for server in servers], flush=True)
time.sleep(600)
"""
    said = tmp_path / "stderr"
    with (
        said.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, "-c", program, str(site.data_dir)],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as starter,
    ):
        assert starter.stdout is not None
        pids = [int(word) for word in starter.stdout.readline().split()]
        starter.kill()
    assert len(pids) == 2, said.read_text()
    assert [is_gone(pid) for pid in pids] == [True, True]


def test_what_waits_in_the_broker_survives_a_kill(valkey_here: Valkey) -> None:
    valkey_here.start()
    with redis_client(valkey_here.url, timeout_seconds=5) as client:
        client.rpush("line", "first")
        assert client.info("memory")["maxmemory_policy"] == "noeviction"
    assert valkey_here.process is not None
    valkey_here.process.kill()
    valkey_here.process.wait()
    assert valkey_here.pid() is None
    valkey_here.start()
    with redis_client(valkey_here.url, timeout_seconds=5) as client:
        assert client.lrange("line", 0, -1) == [b"first"]


def test_a_left_over_broker_makes_way(site: settings.Settings, valkey_here: Valkey) -> None:
    left_over = Valkey(site)
    left_over.start()
    assert left_over.process is not None
    valkey_here.start()
    assert left_over.process.wait(timeout=patience.seconds(5)) == 0
    check_broker(valkey_here.url)


def test_the_broker_wants_its_password(valkey_here: Valkey, site: settings.Settings) -> None:
    valkey_here.start()
    password = (site.secrets_dir / "valkey-password").read_text()
    wrong = valkey_here.url.replace(password, "guess")
    with pytest.raises(SystemExit, match=r"REDIS_URL .* does not work") as raised:
        check_broker(wrong)
    assert "guess" not in str(raised.value)
    with (
        pytest.raises(redis.AuthenticationError),
        redis_client(wrong, timeout_seconds=5) as client,
    ):
        client.ping()


def test_celery_reaches_the_broker_by_its_address(valkey_here: Valkey) -> None:
    valkey_here.start()
    Celery(broker=valkey_here.url).send_task("worker.tasks.look_gpu", queue="gpu", retry=False)
    with redis_client(valkey_here.url, timeout_seconds=5) as client:
        assert client.llen("gpu") == 1


def test_one_process_owns_the_data_directory(site: settings.Settings) -> None:
    folder.prepare(site)
    with (
        folder.lock(site, "etude up"),
        pytest.raises(folder.Busy, match=rf"etude up \(process {os.getpid()}\)"),
        folder.lock(site, "a command", wait_seconds=0.2),
    ):
        pass
    with folder.lock(site, "a command"):
        pass


def test_commands_at_once_agree_on_one_secret(site: settings.Settings) -> None:
    folder.prepare(site)
    with ThreadPoolExecutor(16) as threads:
        values = set(threads.map(lambda _: secrets.get(site, "shared"), range(64)))
    assert len(values) == 1
    assert len(values.pop()) == 48
    assert [file.name for file in site.secrets_dir.iterdir()] == ["shared"]
