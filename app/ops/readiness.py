"""Whether Etude can do its work just now: each thing that it depends on, asked for real."""

import tempfile
from datetime import timedelta

import redis
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from app.core import clock, db, migrations, settings, shared_storage
from app.core.models import Worker
from app.jobs import standstill
from app.ops.embedded.servers import redis_client
from app.web.streams import Hub

OK = "ok"


def examine(hub: Hub) -> dict[str, str]:
    """Ask everything; the values are "ok", or what is the matter."""
    return {
        **_database_and_workers(),
        "broker": _broker(),
        "storage": _storage(),
        "live pages": OK if hub.is_listening else "hear nothing from the database",
    }


def examine_web(hub: Hub) -> dict[str, str]:
    """Ask for what the web itself needs to show pages; workers may be away."""
    answers = {"database": OK, "live pages": OK if hub.is_listening else "hear nothing"}
    try:
        with db.reading() as session:
            if migrations.current(session.connection()) != migrations.head():
                answers["database"] = "its tables are not those of this version"
    except SQLAlchemyError:
        answers["database"] = "does not answer"
    return answers


def _database_and_workers() -> dict[str, str]:
    answers = {"database": OK, "gpu worker": "none is alive", "cpu worker": "none is alive"}
    answers["queue"] = OK
    silence = timedelta(seconds=settings.get().lease_seconds)
    try:
        with db.reading() as session:
            if migrations.current(session.connection()) != migrations.head():
                answers["database"] = "its tables are not those of this version"
            alive = select(Worker.queue).where(Worker.last_seen > clock.NOW - silence)
            for queue in set(session.scalars(alive)):
                answers[f"{queue} worker"] = OK
            if still := standstill.standing_still(session):
                answers["queue"] = standstill.in_words(still)
    except SQLAlchemyError:
        answers["database"] = "does not answer"
    return answers


def _broker() -> str:
    try:
        with redis_client(settings.get().redis_url, timeout_seconds=1) as client:
            client.ping()
    except (redis.RedisError, ValueError, OSError):
        return "does not answer"
    return OK


def _storage() -> str:
    folder = settings.get().storage_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
            file.flush()
    except OSError as error:
        return f"takes no files: {error.strerror}"
    shared = shared_storage.get()
    if shared is not None:
        try:
            shared.old("ready", 0)
        except shared_storage.StorageAway:
            return "the shared one does not answer"
    return OK
