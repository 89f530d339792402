"""`etude doctor`: what can be wrong on this machine, each with what to do about it."""

import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version

from app import db, settings
from app.embedded import servers
from app.up import accelerators

_NEEDED_BYTES = 10 * 1024**3
_PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "celery", "fastapi")


def run(chosen: settings.Settings) -> int:
    """Print one line a check; returns the number of those that failed."""
    failed = 0
    for check in (_python, _packages, _data_dir, _port, _devices, _servers):
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


def _servers(chosen: settings.Settings) -> Iterator[str]:
    asked: list[tuple[str, Callable[[str], None], str]] = [
        ("DATABASE_URL", db.check_server, chosen.database_url),
        ("REDIS_URL", servers.check_broker, chosen.redis_url),
    ]
    for name, check, url in asked:
        if url:
            check(url)
            yield f"{name} answers"
        else:
            yield f"{name} is not set: Etude brings its own server"
