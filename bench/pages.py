"""How long pages take, by themselves or beside another checkout or other settings; JSON last.

    python -m bench.pages [--rounds 30] [--jobs 1000] [--datasets 200] [--visits 3] [--short]
    python -m bench.pages --against FOLDER [--rounds 200]
    python -m bench.pages --with ETUDE_NAME=VALUE [--rounds 200]

The first asks for every page of a house with a row of everything and so many jobs and datasets, and
then visits them in Chromium (pages_seen.py); --short takes few rows and rounds, and writes no file.

FOLDER is another checkout, e.g. of `git worktree add FOLDER COMMIT`; without it both sides are this
one, and what differs is what --with sets for the second. Each side is a web of its own with a
database of its own and the same rows. Every page is asked for once a side and round, the sides in
turns, so that what else the machine does falls on both. Beside the wall's clock stands the time of
the processor that the web and its children took for a page: that is what a change costs on a
machine that others use, too.
"""

import argparse
import itertools
import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from bench import pages_seen
from bench.pages_side import EMPTY_PAGE, ROOT, Side, start

WARM_ROUNDS = 5


def main() -> None:
    options = _options()
    changed = dict(each.split("=", 1) for each in options.changed)
    rows = {"BENCH_JOBS": str(options.jobs), "BENCH_DATASETS": str(options.datasets)}
    if not changed and options.against is None:
        _by_themselves(options, rows)
        return
    sides = [
        start("here", ROOT, rows),
        start("other", Path(options.against or ROOT).resolve(), rows | changed),
    ]
    try:
        result = measure(sides, options.rounds or 200)
    finally:
        for side in sides:
            side.process.communicate()
    for page, row in result["pages"].items():
        ratio = row["here_ms"] / result["pages"][EMPTY_PAGE]["here_ms"]
        print(
            f"{page:28} {row['here_ms']:7.1f} ms here {row['other_ms']:7.1f} ms other, "
            f"{ratio:4.1f} times an empty page"
        )
    print(json.dumps(result))


def _by_themselves(options: argparse.Namespace, rows: dict[str, str]) -> None:
    """Hold every page against the aims; ends with 1 where one is over."""
    if options.short:
        rows |= {"BENCH_JOBS": "60", "BENCH_DATASETS": "20"}
    rounds = options.rounds or (5 if options.short else 30)
    loads = [pages_seen.load()]
    side = start("here", ROOT, rows | {"BENCH_EVERYTHING": "1"})
    try:
        side.pages = side.whole_pages()
        measured = measure([side], rounds)["pages"]
        own_ms = {page: row["here_ms"] for page, row in measured.items()}
        visits = 1 if options.short else options.visits
        result = pages_seen.see(side, own_ms, visits=visits, looks=not options.short)
    finally:
        side.process.communicate()
    loads.append(pages_seen.load())
    pages_seen.told(result)
    if not options.short:
        print(pages_seen.write(result, rounds, loads))
    print(json.dumps(result))
    sys.exit(1 if result["over"] or result["axe"] else 0)


def measure(sides: list[Side], rounds: int) -> dict[str, Any]:
    """Ask for all pages in turns."""
    took: dict[tuple[str, str], list[float]] = defaultdict(list)
    work: dict[str, float] = dict.fromkeys([side.name for side in sides], 0.0)
    pages = sides[0].pages
    for number in range(-WARM_ROUNDS, rounds):
        for turn, place in enumerate(range(len(pages))):
            # Who is first changes from page to page, and from round to round.
            for side in sides if (number + turn) % 2 else reversed(sides):
                before = side.processor_ms()
                milliseconds = side.ask(side.pages[place])
                if number >= 0:
                    took[side.name, pages[place]].append(milliseconds)
                    work[side.name] += side.processor_ms() - before
    return {
        "rounds": rounds,
        "processor_ms_a_page": {
            name: round(spent / rounds / len(pages), 2) for name, spent in work.items()
        },
        "median_ms": {
            side.name: round(
                statistics.median(itertools.chain(*(took[side.name, page] for page in pages))), 2
            )
            for side in sides
        },
        "pages": {
            page: {
                f"{side.name}_ms": round(statistics.median(took[side.name, page]), 2)
                for side in sides
            }
            for page in pages
        },
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--against", metavar="FOLDER")
    parser.add_argument("--with", action="append", default=[], dest="changed", metavar="NAME=VALUE")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--visits", type=int, default=3)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--datasets", type=int, default=200)
    return parser.parse_args()


if __name__ == "__main__":
    main()
