"""How another machine joins: an administrator's one-time token, and what it is told for it.

A machine that trains needs the database, the broker, the storage that machines share, and the
settings by which all of them decide about the same rows. It is told those once, over https, for a
token that is used up by it, and kept as a hash alone. docs/second-machine.md says what it can do
with them.
"""

import hashlib
import re
import secrets as random
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from sqlalchemy import delete, func, make_url, select, update
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session

from app.core import audit, clock, secrets, settings
from app.core.errors import Conflict, Forbidden, Invalid, NotFound
from app.core.models import MachineJoin, Role, User, Worker
from app.people.auth import require_role

TOKEN_MINUTES = 60
MAX_NAME_LENGTH = 40
_PREFIX = "join-"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_LOOPBACK = ("", "localhost", "127.0.0.1", "::1")

# What each machine decides for itself, or what only web and cpu workers use: nobody is told more
# than it needs. Fields that hold a secret are never told, but for those that stand below.
_OWN = frozenset(
    {
        *("data_dir", "host", "port", "allowed_hosts", "server_name", "secure_cookies"),
        *("trusted_proxies", "web_processes", "max_connections", "max_upload_bytes"),
        *("session_hours", "session_idle_minutes", "shared_idle_minutes", "public_url"),
        *("request_header_seconds", "request_body_seconds", "response_reader_seconds"),
        *("v1_requests_per_minute", "hub_downloads", "starter_model", "max_model_upload_bytes"),
        *("webhook_hosts", "webhook_seconds", "outbox_retry_seconds", "mail_from"),
        *("smtp_host", "smtp_port", "smtp_tls", "smtp_user"),
        *("mlflow_url", "mlflow_experiment", "mlflow_user"),
        *("backup_at", "backup_dir", "backup_keep", "powercap_dir", "beat_file"),
        *("answer_host", "answer_port", "answer_address", "inference_url", "inference_adapters"),
        *("model_cache_bytes", "copy_cache_bytes", "disk_reserve_bytes", "warm_runner"),
        *("log_level", "log_format"),
        *("fence_on_db_loss", "privacy_recognizer", "database_url", "redis_url"),
    }
)
_SECRETS = frozenset({"s3_secret"})


class Told(BaseModel):
    """What a machine is told; it holds passwords."""

    machine: str
    settings: dict[str, Any]  # by their variables
    secrets: dict[str, str]  # by their files


def start(db: Session, admin: User, name: str) -> str:
    """Make a token with which one machine joins under a name; the caller commits.

    Raises:
        Forbidden: it is not an administrator who asks.
        Invalid: the name cannot be one, or another machine could not reach this site's servers.
        Conflict: a machine of this name is here already.
    """
    require_role(admin, Role.ADMIN)
    name = name.strip().lower()
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME_LENGTH:
        raise Invalid(
            f"Use 1 to {MAX_NAME_LENGTH} small letters, digits and hyphens, e.g. gpu-room-2.",
            field="machine",
        )
    if problem := obstacle(settings.get()):
        raise Invalid(problem, field="machine")
    # Whoever did not come in time makes way.
    over = (MachineJoin.used_at.is_(None), MachineJoin.expires_at < clock.NOW)
    db.execute(delete(MachineJoin).where(*over))
    bears = select(Worker.id).where(func.split_part(Worker.id, "@", 2) == name)
    joins = select(MachineJoin.id).where(MachineJoin.machine == name)
    if db.scalar(select(bears.exists() | joins.exists())):
        raise Conflict(f"There is a machine {name} already; choose another name.", field="machine")
    token = _PREFIX + random.token_urlsafe(32)
    expires_at = clock.NOW + timedelta(minutes=TOKEN_MINUTES)
    row = MachineJoin(token_hash=_digest(token), machine=name, by_id=admin.id)
    row.expires_at = db.scalars(select(expires_at)).one()
    db.add(row)
    db.flush()
    audit.record(db, admin, "machine.invite", f"machine {name}")
    return token


def withdraw(db: Session, admin: User, join_id: int) -> None:
    """Take back a token that nobody has used, or forget a machine that is gone.

    Raises:
        Forbidden: it is not an administrator who asks.
        NotFound: there is none.
    """
    require_role(admin, Role.ADMIN)
    row = db.get(MachineJoin, join_id, with_for_update=True)
    if row is None:
        raise NotFound("There is no such machine; it may have been removed.")
    db.delete(row)
    db.flush()
    audit.record(db, admin, "machine.forget", f"machine {row.machine}")


def list_joins(db: Session, admin: User) -> Sequence[MachineJoin]:
    """Return the machines that have joined or may still do so; for administrators."""
    require_role(admin, Role.ADMIN)
    lasting = MachineJoin.used_at.is_not(None) | (MachineJoin.expires_at > clock.NOW)
    return db.scalars(select(MachineJoin).where(lasting).order_by(MachineJoin.machine)).all()


def join(db: Session, token: str, version: str, own_version: str, address: str) -> Told:
    """Use a token up, and say what its machine needs; the caller commits before it answers.

    Args:
        token: As the machine sent it.
        version: Its version of Etude.
        own_version: Ours.
        address: Where it asks from.

    Raises:
        Forbidden: the token is none, was used, or has expired.
        Conflict: the machine runs another version, or ours cannot be joined.
    """
    row = db.scalars(
        select(MachineJoin).where(MachineJoin.token_hash == _digest(token)).with_for_update()
    ).one_or_none()
    now = db.scalars(select(clock.NOW)).one()
    if row is None or row.used_at is not None or row.expires_at <= now:
        raise Forbidden(
            "This token is not valid: each is good for one machine and one hour. Make a new one "
            "on the page Machines."
        )
    # Before it is used up: whoever mends this comes again with the same.
    if version != own_version:
        raise Conflict(
            f"This machine has Etude {version or 'of an unknown version'}, and the site has "
            f"{own_version}; install that one, then join again."
        )
    chosen = settings.get()
    if problem := obstacle(chosen):
        raise Conflict(problem)
    db.execute(
        update(MachineJoin)
        .where(MachineJoin.id == row.id)
        .values(used_at=clock.NOW, used_from=address)
    )
    audit.record(db, None, "machine.join", f"machine {row.machine}", address=address)
    return _told(chosen, row.machine)


def obstacle(chosen: settings.Settings) -> str:
    """Say what keeps other machines from joining this site; empty: nothing does."""
    if not chosen.storage:
        return (
            "Files lie on this machine alone. Set ETUDE_STORAGE to a folder that every machine "
            "mounts, or to a bucket, and run “etude storage share”; then other machines can join."
        )
    for name, own, url in (
        ("database", "JOIN_DATABASE_URL", chosen.join_database_url or chosen.database_url),
        ("broker", "JOIN_REDIS_URL", chosen.join_redis_url or chosen.redis_url),
    ):
        if not _is_reachable(url):
            return (
                f"The {name} answers on this machine alone. Let it listen to your other machines, "
                f"and set ETUDE_{own} to the address under which they reach it."
            )
    return ""


def _told(chosen: settings.Settings, machine: str) -> Told:
    told: dict[str, Any] = {}
    for name, field in settings.Settings.model_fields.items():
        is_secret = field.repr is False and name not in _SECRETS
        if name in _OWN or is_secret or name.endswith(("_password", "_module")):
            continue
        value = getattr(chosen, name)
        if value != field.default:
            told[settings.variable_of(name)] = value
    told["DATABASE_URL"] = chosen.join_database_url or chosen.database_url
    told["REDIS_URL"] = chosen.join_redis_url or chosen.redis_url
    # Whatever its addresses look like: others take its jobs over.
    told["ETUDE_FENCE_ON_DB_LOSS"] = "yes"
    key = secrets.ROW_FINGERPRINTS
    return Told(machine=machine, settings=told, secrets={key: secrets.get(chosen, key)})


def _is_reachable(url: str) -> bool:
    try:
        parsed = make_url(url)
    except ArgumentError:
        return False
    host = parsed.host or str(_only(parsed.query).get("host", ""))
    return host not in _LOOPBACK and not host.startswith("/") and "socket" not in parsed.drivername


def _only(query: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in query.items() if isinstance(value, str)}


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
