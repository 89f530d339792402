"""A backup every night, and no more of them than are wanted: what `etude backup --nightly` does."""

import re
import signal
import time as clocks
from datetime import UTC, datetime, time, timedelta, tzinfo
from pathlib import Path

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.core import beats, settings, site_time
from app.ops.backup.take import NAME, take

# Short pieces, so that a machine which slept through the night notices.
_LOOK_SECONDS = 30.0
_RETRY = timedelta(hours=1)
# Of a backup that was cut off; one that is being written is younger.
_STALE = timedelta(days=2)
_PARTIAL = re.compile(r"etude-\d{8}T\d{6}Z\.tar\.partial")

_log = structlog.get_logger()


class _Ended(BaseException):
    """SIGTERM, as an exception: what is half written is removed on the way out."""


def run(chosen: settings.Settings) -> None:
    """Take a backup each night until told to end.

    Raises:
        SystemExit: the folder cannot be written to; one sentence.
    """
    signal.signal(signal.SIGTERM, _end)
    try:
        if chosen.backup_at:
            _run(chosen, time.fromisoformat(chosen.backup_at))
        _log.info("backup.off", why="ETUDE_BACKUP_AT is empty")
        while True:  # a container that ends would be started again
            beats.tell()
            clocks.sleep(_LOOK_SECONDS)
    except _Ended:
        return


def _run(chosen: settings.Settings, at: time) -> None:
    folder = chosen.backup_dir.expanduser().absolute()
    _require_folder(folder)
    due = first_due(datetime.now(UTC), at, chosen.zone(), _newest(folder))
    planned = due.astimezone(chosen.zone()).isoformat(timespec="minutes")
    _log.info("backup.planned", at=planned, folder=str(folder))
    is_well = True
    while True:
        if is_well:
            beats.tell()
        now = datetime.now(UTC)
        if now < due:
            clocks.sleep(min(_LOOK_SECONDS, (due - now).total_seconds()))
            continue
        is_well = take_one(folder, chosen.backup_keep)
        due = next_night(now, at, chosen.zone()) if is_well else now + _RETRY


def take_one(folder: Path, keep: int) -> bool:
    """Take a backup and remove the oldest; says whether it is there."""
    try:
        summary = take(folder)
    except (SystemExit, OSError, SQLAlchemyError) as error:
        _log.error("backup.failed", why=" ".join(str(error).split())[:300])
        return False
    removed = prune(folder, keep)
    for sentence in summary.sentences():
        _log.info("backup.taken", what=sentence)
    if removed:
        _log.info("backup.removed", names=", ".join(path.name for path in removed))
    return True


def prune(folder: Path, keep: int) -> list[Path]:
    """Remove all backups but the newest, by the moments in their names, and old halves of some."""
    backups = sorted(path for path in folder.iterdir() if NAME.fullmatch(path.name))
    old = backups[:-keep]
    stale_at = clocks.time() - _STALE.total_seconds()
    halves = [
        path
        for path in folder.iterdir()
        if _PARTIAL.fullmatch(path.name) and path.stat().st_mtime < stale_at
    ]
    for path in (*old, *halves):
        path.unlink(missing_ok=True)
    return old


def next_night(now: datetime, at: time, zone: tzinfo) -> datetime:
    """Return when, in UTC, it is that time of day next in a zone, once a night.

    Where the clocks go back over it, it is due the first time; where they skip it, as they do so.

    Args:
        now: In UTC, as all that is reckoned with here.
    """
    day = now.astimezone(zone).date()
    # By the calendar: a night with a change of the clocks has 23 or 25 hours.
    while (due := site_time.instant(day, at, zone)) <= now:
        day += timedelta(days=1)
    return due


def first_due(now: datetime, at: time, zone: tzinfo, newest: datetime | None) -> datetime:
    """Return when the first backup after a start is due: at once where a night was missed."""
    if newest is not None and now - newest > timedelta(hours=25):
        return now
    return next_night(now, at, zone)


def _newest(folder: Path) -> datetime | None:
    moments = [
        datetime.fromisoformat(path.name.removeprefix("etude-").removesuffix(".tar"))
        for path in folder.iterdir()
        if NAME.fullmatch(path.name)
    ]
    return max(moments, default=None)


def _require_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise SystemExit(
            f"etude: backups cannot be written to {folder} ({error.strerror}): give the folder to "
            "the user who runs Etude, or name another in ETUDE_BACKUP_DIR."
        ) from None


def _end(*_: object) -> None:
    raise _Ended
