"""A week of a clinic with 20 people and 2 devices: who waits how long, with fair share and without.

    python -m bench.week [SEED]

No database and no clock: arrivals are drawn from the seed, and the line's own rules
(app/jobs/scheduling.py, app/jobs/forecast.py) choose each next job. One department brings half of
its week's work on Monday morning. JSON last: waiting times in minutes by department.
"""

import heapq
import json
import random
import statistics
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from app.jobs import forecast, scheduling

MONDAY = datetime(2026, 11, 23, tzinfo=UTC)
HALF_LIFE_SECONDS = 7 * 86400.0
NUM_DEVICES = 2
HOUR = 3600.0


@dataclass(frozen=True)
class Department:
    name: str
    people: int
    jobs_a_day: float  # of all its people, Monday to Friday
    median_minutes: float
    on_monday: int = 0  # that come together at nine


DEPARTMENTS = (
    Department("research", 4, 4, 60, on_monday=24),
    Department("wards", 8, 6, 25),
    Department("emergency", 5, 4, 20),
    Department("training", 3, 3, 30),
)


@dataclass
class Arrival:
    at: float  # seconds after Monday, midnight
    job: forecast.Waiting
    seconds: float  # what it really takes


@dataclass
class Past:
    """What a department has had, as its row keeps it."""

    used: float = 0.0
    at: float = 0.0

    def now(self, at: float) -> float:
        return scheduling.faded(self.used, at - self.at, HALF_LIFE_SECONDS)

    def charge(self, at: float, seconds: float) -> None:
        self.used, self.at = self.now(at) + seconds, at


@dataclass
class Clinic:
    is_fair: bool
    waiting: list[forecast.Waiting] = field(default_factory=list)
    # (end, department, began, expected)
    running: list[tuple[float, int, float, float]] = field(default_factory=list)
    past: dict[int, Past] = field(default_factory=lambda: {i: Past() for i in range(4)})

    def standings(self, at: float) -> scheduling.Standings:
        everyone = scheduling.Standings(MONDAY + timedelta(seconds=at), is_fair=self.is_fair)
        for number, past in self.past.items():
            everyone.departments[number] = scheduling.Standing(recent_seconds=past.now(at))
        for _, number, began, expected in self.running:
            everyone.departments[number].begin(max(at - began, expected))
        return everyone


def arrivals(dice: random.Random) -> list[Arrival]:
    """Draw the week: office hours, lengths as unequal as jobs are, estimates a third off."""
    moments = []
    for number, department in enumerate(DEPARTMENTS):
        moments += [(9 * HOUR + n, number) for n in range(department.on_monday)]
        for day in range(5):
            # A Poisson process between eight and five.
            at = 8 * HOUR
            while True:
                at += dice.expovariate(department.jobs_a_day / (9 * HOUR))
                if at > 17 * HOUR:
                    break
                moments.append((day * 86400 + at, number))
    found = []
    for job_id, (at, number) in enumerate(sorted(moments), start=1):
        seconds = 60 * DEPARTMENTS[number].median_minutes * dice.lognormvariate(0, 0.7)
        expected = seconds * dice.lognormvariate(0, 0.3)
        duration = forecast.DurationRange(expected, expected, expected)
        found.append(
            Arrival(at, forecast.Waiting(job_id, number, number, duration=duration), seconds)
        )
    return found


def play(week: list[Arrival], is_fair: bool) -> dict[str, list[float]]:
    """Return how many minutes each job waited, by department."""
    clinic = Clinic(is_fair)
    by_id = {each.job.id: each for each in week}
    coming = sorted(week, key=lambda each: each.at, reverse=True)
    waited: dict[str, list[float]] = {department.name: [] for department in DEPARTMENTS}
    while coming or clinic.running:
        next_end = clinic.running[0][0] if clinic.running else float("inf")
        if coming and coming[-1].at <= next_end:
            arrival = coming.pop()
            at = arrival.at
            clinic.waiting.append(arrival.job)
        else:
            at, number, began, _ = heapq.heappop(clinic.running)
            clinic.past[number].charge(at, at - began)
        while clinic.waiting and len(clinic.running) < NUM_DEVICES:
            places = forecast.positions(clinic.waiting, clinic.standings(at))
            job = min(clinic.waiting, key=lambda each: places[each.id])
            clinic.waiting.remove(job)
            chosen = by_id[job.id]
            expected = job.duration.usual if job.duration else scheduling.UNKNOWN_SECONDS
            end = (at + chosen.seconds, job.department_id, at, expected)
            heapq.heappush(clinic.running, end)
            waited[DEPARTMENTS[job.department_id].name].append((at - chosen.at) / 60)
    return waited


def summary(waited: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Sum up the waiting times, in minutes."""
    return {
        name: {
            "jobs": len(minutes),
            "median": round(statistics.median(minutes), 1),
            "p90": round(statistics.quantiles(minutes, n=10)[-1], 1),
            "longest": round(max(minutes), 1),
        }
        for name, minutes in waited.items()
    }


def main() -> None:
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    week = arrivals(random.Random(seed))
    found = {
        "fair": summary(play(week, is_fair=True)),
        "first_come": summary(play(week, is_fair=False)),
    }
    print(f"{'':>12} {'jobs':>5} {'fair share: median, p90':>26} {'first come: median, p90':>26}")
    for department in DEPARTMENTS:
        fair, plain = found["fair"][department.name], found["first_come"][department.name]
        print(
            f"{department.name:>12} {fair['jobs']:>5} {fair['median']:>17,.0f} {fair['p90']:>8,.0f}"
            f" {plain['median']:>17,.0f} {plain['p90']:>8,.0f}"
        )
    hours = sum(each.seconds for each in week) / HOUR
    print(
        json.dumps(
            {"seed": seed, "num_devices": NUM_DEVICES, "device_hours": round(hours, 1)} | found
        )
    )


if __name__ == "__main__":
    main()
