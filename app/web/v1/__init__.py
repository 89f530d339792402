"""`/v1`: Etude for programs, in the shape of OpenAI's API (docs/api.md). Bearer tokens only."""

from importlib.metadata import version

from fastapi import Depends, FastAPI

from app.web import addresses
from app.web.v1 import (
    chat,
    errors,
    evaluations,
    exports,
    files,
    fine_tuning,
    general_questions,
    models,
    uploads,
)
from app.web.v1.rate_limit import RateLimit
from app.web.v1.schemas import ErrorAnswer
from app.web.v1.transport import AddressGuard, EncodingGuard, Methods, TokenGuard

_ROUTES = {
    "Asking": chat,
    "Jobs": fine_tuning,
    "Files": files,
    "Files in parts": uploads,
    "Models": models,
    "Evaluations": evaluations,
    "Exports": exports,
    "General questions": general_questions,
}


def install(app: FastAPI) -> None:
    """Mount `/v1` as an application of its own: its errors are JSON, never pages.

    The request id comes from app.web.middleware, which is around all of the application.
    """
    api = FastAPI(
        title="Etude for programs",
        version=version("etude"),
        description="Etude in the shape of OpenAI's API. Fields that begin with `x_` are its own.",
        servers=[{"url": "/v1"}],
        dependencies=[Depends(addresses.check_path)],
        responses={"4XX": {"model": ErrorAnswer, "description": "What was wrong, and where."}},
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # the page that shows it is for people who are signed in: app.web.help
    )
    errors.install(api)
    for name, module in _ROUTES.items():
        api.include_router(module.router, tags=[name])
    routers = [module.router for module in _ROUTES.values()]
    limited = RateLimit(AddressGuard(Methods(TokenGuard(EncodingGuard(api)), routers)))
    app.state.v1, app.state.rate_limit = api, limited
    app.mount("/v1", limited)
