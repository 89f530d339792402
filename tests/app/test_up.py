"""`etude up` as a person starts it: real servers, web and workers, ended in every way there is."""

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from app.embedded import processes
from tests.factories import PASSWORD

READY_SECONDS = 120
# Each as words of its command line.
PARTS = (
    ("postgres -D",),
    ("valkey-server",),
    ("app.cli web",),
    ("celery", "--queues gpu"),
    ("celery", "--queues cpu"),
)


NOBODY = 65534


def can_be_nobody() -> bool:
    """Say whether root can look like somebody else to itself, and still read this code."""
    command = processes.bound(["/bin/true"], signal.SIGKILL, "--hide-root", str(NOBODY))
    return os.geteuid() == 0 and subprocess.run(command).returncode == 0


# Where root runs the tests, Etude also has to work for somebody who is not root.
USERS = ["us", "not root"] if can_be_nobody() else ["us"]
# Converting the starter model is not what these tests are about.
BARE = {"PATH": os.environ["PATH"], "ETUDE_STARTER_MODEL": "false"}  # no HOME, no servers named


class Etude:
    """One `etude up` on a data directory and a free port."""

    def __init__(self, data_dir: Path, user: str = "us") -> None:
        self.data_dir = data_dir
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
            timeout=120,
            env=BARE,
        )

    def start(self) -> None:
        """Start it and wait until database, broker and both workers are well."""
        with self.printed.open("wb") as output:
            self.process = subprocess.Popen(
                self._command("up", "--port", str(self.port)),
                stdout=output,
                stderr=output,
                env=BARE,
            )
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + READY_SECONDS
        answer = (0, "")
        while time.monotonic() < deadline and self.process.poll() is None:
            with suppress(OSError, http.client.HTTPException):
                answer = self.get("/readyz")
            if answer[0] == http.client.OK and "Etude is ready at" in self.said():
                return
            time.sleep(0.1)
        pytest.fail(f"not ready: {answer}\n{self.said()}\n{self._logs()}")

    def get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def said(self) -> str:
        return self.printed.read_text()

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout=60)

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
    deadline = time.monotonic() + seconds
    while True:
        alive = {pid for pid, _, state in all_processes() if state != "Z"}
        left = {pid: line for pid, line in family.items() if pid in alive}
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


@pytest.fixture(params=["us"])
def etude(server_dir: Path, request: pytest.FixtureRequest) -> Iterator[Etude]:
    place = server_dir / f"up {request.node.name[:20]}"
    place.mkdir()
    etude = Etude(place / "var", user=request.param)
    yield etude
    if etude.process is not None:
        family = etude.processes()
        etude.process.kill()
        etude.process.wait()
        assert still_there(family, 20) == {}
    shutil.rmtree(place)


@pytest.mark.parametrize("etude", USERS, indirect=True)
def test_start_kill_start_again_and_stop(etude: Etude) -> None:
    etude.start()
    assert etude.get("/healthz")[0] == http.client.OK
    link = re.search(r"Open this link once .*:\d+(/setup/\S+)", etude.said())
    assert link is not None
    assert etude.get(link[1])[0] == http.client.OK
    family = etude.processes()
    for part in PARTS:
        etude.find(*part)
    added = etude.command(
        "user", "add", "ada@house.example", "--role", "admin", "--password-stdin", typed=PASSWORD
    )
    assert added.returncode == 0, added.stderr
    second = etude.command("up", "--port", "1")
    assert second.returncode == 1
    assert f"{etude.data_dir} is in use by etude up (process " in second.stderr

    assert etude.end(signal.SIGKILL) == -signal.SIGKILL
    assert still_there(family, 15) == {}

    etude.start()
    assert "/setup/" not in etude.said()  # somebody has a password by now
    assert etude.command("token", "create", "ada@house.example").returncode == 0
    family = etude.processes()
    assert etude.end(signal.SIGTERM) == 0
    assert still_there(family, 1) == {}
    assert "Your data stays in" in etude.said()


def test_what_is_killed_comes_back(etude: Etude) -> None:
    etude.start()
    etude.command("user", "add", "ada@house.example", "--password-stdin", typed=PASSWORD)
    killed = [etude.find(*part) for part in PARTS]
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    assert still_there(dict.fromkeys(killed, ""), 5) == {}
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(AssertionError):
            if not {etude.find(*part) for part in PARTS} & set(killed):
                break
        time.sleep(0.2)
    etude.wait_until_ready()
    assert etude.command("token", "create", "ada@house.example").returncode == 0
    assert "PostgreSQL had stopped; it runs again." in etude.said()
    assert etude.end(signal.SIGINT) == 0


def test_a_port_in_use_gets_one_sentence(etude: Etude) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused = etude.command("up", "--port", str(taken.getsockname()[1]))
    assert refused.returncode == 1
    assert "Choose another with --port" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    assert refused.stdout == ""
