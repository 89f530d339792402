"""The rules of the queue, without a database: who goes first, who may not go now, and for how long.

**Who goes first.** Jobs are ordered by three things, the smaller first:

1. priority: 0 for all until an administrator raises or lowers a job;
2. the charge of the job's department, so that machines are shared fairly;
3. the job's number: within a department, first come, first served.

**Fair share.** A department is charged the device-seconds that its jobs have had, fading with a
half-life H, and what its running jobs are expected to take, divided by its share:

    charge = (sum_i used_i * 2 ** -(age_i / H)  +  sum_r devices_r * max(elapsed_r, expected_r))
             / share

The first sum is the usage of Slurm's multifactor plugin (PriorityDecayHalfLife, seven days by
default; slurm.schedmd.com/priority_multifactor.html). Slurm ranks by 2 ** -(usage / share), which
falls as usage / share rises: the order is the same. The second sum charges a job when it begins, as
start-time fair queueing does (Goyal, Vin and Cheng, SIGCOMM 1996): otherwise two machines that
become free together would both go to the same department.

All of a department's past fades alike, so one number and the moment at which it was right are
enough (`faded`): a claim reads a row a department and never the history.

**Who may not go now.** A department or a person may have hours, a number of jobs that train at
once, and device-hours a month (`obstacle`). A job that may not go now holds up nobody.

**What fits.** A job needs so much memory on each of so many devices; a worker offers what it has.
A worker with several devices leaves a narrow job to those that have fewer (`left_to_narrower`).
Where workers share devices, a narrow job that would keep a wide one in front of it waiting longer
stays behind it (`may_go_ahead`): this is EASY backfilling (Lifka, 1995), by estimated times.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Literal

from app.core.site_time import instant
from app.jobs.hours import OpeningHours

# Charged for a running job of which nobody can say how long it takes.
UNKNOWN_SECONDS = 3600.0

Obstacle = Literal["hours", "month", "running"]


@dataclass(frozen=True)
class Rule:
    """What a department or a person may have; None: no limit."""

    share: float = 1.0
    max_running: int | None = None
    max_queued: int | None = None
    month_seconds: float | None = None  # of one device
    hours: OpeningHours | None = None


@dataclass
class Standing:
    """A department or a person in the queue: its rule, and what it has had."""

    rule: Rule = field(default_factory=Rule)
    running: int = 0
    month_seconds: float = 0.0  # of this month, running jobs as far as they are
    recent_seconds: float = 0.0  # fading; running jobs at what they are expected to take
    name: str = ""

    @property
    def charge(self) -> float:
        return self.recent_seconds / self.rule.share

    def begin(self, device_seconds: float) -> None:
        """Count a job that begins."""
        self.running += 1
        self.recent_seconds += device_seconds

    def end(self, device_seconds: float) -> None:
        """Count a job that has ended after so long."""
        self.running -= 1
        self.month_seconds += device_seconds


@dataclass
class Standings:
    """All departments and people at one moment."""

    now: datetime
    zone: tzinfo = UTC
    departments: dict[int, Standing] = field(default_factory=dict)
    people: dict[int, Standing] = field(default_factory=dict)
    is_fair: bool = True

    def __post_init__(self) -> None:
        # Seconds are added to it, which on a wall clock are others where the clock is changed.
        self.now = self.now.astimezone(UTC)

    @property
    def local(self) -> datetime:
        return self.now.astimezone(self.zone)

    def copy(self) -> "Standings":
        """Return one that can be counted on without changing this one."""
        return replace(
            self,
            departments={key: replace(each) for key, each in self.departments.items()},
            people={key: replace(each) for key, each in self.people.items()},
        )

    def department(self, department_id: int) -> Standing:
        """Return a department's standing; one that was made a moment ago has had nothing."""
        return self.departments.setdefault(department_id, Standing())

    def charge(self, department_id: int) -> float:
        """Return a department's charge; where shares are off, all departments are alike."""
        return self.department(department_id).charge if self.is_fair else 0.0

    def obstacle(self, department_id: int, owner_id: int) -> tuple[Obstacle, Standing] | None:
        """Return what keeps a job of theirs from beginning now, and whose rule says so."""
        for standing in (self.departments.get(department_id), self.people.get(owner_id)):
            if standing is not None and (kind := obstacle(standing, self.local)):
                return kind, standing
        return None

    def blocked(self) -> tuple[set[int], set[int]]:
        """Return the departments and the people that may begin nothing now."""
        local = self.local
        return (
            {key for key, standing in self.departments.items() if obstacle(standing, local)},
            {key for key, standing in self.people.items() if obstacle(standing, local)},
        )


@dataclass(frozen=True)
class Needs:
    """What a job asks of a worker."""

    memory_bytes: int | None = None  # of each device; None: nobody can say yet
    num_devices: int = 1


@dataclass(frozen=True)
class Offer:
    """What a worker has."""

    host: str
    devices: tuple[str, ...]
    memory_bytes: int | None = None  # of the least of its devices; None: it has not said yet

    def meets(self, needs: Needs) -> bool:
        return needs.num_devices <= len(self.devices) and (
            None in (needs.memory_bytes, self.memory_bytes)
            or (needs.memory_bytes or 0) <= (self.memory_bytes or 0)
        )

    def shares_with(self, other: "Offer") -> bool:
        """Say whether two workers have a device in common, and can only train in turns."""
        return self.host == other.host and not set(self.devices).isdisjoint(other.devices)


def left_to_narrower(mine: Offer, others: Iterable[Offer]) -> int:
    """Say how many devices a job may need at most that narrower workers train, and this one not.

    A worker with all GPUs of a machine would else take what one GPU holds, and all others stand
    still.

    Args:
        others: Of the workers that have a device in common with this one, those that take jobs.
    """
    narrower = (len(other.devices) for other in others if len(other.devices) < len(mine.devices))
    return max(narrower, default=0)


def obstacle(standing: Standing, local: datetime) -> Obstacle | None:
    """Return what keeps a department's or a person's next job from beginning now."""
    rule = standing.rule
    if rule.hours is not None and not rule.hours.is_open(local):
        return "hours"
    if rule.month_seconds is not None and standing.month_seconds >= rule.month_seconds:
        return "month"
    if rule.max_running is not None and standing.running >= rule.max_running:
        return "running"
    return None


def faded(seconds: float, age_seconds: float, half_life_seconds: float) -> float:
    """Return what is still charged for a use of that age."""
    return float(seconds * 2.0 ** -(max(0.0, age_seconds) / half_life_seconds))


def may_go_ahead(expected_seconds: float | None, seconds_until_free: float) -> bool:
    """Say whether a job may use a device that a job in front of it waits for.

    Args:
        expected_seconds: How long it takes; None: nobody can say, so it may not.
        seconds_until_free: When the other devices that the one in front needs become free.
    """
    return expected_seconds is not None and expected_seconds <= seconds_until_free


def by_month(begin: datetime, end: datetime, zone: tzinfo) -> Iterator[tuple[date, float]]:
    """Split a time into months of the site's calendar: (first day, seconds)."""
    while begin < end:
        month = begin.astimezone(zone).date().replace(day=1)
        until = min(end, month_end(month, zone))
        yield month, (until - begin).total_seconds()
        begin = until


def month_end(month: date, zone: tzinfo) -> datetime:
    """Return the moment at which the month of a day is over."""
    following = (month.replace(day=1) + timedelta(days=32)).replace(day=1)
    return instant(following, time(0), zone)
