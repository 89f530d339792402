"""Start the reading process (app/datasets/reader.py), listen to it, and end it in time."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import structlog

from app.datasets.reader import Order
from app.datasets.sniffing import Unreadable

log = structlog.get_logger()


class ReaderProcess:
    """One file in one process without credentials: a parser of strangers' files needs none."""

    def __init__(self, order: Order, timeout_seconds: float) -> None:
        self.progress: dict[str, Any] = {"rows": 0}
        self._order = order
        self._timeout_seconds = timeout_seconds
        self._is_late = False
        self._timer = threading.Timer(timeout_seconds, self._give_up)
        self._timer.daemon = True

    def __enter__(self) -> "ReaderProcess":
        self._errors = tempfile.TemporaryFile("w+b")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "app.datasets.reader"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=Path(__file__).resolve().parents[2],
            env={"PATH": os.environ.get("PATH", ""), "PYTHONUTF8": "1", "LANG": "C.UTF-8"},
            # A terminal's Ctrl-C is for whoever started this, who then ends it.
            start_new_session=True,
        )
        self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                stream.close()

    def kill(self) -> None:
        """End it at once; whoever listens hears that it broke off."""
        self._process.kill()

    def messages(self) -> Iterator[dict[str, Any] | bytes]:
        """Yield what the process says, without its progress, until it has ended well.

        An example's line comes as it stands, everything else as an object.

        Raises:
            Unreadable: the file cannot be read, or reading it broke off.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._process.stdin as stdin:
            stdin.write(self._order.model_dump_json().encode() + b"\n")
        ended = False
        for line in self._process.stdout:
            if not line.startswith(b"{"):
                yield line
                continue
            message = json.loads(line)
            if "unreadable" in message:
                raise Unreadable(message["unreadable"])
            if "rows" in message:
                self.progress = message
                continue
            ended = "end" in message or "inspection" in message
            yield message
        self._process.wait()
        if not ended or self._process.returncode != 0:
            raise Unreadable(self._how_it_broke_off())

    def _give_up(self) -> None:
        if self._process.poll() is None:
            self._is_late = True
            self._process.kill()

    def _how_it_broke_off(self) -> str:
        self._errors.seek(0)
        tail = self._errors.read()[-2000:].decode(errors="replace")
        code = self._process.returncode
        log.error("reader_broke_off", code=code, tail=tail)
        if self._is_late or code == -signal.SIGXCPU:
            return (
                f"Reading this file took longer than {self._timeout_seconds / 60:,.0f} minutes; "
                "split it into smaller files."
            )
        # Parsers in C and Rust give up their process where memory is refused to them.
        memory = self._order.memory_bytes / 1024**2
        return (
            f"Reading this file broke off (code {code}), most likely because it needs more than "
            f"the {memory:,.0f} MB of memory that reading may take; split it into smaller files, "
            "or save a workbook as CSV."
        )
