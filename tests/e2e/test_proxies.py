"""Real proxies in front: big files, streams, and what a page says when it is not us who answer."""

import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.models import Conversation, DatasetVersion, StoredFile
from app.people import auth
from tests import patience
from tests.answerer import standing_in
from tests.app.web.jobs.test_event_stream import free_port, start_web
from tests.factories import (
    make_base_model,
    make_dataset_version,
    make_job,
    make_user,
    make_zipped_adapter,
)

DEPLOY = Path(__file__).parents[2] / "deploy"
_MEGABYTE = 1024**2
_ROW = b'"What is asked in this row?","What is answered in it, in a sentence of usual length."\n'
_DEFAULT = """
server {
    listen 443 ssl;
    location / { proxy_pass http://127.0.0.1:8000; proxy_set_header Host $http_host; }
}
"""
# One that the web is too slow for, or that has a limit of its own.
_INSTEAD = _DEFAULT.replace(
    "    location /",
    "    location ~ ^/adapters/[0-9]+/ask/answer$ { return 504; }\n"
    "    location = /jobs/new/estimate { return 413; }\n"
    "    location /",
)


@dataclass
class Proxied:
    """A web process, and a proxy in front of it."""

    address: str
    web: subprocess.Popen[bytes]
    log: Path


def _nginx(site: str, port: int, behind: int, folder: Path) -> list[str]:
    site = re.sub(r" *ssl_certificate.*\n", "", site).replace(
        "listen 443 ssl;", f"listen 127.0.0.1:{port};"
    )
    paths = " ".join(
        f"{name}_temp_path {folder}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/log;\n"
        f"events {{}}\nhttp {{ access_log {folder}/access; {paths}\n"
        f"{site.replace('127.0.0.1:8000', f'127.0.0.1:{behind}')} }}\n"
    )
    return ["nginx", "-p", str(folder), "-c", str(config), "-e", str(folder / "log")]


def _caddy(site: str, port: int, behind: int, folder: Path) -> list[str]:
    site = site.replace("etude.example.org {", f"http://127.0.0.1:{port} {{").replace(
        "\ttls internal\n", ""
    )
    config = folder / "Caddyfile"
    config.write_text("{\n\tadmin off\n}\n" + site.replace("127.0.0.1:8000", f"127.0.0.1:{behind}"))
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(config)]


_KINDS: dict[str, tuple[Callable[[str, int, int, Path], list[str]], str]] = {
    "nginx": (_nginx, (DEPLOY / "nginx.conf").read_text()),
    "caddy": (_caddy, (DEPLOY / "Caddyfile").read_text()),
    "nginx as it comes": (_nginx, _DEFAULT),
    "nginx in our place": (_nginx, _INSTEAD),
}


@pytest.fixture
def proxied(
    request: pytest.FixtureRequest, database_url: str, broker: str, tmp_path: Path
) -> Iterator[Proxied]:
    command_of, site = _KINDS[request.param]
    behind, port = free_port(), free_port()
    folder = tmp_path / "proxy"
    folder.mkdir()
    command = command_of(site, port, behind, folder)
    if shutil.which(command[0], path=os.environ["PATH"] + ":/usr/sbin") is None:
        assert not os.environ.get("ETUDE_REQUIRE_BROWSER"), f"{command[0]} is not here"
        pytest.skip(f"{command[0]} is not installed here: make proxies installs it")
    web = start_web(behind)
    with (folder / "out").open("wb") as out:
        proxy = subprocess.Popen(
            command,
            stdout=out,
            stderr=out,
            env=os.environ | {"HOME": str(folder), "PATH": os.environ["PATH"] + ":/usr/sbin"},
        )
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + patience.seconds(30)
    while True:
        try:
            if httpx2.get(f"{address}/healthz").status_code == 200:
                break
        except httpx2.TransportError:
            pass
        assert proxy.poll() is None and time.monotonic() < deadline, (folder / "out").read_text()
        time.sleep(0.05)
    yield Proxied(address, web, folder / "access")
    proxy.kill()  # a gentle end waits for streams
    proxy.wait(patience.seconds(20))
    web.terminate()
    web.wait(patience.seconds(20))


def _pieces(num_bytes: int) -> Iterator[bytes]:
    yield b"question,answer\n"
    block = _ROW * (_MEGABYTE // len(_ROW))
    for _ in range(num_bytes // len(block)):
        yield block


@pytest.mark.timeout(300)
@pytest.mark.parametrize("proxied", ["nginx", "caddy"], indirect=True)
def test_a_file_of_200_megabytes_comes_through(
    proxied: Proxied, db: Session, tmp_path: Path
) -> None:
    token = auth.create_token(db, make_user(db), "tests")
    db.commit()
    path = tmp_path / "large.csv"
    with path.open("wb") as file:
        for piece in _pieces(200 * _MEGABYTE):
            file.write(piece)
    with path.open("rb") as file:
        answer = httpx2.post(
            f"{proxied.address}/v1/files",
            headers={"Authorization": f"Bearer {token}"},
            data={"purpose": "fine-tune"},
            files={"file": ("large.csv", file)},
            timeout=patience.seconds(200),
        )
    assert answer.status_code == 200, answer.text
    assert answer.json()["bytes"] == path.stat().st_size


@pytest.mark.timeout(300)
@pytest.mark.parametrize("proxied", ["nginx", "caddy"], indirect=True)
def test_events_come_while_the_stream_is_open(proxied: Proxied, db: Session) -> None:
    user = make_user(db)
    job = make_job(db, user=user, version=make_dataset_version(db, user=user))
    cookie = auth.open_session(db, user)
    db.commit()
    heard = threading.Event()
    with httpx2.stream(
        "GET",
        f"{proxied.address}/jobs/{job.id}/events",
        headers={"Cookie": f"{auth.COOKIE}={cookie}"},
        timeout=patience.seconds(60),
    ) as stream:
        assert stream.status_code == 200
        for line in stream.iter_lines():
            if line:
                heard.set()
                break
    assert heard.is_set()


@pytest.fixture
def page(proxied: Proxied, browser: Browser, db: Session) -> Iterator[Page]:
    """Where a file is chosen, in the browser of somebody who may."""
    cookie = auth.open_session(db, make_user(db))
    db.commit()
    context = browser.new_context(locale="en-US")
    context.add_cookies([{"name": auth.COOKIE, "value": cookie, "url": proxied.address}])
    page = context.new_page()
    page.set_default_timeout(patience.milliseconds(60))
    page.goto(f"{proxied.address}/datasets/new")
    yield page
    context.close()


def _upload(page: Page, tmp_path: Path, num_bytes: int) -> Path:
    path = tmp_path / "rows.csv"
    with path.open("wb") as file:
        for piece in _pieces(num_bytes):
            file.write(piece)
    page.locator("input[type=file]").set_input_files(path)
    page.get_by_role("button", name="Upload", exact=True).click()
    return path


@pytest.mark.browser
@pytest.mark.timeout(300)
@pytest.mark.parametrize("proxied", ["nginx as it comes"], indirect=True)
def test_pieces_become_as_small_as_a_proxy_wants_them(
    proxied: Proxied, page: Page, db: Session, tmp_path: Path
) -> None:
    path = _upload(page, tmp_path, 12 * _MEGABYTE)
    page.wait_for_url(re.compile(r"/versions/\d+"))
    db.rollback()
    assert db.scalars(select(StoredFile.size_bytes)).one() == path.stat().st_size
    statuses = re.findall(r'"PATCH [^"]+" (\d+)', proxied.log.read_text())
    assert statuses.count("413") == 1
    # The first two had 512 KiB and 1 MiB, and the others as much as passed.
    assert statuses.count("204") == 13


@pytest.mark.browser
@pytest.mark.timeout(300)
@pytest.mark.parametrize("proxied", ["caddy"], indirect=True)
def test_pieces_grow_where_they_are_taken(
    proxied: Proxied, page: Page, db: Session, tmp_path: Path
) -> None:
    patches: list[str] = []
    page.on("request", lambda one: patches.append(one.url) if one.method == "PATCH" else None)
    path = _upload(page, tmp_path, 40 * _MEGABYTE)
    page.wait_for_url(re.compile(r"/versions/\d+"))
    db.rollback()
    assert db.scalars(select(StoredFile.size_bytes)).one() == path.stat().st_size
    # 0.5, 1, 2, 4, and then 8 MiB each.
    assert len(patches) == 9


@pytest.mark.browser
@pytest.mark.timeout(300)
@pytest.mark.parametrize("proxied", ["nginx as it comes"], indirect=True)
def test_what_a_proxy_says_in_our_place_is_one_sentence(
    proxied: Proxied, page: Page, db: Session, tmp_path: Path
) -> None:
    proxied.web.kill()
    proxied.web.wait()
    _upload(page, tmp_path, _MEGABYTE)
    said = page.locator("[data-upload-error]")
    expect(said).to_be_visible(timeout=patience.milliseconds(90))
    sentence = "a server between your browser and Etude answered in its place (502)."
    assert said.inner_text().startswith(f"The file did not arrive: {sentence}")
    assert "<" not in said.inner_text()
    assert db.scalar(select(func.count()).select_from(DatasetVersion)) == 0


def _in_our_place(status: int) -> str:
    return (
        "That did not work: a server between your browser and Etude answered in its place "
        f"({status}). Please try again in a few minutes. If it happens again, tell your "
        "administrator this number."
    )


def _ask(page: Page, address: str) -> None:
    page.goto(address)
    page.get_by_label("Your question").fill("What is rule 3?")
    page.keyboard.press("Enter")


@pytest.mark.browser
@pytest.mark.timeout(300)
@pytest.mark.parametrize("proxied", ["nginx as it comes"], indirect=True)
def test_a_question_that_a_proxy_answers_is_one_sentence(
    proxied: Proxied, page: Page, db: Session
) -> None:
    adapter = make_zipped_adapter(db, make_user(db))
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    with standing_in(db):
        _ask(page, f"{proxied.address}/adapters/{adapter.id}/ask")
        expect(page.locator("[data-turn]").get_by_label("Your trained model")).to_contain_text(
            "Hello."
        )
        expect(page.locator("[data-send]")).to_be_visible()  # all of it has come
        page.get_by_label("Your question").fill("What is rule 4?")
        page.context.set_offline(True)
        page.keyboard.press("Enter")
        said = page.locator("#problem")
        expect(said).to_have_text(
            "Etude does not answer at the moment. Please try again in a few seconds."
        )
        page.context.set_offline(False)
        proxied.web.kill()
        proxied.web.wait()
        page.get_by_label("Your question").press("Enter")
        expect(said).to_have_text(_in_our_place(502))
    # It waits where it was typed, and what was answered before stays.
    expect(page.get_by_label("Your question")).to_have_value("What is rule 4?")
    expect(page.locator("[data-turn]")).to_have_count(1)
    assert problems == []


@pytest.mark.browser
@pytest.mark.timeout(300)
@pytest.mark.parametrize("proxied", ["nginx in our place"], indirect=True)
def test_an_answer_that_a_proxy_gives_is_one_sentence(
    proxied: Proxied, page: Page, db: Session
) -> None:
    adapter = make_zipped_adapter(db, make_user(db))
    with standing_in(db):
        _ask(page, f"{proxied.address}/adapters/{adapter.id}/ask")
        expect(page.locator("#problem")).to_have_text(_in_our_place(504))
        expect(page.get_by_label("Your question")).to_have_value("What is rule 3?")
        expect(page.locator("[data-turn]")).to_have_count(0)
    db.rollback()
    assert db.scalar(select(func.count()).select_from(Conversation)) == 1


@pytest.mark.browser
@pytest.mark.timeout(300)
@pytest.mark.parametrize("proxied", ["nginx in our place"], indirect=True)
def test_a_part_that_a_proxy_answers_stays_with_one_sentence(
    proxied: Proxied, page: Page, db: Session
) -> None:
    make_base_model(db)
    version = make_dataset_version(db)
    db.commit()
    page.goto(f"{proxied.address}/jobs/new?version={version.id}")
    estimate = page.locator("#estimate")
    before = estimate.inner_text()
    page.get_by_label("Job name").fill("Another name")
    page.get_by_label("Job name").press("Tab")
    said = page.locator("[data-not-come]")
    expect(said).to_have_text(_in_our_place(413))
    assert estimate.inner_text() == before
    # One at a time, however often it is tried; and another where the network is away.
    page.context.set_offline(True)
    page.get_by_label("Job name").fill("A third name")
    page.get_by_label("Job name").press("Tab")
    expect(said).to_have_text(
        "Etude does not answer at the moment. Please try again in a few seconds."
    )
    expect(said).to_have_count(1)
