"""Builds the FastAPI app: middleware, routers, error pages."""

import asyncio
import gc
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from urllib.parse import quote

import psycopg
import structlog
from fastapi import Depends, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope

from app.core import db, outbound, settings, site_time
from app.core.confined import kept
from app.core.errors import AppError, NotSignedIn
from app.core.models import User
from app.datasets import uploads
from app.machines import prometheus, safeguards
from app.ops import readiness
from app.people import auth
from app.web import addresses, list_stream, v1
from app.web.account import routes as account
from app.web.adapters import (
    ask_routes,
    export_routes,
    feedback_routes,
    list_routes,
    plain_routes,
    sharing_routes,
)
from app.web.adapters import routes as adapters
from app.web.bin import routes as bin_routes
from app.web.compression import Compression
from app.web.confirmations import Confirmations
from app.web.datasets import routes as datasets
from app.web.datasets import upload_routes
from app.web.dependencies import cookie_of
from app.web.evaluation import (
    compare_routes,
    curve_routes,
    general_routes,
    judge_routes,
    vote_routes,
)
from app.web.evaluation import routes as evaluation
from app.web.examples import adding_routes
from app.web.examples import routes as examples
from app.web.help import routes as help_routes
from app.web.home import routes as home
from app.web.jobs import event_stream
from app.web.jobs import new_routes as new_job
from app.web.jobs import routes as jobs
from app.web.machines import routes as machines
from app.web.middleware import (
    BodyGuard,
    BodyLimit,
    Crashes,
    CrossOriginGuard,
    HostGuard,
    RequestLog,
    SecurityHeaders,
)
from app.web.models import routes as models
from app.web.models import upload_routes as model_uploads
from app.web.notices import routes as notices
from app.web.people import routes as people
from app.web.privacy import routes as privacy
from app.web.proxies import ForwardedClient
from app.web.questions import routes as questions
from app.web.queue import routes as queue_routes
from app.web.render import STATIC_DIR, page
from app.web.safeguards import routes as safeguards_routes
from app.web.settings import routes as settings_routes
from app.web.shedding import Lateness, Shedding
from app.web.streams import listening

log = structlog.get_logger()

PAGE_ROUTERS = (
    home.router,
    account.router,
    people.router,
    datasets.router,
    privacy.router,
    questions.router,
    examples.router,
    adding_routes.router,
    upload_routes.router,
    new_job.router,  # before jobs: /jobs/new is no job's number
    jobs.router,
    event_stream.router,
    list_stream.router,
    adapters.router,
    export_routes.router,
    ask_routes.router,
    list_routes.router,
    plain_routes.router,
    sharing_routes.router,
    feedback_routes.router,
    evaluation.router,
    judge_routes.router,
    evaluation.start_router,
    compare_routes.router,
    general_routes.router,
    curve_routes.router,
    vote_routes.router,
    queue_routes.router,
    machines.router,
    model_uploads.router,
    models.router,
    notices.router,
    safeguards_routes.router,
    settings_routes.router,
    bin_routes.router,
    help_routes.router,
)


def create_app() -> FastAPI:
    """Build the web application; settings and the database address must be in place."""
    app = FastAPI(
        title="Etude",
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(addresses.check)],
    )
    app.add_exception_handler(AppError, _app_error)
    app.add_exception_handler(RequestValidationError, _unreadable_request)
    app.add_exception_handler(HTTPException, _http_error)
    for kind in (SQLAlchemyError, psycopg.Error):
        app.add_exception_handler(kind, _database_error)
    for router in PAGE_ROUTERS:
        app.include_router(router)
    app.add_api_route("/healthz", _healthz, include_in_schema=False)
    app.add_api_route("/readyz", _readyz, include_in_schema=False)
    app.add_api_route("/readyz/web", _readyz_web, include_in_schema=False)
    app.add_api_route("/metrics", _metrics, include_in_schema=False)
    v1.install(app)
    app.mount("/static", _StaticFiles(directory=STATIC_DIR), name="static")
    # The last one added meets a request first.
    app.add_middleware(Confirmations)
    app.add_middleware(Compression)
    app.add_middleware(BodyLimit)
    app.add_middleware(BodyGuard)
    app.add_middleware(CrossOriginGuard)
    app.add_middleware(HostGuard)
    app.add_middleware(Crashes, answer=_crash)
    app.add_middleware(Shedding)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(RequestLog)
    app.add_middleware(ForwardedClient)
    return app


def create_lasting_app() -> FastAPI:
    """Build the web application for a process that does nothing else.

    The garbage collector is kept from holding up everybody's pages: walking all that a web process
    holds takes 0.1 to 0.4 s, and left to itself Python does so every few seconds where a long line
    is worked out again and again.
    """
    outbound.watch()
    app = create_app()
    kept.child.start()  # before anybody waits for it
    gc.collect()
    gc.freeze()  # what stands now stays as long as the process does
    gc.set_threshold(2000, 10, 200)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    await run_in_threadpool(uploads.remove_stale)
    async with listening(settings.get().database_url) as hub:
        app.state.hub = hub
        app.state.reads = {}
        app.state.lateness = Lateness()
        beside = [
            asyncio.create_task(_record_outbound()),
            asyncio.create_task(app.state.lateness.run()),
        ]
        yield
        for task in beside:
            task.cancel()
        await app.state.rate_limit.close()


async def _record_outbound() -> None:
    chosen = settings.get()
    number = os.environ.get("ETUDE_WEB_NUMBER", "")  # of several, each counts for itself
    name = f"web-{chosen.port}{number and f'-{number}'}@{socket.gethostname()}"
    while outbound.watched_since() is not None:
        await run_in_threadpool(_try_record, name)
        await asyncio.sleep(chosen.heartbeat_seconds)


def _try_record(name: str) -> None:
    with suppress(SQLAlchemyError), db.session() as session:  # the next time, then
        safeguards.record(session, name)
        session.commit()


class _StaticFiles(StaticFiles):
    """A browser keeps a file whose address names its content, and asks after any other."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        if "\0" in path:
            raise HTTPException(404)  # no file system has such a name
        response = await super().get_response(path, scope)
        is_named = scope["query_string"].startswith(b"v=")
        response.headers["cache-control"] = (
            "public, max-age=31536000, immutable" if is_named else "no-cache"
        )
        return response


# --- is it well? ---------------------------------------------------------------------------


async def _healthz() -> PlainTextResponse:
    """Answer while the process lives, also where every thread waits for something."""
    return PlainTextResponse("ok\n")


def _readyz(request: Request) -> JSONResponse:
    """Answer 200 only when everything that Etude depends on is well."""
    return _as_answer(readiness.examine(request.app.state.hub))


def _readyz_web(request: Request) -> JSONResponse:
    """Answer 200 only when the web has what it needs; workers and broker may be away."""
    return _as_answer(readiness.examine_web(request.app.state.hub))


def _as_answer(checks: dict[str, str]) -> JSONResponse:
    is_ready = all(value == readiness.OK for value in checks.values())
    return JSONResponse({"ready": is_ready, **checks}, status_code=200 if is_ready else 503)


def _metrics(request: Request) -> Response:
    """Hand the measurements to Prometheus, if it has the token; where none is set, to nobody."""
    if not settings.get().metrics_token:
        raise HTTPException(404, "Not Found")
    if not prometheus.may_read(request.headers.get("authorization", "")):
        headers = {"WWW-Authenticate": "Bearer"}
        return PlainTextResponse("This needs the token.\n", status_code=401, headers=headers)
    return Response(prometheus.render(), media_type=prometheus.CONTENT_TYPE)


# --- what went wrong, as a page ------------------------------------------------------------


@dataclass(frozen=True)
class _ErrorPage:
    message: str
    code: int
    request_id: str
    at: str
    way_on: tuple[str, str]  # a button's words, and the page that it leads to


async def _app_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AppError)
    if isinstance(error, NotSignedIn):
        return _to_sign_in(request)
    return await _error_page(request, error.status, error.message, error.headers, error.way_on)


async def _unreadable_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # A form takes any text and answers with words beside the field: this is a wrong address or
    # a request that no page of ours makes.
    if any(problem["loc"][0] == "path" for problem in error.errors()):
        return await _error_page(request, 404, "There is no such page.")
    names = ", ".join(sorted({str(problem["loc"][-1]) for problem in error.errors()}))
    return await _error_page(
        request, 422, f"The form could not be read ({names}). Go back and try again."
    )


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405 and request.method == "GET" and (above := _page_above(request)):
        return RedirectResponse(above, status_code=303)
    sentences = {
        404: "There is no such page. The address may be wrong, or it was deleted.",
        405: "This address does not accept that kind of request. Go back and try again.",
    }
    return await _error_page(
        request,
        error.status_code,
        sentences.get(error.status_code, error.detail),
        error.headers,
    )


def _page_above(request: Request) -> str:
    """Find the page that a form belongs to: who reloads its answer, or opens its address, sees it.

    Returns:
        The page's address, or nothing where this is no address of a form.
    """
    path = request.url.path
    while path := path.rpartition("/")[0]:
        scope = {"type": "http", "path": path, "method": "GET", "headers": []}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes):
            return path
    return ""


async def _database_error(request: Request, error: Exception) -> Response:
    explained = db.explain(error) or db.refused_value(error)
    if explained is None:
        raise error
    return await _app_error(request, explained)


async def _crash(request: Request, error: Exception) -> Response:
    log.exception("request.failed", exc_info=error, request_id=request.state.request_id)
    return await _error_page(
        request,
        500,
        "Etude met an error of its own. What was saved before is safe; what you have just sent may "
        "not have been saved. Try again. If it happens again, give your administrator the number "
        "below.",
    )


def _to_sign_in(request: Request) -> Response:
    wanted = request.url.path if request.method == "GET" else "/"
    target = "/sign-in" if wanted == "/" else f"/sign-in?next={quote(wanted)}"
    if "hx-request" in request.headers:
        return Response(status_code=401, headers={"HX-Redirect": "/sign-in"})
    if "text/html" not in request.headers.get("accept", "text/html"):
        return PlainTextResponse("Please sign in first.\n", status_code=401)
    return RedirectResponse(target, status_code=303)


async def _error_page(
    request: Request,
    status: int,
    message: str,
    headers: Mapping[str, str] | None = None,
    way_on: tuple[str, str] = AppError.way_on,
) -> Response:
    # A script of ours shows the sentence beside what it was about.
    is_script = "x-script" in request.headers
    if is_script or "text/html" not in request.headers.get("accept", "text/html"):
        return PlainTextResponse(message + "\n", status_code=status, headers=headers)
    at = f"{site_time.now():%Y-%m-%d %H:%M:%S %Z}"
    shown = _ErrorPage(message, status, request.state.request_id, at, way_on)
    user = None if status >= 500 else await run_in_threadpool(_user_of, request)
    return page("error.html", user, status=status, headers=headers, page=shown)


def _user_of(request: Request) -> User | None:
    # The page has something to say also while nobody can say who asks.
    with suppress(SQLAlchemyError), db.reading() as session:
        return auth.user_of_session(session, cookie_of(request))
    return None
