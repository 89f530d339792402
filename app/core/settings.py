"""Every environment variable, typed and read once; a bad value stops the start."""

import difflib
import ipaddress
import os
from contextlib import suppress
from datetime import UTC, datetime, time, tzinfo
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import structlog
from pydantic import BaseModel, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

# Where containers are given what no environment should hold: a file each, named as the setting.
_SECRET_FILES = (
    *("/run/secrets", "/run/etude/owner", "/run/etude/database", "/run/etude/broker"),
    "/run/etude/metrics",
)
# Not settings, and yet no mistakes: what says who a process is, what the command line reads, what
# docker-compose.yml reads of .env, and what tests and benchmarks set.
_OTHERS = frozenset(
    {"WORKER_ID", "WORKER_HOST", "DEVICE", "MACHINE", "WEB_NUMBER", "URL", "TOKEN", "FAILPOINTS"}
    | {"PUBLISH", "REVISION", "TLS", "CERTIFICATES", "MODELS", "BACKUPS", "SECRETS", "VERSION"}
    | {"HTTP_PORT", "HTTPS_PORT", "MONITORING_PUBLISH", "PROXY_NETWORK", "PROXY_ADDRESS"}
    | {"JOIN_ADDRESS", "SHARED"}
    | {"WEB_MEMORY", "DATABASE_MEMORY", "BROKER_MEMORY", "CPU_WORKER_MEMORY", "TRAINER_MEMORY"}
    | {"ANSWER_MEMORY", "POSTGRES_PASSWORD", "POSTGRES_APP_PASSWORD", "VALKEY_PASSWORD", "IMAGE"}
    | {"REQUIRE_BROWSER", "GPU_PYTHON", "STEPS", "COMPLETE"}
)
JOINED_FILE = "joined.json"  # among the secrets
_OTHERS_BEGIN = ("TEST_", "BENCH_")
_LOCAL_TIME = Path("/etc/localtime")

_log = structlog.get_logger()


class Settings(BaseSettings):
    """Settings come from the environment: `DATABASE_URL`, `REDIS_URL` and `ETUDE_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="ETUDE_", extra="ignore")

    # Where things live. An empty URL means the server that Etude brings along (app/ops/embedded).
    data_dir: Path = Path("var")
    database_url: str = Field(default="", validation_alias="DATABASE_URL")
    # Who owns the tables: migrates, backs up and restores. Empty: DATABASE_URL's role does both.
    database_owner_url: str = Field(default="", validation_alias="DATABASE_OWNER_URL", repr=False)
    redis_url: str = Field(default="", validation_alias="REDIS_URL")
    # Passwords that do not stand in these addresses, for files in /run/secrets.
    database_password: str = Field(default="", validation_alias="DATABASE_PASSWORD", repr=False)
    database_owner_password: str = Field(
        default="", validation_alias="DATABASE_OWNER_PASSWORD", repr=False
    )
    redis_password: str = Field(default="", validation_alias="REDIS_PASSWORD", repr=False)
    # The same two as a machine that joins reaches them (app/machines/joining.py); empty: the same.
    join_database_url: str = Field(default="", repr=False)
    join_redis_url: str = Field(default="", repr=False)
    # Where several machines find the same files (app/core/shared_storage.py): a folder that all of
    # them mount, or s3://bucket/prefix of the server at s3_endpoint. Empty: files stay here.
    storage: str = ""
    s3_endpoint: str = ""
    s3_region: str = "us-east-1"
    s3_key: str = ""
    s3_secret: str = Field(default="", repr=False)
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    # Names under which browsers may reach us besides the bound address (DNS rebinding guard).
    allowed_hosts: list[str] = []
    # Another name of the machine than its host name: that with the domain.
    server_name: str = ""
    # Set where a proxy ends TLS in front of us: the session cookie is then sent over https only.
    secure_cookies: bool = False
    # Proxies in front of us, whose X-Forwarded-For and X-Forwarded-Proto are believed.
    trusted_proxies: list[str] = ["127.0.0.0/8", "::1/128"]
    # A sign-in ends after so long, and earlier where nobody does anything.
    session_hours: float = Field(default=12, gt=0)
    session_idle_minutes: float = Field(default=120, gt=0)
    shared_idle_minutes: float = Field(default=15, gt=0)
    # How many processes answer on the port; each takes its part of the connections.
    web_processes: int = Field(default=1, ge=1, le=8)
    # What one connection may take (app/web/connections.py).
    max_connections: int = Field(default=1000, ge=4)
    request_header_seconds: float = Field(default=10, gt=0)
    request_body_seconds: float = Field(default=30, gt=0)
    response_reader_seconds: float = Field(default=120, gt=0)
    # What a token may ask of /v1; 0: as much as it likes.
    v1_requests_per_minute: int = Field(default=600, ge=0)
    log_level: str = "INFO"
    # For hours of the day and months in limits, and every time that people read
    # (app/core/site_time.py); empty: the process's own.
    time_zone: str = ""
    log_format: Literal["logfmt", "json"] = "logfmt"

    # Whether a child that handles strangers' files or people's data runs where a wall around it
    # cannot stand (app/training/isolation): auto runs it and says so, required refuses.
    walls: Literal["auto", "required"] = "auto"

    # Uploads and reading
    max_upload_bytes: int = Field(default=8 * 1024**3, gt=0)
    reader_memory_bytes: int = Field(default=1536 * 1024**2, gt=0)
    # Reading ends after so long without a word, and after so long in all, by the file's size.
    reader_idle_seconds: float = Field(default=60, gt=0)
    reader_seconds: float = Field(default=60, gt=0)
    reader_seconds_per_gib: float = Field(default=30, ge=0)
    # Making examples writes each row anew: short ones took 150 s of a slow processor a GiB.
    builder_seconds_per_gib: float = Field(default=300, ge=0)
    reader_timeout_seconds: float = Field(default=1800, gt=0)
    min_examples: int = Field(default=10, ge=2)

    # The privacy gate (docs/privacy.md): whether a version must be decided before a job may use it.
    privacy_gate: Literal["required", "advised", "off"] = "required"
    privacy_timeout_seconds: float = Field(default=7200, gt=0)
    # A model of the site's own that finds names, as "module:function" (loaded in the child).
    privacy_recognizer: str = ""

    # Models. The starter model is a toy; a site with models of its own may do without it.
    starter_model: bool = True
    hub_downloads: bool = False
    hub_token: str = Field(default="", repr=False)
    # How much of models a machine keeps that it has fetched from the shared storage.
    model_cache_bytes: int = Field(default=200 * 1024**3, gt=0)
    # The same of all other files that lie there: uploads, adapters, results and exports.
    copy_cache_bytes: int = Field(default=100 * 1024**3, ge=0)
    # How large a model may be that an administrator uploads in the browser.
    max_model_upload_bytes: int = Field(default=64 * 1024**3, gt=0)

    # How long questions to a model and its answers are kept after the last one; 0: not at all.
    conversation_days: float = Field(default=30, ge=0)
    # Lists of questions: rows of a sheet, and how long nobody may answer before one is given up.
    list_rows: int = Field(default=2000, ge=1, le=100_000)
    list_patience_seconds: float = Field(default=3600, gt=0)

    # What an evaluation calls ready for a trial with people: the share of right answers is at least
    # so high and that of wrong ones at most, both with 95 % certainty (docs/evaluation.md).
    ready_min_right: float = Field(default=0.6, gt=0, le=1)
    ready_max_wrong: float = Field(default=0.15, ge=0, lt=1)
    # Whether each new adapter answers test questions by itself, and how many are drawn at most.
    evaluate_after_training: bool = True
    evaluation_questions: int = Field(default=1000, ge=24, le=10_000)

    # The queue (docs/queue.md). Off: first come, first served among jobs of equal priority.
    fair_share: bool = True
    share_half_life_days: float = Field(default=7, gt=0)
    # A worker that stands still while it holds the queue loses it.
    line_lock_seconds: float = Field(default=10, gt=0)
    # Notices (docs/operations.md). Without a mail server nothing is mailed.
    public_url: str = ""
    # Receivers inside the site's own network: names, addresses or networks.
    webhook_hosts: list[str] = []
    webhook_seconds: float = Field(default=20, gt=0, le=60)
    smtp_host: str = ""
    smtp_port: int = Field(default=587, ge=1, le=65535)
    smtp_tls: Literal["starttls", "tls", "none"] = "starttls"
    smtp_user: str = ""
    smtp_password: str = Field(default="", repr=False)
    mail_from: str = ""
    outbox_retry_seconds: list[float] = [5, 60, 300, 1800, 7200, 18000, 36000, 86400]

    # A backup every night at this time of the site, and how many are kept; empty: none by itself.
    backup_at: str = ""
    backup_dir: Path = Path("backups")
    backup_keep: int = Field(default=7, ge=1)

    # The house's own MLflow: jobs' figures and settings go there, and no rows. Empty: nothing does.
    mlflow_url: str = ""
    mlflow_experiment: str = Field(default="Etude", min_length=1)
    # How it is signed in to there: a token, or a name with a password.
    mlflow_token: str = Field(default="", repr=False)
    mlflow_user: str = ""
    mlflow_password: str = Field(default="", repr=False)

    # Measurements: /metrics answers to who has this token; without one to nobody.
    metrics_token: str = Field(default="", repr=False)
    # What energy costs at this site; 0: no money is shown.
    price_per_kwh: float = Field(default=0, ge=0)
    currency: str = "EUR"
    # Where the kernel shows the processor's energy; tests put a folder of their own in its place.
    powercap_dir: Path = Path("/sys/class/powercap")

    # Answering (docs/life-of-an-answer.md). The address is what the web is told, where that is not
    # the one that is listened on; port 0 takes any that is free.
    answer_host: str = "127.0.0.1"
    answer_port: int = Field(default=0, ge=0, le=65535)
    answer_address: str = ""
    answer_queue: int = Field(default=32, ge=1)
    answer_idle_minutes: float = Field(default=10, gt=0)
    answer_ahead_seconds: float = Field(default=120, ge=0)
    # Whoever reads nothing of an answer for so long is closed.
    answer_reader_seconds: float = Field(default=30, gt=0)
    # A vLLM of the site's own answers instead; adapters are put into a folder that both see.
    inference_url: str = ""
    inference_key: str = Field(default="", repr=False)
    inference_adapters: str = ""
    # For tests: other programs that speak the child's side of docs/life-of-an-answer.md.
    answer_module: str = "worker.inference"
    answer_convert_module: str = "worker.inference.convert"
    # For tests: another program that speaks the child's side of worker/cpu/exporting.py.
    export_module: str = "worker.exporting"

    # The job protocol (docs/life-of-a-job.md); tests shorten these.
    heartbeat_seconds: float = Field(default=10, gt=0)
    self_fence_seconds: float = Field(default=60, gt=0)
    lease_seconds: float = Field(default=90, gt=0)
    reap_grace_seconds: float = Field(default=30, ge=0)
    reaper_patience_seconds: float = Field(default=120, ge=0)
    sweep_seconds: float = Field(default=5, gt=0)
    metrics_flush_seconds: float = Field(default=0.1, gt=0)
    drain_seconds: float = Field(default=120, gt=0)
    max_strikes: int = Field(default=3, ge=1)
    retry_backoff_seconds: float = Field(default=5, ge=0)
    # Uploads, imports and jobs begin only where they leave so much of the disk free.
    disk_reserve_bytes: int = Field(default=512 * 1024**2, ge=0)
    # So long a deleted job or adapter can be had back, unless the disk is short.
    bin_days: float = Field(default=7, gt=0, le=365)
    stall_seconds: float = Field(default=600, gt=0)
    exit_seconds: float = Field(default=60, gt=0)  # of a child whose result is whole
    load_timeout_seconds: float = Field(default=1800, gt=0)
    stream_check_seconds: float = Field(default=25, gt=0)
    # How often a worker looks whether people want its job stopped, or another one here has died.
    watch_seconds: float = Field(default=1, gt=0)
    # A file that workers touch at each heartbeat that the database has taken; empty: none.
    beat_file: str = ""
    # Whether a trainer is stopped when its worker cannot reach the database for
    # self_fence_seconds. auto: not where the database, or every worker that trains, is on this
    # machine, since nobody else could take the job over then.
    fence_on_db_loss: Literal["auto", "yes", "no"] = "auto"
    # An idle worker whose hints bring nothing for so long is started afresh.
    deaf_seconds: float = Field(default=60, gt=0)
    # An idle worker keeps a trainer ready that has loaded torch (about 0.6 GB): jobs start sooner.
    warm_runner: bool = True
    # For tests: another program that speaks the trainer's side of docs/life-of-a-job.md.
    trainer_module: str = "worker.trainer"

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        if name:
            try:
                ZoneInfo(name)
            except (ZoneInfoNotFoundError, ValueError, OSError):
                raise ValueError("there is no such time zone; one is Europe/Berlin") from None
        return name

    @field_validator("backup_at")
    @classmethod
    def _known_time(cls, text: str) -> str:
        if text:
            try:
                time.fromisoformat(text)
            except ValueError:
                raise ValueError("this is no time of day; one is 02:30") from None
        return text

    @field_validator("mlflow_url")
    @classmethod
    def _plain_address(cls, url: str) -> str:
        if url:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
                raise ValueError("an address starts with http:// or https:// and names a host")
            if parts.username or parts.password:
                raise ValueError("name and password go into settings of their own")
        return url

    @field_validator("storage")
    @classmethod
    def _known_storage(cls, place: str) -> str:
        if place and not place.startswith("/"):
            parts = urlsplit(place)
            if parts.scheme != "s3" or not parts.hostname or parts.query or parts.username:
                raise ValueError("it is a folder such as /mnt/etude, or s3://bucket/prefix")
        return place

    @field_validator("trusted_proxies")
    @classmethod
    def _known_networks(cls, networks: list[str]) -> list[str]:
        for each in networks:
            try:
                ipaddress.ip_network(each)
            except ValueError:
                raise ValueError(f"{each!r} is no network; one is 10.0.0.0/8") from None
        return networks

    def zone(self) -> tzinfo:
        """The site's time zone."""
        return ZoneInfo(self.time_zone) if self.time_zone else _processes_zone()

    def reading_seconds(self, size_bytes: int, *, builds: bool = False) -> float:
        """How long the reading of a file may take, or the making of examples from it."""
        per_gib = self.builder_seconds_per_gib if builds else self.reader_seconds_per_gib
        of_this_size = self.reader_seconds + per_gib * size_bytes / 1024**3
        return min(of_this_size, self.reader_timeout_seconds)

    @property
    def local_host(self) -> str:
        """Under which this machine itself reaches the web."""
        anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - only translated here
        return anywhere.get(self.host, self.host)

    @property
    def local_address(self) -> str:
        host = f"[{self.local_host}]" if ":" in self.local_host else self.local_host
        return f"http://{host}:{self.port}"

    @property
    def connections_each(self) -> int:
        """How many connections one process of the web keeps open."""
        return max(4, self.max_connections // self.web_processes)

    @property
    def storage_dir(self) -> Path:
        """Uploaded files and adapters, by key (app/core/storage.py)."""
        return self.data_dir / "storage"

    @property
    def models_dir(self) -> Path:
        """Verified base models, one folder each."""
        return self.data_dir / "models"

    @property
    def jobs_dir(self) -> Path:
        """One JOB_DIR a job: what its trainer reads and writes."""
        return self.data_dir / "jobs"

    @property
    def cache_dir(self) -> Path:
        """What can be made again, such as base models packed in 4 bits; may be deleted."""
        return self.data_dir / "cache"

    @property
    def run_dir(self) -> Path:
        """Locks, process files and the names of running servers; nothing here outlives them."""
        return self.data_dir / "run"

    @property
    def secrets_dir(self) -> Path:
        """Generated passwords and keys, readable by the owner alone."""
        return self.data_dir / "secrets"

    @property
    def logs_dir(self) -> Path:
        return self.data_dir / "logs"


class Joined(BaseModel):
    """What a machine was told as it joined another's Etude; its own environment goes before."""

    address: str  # of the Etude that it has joined
    machine: str  # what it is called there
    settings: dict[str, Any]  # by their variables


def joined(data_dir: Path | str | None = None) -> Joined | None:
    """Return what this data directory's machine was told; None: it has joined nobody.

    Raises:
        SystemExit: the file cannot be read.
    """
    place = Path(data_dir or os.environ.get("ETUDE_DATA_DIR", "var"))
    file = place.expanduser() / "secrets" / JOINED_FILE
    try:
        return Joined.model_validate_json(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValidationError) as error:
        raise SystemExit(f"etude: {file} cannot be read: {str(error).splitlines()[0]}") from None


def variable_of(name: str) -> str:
    """Return the environment variable of a setting."""
    return str(Settings.model_fields[name].validation_alias or f"ETUDE_{name.upper()}")


def load(**values: Any) -> Settings:
    """Read the settings afresh, with what a command line gave on top.

    Raises:
        SystemExit: a value cannot be used; the message names the variable.
    """
    files = [folder for folder in _SECRET_FILES if Path(folder).is_dir()]
    told = joined(values.get("data_dir"))
    if told is not None:
        own = {name.upper() for name in os.environ}
        # The library knows a setting by its alias, where it has one.
        values = {
            str(field.validation_alias or name): told.settings[variable_of(name)]
            for name, field in Settings.model_fields.items()
            if variable_of(name) in told.settings and variable_of(name) not in own
        } | values
    try:
        settings = Settings(_secrets_dir=files or None, **values)
    except ValidationError as error:
        lines = [
            f"{_variable(str(problem['loc'][0]))}: {problem['msg']} (it is {problem['input']!r})"
            for problem in error.errors(include_url=False)
        ]
        raise SystemExit("Settings that cannot be used:\n  " + "\n  ".join(lines)) from None
    if not settings.self_fence_seconds < settings.lease_seconds:
        raise SystemExit(
            "ETUDE_SELF_FENCE_SECONDS must be smaller than ETUDE_LEASE_SECONDS: "
            "a worker has to stop before another may take over its job."
        )
    # A bucket's library would ask the network for what is missing here.
    needed = {"ENDPOINT": settings.s3_endpoint, "KEY": settings.s3_key}
    needed |= {"SECRET": settings.s3_secret}
    missing = [f"ETUDE_S3_{name}" for name, value in needed.items() if not value]
    if settings.storage.startswith("s3://") and missing:
        raise SystemExit(f"ETUDE_STORAGE names a bucket; it needs {' and '.join(missing)} too.")
    settings.data_dir = settings.data_dir.expanduser().absolute()
    for url, password in (
        ("database_url", settings.database_password),
        ("database_owner_url", settings.database_owner_password),
        ("redis_url", settings.redis_password),
        ("join_database_url", settings.database_password),
        ("join_redis_url", settings.redis_password),
    ):
        setattr(settings, url, _with_password(getattr(settings, url), password))
    return settings


@lru_cache
def get() -> Settings:
    """Return the settings of this process."""
    return load()


def unknown() -> list[str]:
    """Say of each `ETUDE_…` variable that no part of Etude reads what it may be meant to be."""
    known = {f"ETUDE_{name.upper()}" for name in Settings.model_fields}
    known |= {f"ETUDE_{name}" for name in _OTHERS}
    others = tuple(f"ETUDE_{name}" for name in _OTHERS_BEGIN)
    said = []
    for name in sorted(os.environ):
        if not name.upper().startswith("ETUDE_") or name.upper() in known:
            continue
        if not name.startswith(others):
            like = difflib.get_close_matches(name.upper(), sorted(known), 1)
            said.append(f"{name} is no setting of Etude" + (f"; {like[0]} is" if like else ""))
    return said


def tell_unknown() -> None:
    """Warn in the log of variables that look like settings and are none."""
    for sentence in unknown():
        _log.warning("settings.unknown", what=sentence)


def _with_password(url: str, password: str) -> str:
    """Put a password into an address that has a name and none."""
    parts = urlsplit(url)
    name, at, place = parts.netloc.rpartition("@")
    if not password or not at or ":" in name:
        return url
    return parts._replace(netloc=f"{name}:{quote(password, safe='')}@{place}").geturl()


def _processes_zone() -> tzinfo:
    # As the C library reads it, with its changes to summer time.
    named = os.environ.get("TZ")
    with suppress(ZoneInfoNotFoundError, OSError, ValueError):
        if named is None or named.startswith((":/", "/")):
            file = _LOCAL_TIME if named is None else Path(named.removeprefix(":"))
            found = file.stat()
            # It is mostly a link, and the files of all zones may be of the same moment.
            return _zone_in_file(file, (found.st_dev, found.st_ino, found.st_mtime_ns))
        return ZoneInfo(named.removeprefix(":") or "UTC")
    return datetime.now(UTC).astimezone().tzinfo or UTC


@lru_cache(maxsize=1)
def _zone_in_file(path: Path, _which: tuple[int, int, int]) -> tzinfo:
    with path.open("rb") as file:
        return ZoneInfo.from_file(file, key="machine")


def _variable(field: str) -> str:
    return field if field.isupper() else f"ETUDE_{field.upper()}"
