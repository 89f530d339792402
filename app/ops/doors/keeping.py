"""`etude migrate`, `backup`, `restore` and `doctor`: what looks after a site."""

from pathlib import Path
from typing import Annotated

import typer

from app.ops.doors.shared import DataDir, Json, database_of, say, settings_of


def migrate(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Update the database to this version's tables, and add the starter model."""
    with database_of(data_dir) as session:
        from app.base_models import registry as base_models
        from app.core import settings

        if settings.get().starter_model:
            base_models.add_starter(session)
        session.commit()
    say(["The database is up to date."], as_json)


def backup(
    target: Annotated[
        str, typer.Argument(help="A new file, a folder to put it in, or - for a pipe")
    ],
    without_models: Annotated[
        bool, typer.Option("--without-models", help="Leave out models that can be downloaded again")
    ] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Back up database and files into one file, while everything runs."""
    from app.ops import backup as backups
    from app.ops.embedded import servers

    if as_json and target == "-":
        raise SystemExit("etude: standard output is the backup itself; leave --json out.")
    with servers.database(settings_of(data_dir), migrate=False):
        path = None if target == "-" else Path(target)
        summary = backups.take(path, with_models=not without_models)
    say(summary.sentences(), as_json, err=not as_json)


def restore(
    source: Annotated[
        Path, typer.Argument(help="A backup, or a folder (its newest backup is used)")
    ],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Fill an empty data directory and database from a backup; jobs resume where they were."""
    from app.ops import backup as backups

    say(backups.restore(settings_of(data_dir), source), as_json)


def doctor(
    as_json: Json = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also read every byte of the models")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Check what can be wrong on this machine and say what to do."""
    from app.ops import doctor as examination

    raise SystemExit(examination.run(settings_of(data_dir), as_json=as_json, deep=deep))


def upgrade_check(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Say what an update to this version would do here, and what stands in its way."""
    from app.ops import doctor as examination
    from app.ops import upgrade_check as check

    findings = check.checks(settings_of(data_dir))
    raise SystemExit(examination.tell(findings, as_json=as_json))
