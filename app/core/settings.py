"""Every environment variable, typed and read once; a bad value stops the start."""

from contextlib import suppress
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Settings come from the environment: `DATABASE_URL`, `REDIS_URL` and `ETUDE_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="ETUDE_", extra="ignore")

    # Where things live. An empty URL means the server that Etude brings along (app/ops/embedded).
    data_dir: Path = Path("var")
    database_url: str = Field(default="", validation_alias="DATABASE_URL")
    redis_url: str = Field(default="", validation_alias="REDIS_URL")
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    # Names under which browsers may reach us besides the bound address (DNS rebinding guard).
    allowed_hosts: list[str] = []
    # Set where a proxy ends TLS in front of us: the session cookie is then sent over https only.
    secure_cookies: bool = False
    session_hours: float = Field(default=12, gt=0)
    log_level: str = "INFO"
    # For hours of the day and months in limits, and times on pages; empty: the machine's own.
    time_zone: str = ""
    log_format: Literal["logfmt", "json"] = "logfmt"

    # Uploads and reading
    max_upload_bytes: int = Field(default=8 * 1024**3, gt=0)
    reader_memory_bytes: int = Field(default=1536 * 1024**2, gt=0)
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

    # The queue (docs/queue.md). Off: first come, first served among jobs of equal priority.
    fair_share: bool = True
    share_half_life_days: float = Field(default=7, gt=0)
    # A worker that stands still while it holds the queue loses it.
    line_lock_seconds: float = Field(default=10, gt=0)
    # Notices (docs/operations.md). Without a mail server nothing is mailed.
    public_url: str = ""
    smtp_host: str = ""
    smtp_port: int = Field(default=587, ge=1, le=65535)
    smtp_tls: Literal["starttls", "tls", "none"] = "starttls"
    smtp_user: str = ""
    smtp_password: str = Field(default="", repr=False)
    mail_from: str = ""
    outbox_retry_seconds: list[float] = [5, 60, 300, 1800, 7200, 18000, 36000, 86400]

    # Measurements: /metrics answers to who has this token; without one to nobody.
    metrics_token: str = Field(default="", repr=False)
    # What energy costs at this site; 0: no money is shown.
    price_per_kwh: float = Field(default=0, ge=0)
    currency: str = "EUR"
    # Where the kernel shows the processor's energy; tests put a folder of their own in its place.
    powercap_dir: Path = Path("/sys/class/powercap")

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
    # A job begins only where its files leave so much of the data directory's disk free.
    disk_reserve_bytes: int = Field(default=512 * 1024**2, ge=0)
    stall_seconds: float = Field(default=600, gt=0)
    load_timeout_seconds: float = Field(default=1800, gt=0)
    stream_check_seconds: float = Field(default=25, gt=0)
    # How often a worker looks whether people want its job stopped, or another one here has died.
    watch_seconds: float = Field(default=1, gt=0)
    # Whether a trainer is stopped when its worker cannot reach the database for
    # self_fence_seconds. auto: not where the database is on this machine, since nobody else could
    # take the job over then.
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

    def zone(self) -> tzinfo:
        """The site's time zone."""
        return ZoneInfo(self.time_zone) if self.time_zone else _machines_zone()

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


def load(**values: Any) -> Settings:
    """Read the settings afresh, with what a command line gave on top.

    Raises:
        SystemExit: a value cannot be used; the message names the variable.
    """
    try:
        settings = Settings(**values)
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
    settings.data_dir = settings.data_dir.expanduser().absolute()
    return settings


@lru_cache
def get() -> Settings:
    """Return the settings of this process."""
    return load()


def _machines_zone() -> tzinfo:
    # As the C library reads it, with its changes to summer time.
    with suppress(OSError, ValueError), Path("/etc/localtime").open("rb") as file:
        return ZoneInfo.from_file(file, key="machine")
    return datetime.now(UTC).astimezone().tzinfo or UTC


def _variable(field: str) -> str:
    return field if field.isupper() else f"ETUDE_{field.upper()}"
