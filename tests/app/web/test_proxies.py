"""Behind a proxy the client's own address counts, and only a proxy of ours is believed."""

import re
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from app.core import settings
from app.core.models import SignInFailure
from app.datasets.part_uploads import MAX_PART_BYTES
from app.main import PAGE_ROUTERS, create_app
from app.people import auth
from app.web import middleware, v1
from app.web.proxies import ForwardedClient, address_of, is_exposed
from tests.app.web.pages import ORIGIN
from tests.factories import PASSWORD, make_user

PROXIES = '["10.9.0.0/16", "fd00:9::/32"]'


async def _tell(scope: Scope, receive: Receive, send: Send) -> None:
    request = Request(scope)
    said = {"client": address_of(request), "scheme": request.url.scheme,
            "exposed": is_exposed(request)}  # fmt: skip
    await JSONResponse(said)(scope, receive, send)


@pytest.fixture(autouse=True)
def _proxies(data_dir: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETUDE_TRUSTED_PROXIES", PROXIES)
    settings.get.cache_clear()


def seen(peer: str, host: str = "etude.example", **headers: str) -> dict[str, object]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    browser = TestClient(ForwardedClient(_tell), base_url=f"http://{host}", client=(peer, 5))
    found: dict[str, object] = browser.get("/", headers=named).json()
    return found


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.9.0.1", "203.0.113.7", "203.0.113.7"),
        # Whatever stands left of the first stranger, that stranger has written.
        ("10.9.0.1", "1.1.1.1, 203.0.113.7, 10.9.0.2", "203.0.113.7"),
        ("10.9.0.1", "10.9.0.3, 10.9.0.2", "10.9.0.3"),
        ("10.9.0.1", "203.0.113.7:5012", "203.0.113.7"),
        ("fd00:9::1", "[2001:db8::7]:443", "2001:db8::7"),
        ("::ffff:10.9.0.1", "203.0.113.7", "203.0.113.7"),
        ("10.9.0.1", "203.0.113.7, unknown", "10.9.0.1"),
        ("10.9.0.1", "", "10.9.0.1"),
        ("203.0.113.9", "1.1.1.1", "203.0.113.9"),
        ("testclient", "1.1.1.1", "testclient"),
    ],
)
def test_whose_address_counts(peer: str, forwarded: str, client: str) -> None:
    assert seen(peer, x_forwarded_for=forwarded)["client"] == client


def test_only_a_proxy_of_ours_says_that_it_was_https() -> None:
    assert seen("10.9.0.1", x_forwarded_proto="https")["scheme"] == "https"
    assert seen("10.9.0.1", x_forwarded_proto="http, https")["scheme"] == "https"
    assert seen("10.9.0.1", x_forwarded_proto="gopher")["scheme"] == "http"
    assert seen("203.0.113.9", x_forwarded_proto="https")["scheme"] == "http"


def test_plain_http_is_exposed_beyond_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert seen("203.0.113.9")["exposed"]
    assert seen("127.0.0.1", "etude.example")["exposed"], "a proxy that says nothing"
    assert not seen("127.0.0.1", "localhost:8000")["exposed"]
    assert not seen("::1", "[::1]:8000")["exposed"]
    assert not seen("10.9.0.1", x_forwarded_for="203.0.113.7", x_forwarded_proto="https")["exposed"]
    monkeypatch.setenv("ETUDE_SECURE_COOKIES", "true")
    settings.get.cache_clear()
    assert not seen("203.0.113.9")["exposed"]


def test_pages_that_ask_for_a_password_warn_where_passwords_can_be_read(db: Session) -> None:
    words, link = "not encrypted", auth.create_setup_link(db, None)
    db.commit()
    with TestClient(create_app(), base_url="http://10.0.0.5", client=("10.0.0.9", 5)) as browser:
        assert words in browser.get("/sign-in").text
        assert words in browser.get(f"/setup/{link}").text
    with TestClient(create_app(), base_url="http://127.0.0.1", client=("127.0.0.1", 5)) as browser:
        assert words not in browser.get("/sign-in").text
        assert words not in browser.get(f"/setup/{link}").text


def test_tries_are_counted_by_the_clients_own_address(db: Session) -> None:
    make_user(db, email="ada@house.example", password=PASSWORD)
    form = {"email": "ada@house.example", "password": "not the password"}
    with TestClient(create_app(), base_url="http://127.0.0.1", client=("10.9.0.1", 5)) as browser:
        headers = {**ORIGIN, "X-Forwarded-For": "6.6.6.6, 203.0.113.7"}
        assert browser.post("/sign-in", data=form, headers=headers).status_code == 422
    assert db.scalars(select(SignInFailure.address)).all() == ["203.0.113.7"]


def test_a_network_that_is_none_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETUDE_TRUSTED_PROXIES", '["proxy.example"]')
    with pytest.raises(SystemExit, match="ETUDE_TRUSTED_PROXIES"):
        settings.load()


# --- what the proxies of deploy/ let through ----------------------------------------------

ROOT = Path(__file__).resolve().parents[3]
_UNITS = {"k": 1024, "m": 1024**2, "g": 1024**3}


def _paths() -> set[str]:
    """Every address of the application that takes a body."""
    routes = [
        *(("", route) for router in PAGE_ROUTERS for route in router.routes),
        *(("/v1", route) for module in v1._ROUTES.values() for route in module.router.routes),
    ]
    return {
        prefix + route.path
        for prefix, route in routes
        if isinstance(route, APIRoute) and (route.methods or set()) & {"POST", "PUT", "PATCH"}
    }


def _streamed() -> dict[str, int | None]:
    """The addresses that take more than a form, and how much a part has; None: a whole file."""
    script = (ROOT / "static/js/pieces.js").read_text()
    [mebibytes] = re.findall(r"MOST_BYTES = (\d+) \* 1024 \* 1024;", script)
    piece = int(mebibytes) * 1024**2
    in_parts = {
        "/uploads": piece,
        "/uploads/{upload_id}": piece,
        "/models/uploads/{upload_id}/{number}": piece,
        "/v1/uploads/{upload_id}/parts": MAX_PART_BYTES,
    }
    return {path: in_parts.get(path) for path in _paths() if middleware._is_streamed(_one(path))}


def _one(path: str) -> str:
    return re.sub(r"{\w+}", "7", path)


def _nginx_limits() -> tuple[int, re.Pattern[str], int]:
    """What nginx lets through, as a rule; and where it lets through more, and how much."""
    config = (ROOT / "deploy/nginx.conf").read_text()
    found = re.findall(r"client_max_body_size (\d+)([kmg]);", config)
    [rule, larger] = [int(number) * _UNITS[unit] for number, unit in found]
    [place] = re.findall(r"location ~ (\S+) {\n\s+client_max_body_size", config)
    return rule, re.compile(place), larger


def test_nginx_lets_through_what_each_address_takes() -> None:
    rule, place, larger = _nginx_limits()
    streamed = _streamed()
    whole = {path for path, size in streamed.items() if size is None}
    assert {path for path in _paths() if place.search(_one(path))} == whole
    chosen = settings.get()
    form = 1024**2  # what a form has beside its file
    assert larger >= max(chosen.max_upload_bytes, chosen.max_model_upload_bytes) + form
    assert rule >= max(size for size in streamed.values() if size is not None) + form
    assert rule >= middleware._MAX_FORM_BYTES


def test_caddy_has_no_limit_and_the_page_about_proxies_names_whole_files() -> None:
    for name in ("deploy/Caddyfile", "deploy/compose/Caddyfile"):
        assert "request_body" not in (ROOT / name).read_text()
    page = (ROOT / "docs/proxy.md").read_text()
    for path, size in _streamed().items():
        if size is None or path.startswith("/v1/"):
            assert f"`{re.sub(r'{[^}]+}', '…', path)}`" in page
