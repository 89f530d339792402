"""Times as people read them: on the clock of the site (ETUDE_TIME_ZONE), decided here alone."""

from datetime import UTC, datetime

from app.core import settings


def local(at: datetime) -> datetime:
    """Return a moment in the site's zone."""
    return at.astimezone(settings.get().zone())


def now() -> datetime:
    """Return what the site's clock shows now; to reckon with it, take UTC."""
    return local(datetime.now(UTC))


def moment(at: datetime) -> str:
    """Write a moment exactly: 23 Nov 2026, 19:20."""
    return f"{local(at):%-d %b %Y, %H:%M}"


def time_of_day(at: datetime) -> str:
    """Write a moment of a day that is known, to the second: 19:20:05."""
    return f"{local(at):%H:%M:%S}"
