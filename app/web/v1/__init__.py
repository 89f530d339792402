"""`/v1`: Etude for programs, in the shape of OpenAI's API (docs/api.md). Bearer tokens only."""

from fastapi import FastAPI

from app.web.v1 import errors, files, fine_tuning, models
from app.web.v1.transport import NulGuard


def install(app: FastAPI) -> None:
    """Mount `/v1` as an application of its own: its errors are JSON, never pages.

    The request id comes from app.web.middleware, which is around all of the application.
    """
    api = FastAPI(title="Etude", docs_url=None, redoc_url=None, openapi_url=None)
    errors.install(api)
    for module in (files, fine_tuning, models):
        api.include_router(module.router)
    app.mount("/v1", NulGuard(api))
