"""Whose token the command line uses, and to whom it gives it."""

import http.server
import json
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.core.models import ApiToken, BaseModel, Role, User
from app.ops import own_access
from app.people import auth
from tests.app.web.v1.stand_in_answerer import StandIn
from tests.ops.command_line.conftest import Etude


@pytest.fixture
def environment(environment: dict[str, str], db: Session) -> dict[str, str]:
    """That of the operator, who has no token yet."""
    db.execute(delete(ApiToken))
    db.commit()
    return environment | {"ETUDE_TOKEN": ""}


@pytest.fixture
def stranger() -> Iterator[tuple[str, list[str]]]:
    """Somebody else's server, which sends everybody away and keeps what it is told."""
    heard: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(f"{self.path} {self.headers['Authorization']}")
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", heard
    server.shutdown()
    thread.join()
    server.server_close()


def tokens(db: Session) -> list[ApiToken]:
    db.expire_all()
    return list(db.scalars(select(ApiToken).order_by(ApiToken.id)))


def test_the_operators_own_token_is_made_once_and_kept_closed(
    etude: Etude, db: Session, data_dir: Path, model: BaseModel, answerer: StandIn
) -> None:
    for _ in range(2):
        assert etude("ask", model.name, "Hm?").stdout == "Hello there.\n"
    [token] = tokens(db)
    account = db.get_one(User, token.user_id)
    assert (account.email, account.role) == (own_access.ACCOUNT, Role.LEAD)
    assert account.is_service
    kept = data_dir / "secrets" / own_access.TOKEN_FILE
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    owner = auth.user_of_token(db, kept.read_text())
    assert owner is not None
    assert owner.id == account.id


def test_a_token_that_was_revoked_is_made_anew_unless_the_account_is_closed(
    etude: Etude, db: Session, model: BaseModel, answerer: StandIn
) -> None:
    assert etude("ask", model.name, "Hm?").returncode == 0
    account = db.scalars(select(User).where(User.email == own_access.ACCOUNT)).one()
    auth.revoke_token(db, account, tokens(db)[0].id)
    db.commit()
    assert etude("ask", model.name, "Hm?").returncode == 0
    assert len(tokens(db)) == 2
    account.disabled_at = account.created_at
    db.commit()
    done = etude("ask", model.name, "Hm?")
    assert done.returncode == 1
    assert "is closed" in done.stderr
    assert len(tokens(db)) == 2


def test_a_named_token_counts_and_no_other_is_made(
    etude: Etude, db: Session, user: User, address: str, model: BaseModel, answerer: StandIn
) -> None:
    token = auth.create_token(db, user, "tests")
    db.commit()
    named = {"ETUDE_URL": f"{address}/v1/", "ETUDE_TOKEN": token}
    for more in (named, {"ETUDE_TOKEN": token}):
        assert etude("ask", model.name, "Hm?", **more).stdout == "Hello there.\n"
        assert answerer.asked.account == f"user-{user.id}"
    refused = etude("ask", model.name, "Hm?", ETUDE_TOKEN="etude-wrong")
    assert (refused.returncode, "valid API token" in refused.stderr) == (1, True)
    assert len(tokens(db)) == 1


def test_the_operators_token_goes_to_nobody_else(
    etude: Etude, db: Session, data_dir: Path, stranger: tuple[str, list[str]]
) -> None:
    url, heard = stranger
    done = etude("job", "list", ETUDE_URL=url)
    assert (done.returncode, "ETUDE_TOKEN" in done.stderr) == (1, True)
    # Left behind by an `etude up` that is gone; the port is somebody else's by now.
    (data_dir / "run").mkdir(parents=True)
    (data_dir / "run" / "address").write_text(url)
    (data_dir / "run" / "lock").write_text("etude up (process 4194999)")
    gone = etude("job", "list", DATABASE_URL="")
    assert gone.returncode == 1
    assert "Etude is not running here" in gone.stderr
    assert (heard, tokens(db)) == ([], [])


def test_a_redirection_is_not_followed(etude: Etude, stranger: tuple[str, list[str]]) -> None:
    url, heard = stranger
    done = etude("job", "list", ETUDE_URL=url, ETUDE_TOKEN="etude-mine")
    assert done.returncode == 1
    assert "is not Etude" in done.stderr
    assert heard == ["/v1/fine_tuning/jobs?limit=100 Bearer etude-mine"]


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"ETUDE_URL": "file:///etc/passwd", "ETUDE_TOKEN": "x"}, "ETUDE_URL is no address"),
        ({"ETUDE_URL": "http://a b", "ETUDE_TOKEN": "x"}, "ETUDE_URL is no address"),
        ({"ETUDE_URL": "http://127.0.0.1:9", "ETUDE_TOKEN": "ü"}, "ETUDE_TOKEN is no token"),
        ({"ETUDE_URL": "http://127.0.0.1:9", "ETUDE_TOKEN": "x"}, "No Etude answers at"),
    ],
)
def test_what_cannot_be_reached_is_one_sentence(
    etude: Etude, environment: dict[str, str], sentence: str
) -> None:
    done = etude("job", "list", "--json", **environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert sentence in json.loads(done.stderr)["error"]
