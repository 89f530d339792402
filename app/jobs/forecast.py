"""When waiting jobs begin and end, without a database: the queue played forward, quick and slow.

Nobody knows how long a job takes; like jobs give a range (`Pace`). The queue is played twice, once
with all jobs at their shortest and once at their longest: a job begins and ends in between.
"""

import heapq
import itertools
import operator
import statistics
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from app.jobs import scheduling

# Further on a time would be a guess; they still have their position.
MOST_FORESEEN = 300
_HORIZON_SECONDS = 60 * 86400.0
# How far off a plan may be of which no like job has been measured yet, or only one or two.
_UNMEASURED, _FEW = (0.5, 2.0), (0.75, 1.35)
# Of a job that runs, the pace so far may change by so much.
_OF_PACE = 0.15
# A job that may stop early has often learned enough at half of its steps.
_EARLY = 0.5


_ORDER = operator.attrgetter("priority", "id")


@dataclass(frozen=True)
class DurationRange:
    """How long something takes, in seconds: the shortest, the likely and the longest."""

    low: float
    usual: float
    high: float


@dataclass
class Pace:
    """How fast like jobs were, beside their plans: same starting model, method and device."""

    factors: dict[Hashable, list[float]] = field(default_factory=lambda: defaultdict(list))
    _ranges: dict[Hashable, tuple[float, float, float]] = field(default_factory=dict)

    def add(self, like: Hashable, planned_rate: float, measured_rate: float) -> None:
        """Keep what was measured of a job, in tokens a second."""
        if planned_rate > 0 and measured_rate > 0:
            self.factors[like].append(planned_rate / measured_rate)
            self._ranges.pop(like, None)

    def duration(
        self, like: Hashable, planned_seconds: float | None, may_stop_early: bool = False
    ) -> DurationRange | None:
        """Say how long a job takes; None where it has no plan yet."""
        if planned_seconds is None:
            return None
        if like not in self._ranges:
            self._ranges[like] = _range(self.factors.get(like, []))
        low, usual, high = self._ranges[like]
        early = _EARLY if may_stop_early else 1.0
        return DurationRange(
            planned_seconds * low * early, planned_seconds * usual, planned_seconds * high
        )


@dataclass(frozen=True)
class Waiting:
    id: int
    department_id: int
    owner_id: int
    priority: int = 0
    needs: scheduling.Needs = field(default_factory=scheduling.Needs)
    duration: DurationRange | None = None
    after_seconds: float = 0.0  # it may not begin before


@dataclass(frozen=True)
class Running:
    department_id: int
    owner_id: int
    worker_id: str
    left: DurationRange | None = None


@dataclass(frozen=True)
class Machine:
    worker_id: str
    offer: scheduling.Offer


@dataclass(frozen=True)
class Times:
    """From when to when, at the earliest and at the latest; `ends` None: nobody can say."""

    starts: tuple[datetime, datetime]
    ends: tuple[datetime, datetime] | None
    worker_id: str = ""  # where it trains; of one that waits, if all jobs take their longest


def _range(measured: list[float]) -> tuple[float, float, float]:
    if not measured:
        return _UNMEASURED[0], 1.0, _UNMEASURED[1]
    usual = statistics.median(measured)
    if len(measured) <= 2:
        return usual * _FEW[0], usual, usual * _FEW[1]
    tenths = statistics.quantiles(measured, n=10, method="inclusive")
    return 0.9 * tenths[0], usual, 1.1 * tenths[-1]


def left(
    elapsed_seconds: float, done: int, total: int | None, duration: DurationRange | None
) -> DurationRange | None:
    """Say how long a running job still takes, by its steps or else by what it was to take.

    Args:
        elapsed_seconds: Since this attempt began.
        done: Steps of this attempt.
        total: Steps that this attempt has to do; None: it has not said.
        spell: What such a job takes.
    """
    if total and done > 0:
        usual = elapsed_seconds / done * max(0, total - done)
        return DurationRange(usual * (1 - _OF_PACE), usual, usual * (1 + _OF_PACE))
    if duration is None:
        return None
    return DurationRange(
        *(
            max(0.0, each - elapsed_seconds)
            for each in (duration.low, duration.usual, duration.high)
        )
    )


def positions(
    waiting: Sequence[Waiting],
    everyone: scheduling.Standings,
    offers: Sequence[scheduling.Offer] = (),
) -> dict[int, int]:
    """Number the queue from 1; what may not go now, or fits no machine, after all others."""

    standings = everyone.copy()
    closed, people = everyone.blocked()
    groups: tuple[list[Waiting], list[Waiting]] = ([], [])
    for job in waiting:
        is_held = job.after_seconds > 0 or job.department_id in closed or job.owner_id in people
        is_held |= bool(offers) and not any(offer.meets(job.needs) for offer in offers)
        groups[is_held].append(job)
    order = [job.id for group in groups for job in _merged(group, standings)]
    return {job_id: position for position, job_id in enumerate(order, start=1)}


def foresee(
    waiting: Sequence[Waiting],
    running: Sequence[Running],
    machines: Sequence[Machine],
    everyone: scheduling.Standings,
) -> dict[int, Times]:
    """Say when the first jobs in the queue begin and end."""
    quick = _Play(waiting, running, machines, everyone, "low").play()
    slowly = _Play(waiting, running, machines, everyone, "high")
    slow = slowly.play()
    times = {}
    for job_id in quick.keys() & slow.keys():
        (a, b), (c, d) = quick[job_id], slow[job_id]
        ends = None if b is None or d is None else span(everyone, b, d)
        times[job_id] = Times(span(everyone, a, c), ends, slowly.places[job_id])
    return times


def span(everyone: scheduling.Standings, one: float, other: float) -> tuple[datetime, datetime]:
    """Return two moments so many seconds from now, the earlier one first."""
    early, late = sorted((one, other))
    return everyone.now + timedelta(seconds=early), everyone.now + timedelta(seconds=late)


def _merged(group: Sequence[Waiting], everyone: scheduling.Standings) -> list[Waiting]:
    """Put a group in the order in which it would go, each one charged to its department."""
    queues: dict[int, list[Waiting]] = defaultdict(list)
    for job in sorted(group, key=_ORDER, reverse=True):
        queues[job.department_id].append(job)  # the first of the queue is the last of the list
    heads: list[tuple[int, float, int, int]] = []

    def push(department: int) -> None:
        if queues[department]:
            job = queues[department][-1]
            charge = everyone.charge(department)
            heapq.heappush(heads, (job.priority, charge, job.id, department))

    for department in queues:
        push(department)
    order = []
    while heads:
        department = heapq.heappop(heads)[-1]
        job = queues[department].pop()
        order.append(job)
        everyone.department(department).recent_seconds += _charged(job)
        push(department)
    return order


def _charged(job: Waiting) -> float:
    expected = job.duration.usual if job.duration else scheduling.UNKNOWN_SECONDS
    return job.needs.num_devices * expected


class _Play:
    """The queue played forward once; times are seconds from now."""

    def __init__(
        self,
        waiting: Sequence[Waiting],
        running: Sequence[Running],
        machines: Sequence[Machine],
        everyone: scheduling.Standings,
        which: Literal["low", "high"],
    ) -> None:
        self.began = everyone.now
        self.everyone = everyone.copy()
        self.machines = {machine.worker_id: machine for machine in machines}
        # Who has a device in common with whom, itself included.
        self.beside = {
            one.worker_id: [
                other.worker_id for other in machines if one.offer.shares_with(other.offer)
            ]
            for one in machines
        }
        self.left = {
            one.worker_id: scheduling.left_to_narrower(
                one.offer, [self.machines[each].offer for each in self.beside[one.worker_id]]
            )
            for one in machines
        }
        self.which = which
        self.now = 0.0
        self.month = scheduling.month_end(everyone.local.date(), everyone.zone)
        self.queues: dict[int, list[Waiting]] = defaultdict(list)
        for job in sorted(waiting, key=_ORDER):
            if len(self.queues[job.department_id]) < 3 * MOST_FORESEEN:
                self.queues[job.department_id].append(job)
        self.delayed = sorted({job.after_seconds for job in waiting if job.after_seconds > 0})
        # When who is free again; None stands for nobody knows, and is never reached.
        self.until: dict[str, float | None] = {}
        self.ends: list[tuple[float, int, str, int, int, float]] = []
        self.numbers = itertools.count()
        self.times: dict[int, tuple[float, float | None]] = {}
        self.places: dict[int, str] = {}  # the worker that each of them begins on
        for one in running:
            if one.worker_id in self.machines:
                seconds = None if one.left is None else getattr(one.left, which)
                self._occupy(one.worker_id, one.department_id, one.owner_id, seconds)

    def play(self) -> dict[int, tuple[float, float | None]]:
        while len(self.times) < MOST_FORESEEN and self.now < _HORIZON_SECONDS:
            while any(self._begin_on(machine) for machine in self.machines.values()):
                pass
            if not any(self.queues.values()) or not self._move_on():
                break
        return self.times

    def _begin_on(self, machine: Machine) -> bool:
        if self._is_taken(machine):
            return False
        job = self._first(machine)
        if job is None:
            return False
        for other in (self.machines[each] for each in self.beside[machine.worker_id]):
            width = len(other.offer.devices) - len(machine.offer.devices)
            if width > 0 and self._must_wait(job, other):
                return False
            ahead = self._first(other) if width < 0 else None
            if ahead is not None and self._rank(ahead) < self._rank(job):
                return False  # it begins now on one of the devices
        self.queues[job.department_id].remove(job)
        seconds = None if job.duration is None else getattr(job.duration, self.which)
        self.times[job.id] = (self.now, self._end(job, seconds))
        self.places[job.id] = machine.worker_id
        for standing in self._standings(job.department_id, job.owner_id):
            standing.begin(_charged(job))
        self._occupy(machine.worker_id, job.department_id, job.owner_id, seconds)
        return True

    def _end(self, job: Waiting, seconds: float | None) -> float | None:
        """Say when a job ends that begins now, with pauses where its hours end."""
        if seconds is None:
            return None
        rules = [standing.rule for standing in self._standings(job.department_id, job.owner_id)]
        hours = [rule.hours for rule in rules if rule.hours is not None]
        at, work = self.everyone.now, seconds
        for _ in range(1000):
            local = at.astimezone(self.everyone.zone)
            changes = [change for each in hours if (change := each.next_change(local))]
            if not changes:
                break
            change = min(changes)
            if all(each.is_open(local) for each in hours):
                worked = (change - at).total_seconds()
                if worked >= work:
                    break
                work -= worked
            at = change
        return (at - self.began).total_seconds() + work

    def _first(self, machine: Machine) -> Waiting | None:
        heads = []
        closed, people = self.everyone.blocked()
        for department, queue in self.queues.items():
            if department in closed:
                continue
            for job in queue:
                may_go = job.owner_id not in people and job.after_seconds <= self.now
                is_left = job.needs.num_devices <= self.left[machine.worker_id]
                if may_go and not is_left and machine.offer.meets(job.needs):
                    heads.append(job)
                    break
        return min(heads, key=self._rank, default=None)

    def _rank(self, job: Waiting) -> tuple[int, float, int]:
        return job.priority, self.everyone.charge(job.department_id), job.id

    def _must_wait(self, job: Waiting, wider: Machine) -> bool:
        """Say whether a job has to leave its device to one in front of it that needs several."""
        head = self._first(wider)
        if head is None or self._rank(head) >= self._rank(job):
            return False
        busy = [self.until[each] for each in self.beside[wider.worker_id] if each in self.until]
        if not busy:
            return True
        known = [until - self.now for until in busy if until is not None]
        free_in = max(known) if len(known) == len(busy) else scheduling.UNKNOWN_SECONDS
        return not scheduling.may_go_ahead(job.duration.usual if job.duration else None, free_in)

    def _is_taken(self, machine: Machine) -> bool:
        return any(each in self.until for each in self.beside[machine.worker_id])

    def _occupy(self, worker: str, department: int, owner: int, seconds: float | None) -> None:
        self.until[worker] = None if seconds is None else self.now + seconds
        if seconds is not None:
            end = (self.now + seconds, next(self.numbers), worker, department, owner, seconds)
            heapq.heappush(self.ends, end)

    def _move_on(self) -> bool:
        """Go to the next moment at which something changes; says whether there is one."""
        moments = [self.month, *self._openings()]
        later = [(at - self.began).total_seconds() for at in moments if at is not None]
        later += self.delayed
        later = [at for at in later if at > self.now]
        next_end = self.ends[0][0] if self.ends else _HORIZON_SECONDS
        if later and min(later) < next_end and len(self.until) < len(self.machines):
            self.now = min(later)
        elif self.ends:
            self.now, _, worker, department, owner, seconds = heapq.heappop(self.ends)
            del self.until[worker]
            devices = len(self.machines[worker].offer.devices)
            for standing in self._standings(department, owner):
                standing.end(devices * seconds)
        else:
            return False
        self.everyone.now = self.began + timedelta(seconds=self.now)
        if self.everyone.now >= self.month:
            for standing in (*self.everyone.departments.values(), *self.everyone.people.values()):
                standing.month_seconds = 0.0
            self.month = scheduling.month_end(self.everyone.local.date(), self.everyone.zone)
        return True

    def _openings(self) -> list[datetime | None]:
        local = self.everyone.local
        everybody = (*self.everyone.departments.values(), *self.everyone.people.values())
        return [
            each.rule.hours.next_change(local)
            for each in everybody
            if each.rule.hours is not None and not each.rule.hours.is_open(local)
        ]

    def _standings(self, department: int, owner: int) -> list[scheduling.Standing]:
        person = self.everyone.people.get(owner)
        return [self.everyone.department(department), *([person] if person else [])]
