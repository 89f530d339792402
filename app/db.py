"""Engine, session factory and the Db dependency."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Annotated

from fastapi import Depends
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from app import settings

MIN_SERVER_VERSION = 150000  # PostgreSQL 15


@lru_cache
def engine() -> Engine:
    """Return this process's engine. A dead connection is replaced before it is used."""
    return make_engine(settings.get().database_url)


def make_engine(url: str, **options: object) -> Engine:
    """Make an engine for a PostgreSQL address.

    Raises:
        SystemExit: the address is not one of PostgreSQL.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise SystemExit(
            "DATABASE_URL cannot be read; it looks like postgresql://user:password@host/database."
        ) from None
    if parsed.get_backend_name() != "postgresql":
        raise SystemExit(
            f"DATABASE_URL names {parsed.get_backend_name()}; Etude needs PostgreSQL 15 or newer."
        )
    return create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        pool_pre_ping=True,
        hide_parameters=True,  # what stands in people's rows is for no log
        pool_size=10,
        max_overflow=10,
        connect_args={"connect_timeout": 5, "options": "-c timezone=UTC"},
        **options,
    )


def check_server(url: str) -> None:
    """Ask the server for its version, once.

    Raises:
        SystemExit: no server answers there, it refuses us, or it is too old. One sentence each.
    """
    asked = make_engine(url)
    try:
        with asked.connect() as connection:
            version = connection.execute(text("SHOW server_version_num")).scalar_one()
    except (OperationalError, DBAPIError) as error:
        shown = make_url(url).render_as_string(hide_password=True)
        detail = str(error.orig).strip().splitlines()[0] if error.orig else "no answer"
        raise SystemExit(f"DATABASE_URL {shown} does not work: {detail}") from None
    finally:
        asked.dispose()
    if int(version) < MIN_SERVER_VERSION:
        raise SystemExit(
            f"DATABASE_URL names PostgreSQL {int(version) // 10000}; Etude needs 15 or newer."
        )


@lru_cache
def factory() -> sessionmaker[Session]:
    """Return this process's session factory."""
    return sessionmaker(engine(), expire_on_commit=False)


@contextmanager
def session() -> Iterator[Session]:
    """Open a session outside a request; the caller commits."""
    with factory()() as db:
        yield db


def _request_session() -> Iterator[Session]:
    with factory()() as db:
        yield db


Db = Annotated[Session, Depends(_request_session)]
