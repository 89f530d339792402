"""Fixtures: a real PostgreSQL and a real Valkey for the whole session, a fresh database a test.

`db` is a Session on an empty, migrated database of the test's own; commits are real, and other
processes reach the same database through DATABASE_URL (it stands in os.environ while the test
runs, beside ETUDE_DATA_DIR, which is the test's `data_dir`). `client` is an HTTP client of the web
application on that database. `broker` starts Valkey and sets REDIS_URL. Rows come from
tests/factories.py.
"""

import gc
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.core import db as database
from app.core import settings
from app.ops.embedded.postgres import Postgres
from app.ops.embedded.valkey import Valkey
from app.training import isolation
from tests import databases, patience

# Around each child that a test starts all walls stand, where this machine can raise them.
if all(wall.stands or wall.name == isolation.USER for wall in isolation.standing()):
    os.environ.setdefault("ETUDE_WALLS", "required")
# Modules stay, so looking for garbage among them is in vain: a fifth of the time to import them.
gc.disable()
_number = itertools.count(1)
# A shell starts what runs in its background deaf to Ctrl-C; the processes that tests start would
# inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def server_dir() -> Iterator[Path]:
    """A short folder (sockets have short names) that goes with the session."""
    folder = Path(tempfile.mkdtemp(prefix="etude-t", dir=quick_place()))
    # As root without user namespaces, PostgreSQL runs as nobody, who has to pass through.
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def quick_place() -> Path | None:
    """Memory, where there is plenty: a database a test costs a disk a fifth of a second each."""
    place = Path("/dev/shm")
    has_room = place.is_dir() and shutil.disk_usage(place).free > 4 * 1024**3
    return place if has_room and os.access(place, os.W_OK) else None


@pytest.fixture(scope="session")
def postgres(server_dir: Path) -> Iterator[Postgres]:
    # Durability is not what these tests are about, and the disk is slow.
    server = Postgres(settings.load(data_dir=server_dir), {"fsync": "off"})
    server.start()
    databases.fill_template(server)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def valkey(server_dir: Path) -> Iterator[Valkey]:
    server = Valkey(settings.load(data_dir=server_dir))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The test's own ETUDE_DATA_DIR."""
    monkeypatch.setenv("ETUDE_DATA_DIR", str(tmp_path / "var"))
    settings.get.cache_clear()
    yield tmp_path / "var"
    settings.get.cache_clear()


@contextmanager
def own_database(postgres: Postgres, patch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty, migrated database, in DATABASE_URL as well; by the role that owns nothing."""
    name = f"t{os.getpid()}_{next(_number)}"
    server = postgres.url.replace("@/etude?", "@/postgres?")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template1 STRATEGY file_copy")
    url = postgres.app_url.replace("@/etude?", f"@/{name}?")
    patch.setenv("DATABASE_URL", url)
    patch.setenv("DATABASE_OWNER_URL", postgres.url.replace("@/etude?", f"@/{name}?"))
    settings.get.cache_clear()
    database.forget()
    yield url
    database.forget()
    settings.get.cache_clear()
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database_url(
    postgres: Postgres, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The address of an empty, migrated database of the test's own."""
    with own_database(postgres, monkeypatch) as url:
        yield url


@pytest.fixture
def db(database_url: str) -> Iterator[Session]:
    with database.session() as session:
        yield session


@pytest.fixture
def owner(database_url: str) -> Iterator[Connection]:
    """A connection of the role that owns the tables; each statement holds at once."""
    with database.owner_engine() as engine, engine.connect() as connection:
        yield connection.execution_options(isolation_level="AUTOCOMMIT")


@pytest.fixture
def broker(valkey: Valkey, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a running Valkey, also in REDIS_URL."""
    monkeypatch.setenv("REDIS_URL", valkey.url)
    settings.get.cache_clear()
    return valkey.url


@pytest.fixture
def client(database_url: str) -> Iterator[TestClient]:
    """A browser without cookies; pages and /v1 on the test's database."""
    from app.main import create_app

    with TestClient(create_app(), base_url="http://127.0.0.1") as browser:
        yield browser


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test's time limit, too, is one for a quick machine."""
    for item in items:
        own = item.get_closest_marker("timeout")
        limit = float(own.args[0] if own else config.getini("timeout"))
        item.add_marker(pytest.mark.timeout(patience.seconds(limit)), append=False)
