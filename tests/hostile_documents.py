"""Documents and packed files that are broken or meant to do harm; a part of tests/hostile.py."""

import zlib
from collections.abc import Iterator

from tests import document_files

READ, REFUSED, EITHER = "(read)", "(refused)", "(read or refused)"
Case = tuple[str, bytes, str]


def corpus() -> Iterator[Case]:
    """Yield each file with what becomes of it."""
    yield from _placed()


def _placed() -> Iterator[Case]:
    make = document_files.placed_pdf
    scattered = [(f"word{n}", (n * 7919) % 560, (n * 104_729) % 800) for n in range(3000)]
    yield "words all over a page", make([scattered]), READ
    yield (
        "pieces beyond every page",
        make([[("word", 10.0**9, -(10.0**9))] * 50 + [("text of it", 50, 50)] * 9]),
        EITHER,
    )
    stacked = [(f"line {n}", 60 + 200 * (n % 2), 400) for n in range(2000)]
    yield "lines at one place", make([stacked]), READ
    many = [[(f"left {n} {m}", 60, 800 - 7 * m) for m in range(100)] for n in range(40)]
    yield (
        "columns on many pages",
        make(
            [
                [piece for left in page for piece in (left, ("right of it", 310, left[2]))]
                for page in many
            ]
        ),
        READ,
    )
    broken = zlib.compress(b"BT /F1 11 Tf (x) Tj" * 100_000)
    yield (
        "a stream where there is none",
        make([[("x", 1, 1)]]).replace(b"BT", broken[:2], 1),
        EITHER,
    )
