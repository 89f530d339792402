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

from app.base_models import registry as base_models
from app.core import db, settings
from app.core.errors import AppError
from app.core.models import Role, User
from app.datasets.readers.documents import (
    DEFAULT_CHUNK_TOKENS,
    MAX_CHUNK_TOKENS,
    MIN_CHUNK_TOKENS,
)
from app.datasets.readers.reading import ReadAs
from app.ops.embedded import servers
from app.people import auth

app = typer.Typer(
    help="Teach a language model with your own data.",
    no_args_is_help=True,
    # Its traces print the values of variables, passwords among them.
    pretty_exceptions_enable=False,
)
user_app = typer.Typer(help="People and programs that may sign in.", no_args_is_help=True)
token_app = typer.Typer(help="Tokens for programs (/v1).", no_args_is_help=True)
data_app = typer.Typer(help="Files to learn from.", no_args_is_help=True)
models_app = typer.Typer(help="Starting models.", no_args_is_help=True)
app.add_typer(user_app, name="user")
app.add_typer(token_app, name="token")
app.add_typer(models_app, name="models")
app.add_typer(data_app, name="data")

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
    from app.ops import up as supervisor

    supervisor.run(_settings(data_dir, host=host, port=port))


@app.command()
def web() -> None:
    """Start only the web; DATABASE_URL and REDIS_URL name the servers."""
    import uvicorn

    from app.core import logs

    chosen = _settings_with_servers()
    logs.configure(chosen.log_level, chosen.log_format)
    uvicorn.run(
        "app.main:create_lasting_app",
        factory=True,
        host=chosen.host,
        port=chosen.port,
        access_log=False,
        log_config=None,  # its own form of lines would stand beside ours
        server_header=False,
        log_level=chosen.log_level.lower(),
        # Open event streams end at once; browsers come back to the next process by themselves.
        timeout_graceful_shutdown=3,
    )


@app.command()
def worker(queue: Annotated[Literal["gpu", "cpu"], typer.Argument(help="gpu or cpu")]) -> None:
    """Start one worker; ETUDE_WORKER_ID names it and ETUDE_DEVICE is what it trains on."""
    from app.ops.up import worker_command

    _settings_with_servers()
    os.environ.setdefault("ETUDE_WORKER_ID", f"{queue}-0@{os.uname().nodename}")
    os.environ.setdefault("ETUDE_DEVICE", "cuda:0" if queue == "gpu" else "cpu")
    command = worker_command(queue, os.environ["ETUDE_WORKER_ID"])
    os.execv(sys.executable, command)  # noqa: S606 - no shell is wanted


@app.command()
def migrate(data_dir: DataDir = None) -> None:
    """Update the database to this version's tables, and add the starter model."""
    with _database(data_dir), db.session() as session:
        if settings.get().starter_model:
            base_models.add_starter(session)
        session.commit()
    typer.echo("The database is up to date.")


@app.command()
def backup(
    target: Annotated[
        str, typer.Argument(help="A new file, a folder to put it in, or - for a pipe")
    ],
    without_models: Annotated[
        bool, typer.Option("--without-models", help="Leave out models that can be downloaded again")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Back up database and files into one file, while everything runs."""
    from app.ops import backup as backups

    with servers.database(_settings(data_dir), migrate=False):
        path = None if target == "-" else Path(target)
        summary = backups.take(path, with_models=not without_models)
    for line in summary.sentences():
        typer.echo(line, err=True)


@app.command()
def restore(
    source: Annotated[
        Path, typer.Argument(help="A backup, or a folder (its newest backup is used)")
    ],
    data_dir: DataDir = None,
) -> None:
    """Fill an empty data directory and database from a backup; jobs resume where they were."""
    from app.ops import backup as backups

    for line in backups.restore(_settings(data_dir), source):
        typer.echo(line)


@user_app.command("add")
def user_add(
    email: str,
    role: Annotated[Role, typer.Option(help="admin, lead, member or viewer")] = Role.MEMBER,
    name: Annotated[str, typer.Option(help="Name that others see")] = "",
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
    name: Annotated[str, typer.Option(help="Name, to tell tokens apart")] = "",
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
    name: Annotated[
        str, typer.Option(help="Name that people see; the default is the folder's")
    ] = "",
    hub: Annotated[
        bool, typer.Option("--hub", help="Download it from the Hugging Face Hub, where allowed")
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


DataFile = Annotated[
    Path, typer.Argument(help="A table, a document, a ZIP of files, or a folder of them")
]
MappingOption = Annotated[
    list[str] | None,
    typer.Option(
        "--mapping",
        metavar="COLUMN=ROLE",
        help="What a column is, e.g. Frage=question; repeat it for each column used",
    ),
]
SystemOption = Annotated[str, typer.Option("--system", help="Instruction for the model")]
EncodingOption = Annotated[
    str | None, typer.Option(help="e.g. utf-8, cp1252; the default is to detect it")
]
SheetOption = Annotated[
    str | None, typer.Option(help="The sheet to read; * reads all of them as one table")
]
WayOption = Annotated[
    Literal["pairs", "text"] | None,
    typer.Option(help="For a document: its own questions and answers, or its text in pieces"),
]
ChunkOption = Annotated[int, typer.Option(help="Length of a piece of text in tokens, estimated")]
OverlapOption = Annotated[int, typer.Option(help="Tokens repeated from the previous piece")]


@data_app.command("inspect")
def data_inspect(
    file: DataFile,
    mapping: MappingOption = None,
    system: SystemOption = "",
    encoding: EncodingOption = None,
    sheet: SheetOption = None,
    way: WayOption = None,
    chunk_tokens: ChunkOption = DEFAULT_CHUNK_TOKENS,
    overlap_tokens: OverlapOption = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Read a file, say what is in it and what Etude would make of it; store nothing."""
    from app.ops import data_command

    read_as = _read_as(encoding, sheet, way, chunk_tokens, overlap_tokens)
    with data_command.as_file(file) as path:
        report = data_command.read(path, read_as, mapping or [], system, with_checks=True)
    if as_json:
        typer.echo(report.model_dump_json(indent=2))
    else:
        typer.echo(data_command.as_text(report))


@data_app.command("add")
def data_add(
    file: DataFile,
    name: Annotated[str, typer.Option(help="Name that people see; the default is the file's")] = "",
    mapping: MappingOption = None,
    system: SystemOption = "",
    encoding: EncodingOption = None,
    sheet: SheetOption = None,
    way: WayOption = None,
    chunk_tokens: ChunkOption = DEFAULT_CHUNK_TOKENS,
    overlap_tokens: OverlapOption = 0,
    test_percent: Annotated[
        float, typer.Option(help="Share of examples kept for testing, in percent")
    ] = 10,
    seed: Annotated[int, typer.Option(help="Seed for picking the test questions")] = 0,
    email: Annotated[
        str, typer.Option("--for", help="Owner's e-mail; the default is the first administrator")
    ] = "",
    data_dir: DataDir = None,
) -> None:
    """Read a file and keep it as a dataset. With --mapping, or where the columns are plain, its
    examples are made at once, or as soon as Etude runs; else a person confirms them on the page.
    """
    from app.ops import data_command

    read_as = _read_as(encoding, sheet, way, chunk_tokens, overlap_tokens)
    _settings(data_dir)
    with data_command.as_file(file) as path:
        report = data_command.read(path, read_as, mapping or [], system, with_checks=False)
        if mapping and report.problem:
            raise SystemExit(f"etude: {report.problem}")
        is_settled = bool(mapping) or report.inspection.is_sure
        with _database(data_dir), db.session() as session:
            version = data_command.add(
                session,
                _user(session, email) if email else _first_administrator(session),
                path,
                name,
                read_as,
                report,
                is_settled=is_settled,
                validation_share=test_percent / 100,
                seed=seed,
            )
            added = f"Added “{version.dataset.name}” (/versions/{version.id})"
    if is_settled:
        typer.echo(f"{added}: {report.num_examples:,} examples, made as soon as a worker is free.")
    else:
        typer.echo(f"{added}; confirm its columns there, or name them with --mapping.")


def _read_as(
    encoding: str | None,
    sheet: str | None,
    way: Literal["pairs", "text"] | None,
    chunk_tokens: int,
    overlap_tokens: int,
) -> ReadAs:
    low, high = MIN_CHUNK_TOKENS, MAX_CHUNK_TOKENS
    if not low <= chunk_tokens <= high or not 0 <= overlap_tokens * 2 <= chunk_tokens:
        raise SystemExit(
            f"etude: --chunk-tokens is from {low} to {high}, --overlap-tokens from 0 to its half."
        )
    return ReadAs(
        encoding=encoding,
        sheet=sheet,
        way=way,
        chunk_tokens=chunk_tokens,
        overlap_tokens=overlap_tokens,
    )


def _first_administrator(session: Session) -> User:
    user = session.scalars(
        select(User)
        .where(User.role == Role.ADMIN, User.disabled_at.is_(None))
        .order_by(User.id)
        .limit(1)
    ).first()
    if user is None:
        raise SystemExit("etude: there is no administrator yet; `etude user add` adds one.")
    return user


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also read every byte of the models")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Check what can be wrong on this machine and say what to do."""
    from app.ops import doctor as examination

    raise SystemExit(examination.run(_settings(data_dir), as_json=as_json, deep=deep))


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
