"""Whatever goes wrong under /v1 is answered as OpenAI's error body, with a sentence to act on."""

import errno
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from app.core import db
from app.core.errors import AppError, Conflict, Invalid, NotFound

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
# What a value has to be, by what is wrong with it; whatever else is wrong is our own sentence
# ("value_error") or said in general.
_RULES = {
    "int_type": "it has to be a whole number",
    "int_parsing": "it has to be a whole number",
    "int_parsing_size": "it has too many digits",
    "int_from_float": "it has to be a whole number",
    "float_type": "it has to be a number",
    "float_parsing": "it has to be a number",
    "finite_number": "it has to be a number",
    "bool_type": "it has to be true or false",
    "bool_parsing": "it has to be true or false",
    "string_type": "it has to be text",
    "string_unicode": "it contains a character that is no text",
    "string_pattern_mismatch": "it has characters that are not taken here, or no allowed beginning",
    "string_too_short": "it needs at least {min_length} characters",
    "string_too_long": "it may have at most {max_length} characters",
    "list_type": "it has to be a list",
    "too_short": "give at least {min_length}",
    "too_long": "give at most {max_length}",
    "dict_type": "it has to be an object",
    "model_type": "it has to be an object",
    "model_attributes_type": "it has to be an object",
    "literal_error": "it has to be {expected}",
    "enum": "it has to be {expected}",
    "greater_than": "it has to be more than {gt}",
    "greater_than_equal": "it has to be at least {ge}",
    "less_than": "it has to be less than {lt}",
    "less_than_equal": "it has to be at most {le}",
    "none_required": "it has to be null",
}


UNSUPPORTED = "unsupported"  # also the type of an error that a field's own check raises
_NO_JSON = "invalid_json"


class BadRequest(AppError):
    """A request that cannot be carried out as it stands; `field` names the parameter."""

    status = 400
    code = "invalid_value"


@contextmanager
def refusing_the_state() -> Iterator[None]:
    """Refuse as OpenAI does what cannot be done with something as it stands, e.g. cancel it twice.

    Its clients repeat a 409; asked again, this would be no other.
    """
    try:
        yield
    except Conflict as error:
        raise BadRequest(error.message, code="invalid_state") from error


def unsupported(message: str, field: str) -> BadRequest:
    """Make the error for what OpenAI has and Etude has not."""
    return BadRequest(message, field=field, code=UNSUPPORTED)


def no_such(kind: str, public_id: str) -> NotFound:
    """Make the error for an id that is unknown here, or another department's."""
    return NotFound(f"No such {kind}: {public_id!r}. List them to see which there are.")


def sentence(problem: Any) -> str:
    """Say in our own words what a value has to be, of one of pydantic's errors; no full stop."""
    kind, context = problem["type"], problem.get("ctx") or {}
    if kind in ("too_short", "too_long") and isinstance(problem.get("input"), str):
        kind = f"string_{kind}"  # after a check of ours, pydantic speaks of a text as of a list
    if kind in _RULES:
        return _RULES[kind].format(**context)
    if kind in ("value_error", UNSUPPORTED):
        said: str = problem["msg"]
        return said.removeprefix("Value error, ").rstrip(".")
    return "it cannot be used like this"


def parameter(path: Sequence[str | int]) -> str | None:
    """Write where a value stands as OpenAI does, `messages[0].content`; None: it is the body.

    Pydantic says between them which member of a union was tried; schemas call those `<so>`.
    """
    name = ""
    for part in path:
        if isinstance(part, int):
            name += f"[{part}]"
        elif not part.startswith(("<", "[")):
            name += f".{part}" if name else part
    return name or None


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


def answer(error: AppError) -> JSONResponse:
    """Build the answer that says what a user did wrong, or met."""
    # Pages answer a form with 422; OpenAI's clients expect 400 for the same.
    status = 400 if isinstance(error, Invalid) else error.status
    headers = error.headers | ({"WWW-Authenticate": "Bearer"} if status == 401 else {})
    return body(status, error.message, param=error.field, code=error.code, headers=headers)


def wrong_method(path: str, method: str, headers: Mapping[str, str]) -> JSONResponse:
    """Build the answer for a method that an address does not take; `headers` name those it does."""
    message = f"{path} does not take {method}, but {headers['Allow']}."
    return body(405, message, code="method_not_allowed", headers=headers)


@contextmanager
def naming(**names: str) -> Iterator[None]:
    """Let what is wrong be said of the caller's own fields, and not of what we call them inside."""
    try:
        yield
    except AppError as error:
        error.field = names.get(error.field or "", error.field)
        raise


def _on_app_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AppError)
    return answer(error)


def _on_invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problems: Sequence[Any] = error.errors()
    first = problems[0]
    if first["type"] == "json_invalid":
        where = first["loc"][-1]
        return body(400, f"The body is not valid JSON; look at character {where}.", code=_NO_JSON)
    # The first part says where it was (body, query); the rest is the parameter's path.
    param = parameter(first["loc"][1:])
    if isinstance(error.body, bytes):  # FastAPI has not parsed it
        message = "The body is JSON; send it with Content-Type: application/json."
        return body(400, message, code=_NO_JSON)
    if first["type"] == "missing":
        message, code = f"Missing required parameter: {param or 'the JSON body'}.", "missing"
    elif first["type"] == "extra_forbidden":
        message, code = f"Unknown parameter: {param}. Leave it out.", "unknown_parameter"
    else:
        message = f"{param or 'The body'}: {sentence(first)}."
        code = UNSUPPORTED if first["type"] == UNSUPPORTED else "invalid_value"
    return body(400, message, param=param, code=code)


def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    path = request.url.path
    if error.status_code == 404:
        message = f"There is no {request.method} {path}. /help/programs lists what is served."
        return body(404, message, code="unknown_url")
    if error.status_code == 400:  # of reading the body, where it is no form
        return body(400, str(error.detail), code=_NO_JSON)
    code = "too_large" if error.status_code == 413 else None  # app.web.middleware counts the bytes
    return body(error.status_code, str(error.detail), code=code, headers=error.headers)


def _on_database(_: Request, error: Exception) -> JSONResponse:
    explained = db.explain(error)
    if explained is None:
        raise error
    return answer(explained)


def _on_disk(_: Request, error: Exception) -> JSONResponse:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        message = "The server's disk is full. Please tell your administrator."
        return body(507, message, code="disk_full")
    raise error


def _on_anything(_: Request, __: Exception) -> JSONResponse:
    # Starlette raises the exception again after this answer, so the server's log has the trace.
    message = "Something went wrong on our side; it was written to the server's log."
    return body(500, message, code="internal_error")
