"""Start the reading process (app/datasets/readers/reader.py) and listen to it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import structlog

from app.core import settings
from app.core.child import BrokeOff, Child
from app.core.sentences import counted
from app.datasets.readers import gzipped
from app.datasets.readers.reader import ReaderRequest
from app.datasets.readers.unreadable import Unreadable

_log = structlog.get_logger()


class ReaderProcess(Child):
    """One file in one process."""

    def __init__(self, request: ReaderRequest) -> None:
        chosen = settings.get()
        self._seconds = seconds_for(request.task, request.path)
        super().__init__(
            "app.datasets.readers.reader",
            request.model_dump_json(),
            ends=('{"inspection"', '{"end"', '{"sheet"', '{"unreadable"'),
            timeout_seconds=self._seconds,
            idle_seconds=chosen.reader_idle_seconds,
        )
        self._memory_bytes = request.memory_bytes

    def messages(
        self, tell: Callable[[dict[str, Any]], None] | None = None
    ) -> Iterator[dict[str, Any] | bytes]:
        """Yield what the process says until it has ended well; its progress goes to `tell`.

        An example's line comes as it stands, everything else as an object.

        Raises:
            Unreadable: the file cannot be read, or reading it broke off.
        """
        try:
            for line in self.lines():
                if not line.startswith(b"{"):
                    yield line
                    continue
                message = json.loads(line)
                if "unreadable" in message:
                    raise Unreadable(message["unreadable"])
                if "rows" not in message:
                    yield message
                elif tell is not None:
                    tell(message)
        except BrokeOff as error:
            raise Unreadable(self._how_it_broke_off(error)) from None

    def _how_it_broke_off(self, error: BrokeOff) -> str:
        _log.error("reader_broke_off", code=error.code, tail=error.tail[-2000:])
        if error.is_silent:
            return (
                f"Reading this file made no progress for {_in_words(self._idle_seconds)}, so it "
                "was stopped; open the file in the program it comes from, save it again and upload "
                "that, or save a workbook as CSV."
            )
        if error.is_late:
            return (
                f"Reading this file took longer than {_in_words(self._seconds)}, which is more "
                "than a file of this size may take; split it into smaller files, or save a "
                "workbook as CSV."
            )
        # Parsers in C and Rust give up their process where memory is refused to them.
        memory = self._memory_bytes / 1024**2
        return (
            f"Reading this file broke off (code {error.code}), most likely because it needs more "
            f"than the {memory:,.0f} MB of memory that reading may take; split it into smaller "
            "files, or save a workbook as CSV."
        )


def seconds_for(task: str, path: Path) -> float:
    """Return how long a task of the reading process may take for a file."""
    size = gzipped.size_hint(path)
    return settings.get().reading_seconds(size, builds=task == "build")


def _in_words(seconds: float) -> str:
    return counted(round(seconds), "1 second", "{n} seconds")
