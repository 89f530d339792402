"""Notices: a person's own list with its bell, and the site's webhooks."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from app.core.errors import AppError
from app.core.models import User, Webhook
from app.notices import inbox, webhooks
from app.web import once
from app.web.dependencies import CurrentUser, Db
from app.web.forms import WebhookForm
from app.web.notices.page import notices_page, webhooks_page
from app.web.render import fragment, page

router = APIRouter()


@router.get("/notices")
def show(db: Db, user: CurrentUser) -> Response:
    """Show what a person was told, the newest first."""
    return page("notices/list.html", user, page=notices_page(db, user))


@router.get("/notices/bell")
def bell(db: Db, user: CurrentUser) -> Response:
    """Render the bell alone; the pages ask for it now and then."""
    return fragment("base.html", "bell", user, num_unread=inbox.num_unread(db, user), here="")


@router.post("/notices/read")
def read_all(db: Db, user: CurrentUser) -> Response:
    """Mark everything as read."""
    inbox.read_all(db, user)
    db.commit()
    return RedirectResponse("/notices", status_code=303)


@router.get("/notices/{notice_id}")
def follow(db: Db, user: CurrentUser, notice_id: int) -> Response:
    """Mark one as read and go where it leads."""
    link = inbox.open_one(db, user, notice_id)
    db.commit()
    return RedirectResponse(link, status_code=303)


@router.get("/webhooks")
def show_webhooks(db: Db, request: Request, user: CurrentUser) -> Response:
    """Show the addresses that hear of what happens, and what did not get through."""
    new = once.taken(request, user)
    shown = webhooks.get(db, user, int(new["webhook"])) if new else None
    return once.forget(request, _webhooks(db, user, shown=shown))


@router.post("/webhooks")
def add(db: Db, user: CurrentUser, form: Annotated[WebhookForm, Form()]) -> Response:
    """Add an address; the page then shows its secret, this once."""
    try:
        webhook = webhooks.add(db, user, form.name, form.url)
    except AppError as error:
        db.rollback()
        return _webhooks(db, user, form=form, error=error)
    db.commit()
    return once.show_at("/webhooks", user, webhook=str(webhook.id))


@router.post("/webhooks/again")
def try_again(db: Db, user: CurrentUser) -> Response:
    """Try what did not get through once more."""
    webhooks.try_again(db, user)
    db.commit()
    return RedirectResponse("/webhooks", status_code=303)


@router.post("/webhooks/{webhook_id}/secret")
def renew_secret(db: Db, user: CurrentUser, webhook_id: int) -> Response:
    """Give an address another secret; the page then shows it, this once."""
    webhook = webhooks.get(db, user, webhook_id)
    webhooks.renew_secret(db, user, webhook)
    db.commit()
    return once.show_at("/webhooks", user, webhook=str(webhook.id))


@router.post("/webhooks/{webhook_id}/test")
def send_test(db: Db, user: CurrentUser, webhook_id: int) -> Response:
    """Have a call made that tells of nothing."""
    webhooks.send_test(db, user, webhooks.get(db, user, webhook_id))
    db.commit()
    return RedirectResponse("/webhooks", status_code=303)


@router.post("/webhooks/{webhook_id}/remove")
def remove(db: Db, user: CurrentUser, webhook_id: int) -> Response:
    """Tell an address nothing more."""
    webhooks.remove(db, user, webhooks.get(db, user, webhook_id))
    db.commit()
    return RedirectResponse("/webhooks", status_code=303)


def _webhooks(
    db: Db,
    user: User,
    *,
    form: WebhookForm | None = None,
    error: AppError | None = None,
    shown: Webhook | None = None,
) -> Response:
    filled = webhooks_page(db, user, form=form, error=error, shown=shown)
    status = error.status if error else 200
    return page("notices/webhooks.html", user, status=status, page=filled)
