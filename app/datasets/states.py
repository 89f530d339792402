"""What a version of data is called and what may be done with it, for every page, list and program.

Two rows say how a version stands: its own status (how far its file is) and its review (what the
privacy gate makes of it). Whoever looks at one alone calls data "Ready" that nobody may train on.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Literal, NamedTuple

from sqlalchemy import ColumnElement, and_, false, func, literal, not_, or_, select
from sqlalchemy.orm import Session

from app.core import settings
from app.core.db import read_once
from app.core.models import (
    AskingStatus,
    DatasetVersion,
    PrivacyReview,
    ReviewStatus,
    VersionStatus,
)
from app.core.sentences import counted
from app.core.status_words import Dot, StatusWord

InV1 = Literal["uploaded", "processed", "error"]


class State(StrEnum):
    """How a version of data stands, the gate included."""

    UPLOADED = "uploaded"
    READING = "reading"
    COLUMNS = "columns"  # a person says what they are
    TOO_FEW = "too_few"  # rows: whatever the columns are, no examples will be made of it
    CONFIRMED = "confirmed"
    BUILDING = "building"
    FAILED = "failed"
    SEARCHING = "searching"  # for personal details
    UNDECIDED = "undecided"  # some were found, and a person has to decide
    CHANGING = "changing"  # they are being taken out
    REPLACED = "replaced"  # they were, in another version
    SEARCH_FAILED = "search_failed"
    NOT_SEARCHED = "not_searched"
    READY = "ready"
    DELETED = "deleted"


class Step(NamedTuple):
    """What a person can do about it: the button's words, and where it leads below the version."""

    words: str
    below: str = ""
    elsewhere: str = ""  # or to a page that is not the version's

    def at(self, version_id: int) -> str:
        """Return the address of the page where it is done."""
        return self.elsewhere or f"/versions/{version_id}{self.below}"


@dataclass(frozen=True)
class Standing:
    """How one version stands.

    Attributes:
        state: Which of the states it is in.
        word: What that is called.
        dot: The colour before the word.
        may_learn: A job may be started with it; where its rows are not there yet, the job waits.
        why_not: Otherwise why, as a sentence.
        step: What a person can do about it; none: nothing has to be done.
        in_v1: OpenAI's word for its file.
        details: What /v1 says beside that.
    """

    state: State
    word: str
    dot: Dot
    may_learn: bool
    why_not: str
    step: Step | None
    in_v1: InV1
    details: str | None

    @property
    def needs_person(self) -> bool:
        """Whether nothing goes on with it until a person does something."""
        return self.state in _NEED_A_PERSON

    @property
    def is_busy(self) -> bool:
        """Whether a worker has it, or is about to."""
        return self.state in _BUSY

    @property
    def is_unusable(self) -> bool:
        """Whether it is of no use to any job, one that waits included."""
        return self.state in _UNUSABLE

    @property
    def has_rows(self) -> bool:
        """Whether its examples can be looked at."""
        return self.state in _HAVE_ROWS


# Reviews that a worker has, or is about to.
PENDING = (
    ReviewStatus.STATED,
    ReviewStatus.WAITING,
    ReviewStatus.SCANNING,
    ReviewStatus.REQUESTED,
    ReviewStatus.REPLACING,
)
# What a version's own status amounts to before it is ready.
_BEFORE = {
    VersionStatus.UPLOADED: State.UPLOADED,
    VersionStatus.INSPECTING: State.READING,
    VersionStatus.MAPPING: State.COLUMNS,
    VersionStatus.CONFIRMED: State.CONFIRMED,
    VersionStatus.BUILDING: State.BUILDING,
    VersionStatus.FAILED: State.FAILED,
}
# And afterwards, what the review's does.
_AT_THE_GATE = {
    ReviewStatus.STATED: State.SEARCHING,
    ReviewStatus.WAITING: State.SEARCHING,
    ReviewStatus.SCANNING: State.SEARCHING,
    ReviewStatus.UNDECIDED: State.UNDECIDED,
    ReviewStatus.REQUESTED: State.CHANGING,
    ReviewStatus.REPLACING: State.CHANGING,
    ReviewStatus.DECIDED: State.READY,
    ReviewStatus.REPLACED: State.REPLACED,
    ReviewStatus.FAILED: State.SEARCH_FAILED,
}
WORDS = {
    State.UPLOADED: StatusWord("Waiting to be read", "wait"),
    State.READING: StatusWord("Reading", "live"),
    State.COLUMNS: StatusWord("Check the columns", "warn"),
    State.TOO_FEW: StatusWord("Too few rows", "bad"),
    State.CONFIRMED: StatusWord("Waiting to make examples", "wait"),
    State.BUILDING: StatusWord("Making examples", "live"),
    State.FAILED: StatusWord("Failed", "bad"),
    State.SEARCHING: StatusWord("Searching for personal details", "live"),
    State.UNDECIDED: StatusWord("Decide about personal details", "warn"),
    State.CHANGING: StatusWord("Taking personal details out", "live"),
    State.REPLACED: StatusWord("Replaced by a newer version", "wait"),
    State.SEARCH_FAILED: StatusWord("Search failed", "bad"),
    State.NOT_SEARCHED: StatusWord("Not searched yet", "warn"),
    State.READY: StatusWord("Ready", "good"),
    State.DELETED: StatusWord("Deleted", "wait"),
}
STEPS = {
    State.COLUMNS: Step("Check the columns"),
    State.TOO_FEW: Step("Upload another file", elsewhere="/datasets/new"),
    State.FAILED: Step("See what is wrong"),
    State.UNDECIDED: Step("Review personal details", "/privacy"),
    State.SEARCH_FAILED: Step("Search again", "/privacy"),
    State.NOT_SEARCHED: Step("Search for personal details", "/privacy"),
}
_NEED_A_PERSON = frozenset(STEPS)
_BUSY = frozenset(
    {
        State.UPLOADED,
        State.READING,
        State.CONFIRMED,
        State.BUILDING,
        State.SEARCHING,
        State.CHANGING,
    }
)
_HAVE_ROWS = frozenset(_AT_THE_GATE.values()) | {State.NOT_SEARCHED}
# What a list can show alone, by the word for it in an address.
GROUPS: dict[str, tuple[str, Set[State]]] = {
    "waiting": ("Waiting for a person", _NEED_A_PERSON),
    "busy": ("Being worked on", _BUSY),
    "ready": ("Ready", {State.READY}),
}
# Where only a site's gate stands between the rows and a job.
_HELD = frozenset({State.UNDECIDED, State.SEARCH_FAILED, State.NOT_SEARCHED})
_UNUSABLE = frozenset({State.COLUMNS, State.TOO_FEW, State.FAILED, State.DELETED})

_WHY_NOT = {
    State.UPLOADED: "“{name}” is not read yet.",
    State.READING: "“{name}” is still being read.",
    State.COLUMNS: "The columns of “{name}” are not confirmed yet; do that first.",
    State.TOO_FEW: "“{name}” has too few rows. Add rows to the file and upload it again.",
    State.CONFIRMED: "The rows of “{name}” are not made into examples yet.",
    State.BUILDING: "The rows of “{name}” are still being made into examples.",
    State.FAILED: "The data “{name}” cannot be used.",
    State.SEARCHING: "“{name}” is still being searched for personal details.",
    State.UNDECIDED: (
        "Decide about the personal details in “{name}”, version {number}, before training."
    ),
    State.CHANGING: (
        "Personal details are being taken out of “{name}”; train with the version that comes of it."
    ),
    State.REPLACED: "Personal details were taken out of “{name}” in a newer version; choose that.",
    State.SEARCH_FAILED: (
        "The search for personal details in “{name}” failed; search again before training."
    ),
    State.NOT_SEARCHED: "Search “{name}” for personal details before training.",
    State.READY: "",
    State.DELETED: "The data “{name}” was deleted; choose other data.",
}
_DETAILS = {
    State.UPLOADED: "Waiting to be read.",
    State.READING: "Being read.",
    State.COLUMNS: "Waiting for a person to check its columns, on the page Data.",
    State.CONFIRMED: "Waiting to be turned into examples.",
    State.BUILDING: "Being turned into examples.",
    State.SEARCHING: "Being searched for personal details.",
}


@read_once
def of(db: Session, version: DatasetVersion) -> Standing:
    """Say how a version stands."""
    return of_many(db, [version])[version.id]


def of_many(db: Session, versions: Sequence[DatasetVersion]) -> dict[int, Standing]:
    """Say of each version how it stands, by its id, with one query for all reviews."""
    ids = [version.id for version in versions]
    found = select(PrivacyReview).where(PrivacyReview.version_id.in_(ids))
    reviews = {review.version_id: review for review in db.scalars(found)} if ids else {}
    return beside(versions, reviews)


def beside(
    versions: Sequence[DatasetVersion], reviews: Mapping[int, PrivacyReview]
) -> dict[int, Standing]:
    """Say the same where the reviews are known, by their version's id."""
    return {version.id: standing(version, reviews.get(version.id)) for version in versions}


def standing(version: DatasetVersion, review: PrivacyReview | None) -> Standing:
    """Say how a version with this review stands."""
    state = _state(version, review)
    may_learn = state not in _UNUSABLE and passes_gate(review)
    why_not = _WHY_NOT[state].format(name=version.dataset.name, number=version.number)
    details = _DETAILS.get(state)
    if state is State.FAILED and version.reason:
        why_not = f"{why_not.rstrip('.')}: {version.reason}"
        details = version.reason
    elif state is State.TOO_FEW:
        details = too_few(version)
    elif state is State.SEARCH_FAILED and review is not None:
        details = review.reason
    return Standing(
        state,
        *WORDS[state],
        may_learn=may_learn,
        why_not="" if may_learn else why_not,
        step=STEPS.get(state),
        in_v1=_in_v1(state),
        details=details,
    )


def _state(version: DatasetVersion, review: PrivacyReview | None) -> State:
    if version.dataset.deleted_at is not None:
        return State.DELETED
    if version.status is VersionStatus.MAPPING and too_few(version):
        return State.TOO_FEW
    if version.status is not VersionStatus.READY:
        return _BEFORE[version.status]
    status = review.status if review is not None else None
    return _at_the_gate(status, is_required=_is_required())


def too_few(version: DatasetVersion) -> str:
    """Say that a file has too few rows for training, before anybody chooses its columns."""
    found, wanted = version.inspection, settings.get().min_examples
    # A text can be cut into more pieces.
    if found is None or found.get("way") or found["num_rows"] >= wanted:
        return ""
    return counted(
        found["num_rows"],
        "This has only 1 row, and training needs at least {wanted}. Add rows to the file and "
        "upload it again.",
        "This has only {n} rows, and training needs at least {wanted}. Add rows to the file and "
        "upload it again.",
        wanted=wanted,
    )


def _has_too_few(wanted: int) -> ColumnElement[bool]:
    """Say the same in a query, of what has been read."""
    found = DatasetVersion.inspection
    num_rows = func.coalesce(found["num_rows"].as_integer(), wanted)
    is_table = func.coalesce(found["way"].as_string(), "") == ""
    return and_(is_table, num_rows < wanted)


def _at_the_gate(status: ReviewStatus | None, *, is_required: bool) -> State:
    state = _AT_THE_GATE[status] if status is not None else State.NOT_SEARCHED
    # A site without a gate, or with one that only advises, is held by none.
    return State.READY if state in _HELD and not is_required else state


def where(wanted: Set[State]) -> ColumnElement[bool]:
    """Select the versions in some states, of datasets that are there.

    Their reviews are joined to them, and a version without one stays (an outer join).
    """
    return _where(frozenset(wanted), _is_required(), settings.get().min_examples)


@cache  # to put it together takes longer than to ask it
def _where(wanted: frozenset[State], is_required: bool, min_rows: int) -> ColumnElement[bool]:
    has_too_few = _has_too_few(min_rows)
    before = [
        status
        for status, state in _BEFORE.items()
        if state in wanted and state is not State.COLUMNS
    ]
    read = [
        is_so if state in wanted else false()
        for state, is_so in ((State.COLUMNS, not_(has_too_few)), (State.TOO_FEW, has_too_few))
    ]
    held = [
        status for status in ReviewStatus if _at_the_gate(status, is_required=is_required) in wanted
    ]
    is_wanted = _at_the_gate(None, is_required=is_required) in wanted
    unsearched = and_(PrivacyReview.version_id.is_(None), literal(is_wanted))
    return or_(
        DatasetVersion.status.in_(before),
        and_(DatasetVersion.status == VersionStatus.MAPPING, or_(*read)),
        and_(
            DatasetVersion.status == VersionStatus.READY,
            or_(PrivacyReview.status.in_(held), unsearched),
        ),
    )


def passes_gate(review: PrivacyReview | None) -> bool:
    """Say whether a job may be made with what has this review.

    A decision made beforehand is carried out before the job begins.
    """
    if not _is_required():
        return True
    if review is None:
        return False
    is_coming = review.is_stated and review.status in PENDING
    return is_coming or review.status is ReviewStatus.DECIDED


def _is_required() -> bool:
    return settings.get().privacy_gate == "required"


def _in_v1(state: State) -> InV1:
    if state in (State.TOO_FEW, State.FAILED, State.SEARCH_FAILED, State.DELETED):
        return "error"
    # What waits at the gate is read; `x_privacy` says for what it waits.
    return "uploaded" if state in _DETAILS else "processed"


# --- questions that a model makes up ---------------------------------------------------------

ASKING = {
    AskingStatus.WAITING: StatusWord("Waiting", "wait"),
    AskingStatus.ASKING: StatusWord("Working", "live"),
    AskingStatus.DONE: StatusWord("Finished", "good"),
    AskingStatus.CANCELLED: StatusWord("Stopped", "wait"),
    AskingStatus.FAILED: StatusWord("Failed", "bad"),
}
