"""The history checker: what must hold of a run however it was disturbed. Pure; no files, no rows.

A `History` is what was seen from outside: what the web promised to its client (`accepted`,
`cancels`), what the trainers wrote into their log (`lines`), what the database saw being written
(`writes`, in its own order), and what was there in the end. `check` counts what contradicts the
protocol (docs/chaos.md, I1 to I11); each count must be zero.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

Curves = dict[str, list[tuple[int, float]]]
# Measured in seconds of a machine, so no two runs agree on it.
_TIMED = frozenset({"tokens_per_second"})
FINAL = frozenset({"succeeded", "failed", "cancelled"})
OPEN_EVALUATIONS = frozenset({"waiting", "evaluating"})
OPEN_EXPORTS = frozenset({"waiting", "making"})
# What `check` counts, in the order of the report; anything but zero is wrong.
COUNTS = (
    "lost",
    "unfinished",
    "doubled_jobs",
    "failed",
    "changed_ends",
    "overlaps",
    "device_overlaps",
    "missing_points",
    "doubled_points",
    "different_losses",
    "broken_adapters",
    "different_adapters",
    "stale_writes",
    "cancelled_with_adapter",
    "ignored_cancels",
    "attempt_gaps",
    "open_attempts",
    "over_quota",
    "different_answers",
    "silent_models",
    "unfinished_evaluations",
    "incomplete_evaluations",
    "lost_exports",
    "unfinished_exports",
    "failed_exports",
    "changed_exports",
    "broken_exports",
    "half_made_exports",
    "export_leavings",
)


@dataclass(frozen=True)
class Accepted:
    """A job that the web has promised to its client."""

    key: str  # the Idempotency-Key
    job: str


@dataclass(frozen=True)
class Attempt:
    """A row of `attempt`."""

    number: int
    worker: str
    is_open: bool = False


@dataclass(frozen=True)
class Adapter:
    """An adapter as its row, its files and the web show it."""

    row_sha256: str  # of the manifest, as the row says
    manifest_sha256: str | None  # of the manifest on disk, if every file is as it says
    served_sha256: str | None  # of the manifest in the archive that the web sends, likewise
    weights_sha256: str


@dataclass
class Job:
    """A job at the end of the run."""

    id: str
    recipe: str
    status: str
    attempt: int
    key: str = ""
    attempts: list[Attempt] = field(default_factory=list)
    curves: Curves = field(default_factory=dict)
    # Steps in the table that the web hands over, one a line.
    table_steps: list[int] = field(default_factory=list)
    # What a page showed that followed the job's stream from its beginning to its end.
    watched: Curves | None = None
    adapters: list[Adapter] = field(default_factory=list)
    is_paused: bool = False


@dataclass(frozen=True)
class Line:
    """One line of a trainer's log; `ns` is of the machine's CLOCK_BOOTTIME."""

    kind: Literal["start", "step", "checkpoint", "end"]
    job: str
    attempt: int
    ns: int
    step: int = 0
    pid: int = 0


@dataclass(frozen=True)
class Write:
    """One write to the database, in the order in which the database saw them."""

    kind: Literal["claim", "release", "metric", "checkpoint"]
    job: str
    attempt: int


@dataclass(frozen=True)
class Reference:
    """What a recipe yields when nothing disturbs it."""

    curves: Curves
    weights_sha256: str


@dataclass(frozen=True)
class Said:
    """What a model said to a question; None: it never answered again after the disturbances."""

    model: str
    question: str
    text: str | None


@dataclass(frozen=True)
class Evaluation:
    """A row of `evaluation`, and how many answers stand below it."""

    id: str
    status: str
    wanted: int  # questions that it says to have had answered, times arms
    answers: int


@dataclass(frozen=True)
class AskedExport:
    """An export that the web has promised to somebody, and what he was told of it later."""

    id: str
    job: str  # that made the adapter
    is_cancelled: bool = False  # the web said that it is
    end: str | None = None
    is_last: bool = False  # asked for once nothing was disturbed any more


@dataclass(frozen=True)
class Fetched:
    """A zip that the web sent to somebody while everything was disturbed."""

    export: str
    sha256: str
    is_whole: bool  # it can be read from its first to its last byte


@dataclass(frozen=True)
class Export:
    """An export as its row, its file and the web show it in the end."""

    id: str
    status: str
    reason: str | None = None
    row_sha256: str | None = None
    file_sha256: str | None = None  # of the file on disk, if it is as long as the row says
    served_sha256: str | None = None  # of what the web sends; None: it sends nothing
    is_right: bool = False  # each file in it is as its manifest says, and made of its adapter


@dataclass
class History:
    """All that was seen."""

    accepted: list[Accepted] = field(default_factory=list)
    cancels: set[str] = field(default_factory=set)  # answered with "yes"
    ends: dict[str, str] = field(default_factory=dict)  # how the client was told that a job ended
    jobs: list[Job] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    references: dict[str, Reference] = field(default_factory=dict)
    taken_over: int = 0  # how often somebody went on from what the database had not heard of
    said: list[Said] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    asked_exports: list[AskedExport] = field(default_factory=list)
    fetched: list[Fetched] = field(default_factory=list)
    exports: list[Export] = field(default_factory=list)
    export_kills: int = 0  # how often the program that makes one was killed
    export_leavings: list[str] = field(default_factory=list)  # folders that somebody worked in
    export_orphans: int = 0  # zips that no row points to; told, and no fault: they go in time
    deleted: set[str] = field(default_factory=set)  # jobs whose adapter was deleted
    max_running: int | None = None  # how many jobs may be in training at once, all together


@dataclass
class Report:
    """How often each rule was broken, and where."""

    counts: dict[str, int]
    findings: list[str]

    @property
    def is_good(self) -> bool:
        return not any(self.counts.values())


Finding = tuple[str, str]


def check(history: History) -> Report:
    """Hold a history against every rule."""
    findings = [
        *_promises(history),
        *_overlaps(history),
        *_device_overlaps(history),
        *_curves(history),
        *_adapters(history),
        *_stale_writes(history),
        *_cancels(history),
        *_attempts(history),
        *_quota(history),
        *_answers(history),
        *_evaluations(history),
        *_exports(history),
    ]
    counted = Counter(kind for kind, _ in findings)
    return Report(
        {name: counted[name] for name in COUNTS}, [f"{kind}: {what}" for kind, what in findings]
    )


def _promises(history: History) -> Iterator[Finding]:
    """I1: every accepted job is there once, and came to an end (or is queued, paused)."""
    jobs = {job.id: job for job in history.jobs}
    for promise in history.accepted:
        if promise.job not in jobs:
            yield "lost", f"{promise.job} was accepted and is not there"
    for key, number in Counter(job.key for job in history.jobs if job.key).items():
        if number > 1:
            yield "doubled_jobs", f"{key} made {number} jobs"
    for job in history.jobs:
        told = history.ends.get(job.id, job.status)
        if told != job.status:
            yield "changed_ends", f"{job.id} is {job.status} and was {told} before"
        if job.status == "failed":
            yield "failed", f"{job.id} failed; nothing in its recipe fails by itself"
        elif job.status not in FINAL and not (job.status == "queued" and job.is_paused):
            yield "unfinished", f"{job.id} is {job.status} long after the last disturbance"


def _overlaps(history: History) -> Iterator[Finding]:
    """I2: no trainer of a job does anything once a later attempt's trainer has begun."""
    for job, spans in _spans(history.lines).items():
        # One attempt may be taken up twice by its worker, one trainer after the other.
        in_order = sorted((attempt, *span) for (attempt, _), span in spans.items())
        for (earlier, _, last), (later, first, _) in pairwise(in_order):
            if last > first:
                yield "overlaps", f"{job}: attempt {earlier} beside attempt {later}"


def _device_overlaps(history: History) -> Iterator[Finding]:
    """I2 for devices: a worker's trainers never work beside each other."""
    workers = {
        (job.id, attempt.number): attempt.worker for job in history.jobs for attempt in job.attempts
    }
    by_worker: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    for job, spans in _spans(history.lines).items():
        for (attempt, _), (first, last) in spans.items():
            worker = workers.get((job, attempt))
            if worker is not None:
                by_worker[worker].append((first, last, f"{job}/{attempt}"))
    for worker, busy in by_worker.items():
        for (_, last, one), (first, _, other) in pairwise(sorted(busy)):
            if last > first:
                yield "device_overlaps", f"{worker}: {one} beside {other}"


def _curves(history: History) -> Iterator[Finding]:
    """I3: a succeeded job's curves are those of the unbroken run, each point once."""
    for job in history.jobs:
        if job.status != "succeeded":
            continue
        wanted = history.references[job.recipe].curves
        yield from _as_wanted(job.id, job.curves, wanted)
        if job.watched is not None:
            yield from _as_wanted(f"{job.id} on the page", job.watched, wanted)
        if job.id in history.deleted:
            continue  # its table went with its adapter
        steps = {step for name in ("loss", "validation_loss") for step, _ in wanted.get(name, [])}
        yield from _points(f"{job.id} table", job.table_steps, steps)


def _as_wanted(where: str, seen: Curves, wanted: Curves) -> Iterator[Finding]:
    for name in sorted(wanted.keys() | seen.keys()):
        yield from _curve(where, name, seen.get(name, []), wanted.get(name, []))


def _curve(
    job: str, name: str, seen: list[tuple[int, float]], wanted: list[tuple[int, float]]
) -> Iterator[Finding]:
    yield from _points(f"{job} {name}", [step for step, _ in seen], [step for step, _ in wanted])
    values = dict(wanted)
    if name in _TIMED:
        return
    for step, value in seen:
        if step not in values or values[step] != value:
            yield "different_losses", f"{job} {name} at step {step}: {value}"


def _points(where: str, seen: Iterable[int], wanted: Iterable[int]) -> Iterator[Finding]:
    counted = Counter(seen)
    for step in wanted:
        if step not in counted:
            yield "missing_points", f"{where}: step {step}"
    for step, number in counted.items():
        if number > 1:
            yield "doubled_points", f"{where}: step {step}, {number} times"


def _adapters(history: History) -> Iterator[Finding]:
    """I4: row, manifest, files and what the web sends agree, and are the unbroken run's."""
    for job in history.jobs:
        expected = 0 if job.id in history.deleted else 1
        if job.status == "succeeded" and len(job.adapters) != expected:
            yield "broken_adapters", f"{job.id} succeeded and has {len(job.adapters)} adapters"
        for adapter in job.adapters:
            if not (adapter.row_sha256 == adapter.manifest_sha256 == adapter.served_sha256):
                yield "broken_adapters", f"{job.id}: {adapter}"
            elif adapter.weights_sha256 != history.references[job.recipe].weights_sha256:
                yield "different_adapters", f"{job.id}: not the unbroken run's weights"


def _stale_writes(history: History) -> Iterator[Finding]:
    """I5: nothing is written for an attempt that does not hold its job at that moment."""
    holds: dict[str, int | None] = {}
    for write in history.writes:
        held = holds.get(write.job)
        match write.kind:
            case "claim":
                holds[write.job] = write.attempt
            case "release":
                if write.attempt != held:
                    yield "stale_writes", f"{write.job}: attempt {write.attempt} let go of {held}"
                holds[write.job] = None
            case _:
                if write.attempt != held:
                    what = f"attempt {write.attempt} wrote a {write.kind} while {held} held it"
                    yield "stale_writes", f"{write.job}: {what}"


def _cancels(history: History) -> Iterator[Finding]:
    """I6: a cancelled job has no adapter, and a cancel that was promised happened."""
    for job in history.jobs:
        if job.status == "cancelled" and job.adapters:
            yield "cancelled_with_adapter", job.id
        if job.id in history.cancels and job.status in FINAL - {"cancelled"}:
            yield "ignored_cancels", f"{job.id} {job.status} after its cancel was accepted"


def _attempts(history: History) -> Iterator[Finding]:
    """I7: attempts are numbered from one without a gap, and all have ended."""
    for job in history.jobs:
        numbers = [attempt.number for attempt in job.attempts]
        if sorted(numbers) != list(range(1, job.attempt + 1)):
            yield "attempt_gaps", f"{job.id} is at attempt {job.attempt} and has {numbers}"
        for attempt in job.attempts:
            if attempt.is_open and job.status != "running":
                yield "open_attempts", f"{job.id} is {job.status}, attempt {attempt.number} open"


def _quota(history: History) -> Iterator[Finding]:
    """I8: no more jobs are held at once than may be; claims are in order, each sees what ended."""
    held: set[str] = set()
    for write in history.writes:
        if write.kind == "release":
            held.discard(write.job)
        elif write.kind == "claim":
            held.add(write.job)
            if history.max_running is not None and len(held) > history.max_running:
                yield "over_quota", f"{write.job} is number {len(held)} of {history.max_running}"


def _answers(history: History) -> Iterator[Finding]:
    """I9: the same question to the same model has one answer, and each answers again in the end."""
    known: dict[tuple[str, str], str] = {}
    for said in history.said:
        if said.text is None:
            yield "silent_models", f"{said.model} answers no more"
            continue
        first = known.setdefault((said.model, said.question), said.text)
        if said.text != first:
            what = f"{said.model} said {said.text!r} and {first!r} before to {said.question!r}"
            yield "different_answers", what


def _evaluations(history: History) -> Iterator[Finding]:
    """I10: every evaluation comes to an end; one that is done has the answers that it counts."""
    for one in history.evaluations:
        if one.status in OPEN_EVALUATIONS:
            yield "unfinished_evaluations", f"{one.id} is {one.status}"
        elif one.status == "done" and one.answers < one.wanted:
            yield "incomplete_evaluations", f"{one.id} has {one.answers} answers of {one.wanted}"


def _exports(history: History) -> Iterator[Finding]:
    """I11: each export ends as it was told; what is offered is whole, and nothing else is given."""
    rows = {one.id: one for one in history.exports}
    for asked in history.asked_exports:
        row = rows.get(asked.id)
        if row is None:
            if asked.job not in history.deleted:
                yield "lost_exports", f"{asked.id} was accepted and is not there"
            continue
        told = "cancelled" if asked.is_cancelled else asked.end or row.status
        # One that is ready goes when its time is over, or the disk is short.
        if row.status != told and (told, row.status) != ("ready", "gone"):
            yield "changed_exports", f"{asked.id} is {row.status} and was {told} before"
        if asked.is_last and row.status != "ready":
            what = f"{asked.id} is {row.status}, asked for once nothing was disturbed: {row.reason}"
            yield "unfinished_exports", what
    for one in history.exports:
        yield from _export(one)
    failed = [one for one in history.exports if one.status == "failed"]
    if len(failed) > history.export_kills:
        reasons = sorted({str(one.reason) for one in failed})
        yield (
            "failed_exports",
            f"{len(failed)} failed after {history.export_kills} kills: {reasons}",
        )
    for fetch in history.fetched:
        row = rows.get(fetch.export)
        # Once it is deleted no row says which bytes are right.
        is_right = row is None or row.row_sha256 == fetch.sha256
        if not (fetch.is_whole and is_right):
            yield "half_made_exports", f"{fetch.export} was fetched as {fetch.sha256}: {row}"
    for place in history.export_leavings:
        yield "export_leavings", place


def _export(one: Export) -> Iterator[Finding]:
    if one.status in OPEN_EXPORTS:
        yield "unfinished_exports", f"{one.id} is {one.status} long after the last disturbance"
    elif one.status == "failed" and not one.reason:
        yield "failed_exports", f"{one.id} failed and does not say why"
    is_whole = one.row_sha256 == one.file_sha256 == one.served_sha256 and one.is_right
    if one.status == "ready" and not is_whole:
        yield "broken_exports", str(one)
    if one.status != "ready" and one.served_sha256 is not None:
        yield "half_made_exports", f"{one.id} is {one.status} and is handed over"


def _spans(lines: Iterable[Line]) -> dict[str, dict[tuple[int, int], tuple[int, int]]]:
    """Return from when to when each trainer was seen at work, by attempt and process id.

    To be there is no work: one that woke up too late may find out and end before its first step.
    """
    spans: dict[str, dict[tuple[int, int], tuple[int, int]]] = defaultdict(dict)
    for line in lines:
        if line.kind not in ("step", "checkpoint"):
            continue
        who = (line.attempt, line.pid)
        first, last = spans[line.job].get(who, (line.ns, line.ns))
        spans[line.job][who] = (min(first, line.ns), max(last, line.ns))
    return spans
