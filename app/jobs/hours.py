"""Hours in which jobs may run: said by the wall clock of the site, reckoned in UTC.

Where the clock is put forward, an hour is missing: what opens or closes in it does so at its end.
Where it is put back, an hour comes twice, and both count: what opens in it opens with the first,
what closes in it closes with the second. Two moments are never subtracted by the wall clock.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from app.core.site_time import instant

_SATURDAY = 5
_DAY = timedelta(days=1)
# In a week every day of it comes; and one more each side for hours over midnight.
_DAYS_AHEAD = 9

_Span = tuple[datetime, datetime]


@dataclass(frozen=True)
class OpeningHours:
    """When jobs may run, on the site's clock."""

    opens: time | None = None
    closes: time | None = None  # not after `opens`: on the next day
    weekends: bool = False  # all day on Saturdays and Sundays

    def is_open(self, local: datetime) -> bool:
        """Say whether they are open at a moment, given in the site's zone."""
        at = local.astimezone(UTC)
        return any(begin <= at < end for begin, end in self._spans(local, days_ahead=1))

    def next_change(self, local: datetime) -> datetime | None:
        """Return when they open, or close, next, in UTC; None where they never do.

        Args:
            local: From when on; in the site's zone.
        """
        at = local.astimezone(UTC)
        spans = _joined(self._spans(local, _DAYS_AHEAD))
        for begin, end in spans:
            if begin > at:
                return begin
            if end > at:
                # Open to the end of what was looked at: for ever.
                return end if (begin, end) != spans[-1] else None
        return None

    @property
    def words(self) -> str:
        """Say them to people: `Only between 20:00 and 06:00`."""
        if self.opens is None or self.closes is None:
            return "Only on weekends"
        between = f"Only between {self.opens:%H:%M} and {self.closes:%H:%M}"
        return f"{between}, and all day on weekends" if self.weekends else between

    def _spans(self, local: datetime, days_ahead: int) -> Iterator[_Span]:
        """Yield from when to when they are open, from the day before on; they may overlap."""
        zone = local.tzinfo or UTC
        first = local.date() - _DAY
        for day in (first + number * _DAY for number in range(days_ahead + 2)):
            if self.opens is not None and self.closes is not None:
                until = day if self.opens < self.closes else day + _DAY
                yield (
                    instant(day, self.opens, zone),
                    instant(until, self.closes, zone, is_last=True),
                )
            if self.weekends:
                if day.weekday() >= _SATURDAY:
                    yield instant(day, time(0), zone), instant(day + _DAY, time(0), zone)
            elif self.opens is None or self.closes is None:
                yield instant(day, time(0), zone), instant(day + _DAY, time(0), zone)


def _joined(spans: Iterator[_Span]) -> list[_Span]:
    joined: list[_Span] = []
    # Of hours that are missing altogether nothing is left.
    for begin, end in sorted((begin, end) for begin, end in spans if begin < end):
        if joined and begin <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((begin, end))
    return joined
