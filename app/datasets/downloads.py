"""A version's examples as a file: JSONL as OpenAI has it, to be read back, or CSV for people."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from sqlalchemy.orm import Session

from app.core.models import DatasetVersion, Split
from app.datasets import examples, parts

# A cell that begins so is a formula to a spreadsheet program, and may do what its writer liked.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
COLUMNS = ("part", "system", "question", "answer", "messages")


def jsonl(db: Session, version: DatasetVersion, split: Split | None = None) -> Iterator[str]:
    """Yield a version's examples as lines of JSON, a few thousand at a time.

    Of all parts together, each line says in which it stands; of one part alone the lines are as
    OpenAI has them, and nothing else.
    """
    for batch in examples.stream(db, version, split):
        yield "".join(
            json.dumps(
                _as_object(row)
                | ({} if split is not None else {"part": parts.word(version, row["split"])}),
                ensure_ascii=False,
            )
            + "\n"
            for row in batch
        )


def csv_lines(db: Session, version: DatasetVersion, split: Split | None = None) -> Iterator[str]:
    """Yield a version's examples as a table; longer conversations as JSON in its last column."""
    # Spreadsheet programs take the mark for “this is UTF-8”.
    yield "\ufeff" + _line(COLUMNS)
    for batch in examples.stream(db, version, split):
        yield "".join(_line((parts.word(version, row["split"]), *_cells(row))) for row in batch)


def harmless(cell: str) -> str:
    """Put an apostrophe before what a spreadsheet program would take for a formula."""
    return "'" + cell if cell.startswith(_FORMULA) else cell


def _as_object(row: Any) -> dict[str, Any]:
    messages = row["messages"]
    if messages[0]["role"] == "text":
        return {"text": messages[0]["content"]}
    tools = {"tools": row["tools"]} if row.get("tools") else {}
    last = messages[-1]
    if "rejected" in last:
        better = {key: value for key, value in last.items() if key != "rejected"}
        return {
            "input": {"messages": messages[:-1], **tools},
            "preferred_output": [better],
            "non_preferred_output": [better | {"content": last["rejected"]}],
        }
    return {"messages": messages, **tools}


def _cells(row: Any) -> tuple[str, ...]:
    messages = row["messages"]
    if messages[0]["role"] == "text":
        return ("", "", messages[0]["content"], "")
    system = messages[0]["content"] if messages[0]["role"] == "system" else ""
    turns = messages[1:] if system else messages
    if [turn["role"] for turn in turns] == ["user", "assistant"] and "rejected" not in turns[1]:
        return (system, turns[0]["content"], turns[1].get("content") or "", "")
    return (system, "", "", json.dumps(messages, ensure_ascii=False))


def _line(cells: tuple[str, ...]) -> str:
    out = io.StringIO()
    csv.writer(out).writerow([harmless(cell) for cell in cells])
    return out.getvalue()
