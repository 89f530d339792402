"""The addresses that an administrator set to hear of what happens, and the secrets for them.

Secrets are derived from one key of the site in the secrets folder: a copied database, or a backup,
can sign nothing.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from urllib.parse import urlsplit

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.core import audit, secrets, settings, wakeup
from app.core.errors import Invalid, NotFound, Problems
from app.core.models import Channel, Outgoing, Role, User, Webhook
from app.notices import receivers
from app.people.auth import require_role

MAX_URL_LENGTH = 500
_SECRET_FILE = "webhook-key"  # noqa: S105 - its name
_SHOWN = 50


def list_all(db: Session, admin: User) -> list[Webhook]:
    """List the addresses; for administrators."""
    require_role(admin, Role.ADMIN)
    return list(db.scalars(select(Webhook).order_by(Webhook.id)))


def get(db: Session, admin: User, webhook_id: int) -> Webhook:
    """Return one.

    Raises:
        Forbidden: it is not an administrator who asks.
        NotFound: there is none.
    """
    require_role(admin, Role.ADMIN)
    webhook = db.get(Webhook, webhook_id)
    if webhook is None:
        raise NotFound("There is no such webhook; it may have been removed.")
    return webhook


def add(db: Session, admin: User, name: str, url: str) -> Webhook:
    """Have an address told of everything from now on.

    Raises:
        Forbidden: it is not an administrator who asks.
        Invalid: the name is missing, or the address cannot be used.
    """
    require_role(admin, Role.ADMIN)
    name, url = " ".join(name.split()), url.strip()
    problems = Problems()
    if not name or len(name) > 80:
        problems.add("Enter a name of 1 to 80 characters.", "name")
    with problems:
        check_url(url)
        _check_literal(urlsplit(url).hostname or "")
    problems.check()
    webhook = Webhook(name=name, url=url)
    db.add(webhook)
    db.flush()
    # The host alone: a path may hold what only the receiver should know.
    audit.record(db, admin, "webhook.add", f"webhook {webhook.id}", host=urlsplit(url).hostname)
    return webhook


def remove(db: Session, admin: User, webhook: Webhook) -> None:
    """Tell an address nothing more, also of what still waits."""
    require_role(admin, Role.ADMIN)
    subject = f"webhook {webhook.id}"
    db.delete(webhook)
    db.flush()
    audit.record(db, admin, "webhook.remove", subject)


def renew_secret(db: Session, admin: User, webhook: Webhook) -> None:
    """Sign with another secret from now on."""
    require_role(admin, Role.ADMIN)
    webhook.generation += 1
    db.flush()
    audit.record(db, admin, "webhook.new_secret", f"webhook {webhook.id}")


def send_test(db: Session, admin: User, webhook: Webhook) -> None:
    """Have a call made that tells of nothing."""
    require_role(admin, Role.ADMIN)
    content = {"object": "event", "type": "etude.test", "data": {}}
    db.add(Outgoing(channel=Channel.WEBHOOK, webhook_id=webhook.id, content=content))
    db.execute(select(wakeup.bell("outbox")))
    db.flush()


def undelivered(db: Session, admin: User) -> Sequence[Outgoing]:
    """List what has failed at least once and was not sent since, the newest first."""
    require_role(admin, Role.ADMIN)
    failed = [Outgoing.sent_at.is_(None), Outgoing.last_error.is_not(None)]
    query = select(Outgoing).where(*failed).order_by(Outgoing.id.desc()).limit(_SHOWN)
    return db.scalars(query).all()


def try_again(db: Session, admin: User) -> None:
    """Try everything that was not delivered once more, from the beginning."""
    require_role(admin, Role.ADMIN)
    db.execute(
        update(Outgoing)
        .where(Outgoing.sent_at.is_(None), Outgoing.last_error.is_not(None))
        .values(send_after=func.now(), tries=0, gave_up_at=None)
    )


def secret(webhook: Webhook) -> str:
    """Return what a receiver checks signatures with, as Standard Webhooks writes it."""
    return "whsec_" + base64.b64encode(key(webhook.id, webhook.generation)).decode()


def key(webhook_id: int, generation: int) -> bytes:
    """Derive the signing key of one webhook from the site's own."""
    own = secrets.get(settings.get(), _SECRET_FILE).encode()
    return hmac.digest(own, f"webhook {webhook_id} {generation}".encode(), hashlib.sha256)


def check_url(url: str) -> None:
    """Refuse what is no plain address of a receiver.

    Raises:
        Invalid: it has another scheme, a password, or no host.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise Invalid("An address starts with https:// or http:// and names a host.", field="url")
    if parts.username or parts.password or len(url) > MAX_URL_LENGTH or not url.isascii():
        raise Invalid(
            "Leave user names and passwords out of the address; calls are signed.", field="url"
        )
    if not url.isprintable() or " " in url:
        raise Invalid("The address has characters that an address cannot have.", field="url")


def _check_literal(host: str) -> None:
    """Say at once of an address what would be said of a name when it is first called."""
    try:
        may = receivers.may_call(host, host)
    except ValueError:
        return  # a name
    if not may:
        raise Invalid(
            f"{host} is inside your network. To let Etude call it, add it to ETUDE_WEBHOOK_HOSTS "
            "and start Etude again.",
            field="url",
        )
