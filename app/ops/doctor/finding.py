"""One thing that was checked."""

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

State = Literal["ok", "note", "wrong"]


class SystemFinding(NamedTuple):
    check: str  # a stable word, e.g. "disk"
    state: State
    sentence: str
    advice: str = ""  # what to do about it


def ok(check: str, sentence: str) -> SystemFinding:
    return SystemFinding(check, "ok", sentence)


def note(check: str, sentence: str, advice: str) -> SystemFinding:
    """Something to know; nothing fails because of it."""
    return SystemFinding(check, "note", sentence, advice)


def wrong(check: str, sentence: str, advice: str) -> SystemFinding:
    return SystemFinding(check, "wrong", sentence, advice)


def guarded(check: str, run: Callable[[], Iterator[SystemFinding]]) -> Iterator[SystemFinding]:
    """Run a check, and take what breaks it for a finding too."""
    try:
        yield from run()
    except SystemExit as error:
        yield wrong(check, str(error), "")
    except Exception as error:
        text = str(error).strip().splitlines()
        what = f"{type(error).__name__}: {text[0] if text else 'no more is known'}"
        yield wrong(check, f"This could not be checked ({what}).", "Please report this.")
