"""Settings: the way to everything that an administrator can set in the browser."""

from fastapi import APIRouter, Response

from app.core.models import Role
from app.people.auth import require_role
from app.web.dependencies import CurrentUser, Db
from app.web.render import page
from app.web.settings.page import settings_page

router = APIRouter()


@router.get("/settings")
def show(db: Db, user: CurrentUser) -> Response:
    """Show what can be set, and how it is set now."""
    require_role(user, Role.ADMIN)
    return page("settings/show.html", user, settings_page(db))
