"""No request makes the server fail: pages' forms and `/v1`, with values that nobody means.

The short form of make security: the same requests in every run.
"""

import json
import os
import random
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.core.models import User
from app.main import create_app
from app.people import auth
from tests.app.web.pages import sign_in
from tests.security.full_house import furnish
from tests.security.requests import IS_WELL, Case, cases, form_of, json_value, routes
from tests.security.test_xss import faults

NUM_CASES = int(os.environ.get("TEST_NUM_REQUESTS", "280"))
NUM_CALLS = NUM_CASES // 2


@pytest.fixture
def browser(database_url: str, data_dir: object) -> Iterator[TestClient]:
    """One that sees the page of a crash, as people do."""
    app = create_app()
    # A line a request, and a trace a failure, take longer than the request.
    with (
        structlog.testing.capture_logs(),
        TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client,
    ):
        yield client


def send(browser: TestClient, case: Case) -> Any:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    body = case.body if case.method not in ("GET", "HEAD") else None
    return browser.request(
        case.method, case.path, content=body, headers=headers, follow_redirects=False
    )


@pytest.mark.timeout(300 + 2 * NUM_CASES)
def test_no_page_fails_whatever_it_is_sent(browser: TestClient, db: Session) -> None:
    admin = furnish(db)
    failed, read = [], 0
    for number, case in enumerate(cases(NUM_CASES, seed=1)):
        if number % 20 == 0:
            come_back(browser, db, admin)
        answer = send(browser, case)
        if answer.status_code not in IS_WELL:
            failed.append((answer.status_code, case.method, case.path[:200], case.form))
        elif answer.headers.get("content-type", "").startswith("text/html"):
            found, _ = faults(answer.text)
            assert found == [], (case, found)
            read += 1
    assert failed == [], "\n".join(map(repr, failed))
    assert read > NUM_CASES / 4


def come_back(browser: TestClient, db: Session, admin: User) -> None:
    """Sign in again: some of the requests sign out, or end what they were."""
    db.rollback()
    db.refresh(admin)
    sign_in(browser, db, admin)


def test_every_form_is_known_to_the_generator() -> None:
    """What takes a form and is not seen would not be tried."""
    posts = [route for route in routes() if "POST" in (route.methods or ())]
    assert len(posts) > 60
    assert sum(form_of(route) is not None for route in posts) > 25


@pytest.mark.timeout(300 + 2 * NUM_CASES)
def test_v1_answers_no_call_with_a_failure(browser: TestClient, db: Session) -> None:
    admin = furnish(db)
    token = auth.create_token(db, admin, "fuzz")
    db.commit()
    secret = token if isinstance(token, str) else token[1]
    browser.headers["Authorization"] = f"Bearer {secret}"
    chance = random.Random(2)
    described = browser.app.state.v1.openapi()  # type: ignore[attr-defined]
    operations = [
        (method.upper(), path, about)
        for path, methods in described["paths"].items()
        for method, about in methods.items()
        if not path.endswith("/events")
    ]
    assert len(operations) > 20
    failed, refused = [], 0
    for turn in range(NUM_CALLS):
        method, path, about = operations[turn % len(operations)]
        call = _call(chance, described, path, about)
        answer = browser.request(method, **call)
        if answer.status_code not in IS_WELL:
            failed.append((answer.status_code, method, call))
        refused += answer.status_code >= 400
        assert answer.status_code != 401, "the token does not let the calls in"
    assert failed == [], "\n".join(map(repr, failed))
    assert refused > NUM_CALLS / 4


def _call(
    chance: random.Random, described: Any, path: str, about: dict[str, Any]
) -> dict[str, Any]:
    from urllib.parse import quote, urlencode

    address, query = path, []
    for each in about.get("parameters", []):
        value = str(json_value(chance, 3))
        if each["in"] == "path":
            address = address.replace(f"{{{each['name']}}}", quote(value[:300] or "0", safe=""))
        elif each["in"] == "query" and chance.random() < 0.5:
            query.append((each["name"], value))
    address = address if address.startswith("/v1") else "/v1" + address
    call: dict[str, Any] = {"url": address + ("?" + urlencode(query) if query else "")}
    if "requestBody" in about:
        schema = next(iter(about["requestBody"]["content"].values())).get("schema", {})
        name = schema.get("$ref", "").rpartition("/")[2]
        fields = described["components"]["schemas"].get(name, {}).get("properties", {})
        body = {field: json_value(chance) for field in fields if chance.random() < 0.6}
        call["content"] = json.dumps(body if chance.random() < 0.9 else json_value(chance))
        call["headers"] = {"Content-Type": "application/json"}
    return call
