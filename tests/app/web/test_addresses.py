"""Whatever a stranger puts into an address or a form, a page answers; it never breaks."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from typing import NamedTuple, get_type_hints

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.core.models import Role, User
from app.main import PAGE_ROUTERS
from app.people import auth
from app.training.config import TrainConfig
from app.web.jobs.new_form import JobForm
from tests.app.web.pages import PIECE, sign_in
from tests.factories import (
    make_adapter,
    make_asking,
    make_base_model,
    make_dataset_version,
    make_evaluation,
    make_job,
    make_user,
)

HUGE = "9" * 5000
HOSTILE = (
    *("\0", "a\0b", "\ud800", "-1", "0", "2147483647", "2147483648", "9223372036854775807"),
    *("9223372036854775808", "99999999999.0", "1_000_000_000_000", HUGE, f"-{HUGE}"),
    *("1e400", "nan", "\u0665", "\u00b2", "", "x" * 5000, "' OR 1=1 --", "../../etc/passwd"),
)
# What an address is tried with at every change.
IN_ADDRESSES = ("a\0b", "\ud800", "-1", "2147483648", HUGE)
ROUTES = [
    (method, route)
    for router in PAGE_ROUTERS
    for route in router.routes
    if isinstance(route, APIRoute)
    for method in sorted(route.methods or ())
]
# What opens a stream stays open where it is no error.
STREAMS = {"/jobs/{job_id}/events"}
# These would end the session of whoever tries.
LAST = {"/sign-out", "/account/password"}


class Place(NamedTuple):
    """A request with a hostile value in one place."""

    method: str
    path: str
    address: str
    query: dict[str, str]
    form: dict[str, str]


@pytest.fixture
def site(client: TestClient, db: Session) -> TestClient:
    """A site with one of everything, its first number 1, and an administrator who owns it."""
    owner = make_user(db, role=Role.ADMIN)
    make_base_model(db)
    version = make_dataset_version(db, user=owner, num_test=4)
    make_asking(db, version)
    adapter = make_adapter(db, job=make_job(db, user=owner, version=version))
    make_evaluation(db, adapter=adapter)
    auth.create_token(db, owner, "one")
    sign_in(client, db, owner)
    client.headers.update(PIECE)
    client._transport.raise_server_exceptions = False  # type: ignore[attr-defined]
    return client


def names_of(route: APIRoute) -> tuple[list[str], list[str], list[str]]:
    """Return what a route takes: by its path, behind the question mark, in its form."""
    path: list[str] = []
    query: list[str] = []
    form: list[str] = []

    def walk(dependant: Dependant) -> None:
        path.extend(field.alias for field in dependant.path_params)
        query.extend(field.alias for field in dependant.query_params)
        for field in dependant.body_params:
            kind = field.field_info.annotation
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                form.extend(kind.model_fields)
            else:
                form.append(field.alias)
        for each in dependant.dependencies:
            kind = get_type_hints(each.call).get("return")
            if is_dataclass(kind):  # a form with a class of its own
                form.extend(field.name for field in fields(kind))
                form.extend(TrainConfig.model_fields if kind is JobForm else ())
            walk(each)

    walk(route.dependant)
    return path, query, form


def places(value: str) -> Iterator[Place]:
    """Yield requests to every page, each with a hostile value in one place, the others harmless."""
    for method, route in ROUTES:
        if route.path in LAST or (route.path in STREAMS and value in ("0", "1", "-0")):
            continue
        path, query, form = names_of(route)
        usual = dict.fromkeys(path, "1") | ({"upload_id": "0" * 32} if "upload_id" in path else {})
        address = _filled(route.path, usual)
        for name in path:
            yield Place(method, route.path, _filled(route.path, usual | {name: value}), {}, {})
        for name in query:
            yield Place(method, route.path, address, {name: value}, {})
        for name in form:
            filled = dict.fromkeys(form, "1") | {name: value}
            yield Place(method, route.path, address, {}, filled)
        if form:
            yield Place(method, route.path, address, {}, dict.fromkeys(form, value))


def _filled(path: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        path = re.sub(rf"\{{{name}(:\w+)?\}}", quoted(value), path)
    return path


def quoted(value: str) -> str:
    # As a hostile client may write it: surrogates by their three bytes, which are no UTF-8.
    return "".join(f"%{byte:02X}" for byte in value.encode("utf-8", "surrogatepass")) or "%20"


def encoded(values: dict[str, str]) -> str:
    return "&".join(f"{name}={quoted(value) if value else ''}" for name, value in values.items())


def test_no_address_breaks_a_page(site: TestClient) -> None:
    """Each address gets another of the values in turn; `make test-long` tries them all."""
    asked = in_turn([[each for each in places(value) if not each.form] for value in IN_ADDRESSES])
    assert len(asked) > 150
    assert broken_by(site, asked) == []


def test_no_field_of_a_form_breaks_a_page(site: TestClient) -> None:
    """As every address does."""
    asked = in_turn([[each for each in places(value) if each.form] for value in HOSTILE])
    assert len(asked) > 250
    assert broken_by(site, asked) == []


def in_turn(with_each: list[list[Place]]) -> list[Place]:
    return [with_each[number % len(with_each)][number] for number in range(len(with_each[0]))]


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: ascii(value)[:24])
def test_nothing_anywhere_breaks_a_page(site: TestClient, value: str) -> None:
    assert broken_by(site, places(value)) == []


def broken_by(site: TestClient, asked: Iterable[Place]) -> list[str]:
    broken = []
    for method, path, address, query, form in asked:
        answer = site.request(
            method,
            f"{address}?{encoded(query)}" if query else address,
            content=encoded(form) if form else None,
            headers={"Content-Type": "application/x-www-form-urlencoded"} if form else {},
            follow_redirects=False,
        )
        if answer.status_code >= 500:
            broken.append(f"{answer.status_code} {method} {path} {query or form or address}"[:200])
    stays = site.get("/account", follow_redirects=False)
    assert stays.status_code == 200, "somebody was signed out on the way"
    return broken


def test_what_no_row_can_be_called_is_not_there(site: TestClient) -> None:
    for number in ("2147483648", "9223372036854775808", HUGE, "99999999999.0", "1%00"):
        assert site.get(f"/jobs/{number}").status_code == 404, number[:30]
        assert site.get(f"/versions/{number}").status_code == 404, number[:30]
    assert site.get("/static/a%00.css").status_code == 404
    assert site.get("/jobs", params={"owner": "\0"}).status_code == 422
    assert site.get("/jobs/new", params={"copy_of": "99999999999"}).status_code == 422


def test_every_number_of_an_address_is_known_to_the_guard() -> None:
    """An id that a route takes as text would pass it."""
    as_text = [
        f"{route.path}: {field.alias}"
        for _, route in ROUTES
        for field in route.dependant.path_params
        if field.alias.endswith("_id") and field.field_info.annotation is not int
    ]
    # A worker's is a name, an upload's random letters.
    known = ("upload_id", "worker_id")
    assert [each for each in as_text if not each.endswith(known)] == []


def test_v1_has_no_row_of_a_number_that_no_row_can_have(site: TestClient, db: Session) -> None:
    token = auth.create_token(db, db.scalars(select(User)).one(), "numbers")
    db.commit()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    tried = 0
    described = site.app.state.v1.openapi()  # type: ignore[attr-defined]
    for path, methods in described["paths"].items():
        for method, about in methods.items():
            taken = [each for each in about.get("parameters", []) if each["in"] == "path"]
            if not any(each["schema"].get("type") == "integer" for each in taken):
                continue
            for number in ("2147483648", "9223372036854775808", "9" * 40):
                address = "/v1" + re.sub(r"\{[^}]+\}", number, path)
                answer = site.request(method.upper(), address, content="{}", headers=headers)
                assert answer.status_code == 404, (method, address[:80], answer.text[:200])
                assert answer.json()["error"]["code"] == "unknown_url"
                tried += 1
    assert tried >= 3
