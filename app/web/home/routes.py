"""Home: what runs, what is next, and the one thing to do."""

from fastapi import APIRouter, Response

from app.web.dependencies import CurrentUser, Db
from app.web.home.page import home_page
from app.web.render import page

router = APIRouter()


@router.get("/")
def show(db: Db, user: CurrentUser) -> Response:
    """Show how things stand at a glance."""
    return page("home/show.html", user, page=home_page(db, user))
