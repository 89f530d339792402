"""A token lets one machine in, once, and it is told what it needs and no more."""

from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.core import settings
from app.core.errors import AppError, Conflict, Forbidden, Invalid
from app.core.models import AuditEvent, MachineJoin, Role, User, Worker
from app.machines import joining
from app.main import create_app
from tests.app.web.pages import sign_in
from tests.factories import make_user

AWAY = "postgresql://etude_app:a%20password@db.house.example/etude?sslmode=require"
SECRETS = {
    "ETUDE_SMTP_PASSWORD": "of the mail server",
    "ETUDE_HUB_TOKEN": "of the hub",
    "ETUDE_METRICS_TOKEN": "of the measurements",
    "ETUDE_MLFLOW_PASSWORD": "of mlflow",
    "ETUDE_MLFLOW_TOKEN": "token of mlflow",
    "ETUDE_INFERENCE_KEY": "of the vllm",
}


@pytest.fixture
def shared(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A site that other machines can join."""
    (tmp_path / "mounted").mkdir()
    for name, value in {
        "ETUDE_STORAGE": str(tmp_path / "mounted"),
        "ETUDE_JOIN_DATABASE_URL": AWAY,
        "ETUDE_JOIN_REDIS_URL": "rediss://:pw@broker.house.example:6379/0",
        "ETUDE_CONVERSATION_DAYS": "7",
        "ETUDE_S3_SECRET": "of the bucket",
        **SECRETS,
    }.items():
        monkeypatch.setenv(name, value)
    settings.get.cache_clear()


@pytest.fixture
def admin(db: Session) -> User:
    return make_user(db, role=Role.ADMIN)


def join(db: Session, token: str, version: str = "1") -> joining.Told:
    return joining.join(db, token, version, "1", "10.1.2.3")


def actions(db: Session) -> list[tuple[str, str, str]]:
    events = db.scalars(select(AuditEvent).order_by(AuditEvent.id))
    return [(e.action, e.subject, e.actor) for e in events if e.action.startswith("machine.")]


def test_a_token_tells_one_machine_what_it_needs(shared: None, db: Session, admin: User) -> None:
    token = joining.start(db, admin, " GPU-room-2 ")
    db.commit()
    told = join(db, token)
    assert told.machine == "gpu-room-2"
    assert told.settings["DATABASE_URL"] == AWAY
    assert told.settings["REDIS_URL"] == "rediss://:pw@broker.house.example:6379/0"
    assert told.settings["ETUDE_STORAGE"] == settings.get().storage
    assert told.settings["ETUDE_S3_SECRET"] == "of the bucket"
    assert told.settings["ETUDE_CONVERSATION_DAYS"] == 7
    assert told.settings["ETUDE_FENCE_ON_DB_LOSS"] == "yes"
    assert set(told.secrets) == {"row-fingerprints"}
    assert actions(db) == [
        ("machine.invite", "machine gpu-room-2", admin.email),
        ("machine.join", "machine gpu-room-2", "system"),
    ]


def test_nothing_is_told_that_training_does_not_need(
    shared: None, db: Session, admin: User
) -> None:
    told = join(db, joining.start(db, admin, "two")).model_dump_json()
    for secret in SECRETS.values():
        assert secret not in told
    for name in ("DATABASE_OWNER_URL", "DATA_DIR", "SMTP", "MLFLOW", "WEBHOOK", "TRUSTED_PROXIES"):
        assert name not in told


def test_a_token_is_kept_as_a_hash_alone(shared: None, db: Session, admin: User) -> None:
    token = joining.start(db, admin, "two")
    row = db.scalars(select(MachineJoin)).one()
    kept = " ".join(str(getattr(row, column.key)) for column in MachineJoin.__table__.columns)
    assert token not in kept
    assert token.removeprefix("join-") not in kept
    assert len(row.token_hash) == 32


def test_a_token_works_once(shared: None, db: Session, admin: User) -> None:
    token = joining.start(db, admin, "two")
    join(db, token)
    with pytest.raises(Forbidden, match="one machine and one hour"):
        join(db, token)
    with pytest.raises(Forbidden):
        join(db, "join-" + "x" * 43)


def test_a_token_ends_by_the_database_s_clock(shared: None, db: Session, admin: User) -> None:
    token = joining.start(db, admin, "two")
    row = db.scalars(select(MachineJoin)).one()
    assert abs((row.expires_at - row.created_at).total_seconds() - 3600) < 60
    past = func.clock_timestamp() - timedelta(seconds=1)
    db.execute(update(MachineJoin).values(expires_at=past))
    with pytest.raises(Forbidden):
        join(db, token)
    assert joining.list_joins(db, admin) == []
    joining.start(db, admin, "two")  # the name is free again


def test_another_version_is_refused_before_the_token_is_used_up(
    shared: None, db: Session, admin: User
) -> None:
    token = joining.start(db, admin, "two")
    with pytest.raises(Conflict, match="has Etude 2, and the site has 1"):
        join(db, token, version="2")
    join(db, token)


@pytest.mark.parametrize("role", [Role.LEAD, Role.MEMBER, Role.VIEWER])
def test_only_administrators_make_tokens(shared: None, db: Session, role: Role) -> None:
    person = make_user(db, role=role)
    with pytest.raises(Forbidden):
        joining.start(db, person, "two")
    with pytest.raises(Forbidden):
        joining.list_joins(db, person)
    with pytest.raises(Forbidden):
        joining.withdraw(db, person, 1)


@pytest.mark.parametrize("name", ["", "a b", "-a", "a-", "ä", "a@b", "x" * 41, "a/b"])
def test_a_name_has_letters_that_every_program_takes(
    shared: None, db: Session, admin: User, name: str
) -> None:
    with pytest.raises(Invalid) as refused:
        joining.start(db, admin, name)
    assert refused.value.field == "machine"


def test_each_machine_has_a_name_of_its_own(shared: None, db: Session, admin: User) -> None:
    db.add(Worker(id="gpu-0@compose", queue="gpu", host="h", boot_id="b", devices=[], version="1"))
    joining.start(db, admin, "two")
    for name in ("two", "compose"):
        with pytest.raises(Conflict, match=f"There is a machine {name} already"):
            joining.start(db, admin, name)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("ETUDE_STORAGE", "", "Files lie on this machine alone"),
        ("ETUDE_JOIN_DATABASE_URL", "postgresql://a@localhost/etude", "The database answers on"),
        ("ETUDE_JOIN_DATABASE_URL", "postgresql://a@/etude?host=/run/pg", "The database answers"),
        ("ETUDE_JOIN_REDIS_URL", "redis+socket://a:b@/run/valkey.sock", "The broker answers on"),
        ("ETUDE_JOIN_REDIS_URL", "redis://127.0.0.1:6379/0", "The broker answers on"),
    ],
)
def test_a_site_that_nobody_reaches_says_so(
    shared: None,
    db: Session,
    admin: User,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    said: str,
) -> None:
    monkeypatch.setenv(variable, value)
    settings.get.cache_clear()
    with pytest.raises(Invalid, match=said):
        joining.start(db, admin, "two")


def test_a_token_that_is_taken_back_lets_nobody_in(shared: None, db: Session, admin: User) -> None:
    token = joining.start(db, admin, "two")
    row = db.scalars(select(MachineJoin)).one()
    joining.withdraw(db, admin, row.id)
    with pytest.raises(AppError):
        join(db, token)
    assert actions(db)[-1] == ("machine.forget", "machine two", admin.email)


# --- the page


def test_the_page_shows_a_token_once_and_the_line_to_run(
    shared: None, client: TestClient, db: Session, admin: User
) -> None:
    sign_in(client, db, admin)
    assert 'href="/machines"' in client.get("/queue").text
    html = client.post("/machines", data={"machine": "attic"}).text
    assert "etude join http://127.0.0.1 join-" in html
    assert "begins with https://" in html
    html = client.get("/machines").text
    assert "etude join" not in html
    assert "attic" in html
    row = db.scalars(select(MachineJoin)).one()
    assert "attic" not in client.post(f"/machines/{row.id}/forget").text


def test_a_wrong_name_comes_back_with_a_word_beside_it(
    shared: None, client: TestClient, db: Session, admin: User
) -> None:
    sign_in(client, db, admin)
    answer = client.post("/machines", data={"machine": "two words"})
    assert answer.status_code == 422
    assert 'value="two words"' in answer.text
    assert "small letters, digits and hyphens" in answer.text


def test_a_machine_joins_without_a_session_and_not_in_the_clear(
    shared: None, db: Session, admin: User
) -> None:
    # Behind a proxy of this machine's, whose headers are believed.
    client = TestClient(create_app(), base_url="http://127.0.0.1", client=("127.0.0.1", 50000))
    token = joining.start(db, admin, "two")
    db.commit()
    sent = {"token": token, "version": version("etude")}
    headers = {"Sec-Fetch-Site": "none", "Accept": "text/plain"}
    # Whoever is not on this machine and does not come over https.
    plain = client.post(
        "/machines/join", json=sent, headers=headers | {"X-Forwarded-For": "10.1.2.3"}
    )
    assert plain.status_code == 403
    assert "over https alone" in plain.text
    over_tls = {"X-Forwarded-For": "10.1.2.3", "X-Forwarded-Proto": "https"}
    answer = client.post("/machines/join", json=sent, headers=headers | over_tls)
    assert answer.status_code == 200, answer.text
    assert answer.json()["settings"]["DATABASE_URL"] == AWAY
    assert answer.headers["cache-control"] == "no-store"
    db.expire_all()
    assert db.scalars(select(MachineJoin.used_from)).one() == "10.1.2.3"
    again = client.post("/machines/join", json=sent, headers=headers | over_tls)
    assert again.status_code == 403
    assert "password" not in again.text
