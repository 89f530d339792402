"""Marks lines of JSON: `python -m app.evaluation.marks`.

On standard input a line for each answer: {"question": …, "reference": …, "answer": …}, by choice
"language". On standard output a line for each: {"mark": …, "why": …}, or {"error": …} for a line
that cannot be read.
"""

import json
import sys
from typing import Any

from app.evaluation.marks import mark

_FIELDS = ("question", "reference", "answer")


def main() -> None:
    """Mark what standard input brings."""
    for line in sys.stdin.buffer:
        if line.strip():
            _say(_answered(line))


def _answered(line: bytes) -> dict[str, str]:
    try:
        row = json.loads(line.decode("utf-8", errors="strict"))
    except (ValueError, RecursionError):
        return {"error": "This line is not JSON in UTF-8."}
    if not isinstance(row, dict):
        return {"error": "This line is not a JSON object."}
    for name in _FIELDS:
        if not isinstance(row.get(name, "" if name == "question" else None), str):
            return {"error": f"This line has no text “{name}”."}
    language = row.get("language")
    marked = mark(
        row.get("question", ""), row["reference"], row["answer"],
        language=language if isinstance(language, str) else None,
    )  # fmt: skip
    return {"mark": marked.mark.value, "why": marked.why}


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer, ensure_ascii=True) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
