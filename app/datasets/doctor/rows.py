"""The examples as the doctor reads them: from a file of lines, a few hundred at a time.

A line is an index, a split, the messages and the tools as JSON, between tabs, as PostgreSQL's COPY
writes them (`examples.copy_out`); its place in the file is kept, so that a pair can be read again.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

BATCH_ROWS = 512
_READ_BYTES = 4 * 1024**2
_NULL = b"\\N"
# In the order in which a row gives away what is asked in a later part.
PARTS = {b"train": 0, b"validation": 1, b"test": 2}


@dataclass(slots=True)
class Row:
    """One example."""

    index: int
    part: int  # 0: to practise; others are kept from it, and none stands in two (PARTS)
    offset: int
    messages: list[dict[str, Any]]
    tools: list[Any] | None
    # All that is asked before the last answer, and that answer; of plain text the answer alone.
    question: str
    answer: str
    system: str
    folded: str  # all that is said but the system turn, without case
    # Question, answer and all of it without case, with one space between words.
    plain_question: str
    plain_answer: str
    plain: str


def read(file: int) -> Iterator[list[Row]]:
    """Yield all examples in order, in batches."""
    batch: list[Row] = []
    offset = 0
    for line in _lines(file):
        batch.append(_row(line, offset))
        offset += len(line)
        if len(batch) == BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def again(file: int, offset: int) -> Row:
    """Read one example once more."""
    body = b""
    while b"\n" not in body:
        piece = os.pread(file, 64 * 1024, offset + len(body))
        if not piece:
            break
        body += piece
    return _row(body.partition(b"\n")[0], offset)


def _lines(file: int) -> Iterator[bytes]:
    rest = b""
    while piece := os.read(file, _READ_BYTES):
        lines = (rest + piece).split(b"\n")
        rest = lines.pop()
        for line in lines:
            yield line + b"\n"
    if rest:
        yield rest


def _row(line: bytes, offset: int) -> Row:
    index, split, body, tools = line.rstrip(b"\n").split(b"\t")
    # COPY doubles backslashes; JSON has no other character that COPY would change.
    messages = json.loads(body.replace(b"\\\\", b"\\"))
    asked: list[str] = []
    system: list[str] = []
    said: list[str] = []
    answer = ""
    for message in messages:
        content = message.get("content") or ""
        if message["role"] == "system":
            system.append(content)
            continue
        said.append(content)
        if message["role"] in ("assistant", "text"):
            if answer:
                asked.append(answer)
            answer = content
        else:
            asked.append(content)
        if message.get("rejected"):
            said.append(message["rejected"])
    folded = "\n".join(said).casefold()
    question = "\n".join(asked)
    plain_question = " ".join(question.casefold().split())
    plain_answer = " ".join(answer.casefold().split())
    if len(said) == len(asked) + bool(answer):
        plain = f"{plain_question} {plain_answer}"
    else:
        plain = " ".join(folded.split())
    return Row(
        index=int(index),
        part=PARTS[split],
        offset=offset,
        messages=messages,
        tools=None if tools == _NULL else json.loads(tools.replace(b"\\\\", b"\\")),
        question=question,
        answer=answer,
        system="\n".join(system),
        folded=folded,
        plain_question=plain_question,
        plain_answer=plain_answer,
        plain=plain,
    )
