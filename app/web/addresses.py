"""What no page's route should have to think of: an address that names what no row can be called."""

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from starlette.exceptions import HTTPException

from app.core.errors import Invalid
from app.web.forms import LARGEST, is_text

_INTEGER = TypeAdapter(int)


async def check(request: Request) -> None:  # in no thread: it waits for nothing
    """Refuse an address with a NUL, or with a number beyond every row's, before anything is read.

    Raises:
        HTTPException: 404, for there is no such page.
        Invalid: 422, where it is wrong behind the question mark.
    """
    await check_path(request)
    numbers = _numbers_of(request)
    for name, value in request.query_params.multi_items():
        if not is_text(name) or not is_text(value):
            raise Invalid("The address holds a character that is no text.")
        if name in numbers and not _is_number(value):
            raise Invalid(f"{name}: this is not a number that Etude uses.")


async def check_path(request: Request) -> None:
    """Refuse only what stands in the path: `/v1` says itself what is wrong behind it.

    Raises:
        HTTPException: 404, for there is no such page.
    """
    numbers = _numbers_of(request)
    for name, value in request.path_params.items():
        if not is_text(value) or (name in numbers and not _is_number(str(value))):
            raise HTTPException(404)


def _numbers_of(request: Request) -> frozenset[str]:
    route = request.scope.get("route")
    return _numbers(route.dependant) if isinstance(route, APIRoute) else frozenset()


def _numbers(dependant: Dependant) -> frozenset[str]:
    """Return the names of what a route takes as whole numbers."""
    fields = [*dependant.path_params, *dependant.query_params]
    own = {field.alias for field in fields if field.field_info.annotation in (int, int | None)}
    return frozenset(own).union(*(_numbers(each) for each in dependant.dependencies))


def _is_number(value: str) -> bool:
    try:
        return -LARGEST <= _INTEGER.validate_python(value) <= LARGEST
    except ValidationError:
        return True  # it is none at all, which FastAPI says in words of its own
