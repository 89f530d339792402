"""The words for a status, once for pages, lists, notices and the queue; dots are of the style."""

from typing import Literal, NamedTuple

from app.core.models import JobStatus, ModelStatus, VersionStatus

Dot = Literal["wait", "live", "good", "warn", "bad"]


class StatusWord(NamedTuple):
    """A status as people read it: a word, and the colour of the dot before it."""

    word: str
    dot: Dot


PAUSED = StatusWord("Paused", "warn")  # waiting in the queue, but asked to stay there
STOPPING = StatusWord("Stopping", "live")  # still running, but asked to end

# Values are stored names; one that several tables share (`failed`, `ready`) has one word.
_WORDS: dict[str, StatusWord] = {
    JobStatus.QUEUED: StatusWord("Waiting", "wait"),
    JobStatus.RUNNING: StatusWord("Training", "live"),
    JobStatus.SUCCEEDED: StatusWord("Finished", "good"),
    JobStatus.CANCELLED: StatusWord("Cancelled", "wait"),
    JobStatus.FAILED: StatusWord("Failed", "bad"),
    VersionStatus.UPLOADED: StatusWord("Waiting to be read", "wait"),
    VersionStatus.INSPECTING: StatusWord("Reading", "live"),
    VersionStatus.MAPPING: StatusWord("Needs a decision", "warn"),
    VersionStatus.CONFIRMED: StatusWord("Waiting to make examples", "wait"),
    VersionStatus.BUILDING: StatusWord("Making examples", "live"),
    VersionStatus.READY: StatusWord("Ready", "good"),
    ModelStatus.WAITING: StatusWord("Waiting to be imported", "wait"),
    ModelStatus.IMPORTING: StatusWord("Importing", "live"),
}


def of_status(value: str) -> StatusWord:
    """Look up the word for a status of a job, a version of data or a starting model."""
    return _WORDS[value]
