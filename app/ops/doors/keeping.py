"""`etude migrate`, `backup`, `restore` and `doctor`: what looks after a site."""

import os
import stat
import sys
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
    ] = "",
    without_models: Annotated[
        bool, typer.Option("--without-models", help="Leave out models that can be downloaded again")
    ] = False,
    nightly: Annotated[
        bool,
        typer.Option(
            "--nightly", help="Stay, and take one each night (the ETUDE_BACKUP_… settings)"
        ),
    ] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Back up database and files into one file, while everything runs."""
    from app.ops import backup as backups
    from app.ops.embedded import folder, servers

    if nightly:
        _back_up_nightly(target, data_dir)
        return
    if not target:
        raise SystemExit("etude: name a new file, a folder to put it in, or - for a pipe.")
    if as_json and target == "-":
        raise SystemExit("etude: standard output is the backup itself; leave --json out.")
    if target == "-":
        _close_output()
    chosen = settings_of(data_dir)
    if chosen.database_url:
        folder.prepare(chosen, folder.OF_PARTS)
    with servers.database(chosen, migrate=False):
        path = None if target == "-" else Path(target)
        summary = backups.take(path, with_models=not without_models)
    say(summary.sentences(), as_json, err=not as_json)


def _back_up_nightly(target: str, data_dir: Path | None) -> None:
    from app.core import db, logs
    from app.ops.backup import nightly
    from app.ops.embedded import folder

    if target:
        raise SystemExit("etude: --nightly takes its folder from ETUDE_BACKUP_DIR; leave it out.")
    chosen = settings_of(data_dir)
    if not chosen.database_url:
        raise SystemExit(
            "etude: --nightly is for servers of your own (DATABASE_URL); beside `etude up`, let "
            "cron call `etude backup FOLDER`."
        )
    logs.configure(chosen.log_level, chosen.log_format)
    db.check_server(chosen.database_owner_url or chosen.database_url)
    folder.prepare(chosen, folder.OF_PARTS)
    nightly.run(chosen)


def _close_output() -> None:
    """See to it that a backup on standard output is no file that others may read."""
    output = sys.stdout.fileno()
    status = os.fstat(output)
    if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
        os.fchmod(output, stat.S_IMODE(status.st_mode) & 0o600)
    elif stat.S_ISFIFO(status.st_mode):
        typer.echo(
            "It holds all that people uploaded: whoever writes it to a file should close that to "
            "others (umask 077).",
            err=True,
        )


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
