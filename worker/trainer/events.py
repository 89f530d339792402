"""What the trainer says: one JSON object a line in attempts/<n>/events.jsonl."""

import json
import os
import time
from pathlib import Path
from typing import Any

from app.training import failpoints
from app.training.events import Event


class EventLog:
    """An append-only file of whole lines, each handed to the system in one go."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, kind: type[Event], **fields: Any) -> None:
        """Append one event, stamped with the present time, or nothing of it.

        Raises:
            OSError: the disk is full.
        """
        event = kind(at=time.time(), **fields)
        # Plain ASCII: answers may hold characters that some readers take for the end of a line.
        line = json.dumps(event.model_dump(mode="json"), allow_nan=False) + "\n"
        body, begin = line.encode(), os.fstat(self._handle).st_size
        try:
            while body:  # where space runs out, the system takes a part first
                body = body[os.write(self._handle, body) :]
        except OSError:
            os.ftruncate(self._handle, begin)  # half a line would spoil the next
            raise
        failpoints.hit("spool.written")

    def close(self) -> None:
        os.close(self._handle)
