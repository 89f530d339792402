"""A real vLLM on this machine's processor, asked past Etude.

ETUDE_TEST_VLLM names the Python that has it; `make test-vllm` installs one.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests import patience

PYTHON = os.environ.get("ETUDE_TEST_VLLM", "")
KEY = "the key of this test"
NEEDED = [
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not PYTHON, reason="no vLLM here: `make test-vllm` installs one"),
]


@dataclass
class Server:
    address: str
    log: Path

    def call(self, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {KEY}"}
        method = "GET" if body is None else "POST"
        answer = httpx2.request(
            method, self.address + path, json=body, headers=headers, timeout=patience.seconds(60)
        )
        assert answer.status_code == httpx2.codes.OK, answer.text
        if not answer.headers.get("content-type", "").startswith("application/json"):
            return answer.text
        return answer.json()

    def models(self) -> set[str]:
        return {each["id"] for each in self.call("/v1/models")["data"]}


@contextmanager
def serving(
    command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Start a vLLM in a folder by a command without a port, and end it afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    given = {
        "PATH": f"{Path(PYTHON).parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
    }
    server = Server(f"http://127.0.0.1:{port}", folder / "log")
    with server.log.open("wb") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=folder,
            env=given | dict(environment or {}),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + patience.seconds(300)
        while not _is_up(server):
            assert process.poll() is None, server.log.read_text()[-4000:]
            assert time.monotonic() < deadline, server.log.read_text()[-4000:]
            time.sleep(0.5)
        yield server
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        print(server.log.read_text(errors="replace")[-4000:])


def _is_up(server: Server) -> bool:
    try:
        return httpx2.get(server.address + "/health", timeout=5).status_code == httpx2.codes.OK
    except httpx2.HTTPError:
        return False
