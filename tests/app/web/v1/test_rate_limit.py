"""So many requests a minute for each token, whichever web process is asked."""

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import httpx2
import openai
import pytest
from openai import OpenAI
from sqlalchemy.orm import Session

from app.core import settings
from app.core.models import User
from app.ops.embedded.valkey import Valkey
from app.people import auth
from tests import http, patience, warm

pytestmark = pytest.mark.timeout(200)
LIMIT = 5
HEADERS = tuple(f"x-ratelimit-{name}-requests" for name in ("limit", "remaining", "reset"))


@contextmanager
def web_process(log: Path, redis_url: str, limit: int = LIMIT) -> Iterator[str]:
    """Start `etude web` as it runs at a site; yields its address."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    own = {"ETUDE_PORT": str(port), "REDIS_URL": redis_url}
    own |= {"ETUDE_V1_REQUESTS_PER_MINUTE": str(limit)}
    with log.open("wb") as output:
        process = warm.Popen(
            [sys.executable, "-m", "app.cli", "web"],
            env=os.environ | own,
            stdout=output,
            stderr=output,
        )
        deadline = time.monotonic() + patience.seconds(60)
        try:
            while not is_well(address):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            yield address
        finally:
            process.terminate()
            process.wait()


def is_well(address: str) -> bool:
    try:
        return httpx2.get(f"{address}/healthz", timeout=5).status_code == 200
    except httpx2.TransportError:
        return False


Ask = Callable[..., httpx2.Response]


def asking(db: Session, user: User) -> Ask:
    token = auth.create_token(db, user, "tests")
    db.commit()

    def ask(address: str, path: str = "/models", method: str = "GET") -> httpx2.Response:
        headers = {"authorization": f"Bearer {token}"}
        return httpx2.request(
            method, f"{address}/v1{path}", headers=headers, timeout=patience.seconds(30)
        )

    return ask


def test_two_web_processes_count_together(
    db: Session, user: User, broker: str, tmp_path: Path
) -> None:
    ask, other = asking(db, user), asking(db, user)
    with ExitStack() as both:
        first, second = (
            both.enter_context(web_process(tmp_path / f"{name}.log", broker)) for name in "ab"
        )
        # Whatever is asked counts, and every answer has the figures.
        asked = [
            ask(first),
            ask(second, "/models/none"),
            ask(first, "/nothing"),
            ask(second, "/fine_tuning/jobs", "POST"),
            ask(first, "/files", "HEAD"),
        ]
        assert [answer.status_code for answer in asked] == [200, 404, 404, 400, 200]
        assert [answer.headers[HEADERS[0]] for answer in asked] == [str(LIMIT)] * 5
        assert [answer.headers[HEADERS[1]] for answer in asked] == ["4", "3", "2", "1", "0"]
        for address in (second, first):
            refused = ask(address)
            assert refused.status_code == 429
            error = refused.json()["error"]
            assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
            assert "5 requests a minute" in error["message"]
            assert 1 <= int(refused.headers["retry-after"]) <= 60
            assert refused.headers[HEADERS[1]] == "0"
            assert refused.headers[HEADERS[2]].endswith("s")
            assert refused.headers["x-request-id"]
        # Another token of the same account has its own minute; pages and strangers have none.
        assert other(first).headers[HEADERS[1]] == "4"
        assert http.get(f"{first}/v1/models").status_code == 401
        assert HEADERS[0] not in http.get(f"{first}/v1/models").headers


def test_without_the_broker_everybody_is_let_through_and_counted_again_after(
    db: Session, user: User, tmp_path: Path
) -> None:
    own = Valkey(settings.load(data_dir=tmp_path / "own"))
    own.start()
    ask = asking(db, user)
    try:
        with web_process(tmp_path / "web.log", own.url, limit=2) as address:
            assert [ask(address).status_code for _ in range(3)] == [200, 200, 429]
            own.stop()
            without = [ask(address) for _ in range(4)]
            assert [answer.status_code for answer in without] == [200] * 4
            assert all(HEADERS[0] not in answer.headers for answer in without)
            own.start()
            deadline = time.monotonic() + patience.seconds(60)
            while HEADERS[0] not in ask(address).headers:
                assert time.monotonic() < deadline, "nothing is counted any more"
                time.sleep(0.5)
    finally:
        own.stop()


def test_a_site_may_do_without(db: Session, user: User, broker: str, tmp_path: Path) -> None:
    ask = asking(db, user)
    with web_process(tmp_path / "web.log", broker, limit=0) as address:
        assert HEADERS[0] not in ask(address).headers


def test_the_client_waits_and_goes_on(
    db: Session, user: User, broker: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_V1_REQUESTS_PER_MINUTE", "1")
    settings.get.cache_clear()
    token = auth.create_token(db, user, "tests")
    db.commit()
    with OpenAI(base_url=f"{address}/v1", api_key=token, max_retries=0) as client:
        client.models.list()
        with pytest.raises(openai.RateLimitError) as raised:
            client.models.list()
    assert raised.value.code == "rate_limit_exceeded"
