"""How often the marks are wrong: `python -m bench.marks [FILE…]`.

A file has a line of JSON for each pair: question, reference, answer, the mark that people gave, its
language and its kind. Without one: the pairs of tests/app/evaluation/pairs and its marks, those on
which the rules were tried (even ids) apart from those that were kept back (odd ids).
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from app.evaluation.marks import mark

_OWN = Path(__file__).parents[1] / "tests/app/evaluation/pairs"


class Row(NamedTuple):
    """One pair with the mark of people and that of the rules."""

    pair: dict[str, Any]
    given: str
    why: str


class Rates(NamedTuple):
    """What is measured of some pairs."""

    num: int
    agreement: float  # of those that the rules decide
    false_right: float  # of the wrong ones, called right
    not_right: float  # of the partly right and wrong ones, called right
    unsure: float


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--show", action="store_true", help="print each pair that differs")
    parsed = parser.parse_args()
    pairs = [pair for path in parsed.files for pair in read(path)] or own_pairs()
    mark("", "warm", "up")
    started = time.process_time()
    rows = judged(pairs)
    seconds = time.process_time() - started
    if parsed.show:
        for row in rows:
            if row.given != row.pair["mark"]:
                print(
                    json.dumps({**row.pair, "rules": row.given, "why": row.why}, ensure_ascii=False)
                )
    print("| pairs | number | agreement | wrong called right | not right called right | unsure |")
    print("| --- | --- | --- | --- | --- | --- |")
    print(line_of("all", rates(rows)))
    for field in ("language", "kind", "half"):
        groups: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            if field in row.pair:
                groups[str(row.pair[field])].append(row)
        for name, group in sorted(groups.items()):
            print(line_of(f"{field} {name}", rates(group)))
    print(f"\n{len(rows) / max(seconds, 1e-9):.0f} pairs a second")


def read(path: Path) -> list[dict[str, Any]]:
    """Read a file of pairs."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


def own_pairs() -> list[dict[str, Any]]:
    """Return the repository's pairs with their marks, and in which half each is."""
    marks = {one["id"]: one["mark"] for one in read(_OWN / "marks-1.jsonl")}
    halves = ("tried on", "kept back")
    return [
        {**pair, "mark": marks[pair["id"]], "half": halves[int(pair["id"][-3:]) % 2]}
        for path in sorted(_OWN.glob("??.jsonl"))
        for pair in read(path)
    ]


def judged(pairs: Iterable[dict[str, Any]]) -> list[Row]:
    """Mark pairs by the rules."""
    rows = []
    for pair in pairs:
        marked = mark(pair["question"], pair["reference"], pair["answer"])
        rows.append(Row(pair, marked.mark.value, marked.why))
    return rows


def rates(rows: Sequence[Row]) -> Rates:
    """Work out how the rules' marks fit those of people."""
    decided = [row for row in rows if row.given != "unsure" and row.pair["mark"] != "unsure"]
    wrong = [row for row in rows if row.pair["mark"] == "wrong"]
    lesser = [row for row in rows if row.pair["mark"] in ("wrong", "partly")]
    return Rates(
        len(rows),
        _share(row.given == row.pair["mark"] for row in decided),
        _share(row.given == "right" for row in wrong),
        _share(row.given == "right" for row in lesser),
        _share(row.given == "unsure" for row in rows),
    )


def _share(found: Iterable[bool]) -> float:
    values = list(found)
    return sum(values) / len(values) if values else float("nan")


def line_of(name: str, rates: Rates) -> str:
    """Return a line of the table."""
    shares = [f"{100 * share:.1f} %" if share == share else "–" for share in rates[1:]]
    return f"| {name} | {rates.num} | {' | '.join(shares)} |"


if __name__ == "__main__":
    main()
