"""Somebody who looks at jobs' pages: follows their event streams as static/js/job-stream.js does.

What a chart would show in the end is built from nothing but the stream, over every break of it.
"""

import http.client
import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_AT_ONCE = 2
_AGAIN_SECONDS = 0.3
_TIMEOUT_SECONDS = 20  # the server says something every 15


class Viewer:
    """Follows a few jobs at once, each to its end."""

    def __init__(self, port: int, cookie: str, log: Path) -> None:
        self._port = port
        self._cookie = cookie
        self._log = log
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def offer(self, number: int, job: str) -> None:
        """Follow a job unless enough are followed already.

        Args:
            number: Of its page.
            job: Its id in `/v1`.
        """
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if len(self._threads) < _AT_ONCE:
            thread = threading.Thread(target=self._follow, args=(number, job), daemon=True)
            thread.start()
            self._threads.append(thread)

    def close(self, seconds: float) -> None:
        """Let those end that have something to end."""
        for thread in self._threads:
            thread.join(seconds)
        self._stop.set()

    def _follow(self, number: int, job: str) -> None:
        seq, num_breaks = 0, -1
        curves: dict[str, list[tuple[int, float]]] = defaultdict(list)
        while not self._stop.is_set():
            num_breaks += 1
            for kind, data in self._stream(number, seq):
                if data.get("seq", seq + 1) <= seq:
                    continue
                seq = data.get("seq", seq)
                if kind == "metric":
                    for name, value in data["values"].items():
                        curves[name].append((data["step"], value))
                elif kind == "rewind":
                    for name, points in curves.items():
                        curves[name] = [point for point in points if point[0] <= data["step"]]
                elif kind == "end":
                    end = {"job": job, "breaks": num_breaks, "curves": curves, **data}
                    with self._log.open("a") as file:
                        file.write(json.dumps(end) + "\n")
                    return
            self._stop.wait(_AGAIN_SECONDS)

    def _stream(self, number: int, after: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield what the stream says until it breaks."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT_SECONDS)
        try:
            headers = {"Cookie": f"etude_session={self._cookie}", "Last-Event-ID": str(after)}
            connection.request("GET", f"/jobs/{number}/events", headers=headers)
            response = connection.getresponse()
            kind = ""
            while response.status == http.client.OK and (line := response.readline()):
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "event":
                    kind = value
                elif name == "data":
                    yield kind, json.loads(value)
        except (OSError, http.client.HTTPException, ValueError):
            return
        finally:
            connection.close()
