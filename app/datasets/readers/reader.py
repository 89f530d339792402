"""The process that parses what people send: `python -m app.datasets.readers.reader`.

A ReaderRequest on standard input, lines on standard output. An example is four cells
between tabs, which the parent need not parse: rank, row, messages as JSON, and tools as JSON or
nothing. All other lines are JSON objects: {"rows": 5000} while it works, {"left_out": [row,
reason, word]}, and at the end one of {"inspection": …, "mapping": …}, {"end": rows, "notes": …},
{"sheet": …} or {"unreadable": sentence}.
It stands within walls (app/training/isolation): of files it reads that one and Python's own.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel
from pydantic_core import to_json

from app.datasets import sameness
from app.datasets.conversations import assemble
from app.datasets.mapping import LeftOut, Mapping, tools_of
from app.datasets.notes import Notes
from app.datasets.proposals import propose
from app.datasets.readers.inspections import ReadAs
from app.datasets.readers.reading import inspect, open_rows
from app.datasets.readers.sheets import read_sheet
from app.datasets.readers.sources import NumberedRow
from app.datasets.readers.unreadable import Unreadable
from app.datasets.turns import Message
from app.training import isolation

_PROGRESS_ROWS = 2000


class ReaderRequest(BaseModel):
    """What to read, how, and within which limits."""

    task: Literal["inspect", "build", "sheet"]
    path: Path
    parent: int
    read_as: ReadAs = ReadAs()
    mapping: Mapping | None = None
    seed: int = 0
    max_rows: int = 0  # of a sheet
    memory_bytes: int
    cpu_seconds: int


def rank(messages: list[Message], seed: int) -> int:
    """Return a number by which examples are drawn for the test set; equal for equal examples.

    Two examples are equal when questions and answers are, but for case and space: a test question
    that stands in the practice set would be no test. Of a better and a worse answer only the
    question counts: several pairs of one question stand on the same side.
    """
    return sameness.number(sameness.question(messages), seed.to_bytes(8, "big"))


def main() -> None:
    """Do what standard input says; an answer is always the last line."""
    request = ReaderRequest.model_validate_json(sys.stdin.readline())
    try:
        confine(request)
        match request.task:
            case "inspect":
                _inspect(request)
            case "build":
                _build(request)
            case "sheet":
                _say({"sheet": read_sheet(request.path, request.max_rows).model_dump()})
    except (Unreadable, isolation.WallsMissing) as error:
        _say({"unreadable": str(error)})
    except MemoryError:
        _say(
            {
                "unreadable": "Reading this file needs more than the "
                f"{request.memory_bytes / 1024**2:,.0f} MB of memory that reading may take; split "
                "it into smaller files, or save a workbook as CSV."
            }
        )
    sys.stdout.flush()


def confine(request: ReaderRequest) -> None:
    """Keep nothing but the file: it may be a stranger's.

    Raises:
        WallsMissing: this machine cannot see to it.
    """
    isolation.die_with(request.parent)
    isolation.confine(
        isolation.Needs(
            reads=[request.path],
            limits=isolation.Limits(
                address_space_bytes=request.memory_bytes, cpu_seconds=request.cpu_seconds
            ),
        )
    )


def _inspect(request: ReaderRequest) -> None:
    inspection = inspect(request.path, request.read_as, lambda rows: _say({"rows": rows}))
    proposal = propose(inspection, request.read_as)
    inspection.is_sure, inspection.why = proposal.is_sure, proposal.why
    _say(
        {
            "inspection": inspection.model_dump(mode="json"),
            "mapping": proposal.mapping.model_dump(mode="json"),
        }
    )


def _build(request: ReaderRequest) -> None:
    assert request.mapping is not None
    num_rows, write, notes = 0, sys.stdout.buffer.write, Notes()

    def rows() -> Iterator[NumberedRow]:
        with open_rows(request.path, request.read_as) as source:
            yield from source.rows

    for number, messages, row in assemble(request.mapping, rows, notes):
        num_rows += 1
        if isinstance(messages, LeftOut):
            _say({"left_out": [number, messages.reason, messages.word]})
        else:
            tools = tools_of(request.mapping, row) if row is not None else None
            cells = (rank(messages, request.seed), number, _body(messages))
            write(b"%d\t%d\t%b\t%b\n" % (*cells, _body(tools) if tools else b""))
        if num_rows % _PROGRESS_ROWS == 0:
            _say({"rows": num_rows})
    _say({"end": num_rows, "notes": [note.model_dump() for note in notes.found]})


def _body(value: list[Any]) -> bytes:
    """Write JSON with keys in the order of their names, as app.datasets.examples.body does."""
    if all(len(part) == 2 and "content" in part for part in value):  # nearly always, and quicker
        return to_json([{"content": part["content"], "role": part["role"]} for part in value])
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def _say(message: dict[str, Any]) -> None:
    sys.stdout.buffer.write(to_json(message) + b"\n")
    if "rows" in message:
        sys.stdout.flush()


if __name__ == "__main__":
    main()
