"""Words that the code and its pages have given up for the field's own do not come back."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What to say instead is in docs/decisions/0019.
RETIRED = {
    r"[Ss]lopes?": "gradient",
    r"[Dd]eeds?": "operation, or what it is",
    r"Spells?": "duration range",
    r"Ways?": "candidate, or what it is",
    r"Looks": "evaluation, or what is read",
    r"[Ii]ll": "unhealthy, or quarantined",
    r"[Tt]he line": "the queue",
    r"must_(?:edit|see)": "require_...",
    r"may_act": "require_control",
}
# Where such a word means what it means to everybody.
EXCEPTIONS = {
    ("docs/operations.md", "ill"): "the webhook event etude.machine.ill, which programs know",
    ("app/notices/events.py", "ill"): "the same",
    ("app/datasets/privacy/addresses.py", "Way"): "the street word",
    ("app/datasets/doctor/checks.py", "Looks"): "of a sentence: looks good",
    ("app/datasets/questions/passages.py", "the line"): "of a text",
    ("app/datasets/readers/pdf.py", "the line"): "of a text",
    ("app/datasets/readers/reader.py", "the line"): "of the program",
    ("app/training/chat.py", "the line"): "the line break",
    ("docs/performance.md", "the line"): "of a log",
}
PLACES = ("app", "worker", "templates", "static/js", "docs")
NOT_READ = ("docs/decisions/", "app/datasets/privacy/words/")
TEXTS = {".py", ".html", ".js", ".md"}


def texts() -> list[str]:
    tracked = subprocess.run(
        ["git", "ls-files", *PLACES], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [
        name
        for name in tracked
        if Path(name).suffix in TEXTS and not name.startswith(NOT_READ) and (ROOT / name).exists()
    ]


@pytest.mark.parametrize("pattern", RETIRED)
def test_a_retired_word_does_not_come_back(pattern: str) -> None:
    word = re.compile(rf"(?<![\w-]){pattern}(?![\w-])")
    found = [
        f"{name}:{number}: {line.strip()}"
        for name in texts()
        for number, line in enumerate((ROOT / name).read_text(encoding="utf-8").splitlines(), 1)
        for match in word.finditer(line)
        if (name, match[0]) not in EXCEPTIONS
    ]
    assert found == [], f"say {RETIRED[pattern]} instead"
