"""The words for where data stands, once for all: pages show the word, /v1 says the sentence."""

from typing import NamedTuple

from app.core.models import AskingStatus, VersionStatus


class Status(NamedTuple):
    """How a status is said.

    Attributes:
        word: Beside a dot.
        tone: The dot's kind: wait, live, good, warn or bad.
        sentence: The same for a program's log.
    """

    word: str
    tone: str
    sentence: str = ""


VERSION = {
    VersionStatus.UPLOADED: Status("Waiting to be read", "wait", "Waiting to be read."),
    VersionStatus.INSPECTING: Status("Reading", "live", "Being read."),
    VersionStatus.MAPPING: Status(
        "Needs a decision", "warn", "Waiting for a person to check its columns, on the page Data."
    ),
    VersionStatus.CONFIRMED: Status(
        "Waiting to be made", "wait", "Waiting to be turned into examples."
    ),
    VersionStatus.BUILDING: Status("Making examples", "live", "Being turned into examples."),
    VersionStatus.READY: Status("Ready", "good"),
    VersionStatus.FAILED: Status("Failed", "bad"),
}
ASKING = {
    AskingStatus.WAITING: Status("Waiting", "wait"),
    AskingStatus.ASKING: Status("Working", "live"),
    AskingStatus.DONE: Status("Finished", "good"),
    AskingStatus.CANCELLED: Status("Stopped", "wait"),
    AskingStatus.FAILED: Status("Failed", "bad"),
}
