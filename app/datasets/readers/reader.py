"""The process that parses what people send: `python -m app.datasets.readers.reader`.

A ReaderRequest on standard input, lines on standard output. An example is four cells
between tabs, which the parent need not parse: rank, row, messages as JSON, and tools as JSON or
nothing. All other lines are JSON objects: {"rows": 5000} while it works, {"left_out": [row,
reason]}, and at the end one of {"inspection": …, "mapping": …}, {"end": rows} or {"unreadable":
sentence}.
Memory, time and open files are limited, nothing can be written, and there is no network.
"""

import ctypes
import hashlib
import json
import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel
from pydantic_core import to_json

from app.datasets.conversations import assemble
from app.datasets.mapping import LeftOut, Mapping, Message, tools_of
from app.datasets.proposals import propose
from app.datasets.readers.reading import NumberedRow, ReadAs, inspect, open_rows
from app.datasets.readers.unreadable import Unreadable
from app.training import isolation

_PR_SET_PDEATHSIG = 1
_PROGRESS_ROWS = 2000
_MAX_OPEN_FILES = 64


class ReaderRequest(BaseModel):
    """What to read, how, and within which limits."""

    task: Literal["inspect", "build"]
    path: Path
    parent: int
    read_as: ReadAs = ReadAs()
    mapping: Mapping | None = None
    seed: int = 0
    memory_bytes: int
    cpu_seconds: int


def rank(messages: list[Message], seed: int) -> int:
    """Return a number by which examples are drawn for the test set; equal for equal examples.

    Two examples are equal when questions and answers are, but for case and space: a test question
    that stands in the practice set would be no test. Of a better and a worse answer only the
    question counts: several pairs of one question stand on the same side.
    """
    said = "\0".join(
        [
            f"{message['role']}\0{message['content']}"
            for message in messages
            if message["role"] != "system" and "rejected" not in message
        ]
    )
    body = said.casefold().encode().translate(None, b" \t\r\n\f\v")
    key = seed.to_bytes(8, "big")
    return int.from_bytes(hashlib.blake2b(body, digest_size=8, key=key).digest(), "big")


def main() -> None:
    """Do what standard input says; an answer is always the last line."""
    request = ReaderRequest.model_validate_json(sys.stdin.readline())
    confine(request)
    try:
        _inspect(request) if request.task == "inspect" else _build(request)
    except Unreadable as error:
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


def _inspect(request: ReaderRequest) -> None:
    inspection = inspect(request.path, request.read_as, lambda rows: _say({"rows": rows}))
    proposal = propose(inspection)
    inspection.is_sure, inspection.why = proposal.is_sure, proposal.why
    _say(
        {
            "inspection": inspection.model_dump(mode="json"),
            "mapping": proposal.mapping.model_dump(mode="json"),
        }
    )


def _build(request: ReaderRequest) -> None:
    assert request.mapping is not None
    num_rows, write = 0, sys.stdout.buffer.write

    def rows() -> Iterator[NumberedRow]:
        with open_rows(request.path, request.read_as) as source:
            yield from source.rows

    for number, messages, row in assemble(request.mapping, rows):
        num_rows += 1
        if isinstance(messages, LeftOut):
            _say({"left_out": [number, messages.reason]})
        else:
            tools = tools_of(request.mapping, row) if row is not None else None
            cells = (rank(messages, request.seed), number, _body(messages))
            write(b"%d\t%d\t%b\t%b\n" % (*cells, _body(tools) if tools else b""))
        if num_rows % _PROGRESS_ROWS == 0:
            _say({"rows": num_rows})
    _say({"end": num_rows})


def _body(value: list[Any]) -> bytes:
    """Write JSON with keys in the order of their names, as app.datasets.examples.body does."""
    if all(len(part) == 2 and "content" in part for part in value):  # nearly always, and quicker
        return to_json([{"content": part["content"], "role": part["role"]} for part in value])
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def _say(message: dict[str, Any]) -> None:
    sys.stdout.buffer.write(to_json(message) + b"\n")
    if "rows" in message:
        sys.stdout.flush()


class Limits(Protocol):
    """What the parent says of itself and of how much its child may take."""

    parent: int
    memory_bytes: int
    cpu_seconds: int


def confine(request: Limits) -> None:
    """Give up what a parser of strangers' files does not need; what the kernel denies, we keep."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != request.parent:  # it died before the line above
        os._exit(1)
    isolation.leave_network()
    # The hard limit kills without saying why, so it comes after the soft one.
    resource.setrlimit(resource.RLIMIT_CPU, (request.cpu_seconds, request.cpu_seconds + 5))
    for limit, value in (
        (resource.RLIMIT_AS, request.memory_bytes),
        (resource.RLIMIT_NOFILE, _MAX_OPEN_FILES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))


if __name__ == "__main__":
    main()
