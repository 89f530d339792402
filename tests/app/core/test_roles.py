"""The application's role of PostgreSQL, and its user of Valkey: what each may, and may not."""

from collections.abc import Iterator

import psycopg
import pytest
import redis
from psycopg import sql

from app.core import db as database
from app.core import migrations, settings
from app.ops.embedded.postgres import Postgres
from app.ops.embedded.servers import redis_client
from app.ops.embedded.valkey import Valkey

_ROLE = "clinic_app"


@pytest.mark.parametrize(
    "statement",
    [
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "COPY job TO '/tmp/etude-rows'",
        "SELECT pg_read_file('PG_VERSION')",
        "CREATE TABLE mine (a int)",
        "ALTER TABLE job ADD COLUMN mine int",
        "DROP TABLE job CASCADE",
        "TRUNCATE job CASCADE",
        "UPDATE alembic_version SET version_num = 'x'",
        "CREATE ROLE mine SUPERUSER",
        "CREATE EXTENSION file_fdw",
        "SET ROLE etude",
        "SET session_replication_role = replica",
        "ALTER SYSTEM SET max_connections = 1",
    ],
)
def test_the_application_may_not(database_url: str, statement: str) -> None:
    with (
        psycopg.connect(database_url, autocommit=True) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement)


def test_it_reads_and_writes_every_table_and_owns_none(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        names = [
            name
            for (name,) in connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
            )
        ]
        assert len(names) > 20
        for name in names:
            connection.execute(
                sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(sql.Identifier(name))
            )
            if name not in ("alembic_version", "audit_event"):
                connection.execute(
                    sql.SQL("DELETE FROM {} WHERE false").format(sql.Identifier(name))
                )
        owned = connection.execute(
            "SELECT count(*) FROM pg_class WHERE relowner = current_user::regrole"
        ).fetchone()
        assert owned == (0,)


@pytest.fixture
def owned(postgres: Postgres, database_url: str) -> Iterator[str]:
    """A database that one role has owned and used; gives its address by that role."""
    name = database_url.rpartition("@/")[2].partition("?")[0]
    yield postgres.url.replace("@/etude?", f"@/{name}?")
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (_ROLE,)).fetchone()
    if known:
        with psycopg.connect(
            postgres.url.replace("@/etude?", f"@/{name}?"), autocommit=True
        ) as connection:
            connection.execute(f"DROP OWNED BY {_ROLE} CASCADE")
            connection.execute(f"DROP ROLE {_ROLE}")


def test_a_database_of_before_is_carried_over_and_a_new_password_holds(
    owned: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for password in ("one", "another"):
        by_role = owned.replace("//etude:", "//" + _ROLE + ":").replace(
            owned.split(":")[2].partition("@")[0], password
        )
        monkeypatch.setenv("DATABASE_URL", by_role)
        monkeypatch.setenv("DATABASE_OWNER_URL", owned)
        settings.get.cache_clear()
        with database.owner_engine() as engine:
            migrations.upgrade(engine)
        with psycopg.connect(by_role) as connection:
            assert connection.execute("SELECT count(*) FROM job").fetchone() == (0,)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(by_role.replace(":another@", ":one@"))


def test_an_owner_who_may_make_no_roles_is_told(
    owned: str, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(owned, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {_ROLE} LOGIN PASSWORD 'x'")
        connection.execute(f"GRANT SELECT ON alembic_version TO {_ROLE}")
    by_role = owned.replace("//etude:", f"//{_ROLE}:").replace(
        owned.split(":")[2].partition("@")[0], "x"
    )
    monkeypatch.setenv("DATABASE_OWNER_URL", by_role)
    monkeypatch.setenv("DATABASE_URL", by_role.replace(_ROLE, "somebody_else"))
    settings.get.cache_clear()
    with database.owner_engine() as engine, pytest.raises(SystemExit) as said:
        migrations.upgrade(engine)
    assert "The role of DATABASE_OWNER_URL cannot give the role somebody_else" in str(said.value)


@pytest.mark.parametrize(
    "command",
    [
        ("CONFIG", "GET", "*"),
        ("KEYS", "*"),
        ("ACL", "LIST"),
        ("FLUSHALL",),
        ("REPLICAOF", "127.0.0.1", "1"),
        ("MODULE", "LIST"),
        ("SHUTDOWN",),
    ],
)
def test_the_brokers_user_may_not(valkey: Valkey, command: tuple[str, ...]) -> None:
    with (
        redis_client(valkey.url, timeout_seconds=5) as client,
        pytest.raises(redis.exceptions.NoPermissionError),
    ):
        client.execute_command(*command)


def test_nobody_without_a_name_gets_into_the_broker(valkey: Valkey) -> None:
    password = valkey.url.partition(":etude:")[2] or valkey.url.split(":")[2].partition("@")[0]
    plain = valkey.url.replace(f"etude:{password}@", f":{password}@")
    assert plain != valkey.url
    with (
        redis_client(plain, timeout_seconds=5) as client,
        pytest.raises(redis.exceptions.AuthenticationError),
    ):
        client.ping()
