"""Everything that goes wrong under /v1 has OpenAI's error body and a request id."""

import gzip
import json

import httpx2
import openai
import pytest
from openai import OpenAI
from sqlalchemy.orm import Session

from app.core.models import BaseModel, User
from app.people import auth
from tests import factories, http, patience


def body_of(response: httpx2.Response) -> dict[str, object]:
    error: dict[str, object] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert response.headers["x-request-id"]
    return error


def test_without_a_valid_token_nothing_is_shown(address: str) -> None:
    for path in ("/files", "/fine_tuning/jobs", "/models", "/models/a/b"):
        for header in ({}, {"authorization": "Bearer etude-x"}, {"authorization": "Basic eDp4"}):
            response = http.get(f"{address}/v1{path}", headers=header)
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == "Bearer"
            assert body_of(response)["code"] == "invalid_api_key"


def test_a_browsers_cookie_opens_nothing(address: str, db: Session, user: User) -> None:
    cookie = auth.open_session(db, user)
    db.commit()
    response = http.get(f"{address}/v1/models", cookies={auth.COOKIE: cookie})
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
        response = http.request(method, f"{address}/v1{path}", headers=headers)
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
        response = http.post(f"{address}/v1/fine_tuning/jobs", headers=headers, content=sent)
        assert response.status_code == 400
        error = body_of(response)
        assert error["param"] == param
        assert sentence in str(error["message"])
        assert error["type"] == "invalid_request_error"


def test_a_body_that_would_fill_the_memory_is_refused(api: OpenAI, address: str) -> None:
    headers = {"authorization": f"Bearer {api.api_key}", "content-type": "application/json"}
    body = b" " * 3_000_000
    response = http.post(f"{address}/v1/fine_tuning/jobs", headers=headers, content=body)
    assert (response.status_code, body_of(response)["code"]) == (413, "too_large")


def test_a_limit_below_one_is_refused_and_one_too_large_drawn_in(
    api: OpenAI, address: str, db: Session, user: User
) -> None:
    job = factories.make_job(db, user=user)
    own = f"/fine_tuning/jobs/{job.public_id}"
    lists = ("/files", "/fine_tuning/jobs", f"{own}/events", f"{own}/checkpoints")
    headers = {"authorization": f"Bearer {api.api_key}"}
    for path in lists:
        for limit in ("0", "-1", "-" + "9" * 30, "many", "9" * 5000, "²"):
            refused = http.get(f"{address}/v1{path}?limit={limit}", headers=headers)
            assert refused.status_code == 400, (path, limit)
            error = body_of(refused)
            assert (error["param"], error["code"]) == ("limit", "invalid_value")
        assert "at least 1" in str(
            body_of(http.get(f"{address}/v1{path}?limit=0", headers=headers))["message"]
        )
        most = http.get(f"{address}/v1{path}?limit=100000000000000000000", headers=headers)
        assert most.status_code == 200, path


# --- how a body is written -------------------------------------------------------------------

JOBS = "/fine_tuning/jobs"


def post(
    api: OpenAI, address: str, content: bytes, path: str = JOBS, **headers: str
) -> httpx2.Response:
    """Send bytes as they are; without a Content-Type unless one is given."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    request = httpx2.Request(
        "POST",
        f"{address}/v1{path}",
        content=content,
        headers={"authorization": f"Bearer {api.api_key}", **given},
    )
    with httpx2.Client(timeout=patience.seconds(30)) as client:
        return client.send(request)


def test_json_is_read_without_its_content_type(
    api: OpenAI, address: str, db: Session, user: User, model: BaseModel
) -> None:
    version = factories.make_dataset_version(db, user=user)
    wanted = {"model": model.name, "training_file": version.file.public_id}
    sent = post(api, address, json.dumps(wanted).encode())
    assert (sent.status_code, sent.json()["status"]) == (200, "queued")
    # As `curl -d` sends it.
    form = post(
        api, address, json.dumps(wanted).encode(),
        content_type="application/x-www-form-urlencoded",
    )  # fmt: skip
    assert form.status_code == 400
    assert "Content-Type: application/json" in str(body_of(form)["message"])


def test_text_that_is_no_utf_8_is_refused(api: OpenAI, address: str) -> None:
    for encoding in ("latin-1", "utf-16", "utf-32"):
        body = '{"model": "Größe", "training_file": "file-0"}'.encode(encoding)
        for headers in ({}, {"content_type": f"application/json; charset={encoding}"}):
            answer = post(api, address, body, **headers)
            assert answer.status_code == 400
            error = body_of(answer)
            assert (error["code"], "UTF-8" in str(error["message"])) == ("invalid_json", True)


def test_an_address_and_a_form_that_are_no_utf_8_are_refused(api: OpenAI, address: str) -> None:
    headers = {"authorization": f"Bearer {api.api_key}"}
    for path in ("/files?after=%ff", "/models/%ff", "/fine_tuning/jobs?metadata[a]=%ed%a0%80"):
        answer = http.get(f"{address}/v1{path}", headers=headers)
        assert (answer.status_code, "UTF-8" in str(body_of(answer)["message"])) == (400, True)
    form = b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-t\xfcne\r\n--b--'
    answer = post(api, address, form, "/files", content_type="multipart/form-data; boundary=b")
    assert (answer.status_code, "UTF-8" in str(body_of(answer)["message"])) == (400, True)


def test_deep_nesting_is_refused(api: OpenAI, address: str) -> None:
    for depth in (100, 500, 900, 5000, 900_000):
        for field in ("integrations", "method", "x_etude", "metadata"):
            deep = f'"{field}": {"[" * depth}{"]" * depth}'
            body = f'{{"model": "m", "training_file": "f", {deep}}}'
            answer = post(api, address, body.encode(), content_type="application/json")
            assert answer.status_code == 400
            error = body_of(answer)
            assert error["code"] == "invalid_json"
            assert "nested deeper than 100 levels" in str(error["message"])


def test_brackets_in_a_text_nest_nothing(api: OpenAI, address: str) -> None:
    body = json.dumps({"model": 'a"' + "[{" * 500, "training_file": "f"})
    answer = post(api, address, body.encode(), content_type="application/json")
    assert body_of(answer)["code"] == "model_not_found"


def test_a_packed_body_is_refused(api: OpenAI, address: str) -> None:
    packed = gzip.compress(b'{"model": "m", "training_file": "f"}')
    for path in (JOBS, "/files", "/chat/completions"):
        answer = post(api, address, packed, path, content_encoding="gzip")
        assert (answer.status_code, body_of(answer)["code"]) == (415, "unsupported_encoding")
    plain = post(api, address, b"{}", content_encoding="identity")
    assert body_of(plain)["code"] == "missing"


# --- other methods ---------------------------------------------------------------------------


def test_head_is_get_without_a_body(api: OpenAI, address: str, db: Session) -> None:
    sent = api.files.create(
        file=("ward.csv", b"question,answer\nWhere?,Here.\n"), purpose="fine-tune"
    )
    headers = {"authorization": f"Bearer {api.api_key}"}
    paths = ("/models", "/files", f"/files/{sent.id}", f"/files/{sent.id}/content", "/files/none")
    for path in paths:
        got = http.get(f"{address}/v1{path}", headers=headers)
        head = http.head(f"{address}/v1{path}", headers=headers)
        assert (head.status_code, head.content) == (got.status_code, b""), path
        for name in ("content-type", "content-length", "etag", "content-disposition"):
            assert head.headers.get(name) == got.headers.get(name), (path, name)
    assert http.head(f"{address}/v1/models").status_code == 401
    refused = http.head(f"{address}/v1/chat/completions", headers=headers)
    assert refused.status_code == 405


def test_options_says_what_an_address_takes_and_lets_no_other_site_in(address: str) -> None:
    asked = {"origin": "https://elsewhere.example", "access-control-request-method": "POST"}
    for path, allowed in (
        ("/files", "GET, HEAD, OPTIONS, POST"),
        ("/files/file-0", "DELETE, GET, HEAD, OPTIONS"),
        ("/fine_tuning/jobs/ftjob-0/cancel", "OPTIONS, POST"),
        ("/chat/completions", "OPTIONS, POST"),
        ("/models/a/b", "DELETE, GET, HEAD, OPTIONS"),
    ):
        answer = http.options(f"{address}/v1{path}", headers=asked)
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["allow"] == allowed
        assert not [name for name in answer.headers if name.startswith("access-control")]
        wrong = http.request("PATCH", f"{address}/v1{path}", headers=asked)
        assert (wrong.status_code, wrong.headers["allow"]) == (405, allowed)
        assert not [name for name in wrong.headers if name.startswith("access-control")]
    assert http.options(f"{address}/v1/nothing").status_code == 404
