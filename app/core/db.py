"""Engine, session factory and the Db dependency."""

import select as sockets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import psycopg
import structlog
from psycopg import errors, sql
from psycopg.conninfo import make_conninfo
from sqlalchemy import (
    ColumnElement,
    Engine,
    Text,
    create_engine,
    event,
    func,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InvalidatePoolError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker

from app.core import settings
from app.core.errors import AppError, DiskFull, Invalid, Unavailable

MIN_SERVER_VERSION = 150000  # PostgreSQL 15
# What takes longer than this while a job is held waits for somebody's lock; it is tried again.
HOLDING_SECONDS = 5.0
# A connection that lay idle for less is looked at, not asked, before it is used.
_TRUSTED_SECONDS = 5.0

_FOUND = "found"  # in Session.info

_log = structlog.get_logger()
P = ParamSpec("P")
T = TypeVar("T")


@lru_cache
def engine() -> Engine:
    """Return this process's engine. A dead connection is replaced before it is used."""
    made = make_engine(settings.get().database_url, pool_pre_ping=False)
    event.listen(made, "checkin", _note_idle)
    event.listen(made, "checkout", _check_life)
    return made


def _note_idle(_connection: psycopg.Connection | None, record: Any) -> None:
    record.info["idle_since"] = time.monotonic()


def _check_life(connection: psycopg.Connection, record: Any, _proxy: Any) -> None:
    """Find out whether a connection still lives, and ask the server only where that is open.

    A server that ends says so, and its socket can be read then: a look costs nothing, where a
    question before each page cost a way to the server and back. A machine that vanished says
    nothing, so what lay idle for longer is asked.

    Raises:
        InvalidatePoolError: it is dead; the pool takes another.
    """
    since = record.info.get("idle_since")
    if since is None:  # made for this use
        return
    look = sockets.poll()
    try:
        look.register(connection.pgconn.socket, sockets.POLLIN)  # a closed one has none
        if time.monotonic() - since < _TRUSTED_SECONDS and not look.poll(0):
            return
        connection.execute("")
        connection.rollback()
    except psycopg.Error as error:
        raise InvalidatePoolError from error


def make_engine(url: str, server_options: str = "", **options: object) -> Engine:
    """Make an engine for a PostgreSQL address.

    Args:
        server_options: Of its sessions, beside the time zone; e.g. `-c statement_timeout=5000`.

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
    chosen: dict[str, Any] = {
        "pool_pre_ping": True,
        "pool_size": 10,
        # The one used last: its server process has plans and rows of what is asked most at hand.
        "pool_use_lifo": True,
        "max_overflow": 10,
        "pool_timeout": 10,  # then whoever asks is told to come back, and does not hold a thread
    }
    return create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        hide_parameters=True,  # what stands in people's rows is for no log
        connect_args={
            "connect_timeout": 5,
            "options": f"-c timezone=UTC {server_options}".strip(),
            # A machine that vanishes says nothing: without these a worker would wait for minutes,
            # and hear of it long after another has taken its job over. They count for TCP alone.
            "tcp_user_timeout": 10_000,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
        },
        **chosen | options,
    )


def only_reads(db: Session) -> None:
    """Say that a session shows a page: what was found in it once is not looked for again."""
    db.info[_FOUND] = {}


def end_reading(db: Session) -> None:
    """End a session that only read, and leave prepared what it asked.

    psycopg forgets what a connection has prepared where a transaction is taken back, and to close a
    session is that: each question of a page would be planned anew, half of what it costs.
    """
    db.expunge_all()  # what a page changed in its rows, to show them, is for no one else
    with db, suppress(SQLAlchemyError):  # nothing is lost with a server that is away by now
        db.commit()


def read_once(
    function: Callable[Concatenate[Session, P], T],
) -> Callable[Concatenate[Session, P], T]:
    """Let parts of a page that ask for the same be told what the first of them found.

    In a session that may write (`only_reads` was not said of it) each call asks anew. Nobody
    changes what is returned.
    """

    @wraps(function)
    def asked(db: Session, /, *args: P.args, **named: P.kwargs) -> T:
        found = db.info.get(_FOUND)
        if found is None:
            return function(db, *args, **named)
        key = (function, args, tuple(sorted(named.items())))
        if key not in found:
            found[key] = function(db, *args, **named)
        result: T = found[key]
        return result

    return asked


@contextmanager
def owner_engine() -> Iterator[Engine]:
    """Give connections of the role that owns the tables, for migrations, backup and restore."""
    chosen = settings.get()
    made = make_engine(chosen.database_owner_url or chosen.database_url)
    try:
        yield made
    finally:
        made.dispose()


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
        if "password authentication failed" in detail:
            detail += (
                ". The server keeps the password that it was made with: give that one, or set the "
                "new one there (in the help: With Docker Compose, Passwords)"
            )
        raise SystemExit(f"DATABASE_URL {shown} does not work: {detail}") from None
    finally:
        asked.dispose()
    if int(version) < MIN_SERVER_VERSION:
        raise SystemExit(
            f"DATABASE_URL names PostgreSQL {int(version) // 10000}; Etude needs 15 or newer."
        )


def limit_silence(db: Session, seconds: float) -> None:
    """Have the server end this transaction once it hears nothing of us for so long.

    A process that is frozen amid a transaction would else keep what it has locked for as long.
    """
    db.execute(select(silence_limit(seconds)))


def silence_limit(seconds: float) -> ColumnElement[str]:
    """Build what `limit_silence` selects."""
    milliseconds = str(round(1000 * seconds))
    return func.set_config("idle_in_transaction_session_timeout", milliseconds, True, type_=Text)


def is_away(error: BaseException) -> bool:
    """Say whether PostgreSQL or the way to it failed: the same may succeed a little later."""
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            return True
        error = error.orig or error
    return isinstance(error, PoolTimeout | psycopg.OperationalError | psycopg.InterfaceError)


def explain(error: BaseException) -> AppError | None:
    """Say to people what keeps PostgreSQL from its work; None: it answers, and we asked wrongly."""
    cause = (error.orig if isinstance(error, DBAPIError) else None) or error
    if not is_away(error):
        return None
    # One line: an outage meets every request, and a trace would say no more.
    _log.warning("database.away", error=str(cause).strip().splitlines()[0])
    if isinstance(cause, psycopg.errors.DiskFull):
        return DiskFull(
            "The database's disk is full, so nothing can be saved; what is there is safe. "
            "Please tell your administrator."
        )
    return Unavailable(
        "The database does not answer at the moment; what was saved is safe. "
        "Please try again in a few seconds."
    )


def refused_value(error: BaseException) -> AppError | None:
    """Say to people that what they sent is no value; None: something else is wrong.

    The last guard of every form: a number or a character that no column can hold is the sender's
    mistake, and none of ours.
    """
    cause = (error.orig if isinstance(error, DBAPIError) else None) or error
    if isinstance(cause, errors.NumericValueOutOfRange):
        return Invalid("A number in this request is too large. Go back and enter a smaller one.")
    no_text = (errors.UntranslatableCharacter, errors.CharacterNotInRepertoire)
    if isinstance(cause, no_text) or (isinstance(cause, psycopg.DataError) and "NUL" in str(cause)):
        return Invalid("A text in this request holds a character that is no text. Remove it.")
    return None


@lru_cache
def factory() -> sessionmaker[Session]:
    """Return this process's session factory."""
    return sessionmaker(engine(), expire_on_commit=False)


@contextmanager
def session() -> Iterator[Session]:
    """Open a session outside a request; the caller commits."""
    with factory()() as db:
        yield db


@contextmanager
def reading() -> Iterator[Session]:
    """Open a session outside a request that writes nothing but what it commits itself."""
    with factory()() as db:
        only_reads(db)
        yield db
        end_reading(db)


@lru_cache
def _watching_engine() -> Engine:
    return make_engine(
        settings.get().database_url, pool_pre_ping=False, pool_size=4, isolation_level="AUTOCOMMIT"
    )


@contextmanager
def watching() -> Iterator[Session]:
    """Open a session for a glance that is repeated all the time, with nothing but its statements.

    Each of them sees what was committed before it. A connection that died while it lay idle shows
    as an error (`is_away`), and the next glance gets a new one.
    """
    with Session(_watching_engine()) as db:
        yield db


@lru_cache
def _holding_engine() -> Engine:
    # A supervisor asks so all the time that what each of its transactions says about itself, and
    # whether the connection still lives, would be half of what it asks.
    limits = {
        "statement_timeout": HOLDING_SECONDS,
        "idle_in_transaction_session_timeout": settings.get().lease_seconds,
    }
    server_options = " ".join(f"-c {name}={round(1000 * s)}" for name, s in limits.items())
    return make_engine(
        settings.get().database_url, server_options, pool_pre_ping=False, pool_size=4
    )


@contextmanager
def holding(*, glance: bool = False) -> Iterator[Session]:
    """Open a session for what is written again and again for a job that is held.

    Its statements do not wait for long, and where we stand still amid a transaction, the server
    ends it: nobody could take back, or cancel, a job whose row we have locked. A connection that
    died while it lay idle shows as an error (`is_away`); the next try gets a new one.

    Args:
        glance: Each statement stands alone and sees what was committed before it.
    """
    made = _holding_engine()
    if glance:
        made = made.execution_options(isolation_level="AUTOCOMMIT")
    with Session(made, expire_on_commit=False) as db:
        yield db


@contextmanager
def listener(channel: str) -> Iterator[psycopg.Connection]:
    """Open a connection that hears what is rung on a channel."""
    url = make_url(settings.get().database_url).set(drivername="postgresql+psycopg")
    # Not the URL as text: SQLAlchemy writes a space as "+", which libpq takes for a plus.
    address = make_conninfo(**url.get_dialect()().create_connect_args(url)[1])
    with psycopg.connect(
        address, autocommit=True, connect_timeout=5, application_name="etude-bell"
    ) as connection:
        connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        yield connection


def forget() -> None:
    """Close this process's connections; the next go to the address that then holds."""
    for made in (engine, _watching_engine, _holding_engine):
        if made.cache_info().currsize:
            made().dispose()
        made.cache_clear()
    factory.cache_clear()
