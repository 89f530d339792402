"""`etude up`: both servers, the web and the workers of one machine under one supervisor.

Children die with us: after a kill -9 of us the kernel ends the web and the workers at once and
asks the servers to stop; what is left of those, the next start stops. Everything that a child
prints goes to its file below logs/.
"""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from app.base_models import registry as base_models
from app.core import db, migrations, outbound, settings
from app.ops.embedded import folder, processes
from app.ops.embedded.servers import Servers
from app.people import auth

_LOOK_SECONDS = 0.5
_FIRST_BACKOFF_SECONDS, _MAX_BACKOFF_SECONDS = 0.5, 30.0
# A child that lived this long and then died starts again at once.
_HEALTHY_SECONDS = 60
_OF_THE_OWNER = ("DATABASE_OWNER_URL", "DATABASE_OWNER_PASSWORD")
# A slow disk reads some hundred modules the first time.
_WEB_START_SECONDS = 120


@dataclass
class Child:
    """One process of ours: started, watched, started again when it dies."""

    name: str
    command: list[str]
    environment: dict[str, str]
    # How long it may take to end when asked, before it is killed.
    grace_seconds: float
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float = 0.0  # not before then
    backoff_seconds: float = _FIRST_BACKOFF_SECONDS

    def start(self, logs: Path | None) -> None:
        """Start it, with its output in a file below `logs`; without such a folder, in ours."""
        # The database goes down with us: there would be nobody to hand a job back to.
        command = processes.bound(self.command, signal.SIGKILL)
        if logs is None:
            self.process = subprocess.Popen(command, env=self.environment, start_new_session=True)
        else:
            self.process = processes.start(command, logs / f"{self.name}.log", self.environment)
        self.started_at = time.monotonic()

    def has_ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def gave_up(self) -> bool:
        """Say whether it has ended with an error of its own, and not by a signal."""
        return self.process is not None and (self.process.poll() or 0) > 0

    def signal_group(self, sign: signal.Signals) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, sign)

    def ask_to_end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()


@dataclass
class _Stop:
    """What Ctrl-C and SIGTERM set: once means in order, twice means now."""

    asked: threading.Event = field(default_factory=threading.Event)
    now: threading.Event = field(default_factory=threading.Event)

    def __call__(self, *_: object) -> None:
        (self.now if self.asked.is_set() else self.asked).set()


def run(chosen: settings.Settings) -> None:
    """Start everything, stay until told to stop, stop everything.

    Raises:
        SystemExit: it cannot start; one sentence for the person who started it.
    """
    stop = _Stop()
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Under nohup a hang-up is ignored, and stays so.
        if signal.getsignal(sign) is not signal.SIG_IGN:
            signal.signal(sign, stop)
    folder.prepare(chosen)
    for sentence in settings.unknown():
        _say(f"Note: {sentence}.")
    with _data_dir(chosen):
        _check_port(chosen)
        servers = Servers(chosen)
        children: list[Child] = []
        try:
            servers.start()
            environment = _environment(chosen, servers)
            link = _prepare_database(environment, servers.database_owner_url)
            children = _children(chosen, environment)
            for child in children:
                child.start(chosen.logs_dir)
            _announce(chosen, servers, children, link, stop)
            while not stop.asked.wait(_LOOK_SECONDS):
                _mend(chosen, servers, children, stop)
        finally:
            if children:
                _say(
                    "Stopping. A running job saves a checkpoint first; "
                    "press Ctrl-C again to stop at once."
                )
            _stop_children(children, stop)
            servers.stop()
        _say(f"Stopped. Your data stays in {chosen.data_dir}.")


def run_web(chosen: settings.Settings) -> None:
    """Start the processes of the web alone, where there are several, and keep them running."""
    stop = _Stop()
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, stop)
    children = _web(chosen, dict(os.environ))
    try:
        for child in children:
            child.start(None)
        while not stop.asked.wait(_LOOK_SECONDS):
            _mend_children(children, None)
    finally:
        _stop_children(children, stop)


@contextmanager
def _data_dir(chosen: settings.Settings) -> Iterator[None]:
    try:
        # A command may hold it for a moment; another `etude up` never lets go by itself.
        with folder.lock(chosen, "etude up", wait_seconds=3):
            yield
    except folder.Busy as busy:
        raise SystemExit(
            f"{chosen.data_dir} is in use by {busy}: stop it first, "
            "or choose another --data-dir and --port."
        ) from None


def worker_command(queue: str, worker_id: str) -> list[str]:
    """Return what starts one worker; the servers are named in its environment."""
    command = [sys.executable, "-m", "celery", "--app", "worker.celery_app", "--quiet", "worker"]
    # Its own name is a bell, too: it rings that for what it alone may be able to train.
    command += ["--queues", f"{queue},{worker_id}", "--hostname", worker_id]
    command += ["--pool", "prefork", "--concurrency", "1", "--loglevel", "INFO"]
    # What those would do, the database does (docs/decisions); they only cost connections.
    return [*command, "--without-gossip", "--without-mingle", "--without-heartbeat"]


def answer_command() -> list[str]:
    """Return what starts the process that answers; the database is named in its environment."""
    return [sys.executable, "-m", "worker.answer"]


def accelerators() -> list[str]:
    """Return the devices that get a gpu worker each: the GPUs, or the CPU where there is none.

    Asks the driver and not torch, which this process never imports.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name for name in visible.split(",") if name.strip() not in ("", "-1")]
        return [f"cuda:{index}" for index in range(len(names))] or ["cpu"]
    try:
        said = subprocess.run(
            ["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=20, check=False
        )
        count = sum(line.startswith("GPU ") for line in said.stdout.splitlines())
    except (OSError, subprocess.TimeoutExpired):
        folder = Path("/proc/driver/nvidia/gpus")
        count = len(list(folder.iterdir())) if folder.is_dir() else 0
    return [f"cuda:{index}" for index in range(count)] or ["cpu"]


def _environment(chosen: settings.Settings, servers: Servers) -> dict[str, str]:
    # Caches of libraries go below the data directory: HOME may be unset, or not ours to fill.
    cache = chosen.data_dir / "cache"
    usual = {
        "HF_HOME": str(cache / "huggingface"),
        "XDG_CACHE_HOME": str(cache),
        # Its threads do not survive the fork of a Celery worker, and it warns of that.
        "TOKENIZERS_PARALLELISM": "false",
    }
    return (
        usual
        # None of them is told who owns the tables.
        | {name: value for name, value in os.environ.items() if name not in _OF_THE_OWNER}
        | outbound.NO_TELEMETRY
        | {
            "DATABASE_URL": servers.database_url,
            "REDIS_URL": servers.redis_url,
            "ETUDE_DATA_DIR": str(chosen.data_dir),
            "ETUDE_HOST": chosen.host,
            "ETUDE_PORT": str(chosen.port),
            "PYTHONUNBUFFERED": "1",
        }
    )


def _prepare_database(environment: dict[str, str], owner_url: str) -> str | None:
    """Migrate, register the starter model, and make the first link if nobody can sign in yet."""
    os.environ |= {"DATABASE_URL": environment["DATABASE_URL"], "DATABASE_OWNER_URL": owner_url}
    settings.get.cache_clear()
    db.forget()
    with db.owner_engine() as engine:
        migrations.upgrade(engine)
    with db.session() as session:
        if settings.get().starter_model:
            base_models.add_starter(session)
        link = None
        if auth.needs_first_administrator(session):
            link = auth.create_setup_link(session, None)
        session.commit()
    db.engine().dispose()
    return link


def _children(chosen: settings.Settings, environment: dict[str, str]) -> list[Child]:
    host = socket.gethostname()
    drain = chosen.drain_seconds + 15
    children = _web(chosen, environment)
    devices = accelerators()
    trained_on = {f"gpu-{index}": device for index, device in enumerate(devices)}
    if len(devices) > 1:
        trained_on["gpu-all"] = ",".join(devices)  # for what one of them does not hold
    # Not by `etude worker`, which becomes the same after a second of its own.
    for name, device in (trained_on | {"cpu-0": "cpu"}).items():
        queue, worker_id = name.partition("-")[0], f"{name}@{host}"
        children.append(
            Child(
                "worker-cpu" if queue == "cpu" else f"worker-{name}",
                worker_command(queue, worker_id),
                environment | {"ETUDE_WORKER_ID": worker_id, "ETUDE_DEVICE": device},
                grace_seconds=drain,
            )
        )
    answering = {"ETUDE_WORKER_ID": f"answer-0@{host}", "ETUDE_DEVICE": ",".join(devices)}
    children.append(Child("answer", answer_command(), environment | answering, grace_seconds=10))
    return children


def _web(chosen: settings.Settings, environment: dict[str, str]) -> list[Child]:
    command = [sys.executable, "-m", "app.cli", "web"]
    if chosen.web_processes == 1:
        return [Child("web", command, environment, grace_seconds=10)]
    # What they count for /metrics, each in files of its own; what is there is an earlier start's.
    counts = chosen.run_dir / "web-counts"
    shutil.rmtree(counts, ignore_errors=True)
    counts.mkdir(parents=True)
    environment = environment | {"PROMETHEUS_MULTIPROC_DIR": str(counts)}
    return [
        Child(
            "web" if number == 1 else f"web-{number}",
            command,
            environment | {"ETUDE_WEB_NUMBER": str(number)},
            grace_seconds=10,
        )
        for number in range(1, chosen.web_processes + 1)
    ]


def _announce(
    chosen: settings.Settings,
    servers: Servers,
    children: list[Child],
    link: str | None,
    stop: _Stop,
) -> None:
    host, address = chosen.local_host, chosen.local_address
    deadline = time.monotonic() + _WEB_START_SECONDS
    looked_at = time.monotonic()
    while not _answers(host, chosen.port):
        if stop.asked.is_set():
            return
        # One that gives up by itself would do so again; one that was killed is started again.
        if children[0].gave_up() or time.monotonic() > deadline:
            log = chosen.logs_dir / "web.log"
            said = processes.last_line(log)
            raise SystemExit(f"The web did not start; its log is {log}. It said: {said}")
        if time.monotonic() - looked_at >= _LOOK_SECONDS:
            _mend(chosen, servers, children, stop)
            looked_at = time.monotonic()
        time.sleep(0.05)
    (chosen.run_dir / "address").write_text(
        address + "\n"
    )  # for `etude ask` and the demo, on whatever port
    _say(f"Etude is ready at {address}")
    if link is not None:
        _say(f"Open this link once to set your password: {address}/setup/{link}")
    _say("Press Ctrl-C to stop.")


def _mend(chosen: settings.Settings, servers: Servers, children: list[Child], stop: _Stop) -> None:
    """Start again whatever has died."""
    _mend_children(children, chosen.logs_dir)
    try:
        for name in servers.revive():
            _say(f"{name} had stopped and is running again.")
    except SystemExit as error:
        _say(f"{error} Trying again.")
        stop.asked.wait(5)


def _mend_children(children: list[Child], logs: Path | None) -> None:
    for child in children:
        if child.has_ended():
            _note_death(child)
        if child.process is None and time.monotonic() >= child.start_at:
            child.start(logs)


def _note_death(child: Child) -> None:
    assert child.process is not None
    code = child.process.returncode
    # A worker killed outright may leave its pool behind; a new one must not meet it.
    child.signal_group(signal.SIGKILL)
    if time.monotonic() - child.started_at > _HEALTHY_SECONDS:
        child.backoff_seconds = _FIRST_BACKOFF_SECONDS
    _say(f"{child.name} ended (exit {code}); it starts again in {child.backoff_seconds:.1f} s.")
    child.process = None
    child.start_at = time.monotonic() + child.backoff_seconds
    child.backoff_seconds = min(child.backoff_seconds * 2, _MAX_BACKOFF_SECONDS)


def _stop_children(children: list[Child], stop: _Stop) -> None:
    for child in children:
        child.ask_to_end()
    began = time.monotonic()
    for child in children:
        while child.process is not None and not child.has_ended():
            if stop.now.is_set() or time.monotonic() - began > child.grace_seconds:
                break
            time.sleep(0.05)
        child.signal_group(signal.SIGKILL)
        if child.process is not None:
            child.process.wait()


def _check_port(chosen: settings.Settings) -> None:
    family = socket.AF_INET6 if ":" in chosen.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((chosen.host, chosen.port))
        except OSError as error:
            raise SystemExit(
                f"Etude cannot listen on {chosen.host}:{chosen.port}: {error.strerror}. "
                "Choose another with --port (and --host)."
            ) from None


def _answers(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _say(sentence: str) -> None:
    # The terminal may be gone; that must not keep us from stopping in order.
    with suppress(OSError):
        print(sentence, flush=True)
