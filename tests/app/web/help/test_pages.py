"""The reference of /v1: for people who are signed in, drawn from what the routes take and give."""

import re

from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.web.v1 import (
    chat,
    evaluations,
    exports,
    files,
    fine_tuning,
    general_questions,
    models,
    uploads,
)
from tests.app.web.pages import sign_in
from tests.factories import make_user

MODULES = (chat, evaluations, exports, files, fine_tuning, general_questions, models, uploads)


def test_the_reference_is_for_people_who_are_signed_in(client: TestClient, db: Session) -> None:
    for path in ("/help/api", "/help/api/openapi.json"):
        answer = client.get(path, follow_redirects=False)
        assert answer.status_code in (303, 401)
        assert "chat" not in answer.text
    for path in ("/v1/openapi.json", "/v1/docs", "/openapi.json", "/docs", "/redoc"):
        assert client.get(path).status_code == 404
    sign_in(client, db, make_user(db))
    page = client.get("/help/api")
    assert page.status_code == 200
    # Everything that it needs is our own.
    sources = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert all(source.startswith(("/", "#")) for source in sources)
    assert any("swagger-ui-bundle.js" in source for source in sources)
    for source in sources:
        if source.startswith("/static/"):
            assert client.get(source).status_code == 200
    assert 'href="/help/api"' in client.get("/account").text


def test_a_browser_that_has_the_description_is_not_sent_it_again(
    client: TestClient, db: Session
) -> None:
    address = "/help/api/openapi.json"
    sign_in(client, db, make_user(db))
    first = client.get(address)
    again = client.get(address, headers={"If-None-Match": first.headers["etag"]})
    assert (first.status_code, again.status_code, again.content) == (200, 304, b"")
    assert client.get(address, headers={"If-None-Match": 'W/"other"'}).json() == first.json()


def test_the_description_has_every_call_and_says_how_to_sign_in(
    client: TestClient, db: Session
) -> None:
    sign_in(client, db, make_user(db))
    described = client.get("/help/api/openapi.json").json()
    assert described["servers"] == [{"url": "/v1"}]
    assert described["security"] == [{"token": []}]
    assert described["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    served = {
        (method, getattr(route, "path", ""))
        for module in MODULES
        for route in module.router.routes
        for method in getattr(route, "methods", ())
    }
    shown = {
        (method.upper(), path) for path, methods in described["paths"].items() for method in methods
    }
    assert shown == {(method, path.replace(":path", "")) for method, path in served}
    asking = described["paths"]["/chat/completions"]["post"]
    assert set(asking["responses"]) == {"200", "4XX"}
    fields = described["components"]["schemas"]["CreateChatCompletion"]["properties"]
    assert {"messages", "max_completion_tokens", "tools"} <= set(fields)
    form = described["paths"]["/uploads/{upload_id}/parts"]["post"]["requestBody"]
    assert "multipart/form-data" in form["content"]
