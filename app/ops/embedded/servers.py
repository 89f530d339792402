"""Both servers of one data directory: ours, or those that the settings name."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from sqlalchemy.exc import OperationalError

from app.core import broker, db, migrations, settings
from app.ops.embedded import folder
from app.ops.embedded.postgres import Postgres
from app.ops.embedded.valkey import Valkey

_PATIENCE_SECONDS = 60


class Servers:
    """PostgreSQL and Valkey of one data directory; those that the settings name are checked."""

    def __init__(self, chosen: settings.Settings) -> None:
        self._settings = chosen
        self.postgres = None if chosen.database_url else Postgres(chosen)
        self.valkey = None if chosen.redis_url else Valkey(chosen)

    def start(self) -> None:
        """Start what is ours and check what is not.

        Raises:
            SystemExit: a server cannot be started or does not answer; one sentence.
        """
        if self.postgres is not None:
            self.postgres.start()
        else:
            # The application's role may not be there yet: the owner makes it.
            db.check_server(self._settings.database_owner_url or self._settings.database_url)
        if self.valkey is not None:
            self.valkey.start()
        else:
            check_broker(self._settings.redis_url)

    def stop(self) -> None:
        for server in (self.valkey, self.postgres):
            if server is not None:
                server.stop()

    def revive(self) -> list[str]:
        """Start again what has died; returns the names of those."""
        revived = []
        for name, server in (("PostgreSQL", self.postgres), ("Valkey", self.valkey)):
            if server is not None and server.pid() is None:
                server.start()
                revived.append(name)
        return revived

    @property
    def database_url(self) -> str:
        return self.postgres.app_url if self.postgres is not None else self._settings.database_url

    @property
    def database_owner_url(self) -> str:
        if self.postgres is not None:
            return self.postgres.url
        return self._settings.database_owner_url

    @property
    def redis_url(self) -> str:
        return self.valkey.url if self.valkey is not None else self._settings.redis_url


@contextmanager
def database(chosen: settings.Settings, *, migrate: bool = True) -> Iterator[None]:
    """Have a migrated database for one command, whether Etude is up or not.

    While the block runs, `settings.get().database_url` names it.

    Args:
        migrate: False takes it as it is, whatever version of Etude wrote it.

    Raises:
        SystemExit: there is none, and none can be started; one sentence.
    """
    if chosen.database_url:
        db.check_server(chosen.database_owner_url or chosen.database_url)
        with _as_database(chosen.database_url, chosen.database_owner_url, migrate):
            yield
        return
    folder.prepare(chosen)
    server = Postgres(chosen)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            with folder.lock(chosen, "a command"):
                server.start()
                try:
                    with _as_database(server.app_url, server.url, migrate):
                        yield
                finally:
                    server.stop()
                return
        except folder.Busy as busy:
            # Etude is up: use its server, and leave it running. Another command: wait for its end.
            if "etude up" in str(busy) and server.is_ready():
                with _as_database(server.app_url, server.url, migrate):
                    yield
                return
            if time.monotonic() > deadline:
                raise SystemExit(f"{chosen.data_dir} is in use by {busy}; try again.") from None
            time.sleep(0.1)


@contextmanager
def _as_database(url: str, owner_url: str, migrate: bool) -> Iterator[None]:
    if not migrate and owner_url and not _lets_in(url):
        url = owner_url  # an Etude from before there were two roles wrote it
    if settings.get().database_url != url:
        os.environ |= {"DATABASE_URL": url, "DATABASE_OWNER_URL": owner_url}
        settings.get.cache_clear()
        db.forget()
    try:
        if migrate:
            with db.owner_engine() as engine:
                migrations.upgrade(engine)
        yield
    finally:
        db.engine().dispose()


def _lets_in(url: str) -> bool:
    engine = db.make_engine(url)
    try:
        with engine.connect():
            return True
    except OperationalError:
        return False
    finally:
        engine.dispose()


def check_broker(url: str) -> None:
    """Ask the broker for a sign of life, once.

    Raises:
        SystemExit: it does not answer, or the address is none; one sentence.
    """
    try:
        with redis_client(url, timeout_seconds=5) as client:
            client.ping()
    except (redis.RedisError, ValueError, OSError) as error:
        where = url.rpartition("@")[2]
        raise SystemExit(f"REDIS_URL (…{where}) does not work: {error}") from None


def redis_client(url: str, timeout_seconds: float) -> redis.Redis:
    """Open the broker's address as a plain client.

    Raises:
        ValueError: the address is none.
    """
    return redis.Redis.from_url(
        broker.for_redis_py(url),
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
    )
