"""Settings › Safeguards: what keeps data on this machine. For administrators."""

from fastapi import APIRouter, Response

from app.web.dependencies import CurrentUser, Db
from app.web.render import page
from app.web.safeguards.page import safeguards_page

router = APIRouter(prefix="/settings")


@router.get("/safeguards")
def show(db: Db, user: CurrentUser) -> Response:
    """Show the walls, the settings that allow connections, and what was tried."""
    return page("safeguards/show.html", user, safeguards_page(db, user))
