"""The queue as a picture: which machine trains whose job when, from now until the next morning.

The picture ends sooner where nothing is foreseen for so long: a job of minutes is to be seen. A job
stands in the middle of the times that are foreseen for it. Who may not read a job's name on
the page does not read it here: their picture shows that a machine is taken, and how long.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from app.core import site_time
from app.core.models import Worker
from app.jobs.queue_view import Outlook

# Until the first morning that is so far away; where less is foreseen, until a little behind that.
_MORNING_HOUR, _AT_LEAST = 8, timedelta(hours=6)
_SHORTEST, _ROOM_BEHIND = timedelta(hours=1), 1.25
# What is said of the picture's time.
_EVENING_HOUR, _DAY_HOUR = 18, 6
# More machines, and more bars in a row, are more than anybody looks at; the list has all jobs.
MOST_LANES, MOST_BARS, _MOST_BARS_IN_ALL = 16, 40, 120
_MOST_TICKS = 7
_STEPS = (30, 60, 120, 180, 240, 360, 720)  # minutes
# Percent of the width: a shorter job is still to be seen, what trains now on a phone, too.
_LEAST_WIDTH, _LEAST_NOW = 1.0, 4.0
# On a phone no hour's label lies on the word "now" or is cut at the right edge.
_FIRST_LABEL, _LAST_LABEL = 15.0, 94.0
# Pixels of a phone's picture, of a letter, and beside a name: where it has no room in its bar.
_PHONE, _LETTER, _EDGES = 300, 7.5, 18
OTHERS, EVALUATION = "Another department", "An evaluation"


@dataclass(frozen=True)
class Named:
    """A job that the person may read the name of."""

    name: str
    person: str
    starts: str
    ends: str


@dataclass(frozen=True)
class Bar:
    """A job on a machine; `left` and `width` in percent of the picture."""

    left: float
    width: float
    kind: str  # now, next or others
    words: str
    person: str
    starts: str
    ends: str


@dataclass(frozen=True)
class Lane:
    """A machine."""

    name: str
    worker_id: str
    bars: list[Bar]
    now: str  # the name of what trains, where its bar has no room for it


@dataclass(frozen=True)
class Tick:
    """An hour."""

    left: float
    words: str
    is_midnight: bool


@dataclass(frozen=True)
class Timeline:
    """The picture, and the words that say the same."""

    lanes: list[Lane]
    ticks: list[Tick]
    when: str  # e.g. "Tonight, until Thu 08:00"
    num_more: int  # machines that are not drawn


@dataclass(frozen=True)
class _Window:
    begins: datetime
    ends: datetime

    def percent(self, at: datetime) -> float:
        share = (at - self.begins) / (self.ends - self.begins)
        return round(100 * min(1.0, max(0.0, share)), 2)


@dataclass(frozen=True)
class _Span:
    """Where a bar is; `left` and `width` in percent of the picture."""

    left: float
    width: float
    kind: str  # now or next
    job_id: int | None  # None: an evaluation


def draw(outlook: Outlook, named: dict[int, Named]) -> Timeline | None:
    """Draw what trains and what is foreseen; None where that is nothing.

    Args:
        outlook: The queue as it stands.
        named: The jobs that the person may know, by their ids.
    """
    window, drawn, num_more = _spans(outlook)
    if not drawn:
        return None
    lanes = []
    for worker, spans in drawn:
        bars = [_bar(span, named) for span in spans]
        lanes.append(Lane(name_of(worker), worker.id, bars, _beside(bars)))
    return Timeline(lanes, _ticks(window), _when(window), num_more)


@lru_cache(maxsize=1)  # who may read which names differs from page to page, where the bars are not
def _spans(outlook: Outlook) -> tuple[_Window, list[tuple[Worker, list[_Span]]], int]:
    """Place the bars; gives the picture's time, a row for each machine, and how many have none."""
    window = _Window(outlook.now, _last(outlook, _morning(outlook.now)))
    spans = _by_machine(outlook, window)
    if not spans:
        return window, [], 0
    ready = {worker.id for worker, _ in outlook.parts.ready}
    shown = [
        worker
        for worker in outlook.parts.workers
        # Several devices in common have a worker of their own: shown where it has something to do.
        if worker.id in spans or (worker.id in ready and len(worker.devices) == 1)
    ]
    drawn = shown[:MOST_LANES]
    most = min(MOST_BARS, _MOST_BARS_IN_ALL // max(1, len(drawn)))
    placed = [(worker, _apart(spans.get(worker.id, []), most)) for worker in drawn]
    return window, placed, len(shown) - len(drawn)


def _last(outlook: Outlook, morning: datetime) -> datetime:
    """Return when the picture ends: a full hour behind all that is foreseen, or the morning."""
    last = outlook.now
    for job_id in outlook.at_work:
        times = outlook.times.get(job_id)
        last = max(last, _middle(times.ends) if times and times.ends else morning)
    for one in outlook.evaluating:
        last = max(last, outlook.now + timedelta(seconds=one.left.usual if one.left else 0.0))
    for job_id, _ in outlook.waiting:
        times = outlook.times.get(job_id)
        # Of a long queue most begin later: those cost no more than this.
        if times is None or not times.worker_id or times.starts[0] >= morning:
            continue
        if _middle(times.starts) < morning:
            last = max(last, _middle(times.ends) if times.ends else morning)
    wanted = outlook.now + max(_SHORTEST, (last - outlook.now) * _ROOM_BEHIND)
    local = site_time.local(wanted)
    over = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
    return min(morning, wanted + (timedelta(hours=1) - over if over else timedelta()))


def _when(window: _Window) -> str:
    begins, ends = site_time.local(window.begins), site_time.local(window.ends)
    is_same_day = begins.date() == ends.date()
    is_night = not _DAY_HOUR <= begins.hour < _EVENING_HOUR
    if is_night and window.ends <= _morning(window.begins, timedelta()):
        day = "Tonight"
    else:
        day = "Today" if is_same_day else "Today and tonight"
    return f"{day}, until {ends:%H:%M}" if is_same_day else f"{day}, until {ends:%a %H:%M}"


def _beside(bars: list[Bar]) -> str:
    """Name what trains now, where a phone has no room for that in its bar."""
    if not bars or bars[0].left > 0 or bars[0].words in (OTHERS, EVALUATION):
        return ""
    needed = _LETTER * len(bars[0].words) + _EDGES
    return bars[0].words if _PHONE * bars[0].width / 100 < needed else ""


def _by_machine(outlook: Outlook, window: _Window) -> dict[str, list[_Span]]:
    found: dict[str, list[_Span]] = {}
    for job_id, worker_id in outlook.at_work.items():
        times = outlook.times.get(job_id)
        ends = _middle(times.ends) if times and times.ends else window.ends  # nobody can say
        span = _span(window, outlook.now, ends, "now", job_id)
        found.setdefault(worker_id, []).append(span)
    for one in outlook.evaluating:
        seconds = one.left.usual if one.left else 0.0
        ends = outlook.now + timedelta(seconds=seconds)
        span = _span(window, outlook.now, ends, "now", None)
        found.setdefault(one.worker_id, []).append(span)
    for job_id, _ in outlook.waiting:
        times = outlook.times.get(job_id)
        if times is None or not times.worker_id or times.starts[0] >= window.ends:
            continue
        starts = _middle(times.starts)
        if starts < window.ends:
            ends = _middle(times.ends) if times.ends else window.ends
            span = _span(window, starts, ends, "next", job_id)
            found.setdefault(times.worker_id, []).append(span)
    return found


def _span(
    window: _Window, starts: datetime, ends: datetime, kind: str, job_id: int | None
) -> _Span:
    left = window.percent(starts)
    least = _LEAST_NOW if kind == "now" else _LEAST_WIDTH
    return _Span(left, max(least, window.percent(ends) - left), kind, job_id)


def _bar(span: _Span, named: dict[int, Named]) -> Bar:
    if span.job_id is None:
        return Bar(span.left, span.width, "others", EVALUATION, "", "", "")
    known = named.get(span.job_id)
    if known is None:
        return Bar(span.left, span.width, "others", OTHERS, "", "", "")
    values = (known.name, known.person, known.starts, known.ends)
    return Bar(span.left, span.width, span.kind, *values)


def _apart(spans: list[_Span], most: int) -> list[_Span]:
    """Put bars one after the other: quick and slow may disagree about which machine it is."""
    placed: list[_Span] = []
    free_from = 0.0
    for span in sorted(spans, key=lambda each: (each.left, each.kind != "now"))[:most]:
        left = max(span.left, free_from)
        width = min(max(_LEAST_WIDTH, span.left + span.width - left), 100.0 - left)
        if width <= 0:
            break
        placed.append(replace(span, left=round(left, 2), width=round(width, 2)))
        free_from = left + width
    return placed


def _middle(span: tuple[datetime, datetime]) -> datetime:
    return span[0] + (span[1] - span[0]) / 2


def name_of(worker: Worker) -> str:
    """Name a machine by what it trains on."""
    hardware = worker.hardware or {}
    name = str(hardware.get("name") or ", ".join(worker.devices))
    return f"{len(worker.devices)} × {name}" if len(worker.devices) > 1 else name


# --- hours ---------------------------------------------------------------------------------


def _morning(now: datetime, at_least: timedelta = _AT_LEAST) -> datetime:
    local = site_time.local(now)
    morning = local.replace(hour=_MORNING_HOUR, minute=0, second=0, microsecond=0)
    while morning.astimezone(UTC) - now < at_least:
        morning += timedelta(
            days=1
        )  # on the wall's clock: the hour stays, also where clocks change
    return morning.astimezone(UTC)


def _ticks(window: _Window) -> list[Tick]:
    minutes = (window.ends - window.begins) / timedelta(minutes=1)
    step = next(each for each in _STEPS if minutes / each <= _MOST_TICKS)
    # Full hours of the site's clock: they are not full ones of UTC in India.
    first = site_time.local(window.begins).replace(minute=0, second=0, microsecond=0)
    at = first.astimezone(UTC)
    ticks = []
    while (at := at + timedelta(minutes=30)) < window.ends:
        local, left = site_time.local(at), window.percent(at)
        if (60 * local.hour + local.minute) % step == 0 and left < _LAST_LABEL:
            is_midnight = local.hour == local.minute == 0
            ticks.append(
                Tick(left, f"{local:%a}" if is_midnight else f"{local:%H:%M}", is_midnight)
            )
    return [tick for tick in ticks if tick.left > _FIRST_LABEL]
