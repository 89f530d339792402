"""Everything that goes wrong under /v1 has OpenAI's error body and a request id."""

import httpx2
import openai
import pytest
from openai import OpenAI
from sqlalchemy.orm import Session

from app.core.models import User
from app.people import auth


def body_of(response: httpx2.Response) -> dict[str, object]:
    error: dict[str, object] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert response.headers["x-request-id"]
    return error


def test_without_a_valid_token_nothing_is_shown(address: str) -> None:
    for path in ("/files", "/fine_tuning/jobs", "/models", "/models/a/b"):
        for header in ({}, {"authorization": "Bearer etude-x"}, {"authorization": "Basic eDp4"}):
            response = httpx2.get(f"{address}/v1{path}", headers=header)
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == "Bearer"
            assert body_of(response)["code"] == "invalid_api_key"


def test_a_browsers_cookie_opens_nothing(address: str, db: Session, user: User) -> None:
    cookie = auth.open_session(db, user)
    db.commit()
    response = httpx2.get(f"{address}/v1/models", cookies={auth.COOKIE: cookie})
    assert response.status_code == 401


def test_the_clients_exceptions_carry_the_body(api: OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError) as unknown:
        api.with_options(api_key="etude-wrong").models.list()
    assert unknown.value.code == "invalid_api_key"
    with pytest.raises(openai.NotFoundError) as missing:
        api.fine_tuning.jobs.retrieve("ftjob-0")
    assert missing.value.type == "invalid_request_error"
    assert missing.value.request_id


WRONG_REQUESTS = [
    ("GET", "/nothing/here", 404, "unknown_url"),
    ("POST", "/completions", 404, "unknown_url"),
    ("POST", "/responses", 404, "unknown_url"),
    ("GET", "/chat/completions", 405, "method_not_allowed"),
    ("PUT", "/files", 405, "method_not_allowed"),
    ("GET", "/files?after=%00", 400, "invalid_value"),
    ("GET", "/models/a%00b", 400, "invalid_value"),
    ("GET", "/files?order=sideways", 400, "invalid_value"),
    ("GET", "/fine_tuning/jobs?limit=many", 400, "invalid_value"),
    ("GET", "/fine_tuning/jobs?metadata=x", 400, "invalid_value"),
    ("POST", "/fine_tuning/jobs", 400, "missing"),
    ("POST", "/files", 400, "invalid_form"),
]


def test_wrong_requests_get_openais_body(api: OpenAI, address: str) -> None:
    headers = {"authorization": f"Bearer {api.api_key}"}
    for method, path, status, code in WRONG_REQUESTS:
        response = httpx2.request(method, f"{address}/v1{path}", headers=headers)
        assert (response.status_code, body_of(response)["code"]) == (status, code), path


WRONG_BODIES = [
    (b"{", None, "not valid JSON"),
    (b"[]", None, "The body"),
    (b"{}", "model", "Missing required parameter: model."),
    (b'{"model": 7, "training_file": "f"}', "model", "model: "),
    (b'{"model": "m", "training_file": "f", "modle": 1}', "modle", "Unknown parameter"),
    (b'{"model": "\\ud800", "training_file": "f"}', "model", "model: "),
]


def test_a_wrong_body_is_told_by_its_first_fault(api: OpenAI, address: str) -> None:
    headers = {"authorization": f"Bearer {api.api_key}", "content-type": "application/json"}
    for sent, param, sentence in WRONG_BODIES:
        response = httpx2.post(f"{address}/v1/fine_tuning/jobs", headers=headers, content=sent)
        assert response.status_code == 400
        error = body_of(response)
        assert error["param"] == param
        assert sentence in str(error["message"])
        assert error["type"] == "invalid_request_error"


def test_a_body_that_would_fill_the_memory_is_refused(api: OpenAI, address: str) -> None:
    headers = {"authorization": f"Bearer {api.api_key}", "content-type": "application/json"}
    body = b" " * 3_000_000
    response = httpx2.post(f"{address}/v1/fine_tuning/jobs", headers=headers, content=body)
    assert (response.status_code, body_of(response)["code"]) == (413, "too_large")


def test_a_limit_out_of_range_is_drawn_in(api: OpenAI) -> None:
    assert api.fine_tuning.jobs.list(limit=0).data == []
    assert api.fine_tuning.jobs.list(limit=100_000).data == []
