"""What holds for every page: who may see it, what a browser may run, where a form may come from."""

import hashlib
import re
from pathlib import Path

import pytest
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.core import settings
from app.core.models import Role
from app.main import PAGE_ROUTERS, create_app
from app.web.render import ROOT
from tests.app.web.pages import ORIGIN, PIECE, READS_HTML, sign_in
from tests.factories import make_base_model, make_department, make_job, make_user

ROUTES = sorted(
    (method, route.path)  # type: ignore[attr-defined]
    for router in PAGE_ROUTERS
    for route in router.routes
    for method in route.methods  # type: ignore[attr-defined]
)
# For people who have no account yet, or no session any more, and for machines with a token.
OPEN = {"/sign-in", "/sign-out", "/setup/{secret}", "/machines/join"}
# The product's own documentation, with nothing of anybody in it.
OPEN |= {
    "/help",
    "/help/search",
    "/help/glossary",
    "/help/panel/search",
    "/help/panel/{chapter}",
    "/help/pictures/{picture}",
    "/help/{chapter}",
}
HEADERS = {**ORIGIN, **PIECE, "Upload-Length": "10", "Upload-Offset": "0"}


def address(path: str, number: int = 1) -> str:
    return re.sub(r"\{upload_id\}", "0" * 32, re.sub(r"\{\w+_id\}", str(number), path))


def test_nobody_gets_in_without_signing_in(client: TestClient) -> None:
    closed = [(method, path) for method, path in ROUTES if path not in OPEN]
    assert len(closed) > 40
    for method, path in closed:
        answer = client.request(method, address(path), headers=HEADERS, follow_redirects=False)
        leads_to = answer.headers.get("location", "")
        assert answer.status_code == 401 or leads_to.startswith("/sign-in"), f"{method} {path}"
        assert "set-cookie" not in answer.headers, f"{method} {path}"


def test_a_stranger_is_told_that_nothing_is_there(client: TestClient, db: Session) -> None:
    owner = make_user(db)
    make_job(db, user=owner)
    stranger = make_user(db, role=Role.ADMIN, department=make_department(db))
    sign_in(client, db, stranger)
    numbers = re.compile(r"\{(dataset|version|job|user)_id\}")
    # The line is the whole house's: an administrator moves anybody's job in it (test_pages_queue).
    asked = [(m, path) for m, path in ROUTES if numbers.search(path) and path[:7] != "/queue/"]
    assert len(asked) > 15
    for method, path in asked:
        answer = client.request(method, address(path), headers=HEADERS)
        assert answer.status_code == 404, f"{method} {path}"
        assert "Ward questions" not in answer.text, f"{method} {path}"


def test_the_owner_sees_each_page_and_each_has_the_policy(client: TestClient, db: Session) -> None:
    owner = make_user(db, role=Role.ADMIN)
    make_base_model(db)
    job = make_job(db, user=owner)
    sign_in(client, db, owner)
    for path in (
        "/", "/datasets", "/datasets/new", f"/datasets/{job.version.dataset_id}",
        f"/versions/{job.version_id}", "/jobs", "/jobs/new", f"/jobs/{job.id}", "/adapters",
        "/queue", "/queue/limits", "/machines", "/models", "/people", "/account",
    ):  # fmt: skip
        answer = client.get(path)
        assert answer.status_code == 200, path
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'"), path
        assert "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-store", path
        assert answer.headers["x-content-type-options"] == "nosniff", path
        assert answer.headers["x-request-id"] not in ("", "-")


def test_error_pages_have_the_policy_too(client: TestClient) -> None:
    for path in ("/nothing", "/setup/wrong", "/static/nothing.css"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def test_a_form_counts_only_from_our_own_pages(client: TestClient, db: Session) -> None:
    sign_in(client, db, make_user(db))
    del client.headers["Origin"]
    ours = ({"Origin": "http://127.0.0.1"}, {"Sec-Fetch-Site": "same-origin"})
    foreign: tuple[dict[str, str], ...] = (
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1"},
        {"Origin": "https://127.0.0.1"},
        {"Origin": "http://127.0.0.1.evil.example"},
        {"Origin": "null"},
        {},
    )
    for headers in ours:
        assert client.post("/sign-out", headers=headers).status_code == 200, headers
        sign_in(client, db, make_user(db))
        del client.headers["Origin"]
    for headers in foreign:
        assert client.post("/sign-out", headers=headers).status_code == 403, headers
        assert client.get("/account").url.path == "/account", "still signed in"


def test_every_method_that_changes_something_is_guarded(client: TestClient, db: Session) -> None:
    sign_in(client, db, make_user(db))
    del client.headers["Origin"]
    for method, path in ROUTES:
        if method not in ("GET", "HEAD"):
            answer = client.request(method, address(path), headers=PIECE)
            assert answer.status_code == 403, f"{method} {path}"


def test_a_foreign_name_is_not_answered(client: TestClient) -> None:
    for host in ("localhost:8000", "192.168.1.20:8000", "[::1]:8000"):
        assert client.get("/healthz", headers={"Host": host}).status_code == 200, host
    for host in ("evil.example", "127.0.0.1.evil.example", ""):
        assert client.get("/healthz", headers={"Host": host}).status_code == 421, host


def test_measurements_are_for_whoever_has_the_token_under_any_name(
    monkeypatch: pytest.MonkeyPatch, client: TestClient
) -> None:
    monkeypatch.setenv("ETUDE_METRICS_TOKEN", "a-long-token")
    settings.get.cache_clear()
    headers = {"Host": "web:8000"}
    assert client.get("/metrics", headers=headers).status_code == 401
    token = {"Authorization": "Bearer a-long-token"}
    assert client.get("/metrics", headers=headers | token).status_code == 200
    for path in ("/metrics/", "/", "/readyz"):
        assert client.get(path, headers=headers | token).status_code == 421, path


def test_a_name_that_was_allowed_is_answered(
    monkeypatch: pytest.MonkeyPatch, client: TestClient
) -> None:
    monkeypatch.setenv("ETUDE_ALLOWED_HOSTS", '["Etude.clinic.example"]')
    settings.get.cache_clear()
    answer = client.get("/sign-in", headers={"Host": "etude.clinic.example:8000"})
    assert answer.status_code == 200


def test_the_servers_own_name_and_that_of_links_are_answered(
    monkeypatch: pytest.MonkeyPatch, client: TestClient
) -> None:
    refused = client.get("/sign-in", headers={"Host": "ward.example"})
    assert refused.status_code == 421
    assert "set ETUDE_SERVER_NAME to this name" in refused.text
    monkeypatch.setenv("ETUDE_SERVER_NAME", "Ward.example")
    monkeypatch.setenv("ETUDE_PUBLIC_URL", "https://etude.example:8443/")
    settings.get.cache_clear()
    for name in ("ward.example", "ward.example:8000", "etude.example:8443"):
        assert client.get("/sign-in", headers={"Host": name}).status_code == 200, name


def test_a_form_longer_than_any_of_ours_is_not_read(client: TestClient, db: Session) -> None:
    sign_in(client, db, make_user(db))
    answer = client.post("/account/tokens", data={"name": "x" * 3_000_000})
    assert answer.status_code == 413
    assert "2 MB" in answer.text


def test_no_template_has_a_script_or_style_in_it() -> None:
    sources = [*ROOT.glob("templates/**/*.html"), *ROOT.glob("templates/**/*.jinja")]
    assert len(sources) > 10
    inline = re.compile(
        r"<script(?![^>]*\bsrc=)(?![^>]*application/json)|<style|\sstyle=|\son\w+=|javascript:"
    )
    found = [source.name for source in sources if inline.search(source.read_text("utf-8"))]
    assert found == []


def test_vendored_files_are_those_that_the_list_names() -> None:
    vendor = ROOT / "static" / "vendor"
    listed = re.findall(r"`([^`]+)` \| `([0-9a-f]{64})`", (vendor / "README.md").read_text())
    there = {
        str(path.relative_to(vendor))
        for path in vendor.rglob("*")
        if path.is_file() and path.name not in ("README.md", "LICENSE")
    }
    assert {name for name, _ in listed} == there
    for name, digest in listed:
        assert hashlib.sha256(Path(vendor, name).read_bytes()).hexdigest() == digest, name


def test_files_that_name_their_content_are_kept_by_browsers(client: TestClient) -> None:
    page = client.get("/sign-in").text
    sheet = re.findall(r'href="(/static/css/etude\.css\?v=\w+)"', page)
    assert len(sheet) == 1
    assert "immutable" in client.get(sheet[0]).headers["cache-control"]
    assert client.get("/static/css/etude.css").headers["cache-control"] == "no-cache"


def test_what_a_style_sheet_names_is_kept_as_well(client: TestClient) -> None:
    """Under the version that it was vendored in; the page asks for its font by the same name."""
    listed = (ROOT / "static" / "vendor" / "README.md").read_text()
    by_file = {
        name: version for version, name in re.findall(r"\| ([\d.]+) \| [^|]+ \| `([^`]+)`", listed)
    }
    sheet = (ROOT / "static" / "css" / "etude.css").read_text()
    named = re.findall(r'url\("\.\./(vendor/([^"?]+)\?v=([^"]+))"\)', sheet)
    assert len(named) == sheet.count("url(")
    for _, name, version in named:
        assert by_file[name] == version
    [font] = re.findall(r'rel="preload"[^>]+href="/static/([^"]+)"', client.get("/sign-in").text)
    assert font in [address for address, _, _ in named]


def test_a_crash_is_a_page_like_any_other(db: Session) -> None:
    """With a number and no details, and all that every page passes."""
    app = create_app()

    @app.get("/crash")
    def crash() -> None:
        raise RuntimeError("secret of a row")

    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as browser:
        answer = browser.get("/crash", headers=READS_HTML)
    assert answer.status_code == 500
    assert "secret of a row" not in answer.text
    number = answer.headers["x-request-id"]
    assert f"request {number}" in answer.text
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


def test_signing_in_leads_nowhere_else(client: TestClient, db: Session) -> None:
    sign_in(client, db, make_user(db))

    def leads_to(target: str) -> str:
        answer = client.get("/sign-in", params={"next": target}, follow_redirects=False)
        return answer.headers["location"]

    assert leads_to("/versions/7") == "/versions/7"
    for target in ("//evil.example", "/\\evil.example", "https://evil.example", "/a\nb", ""):
        assert leads_to(target) == "/", target
