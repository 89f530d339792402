"""What the commands have in common: options, the way to a database, how things are printed."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.core.models import User
    from app.core.settings import Settings
    from app.ops.v1_client import Api

DataDir = Annotated[
    Path | None, typer.Option(help="Where everything lives; the default is ETUDE_DATA_DIR or ./var")
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object or list, and nothing else")
]
Email = Annotated[str, typer.Argument(help="The account's e-mail address")]


def say(sentences: Iterable[str], as_json: bool, *, err: bool = False) -> None:
    if as_json:
        print_json({"messages": list(sentences)})
        return
    for sentence in sentences:
        typer.echo(sentence, err=err)


def print_json(value: object) -> None:
    from app.ops import terminal

    typer.echo(terminal.as_json(value))


def print_row(*cells: Any) -> None:
    from app.ops import terminal

    typer.echo("\t".join(terminal.line(cell) for cell in cells))


def settings_of(data_dir: Path | None, **given: object) -> "Settings":
    from app.core import settings

    if data_dir is not None:
        os.environ["ETUDE_DATA_DIR"] = str(data_dir)
    for name, value in given.items():
        if value is not None:
            os.environ[f"ETUDE_{name.upper()}"] = str(value)
    settings.get.cache_clear()
    return settings.get()


def settings_with_servers() -> "Settings":
    from app.core import data_format, db, outbound, settings
    from app.ops.embedded import folder

    os.environ |= outbound.NO_TELEMETRY
    chosen = settings.get()
    data_format.require_known(chosen.data_dir)
    for name, value in (("DATABASE_URL", chosen.database_url), ("REDIS_URL", chosen.redis_url)):
        if not value:
            raise SystemExit(
                f"etude: {name} is not set. `etude up` starts everything and sets it; "
                "to start parts one by one, name your servers."
            )
    db.check_server(chosen.database_url)
    folder.prepare(chosen, folder.OF_PARTS)
    return chosen


@contextmanager
def database_of(data_dir: Path | None) -> Iterator["Session"]:
    from app.core import db
    from app.ops.embedded import servers

    with servers.database(settings_of(data_dir)), db.session() as session:
        yield session


def setup_address(link: str) -> str:
    """Return a one-time link as people open it; without ETUDE_PUBLIC_URL as this machine does."""
    from app.core import settings
    from app.ops import own_access

    chosen = settings.get()
    base = chosen.public_url or own_access.own_address(chosen) or chosen.local_address
    return f"{base.rstrip('/')}/setup/{link}"


def find_user(session: "Session", email: str) -> "User":
    from sqlalchemy import select

    from app.core.models import User

    user = session.scalars(select(User).where(User.email == email.strip().lower())).first()
    if user is None:
        raise SystemExit(f"etude: nobody here has the address {email}; `etude user add` adds one.")
    return user


def api_of(data_dir: Path | None) -> "Api":
    from app.ops import own_access

    return own_access.connect(lambda: settings_of(data_dir))
