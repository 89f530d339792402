"""How many of the invented people's details the rules find: `python -m tests.app.datasets.privacy.measure`.

Recall counts a value as found where findings of its kind cover all of its letters and digits;
precision counts a finding as right where it lies, by half or more, on values of its kind.
`--misses` prints what went wrong, `--write` puts the tables into docs/privacy.md. `--texts FILE.csv`
counts the rows of a file that names nobody in which a name is found, apart by the half that the
weights were learned from (learn.py) and the half that they were not.
"""

import argparse
import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from app.datasets.privacy.findings import Kind
from app.datasets.privacy.scanner import Scanner
from tests.app.datasets.privacy.learn import is_first_half
from tests.app.datasets.privacy.make import HELD_OUT, PEOPLE, kept_back

DOCS = Path(__file__).parents[4] / "docs" / "privacy.md"
STRUCTURED = (
    "birth_date",
    "phone",
    "email",
    "record",
    "national_id",
    "student_id",
    "card",
    "iban",
    "ip",
)


class Score(NamedTuple):
    num_values: int
    num_found: int
    num_findings: int
    num_right: int

    @property
    def recall(self) -> float:
        return self.num_found / self.num_values if self.num_values else 1.0

    @property
    def precision(self) -> float:
        return self.num_right / self.num_findings if self.num_findings else 1.0


def load(path: Path = PEOPLE) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def measure(rows: list[dict[str, Any]], *, show: bool = False) -> dict[tuple[str, str], Score]:
    """Score each kind in each language; the language "all" has them together."""
    values, found, findings, right = Counter(), Counter(), Counter(), Counter()  # type: ignore[var-annotated]
    scanner = Scanner()
    for row in rows:
        spans = scanner.scan(row["turns"])
        for turn, text in enumerate(row["turns"]):
            keys = [(start, end, kind) for at, start, end, kind in row["key"] if at == turn]
            for start, end, kind in keys:
                covered = _places(spans[turn], kind)
                is_found = all(i in covered for i in range(start, end) if text[i].isalnum())
                for code in (row["language"], "all"):
                    values[kind, code] += 1
                    found[kind, code] += is_found
                if show and not is_found:
                    print(f"missed {kind:12} {text[start:end]!r} in {text!r}")
            for span in spans[turn]:
                in_key = {i for s, e, k in keys if k == span.kind.value for i in range(s, e)}
                overlap = sum(i in in_key for i in range(span.start, span.end))
                is_right = overlap * 2 >= span.end - span.start
                for code in (row["language"], "all"):
                    findings[span.kind.value, code] += 1
                    right[span.kind.value, code] += is_right
                if show and not is_right:
                    print(
                        f"wrong  {span.kind.value:12} {text[span.start : span.end]!r} in {text!r}"
                    )
    return {
        key: Score(values[key], found[key], findings[key], right[key])
        for key in sorted(set(values) | set(findings))
    }


def rate(path: Path) -> dict[str, float]:
    """Return the share of rows of a file of questions and answers in which a name is found."""
    scanner = Scanner()
    rows, hits = Counter[str](), Counter[str]()
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            half = "learned from" if is_first_half(row["Focus"]) else "not learned from"
            found = scanner.scan([row["Question"], row["Answer"]])
            has_name = any(span.kind is Kind.NAME for spans in found for span in spans)
            for part in (half, "all"):
                rows[part] += 1
                hits[part] += has_name
    return {part: hits[part] / rows[part] for part in rows}


def _places(spans: list[Any], kind: str) -> set[int]:
    return {i for span in spans if span.kind.value == kind for i in range(span.start, span.end)}


def table(scores: dict[tuple[str, str], Score]) -> str:
    """Write the scores as Markdown."""
    codes = ("all", "en", "de", "fr", "es", "nl")
    lines = [
        "| kind | values | " + " | ".join(f"{code}: recall, precision" for code in codes) + " |",
        "| --- | --- |" + " --- |" * len(codes),
    ]
    for kind in dict.fromkeys(kind for kind, _ in scores):
        cells = []
        for code in codes:
            score = scores.get((kind, code))
            cells.append(f"{score.recall:.3f}, {score.precision:.3f}" if score else "")
        lines.append(f"| {kind} | {scores[kind, 'all'].num_values} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def structured(scores: dict[tuple[str, str], Score]) -> float:
    """Return the recall of all structured identifiers together."""
    chosen = [scores[kind, "all"] for kind in STRUCTURED if (kind, "all") in scores]
    return sum(s.num_found for s in chosen) / sum(s.num_values for s in chosen)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("file", nargs="?", type=Path, default=PEOPLE)
    parser.add_argument("--misses", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--texts", type=Path, help="questions and answers that name nobody, as CSV")
    options = parser.parse_args()
    if options.texts is not None:
        print({part: round(share, 4) for part, share in rate(options.texts).items()})
        return
    scores = measure(load(options.file), show=options.misses)
    text = table(scores) + f"\n\nStructured identifiers together: recall {structured(scores):.4f}."
    print(text)
    if options.write:
        held_out = measure(load(HELD_OUT))
        kept = measure(kept_back())
        page = DOCS.read_text()
        head, _, rest = page.partition("<!-- measured -->\n")
        tail = rest.partition("<!-- end -->")[2]
        tables = (
            f"**The file** (`people.jsonl`):\n\n{text}\n\n"
            f"**Sentences held out of the first rules, and read for these** (`held_out.jsonl`):\n\n{table(held_out)}\n\n"
            f"Structured identifiers together: recall {structured(held_out):.4f}.\n\n"
            f"**Sentences kept back** (`sentences_kept_back.py`):\n\n{table(kept)}\n"
        )
        DOCS.write_text(f"{head}<!-- measured -->\n{tables}<!-- end -->{tail}")


if __name__ == "__main__":
    main()
