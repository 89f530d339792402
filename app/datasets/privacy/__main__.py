"""The process that looks for personal details: `python -m app.datasets.privacy`.

One JSON object on standard input (ScanRequest), then one line an example: [index, [text, …]]. On
standard output a line for each example in which something was found: [index, [[text, start, end,
kind, key], …]]; {"examples": 5000} while it works; {"end": examples, "given_up": n} last. It has no
credentials, no network and no place to write to: the limits are those of the reading process.
"""

import importlib
import json
import sys
from typing import Any, cast

from app.datasets.privacy.findings import Kind
from app.datasets.privacy.request import ScanRequest
from app.datasets.privacy.scanner import Recognizer, Scanner, SitePattern
from app.datasets.privacy.stand_ins import key_of
from app.datasets.readers import reader

_PROGRESS_EXAMPLES = 500


def main() -> None:
    """Look through what standard input brings."""
    request = ScanRequest.model_validate_json(sys.stdin.readline())
    recognizer = _load(request.recognizer) if request.recognizer else None
    reader.confine(cast(Any, request))
    patterns = [SitePattern(pattern, Kind(kind)) for kind, pattern in request.patterns]
    scanner = Scanner(patterns, recognizer)
    number = 0
    for line in sys.stdin:
        index, texts = json.loads(line)
        found = [
            [
                place,
                span.start,
                span.end,
                span.kind.value,
                key_of(span.kind, text[span.start : span.end]),
            ]
            for place, (text, spans) in enumerate(zip(texts, scanner.scan(texts), strict=True))
            for span in spans
        ]
        if found:
            _say([index, found])
        number += 1
        if number % _PROGRESS_EXAMPLES == 0:
            _say({"examples": number})
    _say({"end": number, "given_up": scanner.num_given_up})


def _load(name: str) -> Recognizer:
    module, _, function = name.partition(":")
    return cast(Recognizer, getattr(importlib.import_module(module), function))


def _say(message: Any) -> None:
    sys.stdout.write(json.dumps(message, separators=(",", ":")) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
