"""A version's examples as a file: JSONL as OpenAI has it, to be read back, or CSV for people."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from sqlalchemy.orm import Session

from app.core.models import DatasetVersion, Split
from app.datasets import examples

# A cell that begins so is a formula to a spreadsheet program, and may do what its writer liked.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
COLUMNS = ("set", "system", "question", "answer", "messages")


def jsonl(db: Session, version: DatasetVersion, split: Split | None = None) -> Iterator[str]:
    """Yield a version's examples as lines of JSON, a few thousand at a time."""
    for batch in examples.stream(db, version, split):
        yield "".join(json.dumps(_as_object(row), ensure_ascii=False) + "\n" for row in batch)


def csv_lines(db: Session, version: DatasetVersion, split: Split | None = None) -> Iterator[str]:
    """Yield a version's examples as a table; longer conversations as JSON in its last column."""
    # Spreadsheet programs take the mark for “this is UTF-8”.
    yield "\ufeff" + _line(COLUMNS)
    for batch in examples.stream(db, version, split):
        yield "".join(_line(_cells(row)) for row in batch)


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
    split = "test" if row["split"] is Split.VALIDATION else "practice"
    if messages[0]["role"] == "text":
        return (split, "", "", messages[0]["content"], "")
    system = messages[0]["content"] if messages[0]["role"] == "system" else ""
    turns = messages[1:] if system else messages
    if [turn["role"] for turn in turns] == ["user", "assistant"] and "rejected" not in turns[1]:
        return (split, system, turns[0]["content"], turns[1].get("content") or "", "")
    return (split, system, "", "", json.dumps(messages, ensure_ascii=False))


def _line(cells: tuple[str, ...]) -> str:
    out = io.StringIO()
    csv.writer(out).writerow([harmless(cell) for cell in cells])
    return out.getvalue()
