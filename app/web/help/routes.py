"""Help within Etude, for people who are signed in: how answers are marked, and `/v1`."""

from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse

from app.core import settings
from app.evaluation import words
from app.people.auth import CurrentUser
from app.web.render import page

router = APIRouter(prefix="/help")


@router.get("/marks")
def marks(user: CurrentUser) -> Response:
    """Say how answers are marked, and what each verdict means."""
    values = settings.get()
    return page(
        "help/marks.html",
        user,
        verdicts=list(words.STANDINGS.values()),
        min_right=values.ready_min_right,
        max_wrong=values.ready_max_wrong,
    )


@router.get("/api")
def api_reference(user: CurrentUser) -> Response:
    """Show what `/v1` takes and gives, and let people try it."""
    return page("help/api.html", user)


@router.get("/api/openapi.json")
def api_description(request: Request, user: CurrentUser) -> JSONResponse:  # noqa: ARG001 - who asks
    """Send the description of `/v1` that the reference is drawn from."""
    api: FastAPI = request.app.state.v1
    described: dict[str, Any] = api.openapi()
    # Who sends is asked before FastAPI sees a request, so it knows of no token.
    tokens = {"token": {"type": "http", "scheme": "bearer"}}
    components = described.get("components", {}) | {"securitySchemes": tokens}
    return JSONResponse(described | {"components": components, "security": [{"token": []}]})
