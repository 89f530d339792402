"""One thing that was looked at."""

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

State = Literal["ok", "note", "wrong"]


class Finding(NamedTuple):
    check: str  # a stable word, e.g. "disk"
    state: State
    sentence: str
    advice: str = ""  # what to do about it


def ok(check: str, sentence: str) -> Finding:
    return Finding(check, "ok", sentence)


def note(check: str, sentence: str, advice: str) -> Finding:
    """Something to know; nothing fails because of it."""
    return Finding(check, "note", sentence, advice)


def wrong(check: str, sentence: str, advice: str) -> Finding:
    return Finding(check, "wrong", sentence, advice)


def guarded(check: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Look, and take what breaks the looking for a finding too."""
    try:
        yield from look()
    except SystemExit as error:
        yield wrong(check, str(error), "")
    except Exception as error:
        text = str(error).strip().splitlines()
        what = f"{type(error).__name__}: {text[0] if text else 'no more is known'}"
        yield wrong(check, f"This could not be looked at ({what}).", "Report this.")
