"""The rules of the queue on plain values: hours, shares, months, offers, and what comes when."""

import random
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from app.jobs import forecast
from app.jobs.forecast import DurationRange, Machine, Pace, Running, Waiting
from app.jobs.hours import OpeningHours
from app.jobs.scheduling import (
    Needs,
    Offer,
    Rule,
    Standing,
    Standings,
    by_month,
    faded,
    may_go_ahead,
    obstacle,
)
from bench import week

BERLIN = ZoneInfo("Europe/Berlin")
NIGHTS = OpeningHours(time(20), time(6))
GPU = Offer("here", ("cuda:0",), 24_000)


def berlin(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 11, day, hour, minute, tzinfo=BERLIN)  # the 23rd is a Monday


@pytest.mark.parametrize(
    ("hours", "at", "is_open"),
    [
        (NIGHTS, berlin(23, 20), True),
        (NIGHTS, berlin(23, 19, 59), False),
        (NIGHTS, berlin(24, 5, 59), True),
        (NIGHTS, berlin(24, 6), False),
        (NIGHTS, berlin(28, 12), False),  # a Saturday
        (OpeningHours(time(20), time(6), weekends=True), berlin(28, 12), True),
        (OpeningHours(time(9), time(17)), berlin(23, 17), False),
        (OpeningHours(time(9), time(17)), berlin(23, 9), True),
        (OpeningHours(weekends=True), berlin(27, 23, 59), False),
        (OpeningHours(weekends=True), berlin(29, 0), True),
    ],
)
def test_hours_open_and_close(hours: OpeningHours, at: datetime, is_open: bool) -> None:
    assert hours.is_open(at) is is_open


def test_hours_change_next_on_the_clock_of_the_house() -> None:
    assert NIGHTS.next_change(berlin(23, 12)) == berlin(23, 20)
    assert NIGHTS.next_change(berlin(23, 20)) == berlin(24, 6)
    assert OpeningHours(weekends=True).next_change(berlin(23, 12)) == berlin(28, 0)
    # The clock goes forward in the night to 29 March 2026: these ten hours are nine.
    evening = datetime(2026, 3, 28, 20, tzinfo=BERLIN)
    morning = NIGHTS.next_change(evening)
    assert morning is not None
    assert (morning.astimezone(UTC) - evening.astimezone(UTC)) == timedelta(hours=9)


def test_hours_are_said_in_words() -> None:
    assert NIGHTS.words == "Only between 20:00 and 06:00"
    assert OpeningHours(weekends=True).words == "Only on weekends"


def test_use_fades_by_half_each_half_life() -> None:
    assert faded(800, 14 * 86400, 7 * 86400) == pytest.approx(200)
    assert faded(800, -1, 7 * 86400) == 800  # a clock that went back charges no more than there was


def test_the_charge_is_use_by_share() -> None:
    standing = Standing(Rule(share=2), recent_seconds=3600)
    standing.begin(1800)
    assert standing.charge == pytest.approx((3600 + 1800) / 2)


def test_a_month_ends_with_the_houses_calendar() -> None:
    begin = datetime(2026, 10, 31, 22, 0, tzinfo=UTC)  # 23:00 in Berlin
    parts = list(by_month(begin, begin + timedelta(hours=3), BERLIN))
    assert [(month.month, seconds) for month, seconds in parts] == [(10, 3600), (11, 7200)]


def test_what_keeps_a_job_from_beginning() -> None:
    noon, night = berlin(23, 12), berlin(23, 22)
    assert obstacle(Standing(Rule(hours=NIGHTS)), noon) == "hours"
    assert obstacle(Standing(Rule(hours=NIGHTS)), night) is None
    assert obstacle(Standing(Rule(month_seconds=60), month_seconds=60), noon) == "month"
    assert obstacle(Standing(Rule(max_running=2), running=2), noon) == "running"
    assert obstacle(Standing(Rule(max_running=2), running=1), noon) is None


def test_an_offer_meets_needs() -> None:
    assert GPU.meets(Needs(24_000))
    assert not GPU.meets(Needs(24_001))
    assert not GPU.meets(Needs(1, num_devices=2))
    assert GPU.meets(Needs(None))
    assert Offer("here", ("cpu",)).meets(Needs(24_001))  # it has not said what it has
    pair = Offer("here", ("cuda:0", "cuda:1"), 24_000)
    assert pair.shares_with(GPU)
    assert not pair.shares_with(Offer("there", ("cuda:0",)))


def test_only_a_job_that_ends_in_time_may_go_ahead() -> None:
    assert may_go_ahead(600, 600)
    assert not may_go_ahead(601, 600)
    assert not may_go_ahead(None, 600)


# --- what comes when ------------------------------------------------------------------------


def everyone(*departments: int, now: datetime | None = None, **rules: Rule) -> Standings:
    return Standings(
        now or berlin(23, 12),
        BERLIN,
        {key: Standing(rules.get(f"d{key}", Rule())) for key in departments},
    )


def duration(minutes: float) -> DurationRange:
    return DurationRange(60 * minutes, 60 * minutes, 60 * minutes)


def job(number: int, department: int = 1, minutes: float = 10, **more: object) -> Waiting:
    return Waiting(number, department, department, duration=duration(minutes), **more)  # type: ignore[arg-type]


def begins(times: dict[int, forecast.Times], now: datetime) -> dict[int, float]:
    """In minutes from now."""
    return {key: (each.starts[0] - now).total_seconds() / 60 for key, each in times.items()}


def test_departments_take_turns_and_priority_goes_first() -> None:
    queue = [job(1), job(2), job(3), job(4, 2), job(5, 2), job(6, priority=-1)]
    positions = forecast.positions(queue, everyone(1, 2))
    # 6 was raised; then the second department, which has been charged nothing, and so on.
    assert sorted(positions, key=positions.__getitem__) == [6, 4, 1, 5, 2, 3]


def test_a_larger_share_goes_more_often() -> None:
    queue = [job(n) for n in range(1, 7)] + [job(n, 2) for n in range(7, 13)]
    positions = forecast.positions(queue, everyone(1, 2, d2=Rule(share=3)))
    first_eight = sorted(positions, key=positions.__getitem__)[:8]
    assert sum(number > 6 for number in first_eight) == 6


def test_what_cannot_go_stands_behind_what_can() -> None:
    standings = everyone(1, 2, d2=Rule(hours=NIGHTS))
    queue = [job(1, needs=Needs(99_000)), job(2, 2), job(3, after_seconds=60), job(4)]
    assert forecast.positions(queue, standings, [GPU])[4] == 1


def test_with_shares_off_the_oldest_goes_first() -> None:
    standings = everyone(1, 2)
    standings.is_fair = False
    positions = forecast.positions([job(1), job(2), job(3, 2)], standings)
    assert positions == {1: 1, 2: 2, 3: 3}


def test_times_follow_machines_and_what_they_do_now() -> None:
    machines = [Machine("a", GPU), Machine("b", Offer("there", ("cuda:0",), 24_000))]
    standings = everyone(1)
    standings.departments[1].begin(600)
    running = [Running(1, 1, "a", duration(5))]
    times = forecast.foresee([job(1), job(2), job(3)], running, machines, standings)
    assert begins(times, standings.now) == {1: 0, 2: 5, 3: 10}
    assert times[3].ends == (standings.now + timedelta(minutes=20),) * 2


def test_small_jobs_begin_side_by_side_and_a_wide_one_when_all_is_free() -> None:
    each = [Machine(f"{n}", Offer("here", (f"cuda:{n}",), 24_000)) for n in range(2)]
    everything = Machine("all", Offer("here", ("cuda:0", "cuda:1"), 24_000))
    standings = everyone(1)
    queue = [job(1), job(2), job(3, needs=Needs(1, num_devices=2)), job(4)]
    for machines in ([*each, everything], [everything, *each]):
        times = forecast.foresee(queue, [], machines, standings)
        assert begins(times, standings.now) == {1: 0, 2: 0, 3: 10, 4: 20}


def test_times_are_a_range_from_short_to_long() -> None:
    standings = everyone(1)
    queue = [Waiting(n, 1, 1, duration=DurationRange(300, 600, 1200)) for n in (1, 2)]
    times = forecast.foresee(queue, [], [Machine("a", GPU)], standings)
    minutes = [(at - standings.now).total_seconds() / 60 for at in times[2].starts]
    assert minutes == [5, 20]
    assert times[2].ends is not None
    assert [(at - standings.now).total_seconds() / 60 for at in times[2].ends] == [10, 40]


def test_nobody_foresees_what_has_no_plan() -> None:
    queue = [Waiting(1, 1, 1), job(2)]
    times = forecast.foresee(queue, [], [Machine("a", GPU)], everyone(1))
    assert times[1].ends is None
    assert 2 not in times


def test_hours_limits_and_needs_move_what_comes_when() -> None:
    standings = everyone(1, 2, 3, d1=Rule(hours=NIGHTS), d2=Rule(max_running=1))
    queue = [
        job(1),
        job(2, 2),
        job(3, 2),
        job(4, 3, needs=Needs(99_000)),
        job(5, 3, minutes=60),
    ]
    machines = [Machine("a", GPU), Machine("b", Offer("there", ("cuda:0",), 24_000))]
    times = forecast.foresee(queue, [], machines, standings)
    assert begins(times, standings.now) == {1: 8 * 60, 2: 0, 3: 10, 5: 0}


def test_a_job_of_the_night_goes_on_the_next_night() -> None:
    standings = everyone(1, now=berlin(24, 4), d1=Rule(hours=NIGHTS))
    times = forecast.foresee([job(1, minutes=180)], [], [Machine("a", GPU)], standings)
    assert times[1].ends == (berlin(24, 21),) * 2


def test_a_new_month_brings_new_hours() -> None:
    standings = everyone(1, now=berlin(30, 23), d1=Rule(month_seconds=60))
    standings.departments[1].month_seconds = 60
    times = forecast.foresee([job(1)], [], [Machine("a", GPU)], standings)
    assert begins(times, standings.now) == {1: 60}


def test_a_short_job_goes_beside_a_wide_one_that_waits_and_a_long_one_does_not() -> None:
    """One of two GPUs is busy for ten minutes; the first in the queue needs both."""
    pair = Machine("pair", Offer("here", ("cuda:0", "cuda:1"), 24_000))
    left, right = Machine("l", GPU), Machine("r", Offer("here", ("cuda:1",), 24_000))
    wide = job(1, needs=Needs(1, num_devices=2))
    running = [Running(1, 1, "r", duration(10))]

    def play(minutes: float) -> dict[int, float]:
        standings = everyone(1)
        standings.departments[1].begin(600)
        queue = [wide, job(2, minutes=minutes)]
        found = forecast.foresee(queue, running, [left, right, pair], standings)
        return begins(found, standings.now)

    assert play(10) == {1: 10, 2: 0}
    assert play(11) == {1: 10, 2: 20}


def test_like_jobs_give_the_range() -> None:
    pace = Pace()
    assert pace.duration("x", None) is None
    assert pace.duration("x", 100) == DurationRange(50, 100, 200)
    for measured in (50, 40, 60, 50, 50):  # tokens a second, where 100 were planned
        pace.add("x", 100, measured)
    found = pace.duration("x", 100)
    assert found is not None
    assert found.usual == pytest.approx(200)
    assert found.low == pytest.approx(0.9 * (100 / 60 + 0.4 * (2 - 100 / 60)) * 100)
    assert found.high == pytest.approx(1.1 * (2 + 0.6 * 0.5) * 100)
    early = pace.duration("x", 100, may_stop_early=True)
    assert early is not None and early.low == found.low / 2 and early.high == found.high
    assert pace.duration("y", 100) == DurationRange(50, 100, 200)


def test_what_is_left_follows_the_steps_so_far() -> None:
    assert forecast.left(100, 10, 30, None) == DurationRange(170, 200, pytest.approx(230))  # type: ignore[arg-type]
    assert forecast.left(100, 0, 30, DurationRange(50, 150, 300)) == DurationRange(0, 50, 200)
    assert forecast.left(100, 0, None, None) is None


def test_a_flood_of_one_department_costs_the_others_little() -> None:
    """The simulated week: the same jobs, with fair share and first come, first served."""
    jobs = week.arrivals(random.Random(1))
    fair, plain = (week.summary(week.play(jobs, is_fair=each)) for each in (True, False))
    for name in ("wards", "emergency", "training"):
        assert fair[name]["p90"] < plain[name]["p90"] / 5
    # Whoever brings the flood waits longer for it, and not for ever.
    assert plain["research"]["p90"] < fair["research"]["p90"] < 2 * plain["research"]["p90"]
    assert sum(each["jobs"] for each in fair.values()) == len(jobs)
