"""Whatever goes wrong under /v1 is answered as OpenAI's error body, with a sentence to act on."""

import errno
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from app.core import db
from app.core.errors import AppError, Invalid, NotFound

# What the `type` of an error is; clients show it, and decide by the status and the code.
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
    507: "server_error",
}
# OpenAI's client repeats a 409 and every 5xx by itself; for these that can only fail again.
_NEVER_RETRIED = frozenset({409, 507})


class BadRequest(AppError):
    """A request that cannot be carried out as it stands; `field` names the parameter."""

    status = 400
    code = "invalid_value"


def unsupported(message: str, field: str) -> BadRequest:
    """Make the error for what OpenAI has and Etude has not."""
    return BadRequest(message, field=field, code="unsupported")


def no_such(kind: str, public_id: str) -> NotFound:
    """Make the error for an id that is unknown here, or another department's."""
    return NotFound(f"No such {kind}: {public_id!r}. List them to see which there are.")


def body(
    status: int,
    message: str,
    *,
    param: str | None = None,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Build an answer that OpenAI's clients turn into the exception for `status`."""
    kind = _TYPES.get(status, "invalid_request_error")
    extra = {"x-should-retry": "false"} if status in _NEVER_RETRIED else {}
    return JSONResponse(
        {"error": {"message": message, "type": kind, "param": param, "code": code}},
        status_code=status,
        headers={**extra, **(headers or {})},
    )


def install(api: FastAPI) -> None:
    """Register a handler for each kind of failure, so that none reaches FastAPI's own."""
    api.add_exception_handler(AppError, _on_app_error)
    api.add_exception_handler(RequestValidationError, _on_invalid)
    api.add_exception_handler(HTTPException, _on_http)
    for kind in (SQLAlchemyError, psycopg.Error):
        api.add_exception_handler(kind, _on_database)
    api.add_exception_handler(OSError, _on_disk)
    api.add_exception_handler(Exception, _on_anything)


def _on_app_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AppError)
    # Pages answer a form with 422; OpenAI's clients expect 400 for the same.
    status = 400 if isinstance(error, Invalid) else error.status
    headers = error.headers | ({"WWW-Authenticate": "Bearer"} if status == 401 else {})
    return body(status, error.message, param=error.field, code=error.code, headers=headers)


def _on_invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problems: Sequence[Any] = error.errors()
    first = problems[0]
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", "it ends too early")
        return body(400, f"The body is not valid JSON: {reason}.", code="invalid_json")
    # The first part says where it was (body, query); the rest is the parameter's path.
    param = ".".join(str(part) for part in first["loc"][1:]) or None
    if first["type"] == "missing":
        message, code = f"Missing required parameter: {param or 'the JSON body'}.", "missing"
    elif first["type"] == "extra_forbidden":
        message, code = f"Unknown parameter: {param}. Leave it out.", "unknown_parameter"
    else:
        said = first["msg"].removeprefix("Value error, ")
        message, code = f"{param or 'The body'}: {said}.".replace("..", "."), "invalid_value"
    return body(400, message, param=param, code=code)


def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    path = request.url.path
    if error.status_code == 404:
        message = f"There is no {request.method} {path}. docs/api.md lists what is served."
        return body(404, message, code="unknown_url")
    if error.status_code == 405:
        message = f"{path} does not take {request.method}."
        return body(405, message, code="method_not_allowed", headers=error.headers)
    code = "too_large" if error.status_code == 413 else None  # app.web.middleware counts the bytes
    return body(error.status_code, str(error.detail), code=code, headers=error.headers)


def _on_database(request: Request, error: Exception) -> JSONResponse:
    explained = db.explain(error)
    if explained is None:
        raise error
    return _on_app_error(request, explained)


def _on_disk(_: Request, error: Exception) -> JSONResponse:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        message = "The server's disk is full. Please tell your administrator."
        return body(507, message, code="disk_full")
    raise error


def _on_anything(_: Request, __: Exception) -> JSONResponse:
    # Starlette raises the exception again after this answer, so the server's log has the trace.
    message = "Something went wrong on our side; it was written to the server's log."
    return body(500, message, code="internal_error")
