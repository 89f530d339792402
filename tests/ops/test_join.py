"""`etude join`: one command, and a machine has what its worker needs; nothing goes in the clear."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core import settings
from app.core.models import MachineJoin, Role
from app.machines import joining
from app.ops.embedded import folder
from app.ops.embedded.postgres import Postgres
from app.ops.embedded.valkey import Valkey
from tests import patience, warm
from tests.app.web.serving import serving
from tests.factories import make_user
from tests.faults.proxy import Proxy, proxy


@pytest.fixture
def cables(postgres: Postgres, valkey: Valkey) -> Iterator[tuple[Proxy, Proxy]]:
    """Ports at which database and broker answer."""
    pg = folder.socket_folder(postgres.settings, "pg") / ".s.PGSQL.5432"
    vk = folder.socket_folder(valkey.settings, "vk") / "valkey.sock"
    with proxy(pg) as one, proxy(vk) as other:
        yield one, other


@pytest.fixture
def site(
    db: Session,
    database_url: str,
    broker: str,
    postgres: Postgres,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cables: tuple[Proxy, Proxy],
) -> Iterator[str]:
    """A web that can be joined; its address."""
    (tmp_path / "mounted").mkdir()
    monkeypatch.setenv("ETUDE_STORAGE", str(tmp_path / "mounted"))
    # 127.1 is this machine too, and not in the list of names that say so.
    host = quote(str(folder.socket_folder(postgres.settings, "pg")), safe="")
    far = database_url.replace("@/", f"@127.1:{cables[0].port}/").replace(f"?host={host}", "")
    who = broker.partition("://")[2].rpartition("@")[0]
    monkeypatch.setenv("ETUDE_JOIN_DATABASE_URL", far)
    monkeypatch.setenv("ETUDE_JOIN_REDIS_URL", f"redis://{who}@127.1:{cables[1].port}/0")
    settings.get.cache_clear()
    with serving(tmp_path) as (port, _):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def token(site: str, db: Session) -> str:
    made = joining.start(db, make_user(db, role=Role.ADMIN), "gpu-room-2")
    db.commit()
    return made


def etude(*words: str, data_dir: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ETUDE_", "DATABASE_", "REDIS_"))
    }
    return warm.run(
        [sys.executable, "-m", "app.cli", *words],
        env=kept | {"ETUDE_DATA_DIR": str(data_dir)} | environment,
        timeout=patience.seconds(120),
    )


def test_a_machine_joins_and_its_processes_know_what_it_was_told(
    site: str, token: str, db: Session, tmp_path: Path
) -> None:
    two = tmp_path / "two"
    wrong = etude("join", site, "join-wrong", data_dir=two)
    assert wrong.returncode != 0
    assert "This token is not valid" in wrong.stderr
    assert not (two / "secrets" / "joined.json").exists()

    done = etude("join", site, token, data_dir=two)
    assert done.returncode == 0, done.stderr
    assert f"This machine is gpu-room-2 of {site} now" in done.stdout
    assert "The database, the broker and the shared storage answer." in done.stdout
    assert "etude worker gpu" in done.stdout
    assert token not in done.stdout
    kept = two / "secrets" / "joined.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    told = json.loads(kept.read_text())
    assert told["machine"] == "gpu-room-2"
    for name in ("row-fingerprints",):
        mine, theirs = two / "secrets" / name, settings.get().secrets_dir / name
        assert mine.read_text() == theirs.read_text()
        assert stat.S_IMODE(mine.stat().st_mode) == 0o600
    db.expire_all()
    row = db.scalars(select(MachineJoin)).one()
    assert row.used_at is not None

    shown = (
        "from app.core import settings; s = settings.get()\n"
        "print(s.database_url, s.storage, s.port)"
    )
    seen = subprocess.run(
        [sys.executable, "-c", shown],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "ETUDE_DATA_DIR": str(two), "ETUDE_PORT": "8123"},
    )
    assert seen.stdout.split() == [
        told["settings"]["DATABASE_URL"],
        told["settings"]["ETUDE_STORAGE"],
        "8123",
    ]

    again = etude("join", site, token, data_dir=two)
    assert again.returncode != 0
    assert "has joined" in again.stderr
    for words in (["worker", "cpu"], ["up"]):
        refused = etude(*words, data_dir=two)
        assert refused.returncode != 0
        assert "only trains" in refused.stderr, words


def test_a_token_is_never_sent_in_the_clear(tmp_path: Path) -> None:
    done = etude("join", "http://etude.house.example", "join-x", data_dir=tmp_path / "two")
    assert done.returncode != 0
    assert "over https alone" in done.stderr


def test_a_certificate_that_nobody_trusts_is_told_of(tmp_path: Path) -> None:
    import ssl
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    key, certificate = tmp_path / "key.pem", tmp_path / "own.pem"
    subprocess.run(
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost "
        f"-addext subjectAltName=DNS:localhost -keyout {key} -out {certificate}".split(),
        check=True,
        capture_output=True,
    )

    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(403)
            self.end_headers()
            self.wfile.write(b"This token is not valid: it was tried.\n")

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Refusing)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"https://localhost:{server.server_port}"
    try:
        done = etude("join", address, "join-x", data_dir=tmp_path / "two")
        assert "is not trusted here" in done.stderr
        done = etude("join", address, "join-x", "--ca", str(certificate), data_dir=tmp_path / "two")
        assert "it was tried" in done.stderr
    finally:
        server.shutdown()
        server.server_close()


def test_a_server_that_does_not_answer_is_named(
    site: str, token: str, cables: tuple[Proxy, Proxy], tmp_path: Path
) -> None:
    cables[1].end()
    done = etude("join", site, token, data_dir=tmp_path / "two")
    assert done.returncode != 0
    assert "This machine is gpu-room-2" in done.stdout
    assert "the broker does not answer" in done.stderr
    assert "joined.json" in done.stderr


def test_a_site_of_its_own_is_not_joined_to_another(tmp_path: Path) -> None:
    (tmp_path / "two" / "postgres").mkdir(parents=True)
    done = etude("join", "https://localhost:9", "join-x", data_dir=tmp_path / "two")
    assert done.returncode != 0
    assert "holds an Etude of its own" in done.stderr


def test_without_a_shared_storage_there_is_nothing_to_share(
    database_url: str, data_dir: Path
) -> None:
    done = etude(
        "storage", "share", data_dir=data_dir, DATABASE_URL=database_url, REDIS_URL="redis://x"
    )
    assert done.returncode != 0
    assert "ETUDE_STORAGE is empty" in done.stderr
