"""Times as people read them: on the clock of the site (ETUDE_TIME_ZONE), decided here alone.

Two moments are never subtracted by the wall clock, on which an hour may be missing between them, or
come twice: what is reckoned with is in UTC.
"""

from datetime import UTC, date, datetime, time, timedelta, tzinfo

from app.core import settings

_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)


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


def day_after(at: datetime, zone: tzinfo) -> datetime:
    """Return the moment, in UTC, at which the day of a moment is over in a zone."""
    return instant(at.astimezone(zone).date() + _DAY, time(0), zone)


def instant(day: date, at: time, zone: tzinfo, *, is_last: bool = False) -> datetime:
    """Return the moment, in UTC, at which a wall clock shows a time.

    Args:
        is_last: Of an hour that comes twice the second time is meant, else the first.
    """
    naive = datetime.combine(day, at)
    early, late = (naive.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if early <= late:
        return late if is_last else early
    # The hour is missing: by the offset of before it comes later than by that of after, and the
    # clock was put forward in between (PEP 495).
    return _change(late, early, zone)


def _change(low: datetime, high: datetime, zone: tzinfo) -> datetime:
    before = low.astimezone(zone).utcoffset()
    while high - low > _SECOND:
        middle = low + (high - low) / 2
        if middle.astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high.replace(microsecond=0)
