"""Processor time for work that strangers' files may make endless, in a child's main thread."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class TooSlow(BaseException):
    """No Exception: whatever else a template raises is caught, and another form of it is tried."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Give work so many seconds of the processor, which others' load does not make fewer.

    Raises:
        TooSlow: it has taken them.
    """

    def give_up(*_: object) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGPROF, give_up)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def is_panic(error: BaseException) -> bool:
    """Say whether a library in Rust gave up, which is no Exception either."""
    return type(error).__name__ == "PanicException"
