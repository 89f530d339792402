"""The house under test: `etude up`, further workers as of other machines, and all their parts.

Whoever ends is started again at once, as systemd would do it. Every process is found afresh when
it is wanted, by who its parent is and what its command line says.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.core import settings
from app.core.processes import start_ticks
from app.ops.embedded import folder, processes
from app.ops.embedded.postgres import Postgres
from app.ops.embedded.valkey import Valkey
from worker import identity

ROOT = Path(__file__).resolve().parents[2]
OTHER_HOST = "chaos-b"
_ANSWERER = "tests.worker.stand_in_answerer"
_EXPORTER = "bench.chaos.exporter"
_AGAIN_SECONDS = 0.5
# The protocol's constants a twentieth as long; all relations between them stay.
TIMINGS = {
    "ETUDE_HEARTBEAT_SECONDS": "0.5",
    "ETUDE_SELF_FENCE_SECONDS": "3",
    "ETUDE_LEASE_SECONDS": "4",
    "ETUDE_REAP_GRACE_SECONDS": "1",
    "ETUDE_REAPER_PATIENCE_SECONDS": "3",
    "ETUDE_SWEEP_SECONDS": "0.5",
    "ETUDE_WATCH_SECONDS": "0.2",
    "ETUDE_METRICS_FLUSH_SECONDS": "0.2",
    "ETUDE_RETRY_BACKOFF_SECONDS": "0",
    "ETUDE_DRAIN_SECONDS": "5",
    "ETUDE_STALL_SECONDS": "8",
    "ETUDE_LOAD_TIMEOUT_SECONDS": "30",
    "ETUDE_DEAF_SECONDS": "20",
    # Nothing in a recipe fails by itself, so a job that gives up is a finding.
    "ETUDE_MAX_STRIKES": "100000",
}


@dataclass
class Service:
    """One program that the house keeps running."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    start_at: float = 0.0
    num_starts: int = 0

    def keep_up(self) -> None:
        if self.process is not None and self.process.poll() is not None:
            # A worker killed outright may leave its pool behind; a new one must not meet it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process, self.start_at = None, time.monotonic() + _AGAIN_SECONDS
        if self.process is None and time.monotonic() >= self.start_at:
            command = processes.bound(self.command, signal.SIGKILL)
            self.process = processes.start(command, self.log, self.environment, cwd=ROOT)
            self.num_starts += 1

    def pids(self) -> list[int]:
        return [self.process.pid] if self.process is not None else []


class House:
    """All processes of one run, and where they live."""

    def __init__(self, run: Path, port: int, num_workers: int, worker: tuple[str, ...]) -> None:
        """Describe it; nothing is started.

        Args:
            run: The run's folder; the data directory lies in it.
            port: Of the web.
            num_workers: Gpu workers besides the one of `etude up`; the first on another host.
                Beside them there is a second cpu worker, so that one takes over from the other.
            worker: How such a gpu worker is started.
        """
        self.run = run
        self.port = port
        self.data_dir = run / "etude"
        self.settings = settings.Settings(data_dir=self.data_dir)
        self.postgres, self.valkey = Postgres(self.settings), Valkey(self.settings)
        folder.prepare(self.settings)
        for log in (run / "history", run / "logs"):
            log.mkdir(exist_ok=True)
        environment = self.environment()
        python = [sys.executable, "-m"]
        self.up = Service(
            "up",
            [*python, "app.cli", "up", "--data-dir", str(self.data_dir), "--port", str(port)],
            environment,
            run / "logs" / "up.log",
        )
        here, there = socket.gethostname(), OTHER_HOST if can_be_another_host() else ""
        self.workers = [
            self._worker("gpu", index, (there if index == 1 else "") or here, worker, environment)
            for index in range(1, num_workers + 1)
        ]
        cpu = ("app.cli", "worker", "cpu")
        self.cpu_workers = [self._worker("cpu", 1, here, cpu, environment)]
        self._is_over = threading.Event()
        self._guard: threading.Thread | None = None

    def environment(self) -> dict[str, str]:
        """Return what every process gets: no home, no foreign server, the short constants."""
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "ETUDE_STARTER_MODEL": "false",
            "ETUDE_TRAINER_MODULE": "bench.chaos.trainer",
            "ETUDE_V1_REQUESTS_PER_MINUTE": "0",
            "ETUDE_ANSWER_MODULE": _ANSWERER,
            "ETUDE_ANSWER_CONVERT_MODULE": "tests.worker.stand_in_converter",
            "ETUDE_EXPORT_MODULE": _EXPORTER,
            "ETUDE_DATA_DIR": str(self.data_dir),
            "CUDA_VISIBLE_DEVICES": "",
            **TIMINGS,
        }

    def _worker(
        self,
        queue: str,
        index: int,
        host: str,
        module: tuple[str, ...],
        environment: dict[str, str],
    ) -> Service:
        name = f"{queue}-{index}"
        own = {
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": self.valkey.url,
            "ETUDE_WORKER_ID": f"{name}@{host}",
            "ETUDE_DEVICE": "cpu",
            # On a machine of its own it must fear that others take over what it holds.
            "ETUDE_FENCE_ON_DB_LOSS": "yes" if host == OTHER_HOST else "auto",
        }
        command = [sys.executable, "-m", *module]
        if host == OTHER_HOST:
            command = ["/usr/bin/env", "unshare", "--uts", "sh", "-c",
                       f'hostname {host} && exec "$@"', "sh", *command]  # fmt: skip
        return Service(name, command, environment | own, self.run / "logs" / f"{name}.log")

    # --- its life ---

    def start(self) -> None:
        """Start everything and keep it up from now on."""
        self._is_over.clear()
        self._guard = threading.Thread(target=self._keep_up, name="guard", daemon=True)
        self._guard.start()

    def _keep_up(self) -> None:
        while not self._is_over.wait(0.1):
            for service in (self.up, *self.workers, *self.cpu_workers):
                service.keep_up()

    def stop(self) -> None:
        """End everything in order; what is deaf is killed."""
        self._is_over.set()
        if self._guard is not None:
            self._guard.join()
        services = (*self.workers, *self.cpu_workers, self.up)
        for service in services:
            for pid in service.pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
        for service in services:
            if service.process is None:
                continue
            try:
                service.process.wait(60)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(service.process.pid, signal.SIGKILL)
                service.process.wait()
            service.process = None
        self.postgres.stop()
        self.valkey.stop()

    # --- its parts ---

    def find(self, role: str) -> list[int]:
        """Return the living processes of a role."""
        return [pid for pid in _ROLES[role](self) if start_ticks(pid) is not None]

    def all_parts(self) -> list[int]:
        """Return every process, parents first."""
        found = [pid for role in ("up", "gpu worker", "cpu worker", "postgres", "valkey")
                 for pid in self.find(role)]  # fmt: skip
        for pid in found:  # grows while it is walked
            found += [child for child in identity.children(pid) if child not in found]
        return found

    def _gpu_workers(self) -> list[int]:
        own = _children_with(self.up.pids(), "gpu")
        return own + [pid for service in self.workers for pid in service.pids()]

    def _supervisors(self) -> list[int]:
        return _children_with(self._gpu_workers(), "celery")

    def _postgres(self) -> list[int]:
        pid = self.postgres.pid()
        return [pid] if pid is not None else []

    def _valkey(self) -> list[int]:
        pid = self.valkey.pid()
        return [pid] if pid is not None else []

    def _answer_workers(self) -> list[int]:
        return _children_with(self.up.pids(), "worker.answer")

    def _cpu_workers(self) -> list[int]:
        own = _children_with(self.up.pids(), "cpu")
        return own + [pid for service in self.cpu_workers for pid in service.pids()]

    def _cpu_children(self) -> list[int]:
        return _children_with(self._cpu_workers(), "celery")


_ROLES: dict[str, Callable[[House], list[int]]] = {
    "up": lambda house: house.up.pids(),
    "web": lambda house: _children_with(house.up.pids(), "app.cli web"),
    "gpu worker": House._gpu_workers,
    "supervisor": House._supervisors,
    "trainer": lambda house: _children_with(house._supervisors(), "bench.chaos.trainer"),
    "evaluator": lambda house: _children_with(house._supervisors(), _ANSWERER),
    "answer worker": House._answer_workers,
    "answerer": lambda house: _children_with(house._answer_workers(), _ANSWERER),
    "cpu worker": House._cpu_workers,
    "cpu child": lambda house: house._cpu_children(),
    "exporter": lambda house: _children_with(house._cpu_children(), _EXPORTER),
    "valkey": House._valkey,
    "postgres": House._postgres,
    "backend": lambda house: _children_with(house._postgres(), "postgres: etude"),
}


def can_be_another_host() -> bool:
    """Say whether a process may have a host name of its own here."""
    tried = subprocess.run(
        ["unshare", "--uts", "sh", "-c", f"hostname {OTHER_HOST}"], capture_output=True, check=False
    )
    return tried.returncode == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _children_with(parents: list[int], words: str) -> list[int]:
    return [
        pid for parent in parents for pid in identity.children(parent) if words in command_line(pid)
    ]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
