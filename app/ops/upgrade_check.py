"""`etude upgrade-check`: what an update to this version would do to the site, before it is done.

Run by the new version on the old one's data, while that one still runs. It changes nothing and
reads what has been there since 0.1.0, since the tables are those of the version that runs.
"""

import ast
import re
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from sqlalchemy import Connection, text

from app.core import db, migrations
from app.core.sentences import counted
from app.core.settings import Settings
from app.ops.doctor import machine, service
from app.ops.doctor.finding import SystemFinding, guarded, note, ok, wrong

_OLD_BACKUP_HOURS = 24
# What PostgreSQL may need beside the tables while they are changed.
_SPARE_BYTES = 1024**3
# What takes away or changes what an older version reads or writes. A constraint may be wider than
# the one before, or of a new column alone: whoever writes it has to know.
_CONTRACTS = frozenset({"drop_column", "drop_table", "rename_table", "alter_column"})
_CONTRACTS_IN_SQL = re.compile(
    r"\b(DROP (TABLE|COLUMN|TYPE|DEFAULT)|RENAME|SET NOT NULL|"
    r"ALTER COLUMN \w+ (SET DATA )?TYPE|REVOKE)\b",
    re.IGNORECASE,
)


def checks(chosen: Settings) -> Iterator[SystemFinding]:
    """Say what would happen; nothing is "wrong" that does not stand in the way of the update."""
    yield from guarded("format", lambda: machine.data_format_of(chosen))
    with service.reached(chosen) as reached:
        if not reached.is_made:
            yield ok("database", f"{chosen.data_dir} holds no database yet: nothing is updated")
            return
        if reached.problem:
            yield wrong("database", reached.problem, "")
            return
        with db.session() as session:
            connection = session.connection()
            yield from guarded("migrations", lambda: _migrations(connection))
            yield from guarded("backup", lambda: _backup(connection))
            yield from guarded("jobs", lambda: _jobs(connection))
            yield from guarded("workers", lambda: _workers(connection, chosen))
            yield from guarded("disk", lambda: _disk(connection, chosen))


def _migrations(connection: Connection) -> Iterator[SystemFinding]:
    present = migrations.current(connection)
    if present is not None and not migrations.is_known(present):
        yield wrong(
            "migrations",
            f"The database is at revision {present}, which a newer Etude made.",
            "This version is older than the one that runs: install a newer one.",
        )
        return
    steps = migrations.steps_from(present)
    if not steps:
        yield ok("migrations", "the tables are those of this version already")
        return
    listed = "; ".join(f"{step.revision} {step.title}" for step in steps)
    yield ok(
        "migrations",
        counted(len(steps), "1 change of the tables: {all}", "{n} changes of the tables: {all}",
                all=listed),
    )  # fmt: skip
    if hard := [step.revision for step in steps if contracts(step.path)]:
        yield note(
            "migrations",
            f"Revision {', '.join(hard)} takes away what older versions use.",
            "Stop every part of the old version first: web and all workers.",
        )
    else:
        yield ok(
            "migrations", "pages may stay up; a worker of before saves its job's place and ends"
        )


def contracts(path: Path) -> bool:
    """Say whether a migration takes away, or demands, what the code before it does not know."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return any(
        _contracts(node)
        for function in tree.body
        if isinstance(function, ast.FunctionDef) and function.name == "upgrade"
        for node in ast.walk(function)
    )


def _contracts(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _CONTRACTS_IN_SQL.search(" ".join(node.value.split())) is not None
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    if node.func.attr == "add_column":
        return any(_must_be_given(column) for column in node.args[1:])
    return node.func.attr in _CONTRACTS


def _must_be_given(column: ast.expr) -> bool:
    """Whether a row without this new column, as older code writes it, is refused."""
    if not isinstance(column, ast.Call):
        return False
    given = {each.arg: each.value for each in column.keywords}
    nullable = given.get("nullable")
    is_required = isinstance(nullable, ast.Constant) and nullable.value is False
    return is_required and not {"server_default", "primary_key"} & given.keys()


def _backup(connection: Connection) -> Iterator[SystemFinding]:
    hours = connection.scalar(
        text(
            "SELECT extract(epoch FROM clock_timestamp() - max(at)) / 3600 "
            "FROM audit_event WHERE action = 'backup.take'"
        )
    )
    advice = "Take one with `etude backup`: the way back to the old version is to restore it."
    if hours is None:
        yield wrong("backup", "No backup of this site has ever been taken.", advice)
    elif hours > _OLD_BACKUP_HOURS:
        yield wrong("backup", f"The last backup is {float(hours):,.0f} hours old.", advice)
    else:
        yield ok("backup", f"the last backup is {float(hours):.1f} hours old")


def _jobs(connection: Connection) -> Iterator[SystemFinding]:
    rows = connection.execute(
        text("SELECT status, count(*) FROM job WHERE status IN ('running', 'queued') GROUP BY 1")
    )
    numbers = {str(status): int(number) for status, number in rows}
    running, queued = numbers.get("running", 0), numbers.get("queued", 0)
    if running:
        yield note(
            "jobs",
            counted(running, "1 job is training.", "{n} jobs are training."),
            "A stop has each save its place; it goes on after the start of the new version.",
        )
    else:
        yield ok("jobs", "no job is training")
    if queued:
        yield ok("jobs", counted(queued, "1 job waits, and stays", "{n} jobs wait, and stay"))


def _workers(connection: Connection, chosen: Settings) -> Iterator[SystemFinding]:
    rows = connection.execute(
        text(
            "SELECT id, version FROM worker "
            "WHERE last_seen > clock_timestamp() - make_interval(secs => :silence) ORDER BY id"
        ),
        {"silence": chosen.lease_seconds},
    ).all()
    for name, running in rows:
        yield ok("workers", f"{name} runs {running}; start it anew in {version('etude')}")


def _disk(connection: Connection, chosen: Settings) -> Iterator[SystemFinding]:
    needed = _SPARE_BYTES + int(
        connection.scalar(text("SELECT pg_database_size(current_database())")) or 0
    )
    free = shutil.disk_usage(chosen.data_dir).free
    sentence = f"{free / 1e9:.1f} GB are free; a change of the tables may take {needed / 1e9:.1f}"
    if chosen.database_url:
        yield ok("disk", f"{sentence} where PostgreSQL keeps its files")
    elif free < needed:
        yield wrong("disk", f"Only {sentence} GB.", "Free some space first.")
    else:
        yield ok("disk", f"{sentence} GB")
