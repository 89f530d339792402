"""Hours on the wall clock, through every kind of change of the clocks."""

import random
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from app.core import settings
from app.core.site_time import instant
from app.jobs import forecast, moments
from app.jobs.forecast import DurationRange, Machine, Times, Waiting
from app.jobs.hours import OpeningHours
from app.jobs.scheduling import Offer, Rule, Standing, Standings

BERLIN = ZoneInfo("Europe/Berlin")
FORWARD, BACK = date(2027, 3, 28), date(2026, 10, 25)  # at 02:00 to 03:00, at 03:00 to 02:00
_DAY = timedelta(days=1)
_MINUTE = timedelta(minutes=1)
# A usual zone, half an hour, a change at midnight in two ways, a day that never was, and none.
CHANGES = [
    ("Europe/Berlin", FORWARD),
    ("Europe/Berlin", BACK),
    ("America/New_York", date(2026, 11, 1)),
    ("Australia/Lord_Howe", date(2026, 10, 4)),
    ("Australia/Lord_Howe", date(2026, 4, 5)),
    ("America/Havana", date(2026, 3, 8)),
    ("Africa/Cairo", date(2026, 4, 24)),
    ("Pacific/Apia", date(2011, 12, 30)),
    ("Asia/Kolkata", date(2026, 6, 1)),
]


def test_what_opens_in_the_missing_hour_opens_at_its_end() -> None:
    assert instant(FORWARD, time(2, 30), BERLIN) == datetime(2027, 3, 28, 1, tzinfo=UTC)
    early = OpeningHours(time(2, 30), time(6))
    night = datetime(2027, 3, 28, 0, tzinfo=BERLIN)
    opens = early.next_change(night)
    assert opens is not None
    assert opens == datetime(2027, 3, 28, 3, tzinfo=BERLIN).astimezone(UTC)
    assert early.is_open(opens.astimezone(BERLIN))
    closes = early.next_change(opens.astimezone(BERLIN))
    assert closes is not None
    assert closes - opens == timedelta(hours=3)


def test_of_the_doubled_hour_both_count() -> None:
    late = OpeningHours(time(22), time(2, 30))
    evening = datetime(2026, 10, 24, 22, tzinfo=BERLIN)
    closes = late.next_change(evening)
    assert closes is not None
    # From 22:00 to the second 02:30, and not cut at the first.
    assert closes - evening.astimezone(UTC) == timedelta(hours=5, minutes=30)
    between = datetime(2026, 10, 25, 2, 45, tzinfo=BERLIN)
    assert late.is_open(between)
    assert not late.is_open(between.replace(fold=1))


@pytest.mark.parametrize(("name", "day"), CHANGES)
def test_between_two_changes_nothing_changes(name: str, day: date) -> None:
    zone, chance = ZoneInfo(name), random.Random(f"{name}{day}")
    for _ in range(12):
        opens, closes = (time(chance.randrange(24), chance.choice((0, 15, 30, 45))) for _ in "ab")
        hours = OpeningHours(opens, closes, weekends=chance.random() < 0.3)
        at = datetime(day.year, day.month, day.day, tzinfo=UTC) - 1.5 * _DAY
        at += chance.randrange(600) * _MINUTE
        end = at + 3 * _DAY
        while at < end:
            until = hours.next_change(at.astimezone(zone))
            is_open = hours.is_open(at.astimezone(zone))
            if until is None:
                break
            assert until > at
            assert hours.is_open(until.astimezone(zone)) is not is_open
            steps = int((until - at) / (7 * _MINUTE)) + 1
            for number in range(min(steps, 400)):
                moment = min(at + number * 7 * _MINUTE, until - timedelta(seconds=1))
                assert hours.is_open(moment.astimezone(zone)) is is_open
            at = until


@pytest.mark.parametrize(("name", "day"), CHANGES)
def test_away_from_the_change_the_wall_clock_says_it(name: str, day: date) -> None:
    zone, chance = ZoneInfo(name), random.Random(f"{day}{name}")
    for _ in range(300):
        opens, closes = (time(chance.randrange(24), chance.choice((0, 30))) for _ in "ab")
        local = (
            datetime(day.year, day.month, day.day, 12, tzinfo=zone) + chance.choice((9, -9)) * _DAY
        )
        local += chance.randrange(-300, 300) * _MINUTE
        now = local.time()
        wall = opens <= now < closes if opens < closes else now >= opens or now < closes
        assert OpeningHours(opens, closes).is_open(local) is wall


@pytest.mark.parametrize(("day", "night"), [(FORWARD - _DAY, 9), (BACK - _DAY, 11)])
def test_an_end_is_foretold_by_hours_that_pass(day: date, night: int) -> None:
    """A night from 20:00 to 06:00 has as many hours as pass in it, and work takes as long."""
    hours = OpeningHours(time(20), time(6))
    now = instant(day, time(19), BERLIN)
    everyone = Standings(now.astimezone(BERLIN), BERLIN, {1: Standing(Rule(hours=hours))})
    for work, whole in ((night - 0.5, 1 + night - 0.5), (night + 1, 1 + night + 14 + 1)):
        seconds = work * 3600
        job = Waiting(1, 1, 1, duration=DurationRange(seconds, seconds, seconds))
        offer = Offer("here", ("cuda:0",), None)
        times = forecast.foresee([job], [], [Machine("gpu-0", offer)], everyone.copy())[1]
        assert times.starts[0] - now == timedelta(hours=1)
        assert times.ends is not None
        assert times.ends[0] - now == timedelta(hours=whole)


def test_a_span_over_the_doubled_hour_is_no_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETUDE_TIME_ZONE", "Europe/Berlin")
    settings.get.cache_clear()
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)  # 02:30, and an hour later again
    span = first, first + timedelta(hours=1)
    said = moments.in_words(Times(span, span), first - 2 * timedelta(hours=1), starts=True)
    settings.get.cache_clear()
    assert said == "02:30 to 02:30 an hour later"
