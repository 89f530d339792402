"""From when to when a job begins or ends, in words for people."""

from datetime import UTC, datetime, timedelta

from app.core import site_time
from app.jobs.forecast import Times

_ROUND_SECONDS = 300


def in_words(times: Times | None, now: datetime, *, starts: bool) -> str:
    """Say from when to when, on the clock of the site: `14:10 to 15:00`; empty: nobody knows."""
    span = None if times is None else times.starts if starts else times.ends
    if span is None:
        return ""
    soon = now + timedelta(seconds=_ROUND_SECONDS)
    if starts and span[1] <= soon:
        return "in a moment"
    if not starts and span[1] <= soon:
        return "within minutes"
    local = site_time.local(now)
    rounded = [_rounded(at) for at in span]
    early, late = map(site_time.local, rounded)
    # In UTC: on one wall clock an hour may be missing between them, or come twice.
    if rounded[1] - rounded[0] < timedelta(seconds=_ROUND_SECONDS):
        return f"about {_moment(late, local)}"
    until = f"{late:%H:%M}" if late.date() == early.date() else _moment(late, local)
    # In the night in which clocks go back, the same hour comes twice.
    again = " an hour later" if f"{early:%d %H:%M}" == f"{late:%d %H:%M}" else ""
    return f"{_moment(early, local)} to {until}{again}"


def _moment(at: datetime, now: datetime) -> str:
    days = (at.date() - now.date()).days
    if days == 0:
        return f"{at:%H:%M}"
    if days == 1:
        return f"tomorrow {at:%H:%M}"
    return f"{at:%a %H:%M}" if days < 7 else f"{at:%-d %b}"


def _rounded(at: datetime) -> datetime:
    seconds = round(at.timestamp() / _ROUND_SECONDS) * _ROUND_SECONDS
    return datetime.fromtimestamp(seconds, UTC)
