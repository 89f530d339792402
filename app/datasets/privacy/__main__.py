"""The process that looks for personal details: `python -m app.datasets.privacy`.

One JSON object on standard input (ScanRequest), then one line an example: [index, [text, …]]. On
standard output a line for each example in which something was found: [index, [[text, start, end,
kind, key], …]]; {"examples": 5000} while it works; {"end": examples, "given_up": n} last. It stands
within walls (app/training/isolation), without credentials, and opens no file but Python's own.
"""

import importlib
import json
import sys
from typing import Any, cast

from app.datasets.privacy.findings import Kind
from app.datasets.privacy.request import ScanRequest
from app.datasets.privacy.scanner import Recognizer, Scanner, SitePattern
from app.datasets.privacy.stand_ins import key_of
from app.training import isolation

_PROGRESS_EXAMPLES = 500


def main() -> None:
    """Look through what standard input brings."""
    request = ScanRequest.model_validate_json(sys.stdin.readline())
    recognizer = _load(request.recognizer) if request.recognizer else None
    confine(request)
    patterns = [SitePattern(pattern, Kind(kind)) for kind, pattern in request.patterns]
    scanner = Scanner(patterns, recognizer)
    number = 0
    for line in sys.stdin:
        index, texts = json.loads(line)
        findings = [
            [
                position,
                span.start,
                span.end,
                span.kind.value,
                key_of(span.kind, text[span.start : span.end]),
            ]
            for position, (text, spans) in enumerate(zip(texts, scanner.scan(texts), strict=True))
            for span in spans
        ]
        if findings:
            _say([index, findings])
        number += 1
        if number % _PROGRESS_EXAMPLES == 0:
            _say({"examples": number})
    _say({"end": number, "given_up": scanner.num_given_up})


def confine(request: ScanRequest) -> None:
    """Keep nothing but standard input and output.

    Raises:
        WallsMissing: this machine cannot see to it.
    """
    isolation.die_with(request.parent)
    isolation.confine(
        isolation.Needs(
            limits=isolation.Limits(
                address_space_bytes=request.memory_bytes, cpu_seconds=request.cpu_seconds
            )
        )
    )


def _load(name: str) -> Recognizer:
    module, _, function = name.partition(":")
    return cast(Recognizer, getattr(importlib.import_module(module), function))


def _say(message: Any) -> None:
    sys.stdout.write(json.dumps(message, separators=(",", ":")) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
