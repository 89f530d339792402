"""What a starting model is called and what may be done with it, for every page and program."""

from collections.abc import Set
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from app.core import sentences
from app.core.errors import Conflict
from app.core.models import BaseModel
from app.core.status_words import Dot, StatusWord

CANCELLED = "The import was cancelled."


class State(StrEnum):
    WAITING = "waiting"
    IMPORTING = "importing"
    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DELETED = "deleted"  # its row stays for what was made with it


Operation = Literal["cancel", "delete", "import again", "train"]

WORDS = {
    State.WAITING: StatusWord("Waiting to be imported", "wait"),
    State.IMPORTING: StatusWord("Importing", "live"),
    State.READY: StatusWord("Ready", "good"),
    State.FAILED: StatusWord("Import failed", "bad"),
    State.CANCELLED: StatusWord("Import cancelled", "wait"),
    State.DELETED: StatusWord("Deleted", "wait"),
}
_MAY: dict[State, Set[Operation]] = {
    State.WAITING: {"cancel", "train"},  # a job waits for it
    State.IMPORTING: {"cancel", "train"},
    State.READY: {"delete", "train"},
    State.FAILED: {"delete", "import again"},
    State.CANCELLED: {"delete", "import again"},
    State.DELETED: set(),
}
_REFUSALS: dict[Operation, str] = {
    "cancel": "{label} is not being imported, so there is nothing to cancel.",
    "delete": "{label} is being imported; cancel that first, then delete it.",
    "import again": "{label} did not fail to import, so there is nothing to try again.",
    "train": "{label} could not be imported; choose another starting model.",
}


@dataclass(frozen=True)
class Standing:
    """How a starting model stands: its word, and what an administrator may do with it."""

    state: State
    word: str
    dot: Dot
    may: Set[Operation]

    @property
    def is_coming(self) -> bool:
        """Whether it is on its way: what needs it waits."""
        return self.state in (State.WAITING, State.IMPORTING)


@dataclass(frozen=True)
class Progress:
    """How far an import is."""

    doing: str  # e.g. "downloading"
    done_bytes: int | None  # None: nobody counts them
    whole_bytes: int | None

    @property
    def sentence(self) -> str:
        said = f"{self.doing[:1].upper()}{self.doing[1:]}"
        if self.done_bytes is None or self.whole_bytes is None:
            return said
        return f"{said}: {sentences.size(self.done_bytes)} of {sentences.size(self.whole_bytes)}"

    @property
    def share(self) -> float | None:
        if self.done_bytes is None or not self.whole_bytes:
            return None
        return min(1.0, self.done_bytes / self.whole_bytes)


def progress(model: BaseModel) -> Progress | None:
    """Say how far a model's import is; None: it is not being imported, or has just begun."""
    said = model.progress or {}
    if of(model).state is not State.IMPORTING or "doing" not in said:
        return None
    return Progress(said["doing"], said.get("done_bytes"), said.get("whole_bytes"))


def of(model: BaseModel) -> Standing:
    """Say how a starting model stands."""
    state = State(model.status.value)
    if model.deleted_at is not None:
        state = State.DELETED
    elif state is State.FAILED and model.reason == CANCELLED:
        state = State.CANCELLED
    return Standing(state, *WORDS[state], _MAY[state])


def require(model: BaseModel, operation: Operation) -> None:
    """Refuse what cannot be done with a starting model as it stands.

    Raises:
        Conflict: with the sentence that says why.
    """
    standing = of(model)
    if operation in standing.may:
        return
    sentence = _REFUSALS[operation]
    if standing.state is State.DELETED:
        sentence = "{label} was deleted; an administrator can import it again."
    raise Conflict(sentence.format(label=model.label), field="base_model_id")
