"""`etude join` and `etude storage`: more machines than one."""

from pathlib import Path
from typing import Annotated

import typer

from app.ops.doors.shared import DataDir, Json, database_of, say, settings_of

storage_app = typer.Typer(
    help="The storage that machines share (ETUDE_STORAGE).", no_args_is_help=True
)


def join(
    address: Annotated[str, typer.Argument(help="Of the Etude to join: https://…")],
    token: Annotated[
        str, typer.Argument(help="From its page Machines; left out, it is asked for")
    ] = "",
    authority: Annotated[
        Path | None,
        typer.Option("--ca", help="A certificate to trust, where the site has its own authority"),
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Let this machine train for another Etude, from a token of its page Machines."""
    from app.ops import join_command

    if not token:
        token = typer.prompt("Token", hide_input=True)
    chosen = settings_of(data_dir)
    say(join_command.join(chosen, address, token.strip(), authority), as_json)


@storage_app.command("share")
def share(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Put what lies on this machine alone into the storage that machines share."""
    with database_of(data_dir) as session:
        from app.ops import storage_command

        say(storage_command.share(session), as_json)
