"""`etude web` for tests: as it runs at a site, in processes of its own."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx2

from tests import patience, warm


@contextmanager
def serving(folder: Path, **variables: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Start the web with some settings; gives its port and its process."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    said = folder / "web.log"
    with said.open("wb") as log:
        process = warm.Popen(
            [sys.executable, "-m", "app.cli", "web"],
            env=os.environ | variables | {"ETUDE_PORT": str(port)},
            stdout=log,
            stderr=log,
        )
        try:
            deadline = time.monotonic() + patience.seconds(60)
            while not is_well(port):
                assert process.poll() is None, said.read_text()
                assert time.monotonic() < deadline, said.read_text()
                time.sleep(0.1)
            yield port, process
        finally:
            process.terminate()
            process.wait()


def is_well(port: int) -> bool:
    """Say whether the web answers there."""
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/healthz", timeout=5).status_code == 200
    except httpx2.TransportError:
        return False
