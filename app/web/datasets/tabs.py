"""The tabs of a version of data, and the one thing to do next on each of its pages.

The six steps at the top lead to its check, its personal details and its training; two pages belong
to the first step alone, and those are the tabs. What comes next is decided here, from how the
version stands, so that no two pages send a person to different places.
"""

from dataclasses import dataclass
from typing import Literal

from app.core.models import DatasetVersion
from app.datasets.states import Standing, State

Name = Literal["Overview", "File and versions"]
_BELOW: dict[Name, str] = {"Overview": "", "File and versions": "/file"}


@dataclass(frozen=True)
class Tab:
    """One tab: its name, its page, and whether it is the one that is open."""

    name: Name
    address: str
    is_here: bool


@dataclass(frozen=True)
class Next:
    """What a person does next: the button's words, and where it leads."""

    words: str
    address: str


def of(version: DatasetVersion, here: Name) -> list[Tab]:
    """Return the tabs of a version, for the page that is one of them."""
    return [
        Tab(name, f"/versions/{version.id}{below}", name == here) for name, below in _BELOW.items()
    ]


def next_of(
    version: DatasetVersion,
    standing: Standing,
    *,
    can_edit: bool,
    following: DatasetVersion | None = None,
    is_bad: bool = False,
) -> Next | None:
    """Say what comes next for a version with its rows; None where nothing does, or for a reader.

    Args:
        version: The version.
        standing: How it stands.
        can_edit: Whoever reads may change data and start jobs.
        following: What takes its place, where something does.
        is_bad: The check found something that comes before training.
    """
    address = f"/versions/{version.id}"
    if standing.state is State.REPLACED and following is not None:
        return Next(f"Open version {following.number}", f"/versions/{following.id}")
    if not can_edit:
        return None
    if standing.step is not None:
        return Next(standing.step.words, standing.step.at(version.id))
    if not standing.may_learn:
        return None
    if is_bad:
        return Next("See what to fix first", f"{address}/check")
    return training(version)


def training(version: DatasetVersion) -> Next:
    """Return the way from data to a job."""
    return Next("Train a model with this", f"/jobs/new?version={version.id}")
