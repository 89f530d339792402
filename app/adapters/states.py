"""What an adapter is called and what may be done with it, for every page and program.

Who may do it is decided elsewhere (sharing.py); here stands whether it can be done at all: what
learned something stays when its starting model goes, and can be asked no more.
"""

from collections.abc import Set
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from app.base_models import states as model_states
from app.core.errors import NotFound, Unavailable
from app.core.models import Adapter, Release
from app.core.status_words import Dot, StatusWord


class State(StrEnum):
    PRIVATE = "private"  # the department's own
    RELEASED = "released"  # everybody may ask it
    WITHDRAWN = "withdrawn"
    MODEL_COMING = "model_coming"
    MODEL_MISSING = "model_missing"
    IN_BIN = "in_bin"  # deleted, and can be had back for some days


Operation = Literal["ask", "train further", "take home"]

WORDS = {
    State.PRIVATE: StatusWord("Not shared", "wait"),
    State.RELEASED: StatusWord("Released to colleagues", "good"),
    State.WITHDRAWN: StatusWord("Withdrawn everywhere", "bad"),
    State.MODEL_COMING: StatusWord("Its starting model is being imported", "live"),
    State.MODEL_MISSING: StatusWord("Its starting model is missing", "warn"),
    State.IN_BIN: StatusWord("In the bin", "wait"),
}
_RELEASES = {
    Release.PRIVATE: State.PRIVATE,
    Release.RELEASED: State.RELEASED,
    Release.WITHDRAWN: State.WITHDRAWN,
}
_ALL: Set[Operation] = {"ask", "train further", "take home"}
_MAY: dict[State, Set[Operation]] = {
    State.PRIVATE: _ALL,
    State.RELEASED: _ALL,
    State.WITHDRAWN: {"train further"},
    State.MODEL_COMING: {"train further", "take home"},  # a job waits for its starting model
    State.MODEL_MISSING: {"take home"},
    State.IN_BIN: set(),
}
_WHY_NOT = {
    State.PRIVATE: "",
    State.RELEASED: "",
    State.WITHDRAWN: "“{name}” was withdrawn, so nobody can ask it at the moment.",
    State.MODEL_COMING: "{base} is still being imported; ask it once that is done.",
    State.MODEL_MISSING: (
        "Its starting model {base} is no longer here, so “{name}” cannot be asked. Its files stay, "
        "and an administrator can import the starting model again."
    ),
    State.IN_BIN: "“{name}” is in the bin, so it cannot be used; restore it there first.",
}


@dataclass(frozen=True)
class Standing:
    """How an adapter stands: its word, what can be done with it, and why it cannot be asked."""

    state: State
    word: str
    dot: Dot
    may: Set[Operation]
    why_not: str


def of(adapter: Adapter) -> Standing:
    """Say how an adapter stands."""
    state = _state(adapter)
    may = _MAY[state]
    if not adapter.has_weights:  # there are no files, and nothing was learned
        may = may & {"ask"}
    why_not = _WHY_NOT[state].format(name=adapter.name, base=adapter.base_model.label)
    return Standing(state, *WORDS[state], may, why_not)


def _state(adapter: Adapter) -> State:
    if adapter.binned_at is not None:
        return State.IN_BIN
    if adapter.release is Release.WITHDRAWN:
        return State.WITHDRAWN
    base = model_states.of(adapter.base_model)
    if base.is_coming:
        return State.MODEL_COMING
    if base.state is not model_states.State.READY:
        return State.MODEL_MISSING
    return _RELEASES[adapter.release]


def of_release(release: Release) -> StatusWord:
    """Say who may ask an adapter, whether it can be asked just now or not."""
    return WORDS[_RELEASES[release]]


def in_v1(adapter: Adapter) -> str:
    """Return our word of /v1 for it: ready, or why it cannot be asked."""
    state = _state(adapter)
    return "ready" if "ask" in _MAY[state] else state.value


def require_askable(adapter: Adapter, *, may_wait: bool = False) -> None:
    """Refuse a question to what cannot be asked.

    Args:
        may_wait: Its starting model may still be on its way.

    Raises:
        NotFound: it was withdrawn, is in the bin, or its starting model is gone; with the code
            `model_not_found`.
        Unavailable: its starting model is still being imported.
    """
    standing = of(adapter)
    if "ask" in standing.may or (may_wait and standing.state is State.MODEL_COMING):
        return
    if standing.state is State.MODEL_COMING:
        raise Unavailable(standing.why_not, field="model")
    raise NotFound(standing.why_not, field="model", code="model_not_found")
