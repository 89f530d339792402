"""The `etude` command. What goes wrong ends in one sentence on standard error, never in a trace."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app import auth, base_models, db, settings
from app.embedded import servers
from app.errors import AppError
from app.models import Role, User

app = typer.Typer(
    help="Teach a language model with your own data.",
    no_args_is_help=True,
    # Its traces print the values of variables, passwords among them.
    pretty_exceptions_enable=False,
)
user_app = typer.Typer(help="People and programs that may sign in.", no_args_is_help=True)
token_app = typer.Typer(help="Tokens for programs (/v1).", no_args_is_help=True)
models_app = typer.Typer(help="Starting models.", no_args_is_help=True)
app.add_typer(user_app, name="user")
app.add_typer(token_app, name="token")
app.add_typer(models_app, name="models")

DataDir = Annotated[
    Path | None, typer.Option(help="Where everything lives; the default is ETUDE_DATA_DIR or ./var")
]


def main() -> None:
    """Run the command line; the entry point of `etude`."""
    try:
        app()
    except (AppError, OSError) as error:
        raise SystemExit(f"etude: {error}") from None
    except SQLAlchemyError as error:
        said = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise SystemExit(f"etude: the database refused: {said}") from None


@app.command()
def up(
    host: Annotated[str | None, typer.Option(help="Address to listen on")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on")] = None,
    data_dir: DataDir = None,
) -> None:
    """Start everything on this machine: database, broker, workers and the web."""
    from app import up as supervisor

    supervisor.run(_settings(data_dir, host=host, port=port))


@app.command()
def web() -> None:
    """Start the web alone; DATABASE_URL and REDIS_URL name the servers."""
    import uvicorn

    from app import logs

    chosen = _settings_with_servers()
    logs.configure(chosen.log_level)
    uvicorn.run(
        "app.main:create_app",
        factory=True,
        host=chosen.host,
        port=chosen.port,
        access_log=False,
        server_header=False,
        log_level=chosen.log_level.lower(),
        # Open event streams end at once; browsers come back to the next process by themselves.
        timeout_graceful_shutdown=3,
    )


@app.command()
def worker(queue: Annotated[Literal["gpu", "cpu"], typer.Argument(help="gpu or cpu")]) -> None:
    """Start one worker; ETUDE_WORKER_ID names it and ETUDE_DEVICE is what it trains on."""
    _settings_with_servers()
    os.environ.setdefault("ETUDE_WORKER_ID", f"{queue}-0@{os.uname().nodename}")
    os.environ.setdefault("ETUDE_DEVICE", "cuda:0" if queue == "gpu" else "cpu")
    arguments = [sys.executable, "-m", "celery", "--app", "worker.celery_app", "worker"]
    arguments += ["--queues", queue, "--hostname", os.environ["ETUDE_WORKER_ID"]]
    arguments += ["--pool", "prefork", "--concurrency", "1", "--loglevel", "INFO"]
    # What those would do, the database does (docs/decisions); they only cost connections.
    arguments += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    os.execv(sys.executable, arguments)  # noqa: S606 - no shell is wanted


@app.command()
def migrate(data_dir: DataDir = None) -> None:
    """Bring the database to this version's tables, and list the starter model in it."""
    with _database(data_dir), db.session() as session:
        if settings.get().starter_model:
            base_models.add_starter(session)
        session.commit()
    typer.echo("The database is up to date.")


@user_app.command("add")
def user_add(
    email: str,
    role: Annotated[Role, typer.Option(help="admin, lead, member or viewer")] = Role.MEMBER,
    name: Annotated[str, typer.Option(help="As shown to others")] = "",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input")
    ] = False,
    service: Annotated[
        bool, typer.Option("--service", help="A program's account: tokens, no password")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Add an account. Without a password it prints a one-time link's path for the person."""
    password = sys.stdin.readline().rstrip("\r\n") if password_stdin else None
    with _database(data_dir), db.session() as session:
        user = auth.create_user(
            session, None, email, role, name=name, password=password, is_service=service
        )
        link = None if service or password is not None else auth.create_setup_link(session, user)
        session.commit()
    typer.echo(f"Added {user.email} as {role.value}.")
    if link is not None:
        typer.echo(f"Let them open /setup/{link} once, within {auth.LINK_HOURS} hours.")


@user_app.command("reset")
def user_reset(email: str, data_dir: DataDir = None) -> None:
    """Print the path of a one-time link with which a person sets a new password."""
    with _database(data_dir), db.session() as session:
        link = auth.create_setup_link(session, _user(session, email))
        session.commit()
    typer.echo(f"/setup/{link}")


@token_app.command("create")
def token_create(
    email: str,
    name: Annotated[str, typer.Option(help="To tell tokens apart")] = "",
    data_dir: DataDir = None,
) -> None:
    """Print a new API token, and nothing else, on standard output."""
    with _database(data_dir), db.session() as session:
        secret = auth.create_token(session, _user(session, email), name)
        session.commit()
    typer.echo(secret)


@models_app.command("list")
def models_list(data_dir: DataDir = None) -> None:
    """Show the starting models and how their import stands."""
    with _database(data_dir), db.session() as session:
        for model in base_models.list_models(session):
            size = f"{model.size_bytes / 1e6:,.0f} MB" if model.size_bytes else "-"
            line = f"{model.name}\t{model.status.value}\t{size}\t{model.licence or '-'}"
            typer.echo(f"{line}\t{model.reason}" if model.reason else line)


@models_app.command("add")
def models_add(
    path: Annotated[
        str, typer.Argument(help="A folder with safetensors, a GGUF file, or OWNER/NAME with --hub")
    ],
    name: Annotated[str, typer.Option(help="As shown to people; the default is the folder's")] = "",
    hub: Annotated[
        bool, typer.Option("--hub", help="Fetch it from the Hugging Face Hub, where allowed")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Register a model for import; a worker checks and converts it."""
    with _database(data_dir), db.session() as session:
        if hub:
            source = {"kind": "hub", "repo": path}
        else:
            path = str(Path(path).expanduser().resolve())
            source = {"kind": "folder", "path": path}
        model = base_models.add(session, None, source, name or (path if hub else Path(path).stem))
        session.commit()
    typer.echo(f"{model.name} waits for its import; `etude models list` shows how it stands.")


@app.command()
def doctor(data_dir: DataDir = None) -> None:
    """Look at what can be wrong on this machine and say what to do."""
    from app import doctor as examination

    raise SystemExit(examination.run(_settings(data_dir)))


def _settings(data_dir: Path | None, **given: object) -> settings.Settings:
    if data_dir is not None:
        os.environ["ETUDE_DATA_DIR"] = str(data_dir)
    for name, value in given.items():
        if value is not None:
            os.environ[f"ETUDE_{name.upper()}"] = str(value)
    settings.get.cache_clear()
    return settings.get()


def _settings_with_servers() -> settings.Settings:
    chosen = settings.get()
    for name, value in (("DATABASE_URL", chosen.database_url), ("REDIS_URL", chosen.redis_url)):
        if not value:
            raise SystemExit(
                f"etude: {name} is not set. `etude up` starts everything and sets it; "
                "to start parts one by one, name your servers."
            )
    db.check_server(chosen.database_url)
    return chosen


@contextmanager
def _database(data_dir: Path | None) -> Iterator[None]:
    with servers.database(_settings(data_dir)):
        yield


def _user(session: Session, email: str) -> User:
    user = session.scalars(select(User).where(User.email == email.strip().lower())).first()
    if user is None:
        raise SystemExit(f"etude: nobody here has the address {email}; `etude user add` adds one.")
    return user


if __name__ == "__main__":
    main()
