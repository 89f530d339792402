"""Walls around children (app/training/isolation): what a child is told, and what the log says."""

import structlog

from app.core import settings
from app.training import isolation

_log = structlog.get_logger()


def environment() -> dict[str, str]:
    """Return what a child is told of the walls that it raises: whether it may do without one."""
    return {isolation.VARIABLE: "required"} if settings.get().walls == "required" else {}


def standing(chosen: settings.Settings) -> list[isolation.Wall]:
    """Say which walls stand around children that read what lies in the data directory."""
    read = (chosen.storage_dir, chosen.models_dir, chosen.jobs_dir, chosen.cache_dir)
    return isolation.standing(*(folder for folder in read if folder.exists()))


def tell() -> None:
    """Name each wall that will not stand around the children of this process."""
    for wall in standing(settings.get()):
        if not wall.stands:
            _log.warning("wall_missing", wall=wall.name, why=wall.why, walls=settings.get().walls)
