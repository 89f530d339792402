"""What the pages of notices and webhooks show."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.core import settings
from app.core.errors import AppError
from app.core.models import Notice, Outgoing, Role, User, Webhook
from app.notices import calls, inbox, webhooks
from app.web.forms import WebhookForm


@dataclass(frozen=True)
class NoticesPage:
    notices: list[Notice]  # the newest first
    is_admin: bool
    has_mail: bool


@dataclass(frozen=True)
class WebhooksPage:
    webhooks: list[Webhook]
    undelivered: list[Outgoing]
    form: WebhookForm
    error: AppError | None
    shown: Webhook | None  # whose secret is new, and shown this once
    secret: str
    example: str
    has_mail: bool


def notices_page(db: Session, user: User) -> NoticesPage:
    """Gather what a person was told."""
    return NoticesPage(
        notices=inbox.latest(db, user),
        is_admin=user.role is Role.ADMIN,
        has_mail=bool(settings.get().smtp_host),
    )


def webhooks_page(
    db: Session,
    user: User,
    *,
    form: WebhookForm | None = None,
    error: AppError | None = None,
    shown: Webhook | None = None,
) -> WebhooksPage:
    """Gather the addresses that hear of what happens, and what did not get through."""
    return WebhooksPage(
        webhooks=list(webhooks.list_all(db, user)),
        undelivered=list(webhooks.undelivered(db, user)),
        form=form or WebhookForm(),
        error=error,
        shown=shown,
        secret=webhooks.secret(shown) if shown else "",
        example=calls.example(),
        has_mail=bool(settings.get().smtp_host),
    )
