"""Rows out of one snapshot by COPY, and into empty tables in one transaction.

Text COPY and not pg_dump: it reads and writes any version of PostgreSQL that Etude knows, needs no
program beside the driver, and the tables themselves come from our own migrations.
"""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from psycopg import Connection, sql
from sqlalchemy import Connection as SqlConnection
from sqlalchemy import Engine

# What is of one machine or one moment: who is signed in, links that work once, who failed to sign
# in, which workers there are; and exports, which are made again by a click. No kept table points to
# one of these (a test sees to it).
LEFT_OUT = frozenset({"web_session", "setup_link", "sign_in_failure", "worker", "export"})
_REVISION = "alembic_version"
_CHUNK_BYTES = 1024 * 1024
_TABLES = """
    SELECT class.relname, array_agg(attribute.attname::text ORDER BY attribute.attnum)
    FROM pg_class AS class
    JOIN pg_attribute AS attribute ON attribute.attrelid = class.oid
    WHERE class.relnamespace = current_schema()::regnamespace AND class.relkind = 'r'
      AND attribute.attnum > 0 AND NOT attribute.attisdropped AND attribute.attgenerated = ''
    GROUP BY class.relname ORDER BY class.relname
"""
_FOREIGN_KEYS = """
    SELECT class.relname, con.conname, pg_get_constraintdef(con.oid)
    FROM pg_constraint AS con JOIN pg_class AS class ON class.oid = con.conrelid
    WHERE con.contype = 'f' AND con.connamespace = current_schema()::regnamespace
    ORDER BY class.relname, con.conname
"""
_SEQUENCES = """
    SELECT sequencename::text, last_value FROM pg_sequences
    WHERE schemaname = current_schema() AND last_value IS NOT NULL
"""


@contextmanager
def snapshot(engine: Engine) -> Iterator[SqlConnection]:
    """Hold one moment of the database; every read of the block sees that moment."""
    with engine.connect() as connection:
        connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        # Taken before the first read fixes the moment: no migration may change a table meanwhile.
        for name in sorted(_names(engine)):
            connection.exec_driver_sql(f'LOCK TABLE "{name}" IN ACCESS SHARE MODE')
        yield connection


def columns(connection: SqlConnection) -> dict[str, list[str]]:
    """Return the tables that a backup holds, each with its columns."""
    rows = driver(connection).execute(_TABLES).fetchall()
    return {name: of_table for name, of_table in rows if name not in (*LEFT_OUT, _REVISION)}


def dump(connection: SqlConnection, table: str, names: list[str], target: BinaryIO) -> int:
    """Write a table's rows, packed; returns how many there are."""
    command = sql.SQL("COPY {} ({}) TO STDOUT").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, names))
    )
    with (
        # No time in the header: the same rows give the same bytes.
        gzip.GzipFile(fileobj=target, mode="wb", compresslevel=1, mtime=0) as packed,
        driver(connection).cursor() as cursor,
    ):
        with cursor.copy(command) as copy:
            for block in copy:
                packed.write(block)
        return cursor.rowcount


def sequences(connection: SqlConnection) -> dict[str, int]:
    """Return how far each counter is; counters know no snapshot, so read them after the rows."""
    return dict(driver(connection).execute(_SEQUENCES).fetchall())


@contextmanager
def filling(connection: SqlConnection) -> Iterator[None]:
    """Lay keys between tables and triggers aside while rows come; then each key is checked."""
    raw = driver(connection)
    keys = raw.execute(_FOREIGN_KEYS).fetchall()
    names = [name for name, _ in raw.execute(_TABLES) if name != _REVISION]
    for table, key, _ in keys:
        _run(raw, "ALTER TABLE {} DROP CONSTRAINT {}", table, key)
    for name in names:
        _run(raw, "ALTER TABLE {} DISABLE TRIGGER USER", name)
        _run(raw, "TRUNCATE {}", name)  # migrations leave rows of their own
    yield
    for name in names:
        _run(raw, "ALTER TABLE {} ENABLE TRIGGER USER", name)
    for table, key, definition in keys:
        command = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} ").format(
            sql.Identifier(table), sql.Identifier(key)
        )
        raw.execute(command + sql.SQL(definition))


def load(connection: SqlConnection, table: str, names: list[str], source: BinaryIO) -> int:
    """Read a table's rows back; returns how many there were."""
    command = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, names))
    )
    with gzip.open(source, "rb") as packed, driver(connection).cursor() as cursor:
        with cursor.copy(command) as copy:
            while block := packed.read(_CHUNK_BYTES):
                copy.write(block)
        return cursor.rowcount


def set_sequences(connection: SqlConnection, values: dict[str, int]) -> None:
    """Let each counter go on from where it was."""
    for name, value in values.items():
        driver(connection).execute("SELECT setval(quote_ident(%s)::regclass, %s)", (name, value))


def driver(connection: SqlConnection) -> Connection[Any]:
    """Return the driver's own connection, in the same transaction."""
    raw = connection.connection.driver_connection
    assert isinstance(raw, Connection)
    return raw


def _run(raw: Connection[Any], command: str, *names: str) -> None:
    raw.execute(sql.SQL(command).format(*map(sql.Identifier, names)))


def _names(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return [name for name, _ in driver(connection).execute(_TABLES)]
