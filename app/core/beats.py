"""A file whose age says when this worker last had its heartbeat taken by the database.

A container's health check looks at it (docker-compose.yml): a process that runs and can do nothing
is not well.
"""

from pathlib import Path

from app.core import settings


def tell() -> None:
    """Say that a heartbeat was taken just now, where a file is named for that."""
    if settings.get().beat_file:
        Path(settings.get().beat_file).touch()
