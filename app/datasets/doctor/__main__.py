"""The process that looks at people's rows: `python -m app.datasets.doctor`, without credentials.

One JSON object on standard input (DoctorRequest); the examples come as an open file. On standard
output JSON objects in lines: {"rows": 5000} while it works; then each {"finding": …}, each {"bits":
[bucket, hex]}, {"by_length": …} and, last, {"end": Report}. It stands within walls
(app/training/isolation): beside the examples it reads a starting model's tokenizer, and no other
file.
"""

import base64
import json
import sys
import time
from array import array
from pathlib import Path
from typing import Any

from app.datasets.doctor import (
    amount,
    answers,
    bits,
    duplicates,
    language,
    lengths,
    rows,
    texts,
    topics,
)
from app.datasets.doctor.findings import Family
from app.datasets.doctor.report import Report
from app.datasets.doctor.request import DoctorRequest
from app.training import isolation

_PROGRESS_BATCHES = 8


def main() -> None:
    """Do what standard input says."""
    request = DoctorRequest.model_validate_json(sys.stdin.readline())
    model = language.load_model() if request.num_examples >= language.MIN_JUDGED else None
    confine(request)
    _examine(request, model)
    sys.stdout.flush()


def confine(request: DoctorRequest) -> None:
    """Keep nothing but the examples, which are open already, and the tokenizer.

    Raises:
        WallsMissing: this machine cannot see to it.
    """
    isolation.die_with(request.parent)
    isolation.confine(
        isolation.Needs(
            reads=[Path(request.model_folder)] if request.model_folder else [],
            limits=isolation.Limits(
                address_space_bytes=request.memory_bytes, cpu_seconds=request.cpu_seconds
            ),
        )
    )


def _examine(request: DoctorRequest, language_model: Any) -> None:
    started = time.monotonic()
    by_length = lengths.Lengths(request.file, request.model_folder, request.limit_tokens)
    repeats = duplicates.Duplicates(request.file, request.num_examples)
    languages = language.Language(language_model)
    families: list[Family] = [
        amount.Amount(has_three_parts=request.has_three_parts),
        answers.Answers(),
        texts.Texts(),
        by_length,
        languages,
        repeats,
    ]
    about = topics.Topics(request.num_examples)
    index = bits.Bits(request.num_examples) if request.writes_bits else None
    num_rows = 0
    for number, batch in enumerate(rows.read(request.file)):
        for family in families:
            family.check(batch)
        about.check(batch)
        if index is not None:
            index.add(batch)
        num_rows += len(batch)
        if number % _PROGRESS_BATCHES == 0:
            _say({"rows": num_rows})
    _say({"rows": num_rows, "phase": "comparing"})
    for family in families:
        for finding in family.findings():
            if finding.rows or finding.kind in ("amount", "test_set"):
                _say({"finding": _body(finding)})
    for bucket, blocks in index.rows() if index is not None else ():
        _say({"bits": [bucket, blocks.hex()]})
    _say({"by_length": base64.b64encode(by_length.by_length()).decode()})
    report = Report(
        num_examples=num_rows,
        bars=by_length.bars(),
        languages=languages.shares(),
        topics=about.found(),
        num_topics_of=about.num_looked_at,
        seconds=round(time.monotonic() - started, 1),
    )
    if repeats.num_sketched < num_rows:
        report.notes.append(
            f"Only the first {repeats.num_sketched:,} examples were searched for near-duplicates."
        )
    if request.model_folder is None:
        report.notes.append(
            "What would be cut off was not counted, since no starting model was ready."
        )
    _say({"end": report.model_dump()})


def _body(finding: Any) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "rows": _packed(finding.rows),
        "partners": None if finding.partners is None else _packed(finding.partners),
        "detail": finding.detail,
    }


def _packed(numbers: "array[int]") -> str:
    return base64.b64encode(numbers.tobytes()).decode()


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message, separators=(",", ":")) + "\n")
    if "rows" in message:
        sys.stdout.flush()


if __name__ == "__main__":
    main()
