"""Take a backup: a snapshot of the database, and the files that its rows point to."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from app.core import audit, db, migrations, settings
from app.core.sentences import counted
from app.ops.backup import bundle, file_holds, tables

# A trainer that saves faster than we link would otherwise be chased for ever; what is still missing
# then was deleted by hand, or is a checkpoint that the job does without.
_TRIES = 5
_SPARE_BYTES = 64 * 1024**2
NAME = re.compile(r"etude-\d{8}T\d{6}Z\.tar")


@dataclass(frozen=True)
class Summary:
    """What was taken, for the sentence at the end."""

    path: Path | None
    size_bytes: int
    num_rows: int
    num_files: int
    models_left_out: list[str]
    # Files that rows point to and that are not on this disk, or are not what they were.
    missing: list[str]
    damaged: list[str]

    def sentences(self) -> Iterator[str]:
        """Say what became of it, and what an administrator should look at."""
        where = self.path or "standard output"
        yield (
            f"Saved {self.num_rows:,} rows and {self.num_files:,} files "
            f"({self.size_bytes / 1e6:,.1f} MB) in {where}."
        )
        if self.models_left_out:
            left_out = ", ".join(self.models_left_out)
            yield f"Left out, to be downloaded again after a restore: {left_out}."
        if self.missing:
            yield counted(
                len(self.missing),
                "Note: 1 of the files that the database names is not on this disk: {names}",
                "Note: {n} of the files that the database names are not on this disk: {names}",
                names=_some(self.missing),
            )
        if self.damaged:
            yield counted(
                len(self.damaged),
                "Note: 1 of the files that the database names has changed: {names}",
                "Note: {n} of the files that the database names have changed: {names}",
                names=_some(self.damaged),
            )


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


def take(target: Path | None, *, with_models: bool = True) -> Summary:
    """Write a backup of the database in `settings.get()` and of the data directory.

    Args:
        target: A file that does not exist yet; or a folder that does, in which one is made that
            bears the moment in its name; None for standard output.

    Raises:
        SystemExit: it cannot be taken; one sentence.
    """
    path = _path(target)
    try:
        with file_holds.hold(settings.get()) as hold, bundle.writing(path) as writer:
            summary = _fill(hold, writer, path, with_models=with_models)
    except FileExistsError as error:
        raise SystemExit(f"etude: {error}") from None
    _record(summary)
    return summary


def newest(folder: Path) -> Path:
    """Return the newest backup in a folder, by the moment in its name.

    Raises:
        SystemExit: there is none.
    """
    backups = sorted(path for path in folder.iterdir() if NAME.fullmatch(path.name))
    if not backups:
        raise SystemExit(f"etude: there is no backup in {folder} (etude-….tar).")
    return backups[-1]


def _path(target: Path | None) -> Path | None:
    if target is None:
        return None
    target = target.expanduser().absolute()
    if target.is_dir():
        return target / f"etude-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.tar"
    if not target.parent.is_dir():
        raise SystemExit(f"etude: there is no folder {target.parent}; create it first.")
    return target


def _fill(
    hold: file_holds.Hold,
    writer: bundle.Writer,
    path: Path | None,
    *,
    with_models: bool,
) -> Summary:
    before: list[str] | None = None
    for attempt in range(1, _TRIES + 1):
        with db.owner_engine() as engine, tables.snapshot(engine) as connection:
            _require_known_tables(connection)
            taken_at = datetime.now(UTC)
            items, left_out = file_holds.wanted(connection, with_models=with_models)
            files, missing = hold.take(items)
            # What vanished between snapshot and hold is named no more by the next snapshot.
            if missing and missing != before and attempt < _TRIES:
                before = missing
                hold.clear()
                continue
            if path is not None:
                _require_room(path.parent, files)
            extra = _write_rows(connection, writer)
        break
    damaged = []
    for file in files:
        with file.path.open("rb") as source:
            digest = writer.add(file.name, source, file.path.stat().st_size)
        if file.sha256 is not None and digest != file.sha256:
            damaged.append(file.name)
    writer.finish(
        etude=version("etude"),
        taken_at=taken_at.isoformat(),
        models_left_out=left_out,
        missing=missing,
        damaged=damaged,
        **extra,
    )
    return Summary(
        path=path,
        size_bytes=sum(entry["size_bytes"] for entry in writer.files.values()),
        num_rows=sum(table["rows"] for table in extra["tables"].values()),
        num_files=len(files),
        models_left_out=left_out,
        missing=missing,
        damaged=damaged,
    )


def _write_rows(connection: Connection, writer: bundle.Writer) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for table, names in tables.columns(connection).items():
        with writer.scratch() as scratch:
            num_rows = tables.dump(connection, table, names, scratch)
            size_bytes = scratch.tell()
            scratch.seek(0)
            writer.add(f"database/{table}.copy.gz", scratch, size_bytes)
        said[table] = {"columns": names, "rows": num_rows}
    return {
        "revision": migrations.current(connection),
        "tables": said,
        "sequences": tables.sequences(connection),
    }


def _require_known_tables(connection: Connection) -> None:
    revision = migrations.current(connection)
    if revision is None:
        raise SystemExit("etude: the database has no tables of Etude; there is nothing to back up.")
    if not migrations.is_known(revision):
        raise SystemExit(
            f"etude: the database is at revision {revision}, which a newer Etude made: take the "
            "backup with that version."
        )


def _require_room(folder: Path, files: list[file_holds.Held]) -> None:
    needed = sum(file.path.stat().st_size for file in files) + _SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SystemExit(
            f"etude: {folder} has {free / 1e9:.1f} GB free, and the files alone take "
            f"{needed / 1e9:.1f} GB: free some space, choose another disk, or leave out models "
            "that can be downloaded again (--without-models)."
        )


def _record(summary: Summary) -> None:
    """Write down that all data was copied; the entry itself is not in the backup."""
    with db.session() as session:
        if migrations.current(session.connection()) != migrations.head():
            return  # an older database: its audit log is for its own version to write
        where = str(summary.path) if summary.path else "standard output"
        audit.record(session, None, "backup.take", "everything", to=where)
        session.commit()
