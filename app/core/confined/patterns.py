"""The site's own patterns for personal details: tried before they are kept, and searched with.

An administrator writes them, who is no programmer: one of a few letters can want gigabytes, or
search for ever.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import structlog

from app.core.confined.kept import Ended, child
from app.core.errors import AppError

_log = structlog.get_logger()


class Verdict(StrEnum):
    GOOD = "good"
    NO_PATTERN = "no_pattern"
    MATCHES_NOTHING = "matches_nothing"  # an empty text, that is
    SLOW = "slow"
    TOO_LARGE = "too_large"
    MISSES_SAMPLE = "misses_sample"


class Trial(NamedTuple):
    verdict: Verdict
    problem: str = ""  # why it is no pattern


def attempt(pattern: str, sample: str) -> Trial:
    """Compile a pattern, and search a page of text and its sample with it.

    Raises:
        Unavailable: too many others wait for the child.
    """
    try:
        said = child.ask({"do": "try", "pattern": pattern, "sample": sample})
    except Ended:
        return Trial(Verdict.TOO_LARGE)
    if "said" not in said:
        return Trial(Verdict.TOO_LARGE)
    return Trial(Verdict(said["said"]["verdict"]), said["said"]["problem"])


def find(patterns: Sequence[str], text: str) -> list[tuple[int, int, int]]:
    """Return what patterns find: from where, to where, and the index of the pattern.

    Nothing where they take too long: who asks wants to warn a person who types, and can do without.
    """
    try:
        said = child.ask({"do": "find", "patterns": list(patterns), "text": text})
    except (Ended, AppError) as error:
        _log.warning("confined.patterns_not_searched", error=str(error))
        return []
    return [(start, end, number) for start, end, number in said.get("said", ())]
