"""What an earlier attempt left on this disk and nobody heard of, for the next one to go on from.

While the database is away a trainer may write checkpoints, and even its result, that no row knows.
They count where they are whole and of the job's own line: that of the last attempt that reported a
step, to the database or only to its file here. An attempt is told by its number and by when it
began, since numbers come again where the database was put back to an earlier moment. What cannot be
read, or does not fit, is left where it lies, and the job goes on from what the rows say.
"""

import fcntl
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.orm import Session

from app.core import db
from app.core.models import Checkpoint
from app.jobs import fence, metrics, protocol
from app.training import manifests
from app.training.events import CheckpointEvent, DoneEvent, EvaluationEvent, StepEvent
from worker.gpu import spool
from worker.trainer import keeping

# One that was killed lets go of its folder at once; the trainer waits as long.
_LOCK_SECONDS = 10
# As many events a statement, as in a flush.
_MOST_EVENTS = 2000
# The answers to test questions are one line; what is longer is none of ours.
_LONGEST_LINE = 64 * 1024 * 1024


class FolderHeld(Exception):
    """A trainer of an earlier attempt is still at work in the job's folder."""


@dataclass(frozen=True)
class Found:
    """What is to be taken over."""

    source: protocol.Spool  # the attempt that did it
    offset: int  # where in its file it ends
    step: int  # of the checkpoint to go on from
    last_step: int  # the last one of which there are points
    after: int  # the points up to this step are in the database
    parts: tuple["_Part", ...]
    done: DoneEvent | None = None  # of a result that only has to be published


@dataclass(frozen=True)
class _Part:
    """Which events of a file become rows: those up to an offset that are of steps up to one."""

    path: Path
    offset: int
    heard: int  # up to here all was told before
    up_to: int


@dataclass
class _File:
    """What one attempt reported, as its events.jsonl says."""

    path: Path
    # By path; of those written again the last one counts, and comes last.
    checkpoints: dict[str, tuple[int, CheckpointEvent]] = field(default_factory=dict)
    last_step: int | None = None
    last: metrics.TrainerEvent | None = None
    end: int = 0
    fell_at: int | None = None  # where it first went back to an earlier step


def wait_until_free(job_dir: Path) -> None:
    """Wait until no trainer of an earlier attempt holds the job's folder.

    Raises:
        FolderHeld: one does not end.
    """
    if not job_dir.exists():
        return None
    deadline = time.monotonic() + _LOCK_SECONDS
    with (job_dir / "run.lock").open("a") as lock:
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise FolderHeld from None
                time.sleep(0.05)


def find(claim: fence.Claim, known: Checkpoint | None) -> Found | None:
    """Look for more on this disk than the database knows; asks it only where there may be some.

    Args:
        claim: Of the attempt that is to go on.
        known: The newest checkpoint with a row that lies whole on this disk.

    Raises:
        OSError: the disk cannot be read.
    """
    job_dir = spool.job_dir(claim.job_id)
    if not _may_hold_more(job_dir, claim, known.step if known else 0):
        return None
    with db.session() as session:
        spools = protocol.spools(session, claim)
    reporters = _reporters(job_dir, spools)
    source, file = next(reporters, (None, None))
    if source is None or file is None or file.last_step is None:
        return None  # there is none, or it was on another disk
    done = _finished(job_dir, claim, source, file)
    if done is not None:
        offset, last_step = file.end, file.last_step
        step = source.resume_step
        if file.checkpoints:
            _, kept = next(reversed(file.checkpoints.values()))
            step = kept.step
    else:
        newest = _newest(job_dir, file)
        if newest is None or (known is not None and known.step >= newest[1].step):
            return None
        offset, last_step = newest[0], newest[1].step
        step = last_step
    # Where it went back amid the file, what is in the database may be of the way given up.
    is_straight = (file.fell_at is None or file.fell_at > offset) and step >= claim.resume_step
    after = claim.resume_step if is_straight else min(claim.resume_step, source.resume_step)
    parts = [_Part(file.path, offset, source.offset, last_step)]
    before = _parts_before(reporters, source.resume_step, after)
    if before is None:
        return None
    return Found(source, offset, step, last_step, after, (*before, *parts), done)


def adopt(session: Session, claim: fence.Claim, found: Found) -> fence.Claim:
    """Write what was found as the claiming attempt's own; the caller commits.

    Returns:
        The claim, which now begins where the other attempt got to.

    Raises:
        Fenced: another worker may have the job.
    """
    fence.heartbeat(session, claim)
    taken = protocol.has_taken_over(
        session, claim, found.source, step=found.step, last_step=found.last_step
    )
    if taken is not None:
        return taken
    if found.after < claim.resume_step:
        claim = protocol.roll_back(session, claim, found.after)
    for part in found.parts:
        for is_told, events in _pieces(part, found.after):
            metrics.take_over(session, claim, events, is_told=is_told)
    return protocol.take_over(
        session,
        claim,
        found.source,
        found.offset,
        step=found.step,
        last_step=found.last_step,
        is_done=found.done is not None,
    )


def _may_hold_more(job_dir: Path, claim: fence.Claim, known_step: int) -> bool:
    """Say whether the disk holds other things than the rows let expect."""
    newest = max((step for step, _ in keeping.folders(job_dir)), default=0)
    return (
        newest > claim.resume_step
        or (newest > 0 and known_step != claim.resume_step)
        or (job_dir / "result" / manifests.NAME).exists()
    )


def _reporters(
    job_dir: Path, spools: Sequence[protocol.Spool]
) -> Iterator[tuple[protocol.Spool, _File | None]]:
    """Yield the attempts that reported a step, the newest first, with their file if it is here."""
    for known in spools:
        folder = job_dir / "attempts" / str(known.attempt)
        file = _read(folder / "events.jsonl") if spool.is_of(folder, known.started_at) else None
        if known.last_step is not None or (file is not None and file.last_step is not None):
            yield known, file


def _parts_before(
    reporters: Iterator[tuple[protocol.Spool, _File | None]], step: int, after: int
) -> list[_Part] | None:
    """Return where the points between two steps are that earlier attempts made, oldest first.

    They are missing where a worker without this disk has begun anew in between.

    Returns:
        None where they are not all here.
    """
    parts: list[_Part] = []
    while step > after:
        source, file = next(reporters, (None, None))
        if source is None:
            return None
        path = f"checkpoints/step-{step:05d}"
        if file is not None and path in file.checkpoints:
            offset, _ = file.checkpoints[path]
            parts.insert(0, _Part(file.path, offset, offset, step))
            step = source.resume_step
        elif source.resume_step != step:  # else it began from the same one and got no further
            return None
    return parts


def _finished(
    job_dir: Path, claim: fence.Claim, source: protocol.Spool, file: _File
) -> DoneEvent | None:
    """Return the last event of an attempt whose whole result lies here."""
    if not isinstance(file.last, DoneEvent) or file.last.manifest_sha256 is None:
        return None
    result = job_dir / "result"
    if not _is_whole(result, file.last.manifest_sha256):
        return None
    said = manifests.read_extra(result)
    is_its = (said.get("job"), said.get("attempt")) == (claim.job_id, source.attempt)
    return file.last if is_its else None


def _newest(job_dir: Path, file: _File) -> tuple[int, CheckpointEvent] | None:
    """Return the last checkpoint of a file that lies whole on the disk, and where its line ends."""
    for path, (offset, event) in reversed(file.checkpoints.items()):
        if path == f"checkpoints/step-{event.step:05d}" and _is_whole(
            job_dir / path, event.manifest_sha256
        ):
            return offset, event
    return None


def _is_whole(folder: Path, digest: str) -> bool:
    try:
        # Its own hash first: that of all its files takes a while.
        is_it = manifests.read_manifest(folder)[1] == digest
        return is_it and manifests.verify_manifest(folder) == digest
    except (ValueError, OSError):
        return False


def _read(path: Path) -> _File:
    file = _File(path)
    step = 0
    for offset, event in _events(path):
        file.last, file.end = event, offset
        if isinstance(event, StepEvent):
            if event.step <= step and file.fell_at is None:
                file.fell_at = offset
            file.last_step = step = event.step
        elif isinstance(event, CheckpointEvent):
            file.checkpoints.pop(event.path, None)
            file.checkpoints[event.path] = (offset, event)
    return file


def _events(path: Path) -> Iterator[tuple[int, metrics.TrainerEvent]]:
    """Yield each event with the offset after it, up to the first line that is none."""
    offset = 0
    try:
        with path.open("rb") as file:
            while (line := file.readline(_LONGEST_LINE)).endswith(b"\n"):
                offset += len(line)
                yield offset, metrics.parse(line)
    except (FileNotFoundError, ValueError):  # half a line, zeros after a power cut, another's
        return


def _pieces(part: _Part, after: int) -> Iterator[tuple[bool, list[metrics.TrainerEvent]]]:
    """Yield a file's events a few at a time; what was told before comes by itself.

    Of that the points are written again which the claim has deleted, and nothing else. At step 0
    it has deleted the look at the test set before training as well.
    """
    piece: list[metrics.TrainerEvent] = []
    was_told = False
    for offset, event in _events(part.path):
        if offset > part.offset:
            break
        is_told = offset <= part.heard
        if isinstance(event, StepEvent | EvaluationEvent | CheckpointEvent):
            if event.step > part.up_to or (is_told and event.step <= (after or -1)):
                continue
        elif is_told:
            continue
        if piece and (is_told != was_told or len(piece) == _MOST_EVENTS):
            yield was_told, piece
            piece = []
        piece.append(event)
        was_told = is_told
    if piece:
        yield was_told, piece
