"""The way of an adapter as a small graph: file, version, job, adapter, and what came of it."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from app.adapters import lineage
from app.core.models import Adapter, Job
from app.web.adapters.export_page import TakeAlong

# Of what came of an adapter; the rest is counted.
_MOST_SHOWN = 5
# In percent of the picture's width: five columns with a gap for the lines between them.
_STRIDE, _WIDTH = 20.75, 17.0


@dataclass(frozen=True)
class Node:
    """One thing on the way."""

    kind: str
    words: str
    column: int
    row: int
    address: str = ""  # empty: it has no page, or was deleted
    is_here: bool = False

    @property
    def left(self) -> float:
        """Where its box begins, in percent."""
        return self.column * _STRIDE

    @property
    def right(self) -> float:
        """Where its box ends, in percent."""
        return self.left + _WIDTH


@dataclass(frozen=True)
class Graph:
    """All of them, and which comes from which."""

    nodes: list[Node]
    lines: list[tuple[Node, Node]]
    num_rows: int
    width: float = _WIDTH


def draw(
    adapter: Adapter,
    started_from: Sequence[lineage.Ancestor],
    trained_from: Sequence[Adapter],
    taking: TakeAlong | None,
) -> Graph | None:
    """Put an adapter's origin before it and its exports behind; None where nothing was trained."""
    if not adapter.has_weights:
        return None
    job, model = adapter.job, adapter.base_model
    origin = [Node("Starting model", model.label, 1, 1, "/models")]
    if started_from:
        first = started_from[0]
        address = f"/adapters/{first.id}" if first.id else ""
        origin.append(Node("Trained further from", first.name, 1, 2, address))
    made_by = Node("Job", job.name if job else "deleted", 2, 0, f"/jobs/{job.id}" if job else "")
    here = Node("Trained model", adapter.name, 3, 0, is_here=True)
    data = _data(job) if job else []
    results = _results(adapter, trained_from, taking)
    lines = [
        *itertools.pairwise(data),
        *((each, made_by) for each in [*data[-1:], *origin]),
    ]
    lines += [(made_by, here), *((here, each) for each in results)]
    nodes = [*data, *origin, made_by, here, *results]
    return Graph(nodes, lines, 1 + max(node.row for node in nodes))


def _data(job: Job) -> list[Node]:
    version = job.version
    words = f"{version.dataset.name}, version {version.number}"
    return [
        Node("File", version.file.filename, 0, 0),
        Node("Data", words, 1, 0, f"/versions/{version.id}"),
    ]


def _results(
    adapter: Adapter, trained_from: Sequence[Adapter], taking: TakeAlong | None
) -> list[Node]:
    found = [
        ("Taken along as", f"{form.name}, {choice.words}", f"/adapters/{adapter.id}#take-along")
        for form in (taking.forms if taking else [])
        for choice in form.choices
        if choice.row is not None and choice.row.status.value == "ready"
    ]
    found += [("Trained further", each.name, f"/adapters/{each.id}") for each in trained_from]
    shown = [
        Node(kind, words, 4, row, address)
        for row, (kind, words, address) in enumerate(found[:_MOST_SHOWN])
    ]
    if len(found) > len(shown):
        shown.append(Node("And", f"{len(found) - len(shown)} more", 4, len(shown)))
    return shown
