"""How the templates are written."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[3] / "templates"
MAX_LENGTH = 120


def test_no_line_is_too_long_to_read() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{number} has {len(line)} characters"
        for path in sorted(ROOT.rglob("*.html"))
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if len(line) > MAX_LENGTH
    ]
    assert not long
