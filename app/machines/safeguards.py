"""What keeps data here: walls, settings that allow connections, and what was tried."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.core import clock, outbound, settings
from app.core import walls as children
from app.core.models import AuditEvent, OutboundCount, Role, User, Webhook
from app.core.sentences import counted
from app.people.auth import require_role

_FORGET_AFTER = timedelta(days=7)
_NIGHTLY = timedelta(hours=26)
# By the names that app/training/isolation gives them: what each is called here, and keeps out.
_WALLS = {
    "user": ("No user of rank", "They are not root, and own nothing but what they write."),
    "privileges": ("No rights", "They have no administrator's rights, and can gain none."),
    "files": (
        "No other files",
        "They open what they were given, and neither each other's files nor passwords.",
    ),
    "system calls": (
        "No other programs",
        "They start no programs (a trainer may run the compiler), look into no other process, "
        "and change nothing in the system.",
    ),
    "network": (
        "No network",
        "Readers of files, trainers and models reach nothing but themselves.",
    ),
}
_ASK = "“etude doctor” on this machine says what to change."


@dataclass(frozen=True)
class Wall:
    """One wall around the processes that open what strangers sent."""

    name: str
    stands: bool
    why: str  # what it keeps out, or why it does not stand


@dataclass(frozen=True)
class Opening:
    """A setting that would allow a connection to another machine."""

    name: str
    setting: str
    state: str  # "Off", or where it leads
    is_open: bool


@dataclass(frozen=True)
class Tried:
    """What one process has tried to reach beyond its machine."""

    process: str
    since: datetime
    seen_at: datetime
    allowed: dict[str, int]
    unexpected: dict[str, int]


@dataclass(frozen=True)
class Backup:
    """The last backup that was taken, of which the audit log knows."""

    at: datetime | None
    age: str  # in words
    place: str  # a file, or "standard output"
    is_late: bool  # one is wanted every night, and there is none so young


def may_see(user: User) -> None:
    """Refuse everyone but administrators."""
    require_role(user, Role.ADMIN)


def walls() -> tuple[Wall, ...]:
    """Say which walls stand on this machine; asked of the kernel once a process."""
    return tuple(
        Wall(title, wall.stands, keeps_out if wall.stands else f"{wall.why}. {_ASK}")
        for wall in children.standing(settings.get())
        for title, keeps_out in [_WALLS[wall.name]]
    )


def openings(db: Session) -> list[Opening]:
    """List the settings that would allow a connection to another machine, with their state."""
    chosen = settings.get()
    num_webhooks = db.scalars(select(func.count()).select_from(Webhook)).one()
    hub = "On: models may be downloaded" if chosen.hub_downloads else ""
    webhooks = "On: 1 address" if num_webhooks == 1 else f"On: {num_webhooks} addresses"
    return [
        _opening("Downloads of models", "ETUDE_HUB_DOWNLOADS", hub),
        _opening("Mail", "ETUDE_SMTP_HOST", _on(chosen.smtp_host)),
        _opening("Webhooks", "page “Webhooks and e-mail”", webhooks if num_webhooks else ""),
        _opening(
            "Figures and settings of jobs, for the site's MLflow",
            "ETUDE_MLFLOW_URL",
            _on(_host(chosen.mlflow_url)),
        ),
        _opening(
            "A model server of the site", "ETUDE_INFERENCE_URL", _on(_host(chosen.inference_url))
        ),
        _opening("A database of the site", "DATABASE_URL", _on(_elsewhere(chosen.database_url))),
        _opening("A broker of the site", "REDIS_URL", _on(_elsewhere(chosen.redis_url))),
        _opening("A storage that machines share", "ETUDE_STORAGE", _on(_host(chosen.s3_endpoint))),
    ]


def last_backup(db: Session) -> Backup:
    """Return what the audit log knows of backups."""
    taken = db.execute(
        select(AuditEvent.at, AuditEvent.detail, clock.NOW.label("now"))
        .where(AuditEvent.action == "backup.take")
        .order_by(AuditEvent.id.desc())
        .limit(1)
    ).one_or_none()
    is_wanted = bool(settings.get().backup_at)
    if taken is None:
        began, now = db.execute(select(func.min(AuditEvent.at), clock.NOW)).one()
        has_had_a_night = began is not None and now - began > _NIGHTLY
        return Backup(None, "", "", is_wanted and has_had_a_night)
    age = taken.now - taken.at
    is_late = is_wanted and age > _NIGHTLY
    return Backup(taken.at, _in_words(age), str(taken.detail.get("to", "")), is_late)


def _in_words(age: timedelta) -> str:
    hours = age.total_seconds() / 3600
    if hours < 1:
        return "less than an hour"
    if hours < 48:
        return counted(round(hours), "1 hour", "{n} hours")
    return counted(age.days, "1 day", "{n} days")


def record(db: Session, process: str) -> None:
    """Write down what this process and its forks have tried so far, if they are watched."""
    since = outbound.watched_since()
    if since is None:
        return
    counts = outbound.read()
    values = {
        "allowed": counts.allowed,
        "unexpected": counts.unexpected,
        "started_at": since,
        "seen_at": clock.NOW,
    }
    db.execute(
        insert(OutboundCount)
        .values(process=process, **values)
        .on_conflict_do_update(index_elements=["process"], set_=values)
    )


def tried(db: Session) -> list[Tried]:
    """Return what each process has tried since it started."""
    rows = db.scalars(select(OutboundCount).order_by(OutboundCount.process))
    return [
        Tried(row.process, row.started_at, row.seen_at, row.allowed, row.unexpected) for row in rows
    ]


def forget_old(db: Session) -> None:
    """Forget processes that have not been seen for a week."""
    db.execute(delete(OutboundCount).where(OutboundCount.seen_at < clock.NOW - _FORGET_AFTER))


def _opening(name: str, setting: str, on: str) -> Opening:
    return Opening(name, setting, on or "Off", bool(on))


def _on(host: str) -> str:
    return f"On: {host}" if host else ""


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return url


def _elsewhere(url: str) -> str:
    host = _host(url)
    return "" if host in ("localhost", "127.0.0.1", "::1") else host
