"""Walls around children (app/training/isolation): what a child is told, and what the log says."""

import structlog

from app.core import settings
from app.training import isolation

_log = structlog.get_logger()


def environment() -> dict[str, str]:
    """Return what a child is told of the walls that it raises: whether it may do without one."""
    return {isolation.VARIABLE: "required"} if settings.get().walls == "required" else {}


def tell() -> None:
    """Name each wall that will not stand around the children of this process."""
    for wall in isolation.standing():
        if not wall.stands:
            _log.warning("wall_missing", wall=wall.name, why=wall.why, walls=settings.get().walls)
