"""The `etude` command as a process of its own: with Etude down, with Etude up, and gone wrong."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app import cli
from app.core import db as database
from app.core import settings
from app.core.models import AuditEvent, Role, User
from app.ops.embedded import folder
from app.ops.embedded.postgres import Postgres
from app.ops.embedded.servers import check_broker
from app.people import auth
from tests import patience, warm
from tests.factories import PASSWORD, make_user


def etude(*arguments: str, typed: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as on a bare machine: no HOME, no servers named but those given."""
    bare = {"PATH": os.environ["PATH"], "PYTHONWARNINGS": "error"}
    return warm.run(
        [sys.executable, "-m", "app.cli", *arguments],
        input=typed,
        env=bare | environment,
        timeout=patience.seconds(120),
    )


def refusal(*arguments: str, **environment: str) -> str:
    """Run a command that must fail; returns its one sentence."""
    done = etude(*arguments, **environment)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    return done.stderr.strip()


@pytest.fixture
def here(server_dir: Path, request: pytest.FixtureRequest) -> Path:
    return server_dir / f"the house of {request.node.name[:30]}"


@pytest.fixture
def is_up(here: Path) -> Iterator[settings.Settings]:
    """What `etude up` holds while it lives: the lock and a running database."""
    chosen = settings.load(data_dir=here)
    folder.prepare(chosen)
    server = Postgres(chosen, {"fsync": "off"})
    with folder.lock(chosen, "etude up"):
        server.start()
        yield chosen
        server.stop()


def test_accounts_and_tokens_with_etude_down(here: Path) -> None:
    added = etude(
        *("user", "add", "Ada@House.example", "--role", "admin", "--password-stdin"),
        *("--data-dir", str(here)),
        typed=PASSWORD + "\n",
    )
    assert (added.returncode, added.stdout) == (0, "Added ada@house.example as admin.\n")
    made = etude("token", "create", "ada@house.example", "--data-dir", str(here))
    assert made.returncode == 0
    assert made.stdout.startswith(auth.TOKEN_PREFIX)
    assert len(made.stdout.split()) == 1
    # Nothing of it runs on.
    chosen = settings.load(data_dir=here)
    assert Postgres(chosen).pid() is None
    with folder.lock(chosen, "a test"):
        pass


def test_a_command_uses_the_database_of_etude_up(here: Path, is_up: settings.Settings) -> None:
    before = Postgres(is_up).pid()
    added = etude("user", "add", "bot@house.example", "--service", ETUDE_DATA_DIR=str(here))
    assert (added.stdout, added.stderr) == ("Added bot@house.example as member.\n", "")
    assert etude("migrate", "--data-dir", str(here)).returncode == 0
    models = etude("models", "list", "--data-dir", str(here))
    assert models.stdout.split("\t")[:2] == [
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "Waiting to be imported",
    ]
    assert Postgres(is_up).pid() == before


def test_a_second_up_gets_one_sentence(here: Path, is_up: settings.Settings) -> None:
    said = refusal("up", "--data-dir", str(here))
    assert f"{here} is in use by etude up (process {os.getpid()})" in said
    assert "--data-dir" in said


def test_a_token_is_all_that_is_printed_and_it_works(db: Session, database_url: str) -> None:
    person = make_user(db, email="ada@house.example")
    made = etude("token", "create", "ADA@house.example", DATABASE_URL=database_url)
    owner = auth.user_of_token(db, made.stdout.strip())
    assert owner is not None
    assert owner.id == person.id


def test_a_person_without_a_password_gets_a_link(db: Session, database_url: str) -> None:
    added = etude("user", "add", "bea@house.example", DATABASE_URL=database_url)
    link = added.stdout.partition("/setup/")[2].split()[0]
    invited = auth.setup_link_user(db, link)
    assert invited is not None
    assert invited.email == "bea@house.example"


def test_a_link_has_the_address_that_people_open(db: Session, database_url: str) -> None:
    site = {"DATABASE_URL": database_url, "ETUDE_PUBLIC_URL": "https://etude.example/"}
    added = etude("user", "add", "bea@house.example", **site)
    assert "Let them open https://etude.example/setup/" in added.stdout
    again = etude("user", "reset", "bea@house.example", **site)
    assert again.stdout.startswith("https://etude.example/setup/")
    # Where nobody has said it: as this machine reaches its own web.
    here = {"DATABASE_URL": database_url, "ETUDE_PUBLIC_URL": "", "ETUDE_PORT": "8123"}
    again = etude("user", "reset", "bea@house.example", **here)
    assert again.stdout.startswith("http://127.0.0.1:8123/setup/")


def test_a_backup_on_standard_output_is_closed_to_others(
    db: Session, database_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "etude.tar"
    command = [sys.executable, "-m", "app.cli", "backup", "-"]
    with path.open("wb") as out:
        path.chmod(0o644)
        subprocess.run(command, stdout=out, check=True)
    assert path.stat().st_mode & 0o777 == 0o600
    piped = subprocess.run(command, capture_output=True, check=True)
    assert b"umask 077" in piped.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["token", "create", "nobody@house.example"], "nobody here has the address"),
        (["user", "add", "ada"], "an e-mail address such as"),
        (["user", "add", "a@b.example", "--password-stdin"], "at least 10 characters"),
        (["models", "add", "/no/such/model"], "nothing at /no/such/model"),
    ],
)
def test_mistakes_get_one_sentence(
    database_url: str, monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["etude", *arguments])
    monkeypatch.setattr(sys, "stdin", io.StringIO("short\n"))
    with pytest.raises(SystemExit, match=sentence):
        cli.main()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("mysql://x@localhost/etude", "Etude needs PostgreSQL"),
        ("rubbish", "DATABASE_URL cannot be read"),
    ],
)
def test_a_wrong_database_url_is_told(url: str, sentence: str) -> None:
    with pytest.raises(SystemExit, match=sentence):
        database.check_server(url)


@pytest.mark.parametrize("url", ["redis://127.0.0.1:9/0", "rubbish", "redis+socket:///nowhere"])
def test_a_wrong_redis_url_is_told(url: str) -> None:
    with pytest.raises(SystemExit, match=r"REDIS_URL .* does not work"):
        check_broker(url)


def test_up_with_a_wrong_server_gets_one_sentence(here: Path, database_url: str) -> None:
    url = "postgresql://x:secret@127.0.0.1:9/etude"
    said = refusal("up", "--data-dir", str(here), DATABASE_URL=url)
    assert "127.0.0.1:9/etude does not work" in said
    assert "secret" not in said
    wrong = {"DATABASE_URL": database_url, "REDIS_URL": "redis://127.0.0.1:9/0"}
    assert refusal("up", "--data-dir", str(here), **wrong).startswith("REDIS_URL")


def test_a_wrong_setting_is_named(here: Path) -> None:
    done = etude("migrate", "--data-dir", str(here), ETUDE_PORT="many")
    assert done.returncode == 1
    assert "ETUDE_PORT" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_data_directory_that_cannot_be_made(server_dir: Path) -> None:
    file = server_dir / "a file"
    file.touch()
    assert "--data-dir" in refusal("migrate", "--data-dir", str(file / "var"))


def test_parts_alone_need_their_servers_named() -> None:
    assert "DATABASE_URL is not set" in refusal("worker", "gpu")


def test_the_doctor_looks_at_this_machine(here: Path) -> None:
    assert etude("migrate", "--data-dir", str(here)).returncode == 0
    done = etude("doctor", "--data-dir", str(here))
    assert done.returncode == 0, done.stdout
    assert "PostgreSQL 18" in done.stdout
    unwell = etude("doctor", "--data-dir", str(here), DATABASE_URL="postgresql://127.0.0.1:9/x")
    assert unwell.returncode == 1
    assert "WRONG DATABASE_URL" in unwell.stdout


def test_all_accounts_are_listed(db: Session, database_url: str) -> None:
    person = make_user(db, email="ada@house.example")
    etude("user", "add", "bot@house.example", "--service", DATABASE_URL=database_url)
    rows = etude("user", "list", DATABASE_URL=database_url).stdout.splitlines()
    assert [row.split("\t")[:4] for row in rows] == [
        ["ada@house.example", person.role.value, "person", "open"],
        ["bot@house.example", "member", "program", "open"],
    ]
    listed = json.loads(etude("user", "list", "--json", DATABASE_URL=database_url).stdout)
    assert [(one["email"], one["service"]) for one in listed] == [
        ("ada@house.example", False),
        ("bot@house.example", True),
    ]


def test_json_is_all_that_is_printed(database_url: str) -> None:
    email = "bea@house.example"
    added = etude("user", "add", email, "--json", DATABASE_URL=database_url)
    assert json.loads(added.stdout)["link"].startswith("http://127.0.0.1:8000/setup/")
    reset = etude("user", "reset", email, "--json", DATABASE_URL=database_url)
    assert json.loads(reset.stdout)["email"] == email
    made = etude("token", "create", email, "--json", DATABASE_URL=database_url)
    assert json.loads(made.stdout)["token"].startswith(auth.TOKEN_PREFIX)
    assert json.loads(etude("models", "list", "--json", DATABASE_URL=database_url).stdout) == []


def test_every_link_that_lets_somebody_in_is_in_the_audit_log(
    database_url: str, db: Session
) -> None:
    """Whoever makes it, and wherever."""
    ada = make_user(db, email="ada@house.example")
    assert etude("user", "reset", ada.email, DATABASE_URL=database_url).returncode == 0
    etude("user", "add", "bea@house.example", DATABASE_URL=database_url)
    bea = db.scalars(select(User).where(User.email == "bea@house.example")).one()
    made = select(AuditEvent.actor, AuditEvent.subject).where(AuditEvent.action == "account.link")
    found = [tuple(row) for row in db.execute(made.order_by(AuditEvent.id))]
    assert found == [("system", f"user {ada.id}"), ("system", f"user {bea.id}")]
    etude("user", "add", "bot@house.example", "--service", DATABASE_URL=database_url)
    words = refusal("user", "reset", "bot@house.example", DATABASE_URL=database_url)
    assert "cannot sign in" in words


@pytest.mark.parametrize(
    ("arguments", "sentence", "code"),
    [
        (["user", "reset", "nobody@house.example", "--json"], "nobody here has the address", 1),
        (["user", "add", "ada", "--json"], "an e-mail address such as", 1),
        (["user", "add", "a@b.example", "--role", "king", "--json"], "king", 2),
        (["backup", "-", "--json"], "standard output is the backup itself", 1),
    ],
)
def test_with_json_a_mistake_is_an_object(
    database_url: str, arguments: list[str], sentence: str, code: int
) -> None:
    done = etude(*arguments, DATABASE_URL=database_url)
    assert (done.returncode, done.stdout) == (code, "")
    assert sentence in json.loads(done.stderr)["error"]


def test_the_version_is_said_at_once() -> None:
    assert etude("--version").stdout == f"etude {version('etude')}\n"
    program = "import sys\nfrom app import cli\nprint(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    slow = {"sqlalchemy", "pydantic", "fastapi", "celery", "pyarrow", "numpy", "rich"}
    assert slow & set(loaded.stdout.split()) == set()


def test_roles_are_those_of_accounts() -> None:
    shown = etude("user", "add", "--help", COLUMNS="200").stdout
    assert "|".join(role.value for role in Role) in shown


def test_the_shell_can_complete_commands() -> None:
    script = Path(sys.executable).with_name("etude")
    bare = {"PATH": os.environ["PATH"]}
    shown = subprocess.run(
        ["bash", "-c", f'"{script}" --show-completion; true'],
        capture_output=True,
        text=True,
        env=bare,
    )
    assert "complete -o default -F _etude_completion etude" in shown.stdout
    asked = {"_ETUDE_COMPLETE": "complete_bash", "COMP_WORDS": "etude jo", "COMP_CWORD": "1"}
    completed = subprocess.run([script], capture_output=True, text=True, env=bare | asked)
    assert set(completed.stdout.split()) == {"job", "join"}
