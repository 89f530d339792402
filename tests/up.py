"""`etude up` for tests: started as a person starts it, looked at from outside, ended by signals."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from app.core import db, settings
from app.ops.embedded import processes
from app.ops.embedded.postgres import Postgres
from tests import patience

READY_SECONDS = 120
NOBODY = 65534
# Neither converting the starter model nor importing torch is what these tests are about.
BARE = {
    "PATH": os.environ["PATH"],  # no HOME, no servers named
    "PYTHONPATH": str(Path(__file__).parents[1]),
    "ETUDE_STARTER_MODEL": "false",
    "ETUDE_TRAINER_MODULE": "tests.worker.stand_in_trainer",
}
# Jobs that are made as rows are found soon.
STAND_IN = BARE | {"ETUDE_SWEEP_SECONDS": "0.5", "ETUDE_WATCH_SECONDS": "0.2"}


class Etude:
    """One `etude up` on a data directory and a free port."""

    def __init__(
        self,
        data_dir: Path,
        user: str = "us",
        environment: dict[str, str] | None = None,
        code: Path | None = None,
    ) -> None:
        """
        Args:
            code: Another checkout than this one, to run that one's code.
        """
        self.data_dir = data_dir
        self.code = code
        self.environment = environment or BARE
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.disguise = ["--hide-root", str(NOBODY)] if user == "not root" else []
        self.printed = data_dir.with_name(data_dir.name + ".out")
        self.process: subprocess.Popen[bytes] | None = None

    def command(self, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(*arguments),
            input=typed,
            capture_output=True,
            text=True,
            timeout=patience.seconds(120),
            env=self.environment,
            cwd=self.code,
        )

    def start(self) -> None:
        """Start it and wait until database, broker and both workers are well."""
        self.begin()
        self.wait_until_ready()

    def begin(self) -> None:
        """Start it and wait for nothing."""
        with self.printed.open("wb") as output:
            self.process = subprocess.Popen(
                self._command("up", "--port", str(self.port)),
                stdout=output,
                stderr=output,
                env=self.environment,
                cwd=self.code,
            )

    def wait_until_ready(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + patience.seconds(READY_SECONDS)
        answer = (0, "")
        while time.monotonic() < deadline and self.process.poll() is None:
            with suppress(OSError, http.client.HTTPException):
                answer = self.get("/readyz")
            if answer[0] == http.client.OK and "Etude is ready at" in self.said():
                return
            time.sleep(0.1)
        pytest.fail(f"not ready: {answer}\n{self.said()}\n{self._logs()}")

    def get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=patience.seconds(30)
        )
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    @contextmanager
    def database(self) -> Iterator[Session]:
        """Open a session on its database, while it is up."""
        chosen = settings.Settings(data_dir=self.data_dir)
        engine = db.make_engine(Postgres(chosen).url)
        with Session(engine, expire_on_commit=False) as session:
            yield session
        engine.dispose()

    def said(self) -> str:
        return self.printed.read_text()

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout=patience.seconds(60))

    def processes(self) -> dict[int, str]:
        """Return every living process below ours: id and command line."""
        assert self.process is not None
        family = {self.process.pid}
        parents = {pid: parent for pid, parent, state in all_processes() if state != "Z"}
        grown = True
        while grown:
            children = {pid for pid, parent in parents.items() if parent in family} - family
            family |= children
            grown = bool(children)
        return {pid: command_line(pid) for pid in family - {self.process.pid}}

    def find(self, *words: str) -> int:
        """Return the eldest process whose command line has all of these words."""
        found = [
            pid for pid, line in self.processes().items() if all(word in line for word in words)
        ]
        assert found, f"no process with {words}"
        return min(found)

    def _command(self, *arguments: str) -> list[str]:
        command = [sys.executable, "-m", "app.cli", *arguments, "--data-dir", str(self.data_dir)]
        return processes.bound(command, signal.SIGKILL, *self.disguise)

    def _logs(self) -> str:
        logs = sorted((self.data_dir / "logs").glob("*.log"))
        return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-1500:]}" for log in logs)


def all_processes() -> Iterator[tuple[int, int, str]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                yield int(entry.name), int(parent), state


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def still_there(family: dict[int, str], seconds: float) -> dict[int, str]:
    """Wait for processes to end; returns those that did not."""
    deadline = time.monotonic() + patience.seconds(seconds)
    while True:
        alive = {pid for pid, _, state in all_processes() if state != "Z"}
        left = {pid: line for pid, line in family.items() if pid in alive}
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)
