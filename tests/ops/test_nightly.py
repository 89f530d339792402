"""A backup every night: when, how many are kept, and what is said of it."""

import os
import time as clocks
from datetime import datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core import settings
from app.core.models import AuditEvent
from app.ops.backup import nightly
from app.ops.embedded import folder as data_folder

BERLIN = ZoneInfo("Europe/Berlin")
AT = time(2, 30)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN)


def test_it_is_due_at_that_time_of_the_site() -> None:
    assert nightly.next_night(moment("2026-12-01T01:00"), AT) == moment("2026-12-01T02:30")
    assert nightly.next_night(moment("2026-12-01T02:30"), AT) == moment("2026-12-02T02:30")
    # In the night in which the clocks go back a day has 25 hours.
    before = moment("2026-10-24T03:00")
    hours = nightly.next_night(before, time(3, 0)).timestamp() - before.timestamp()
    assert hours == 25 * 3600


def test_a_night_that_was_missed_is_made_up_for() -> None:
    now = moment("2026-12-02T09:00")
    assert nightly.first_due(now, AT, None) == moment("2026-12-03T02:30")
    assert nightly.first_due(now, AT, moment("2026-12-02T02:30")) == moment("2026-12-03T02:30")
    assert nightly.first_due(now, AT, moment("2026-11-30T02:30")) == now


def test_the_newest_are_kept(tmp_path: Path) -> None:
    names = [f"etude-202611{day:02}T013000Z.tar" for day in range(1, 11)]
    for name in (*names, "etude-before-update.tar", "notes.txt"):
        (tmp_path / name).touch()
    old, young = (tmp_path / f"etude-202611{day}T013000Z.tar.partial" for day in (11, 12))
    old.touch()
    young.touch()
    long_ago = clocks.time() - timedelta(days=3).total_seconds()
    os.utime(old, (long_ago, long_ago))
    removed = nightly.prune(tmp_path, 7)
    assert [path.name for path in removed] == names[:3]
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*names[3:], "etude-before-update.tar", "notes.txt", young.name}


def test_one_is_taken_closed_to_others_and_told(
    db: Session, data_dir: Path, tmp_path: Path
) -> None:
    data_folder.prepare(settings.get())
    folder = tmp_path / "backups"
    folder.mkdir()
    for day in range(1, 4):
        (folder / f"etude-202501{day:02}T013000Z.tar").touch()
    assert nightly.take_one(folder, 2)
    kept = sorted(path.name for path in folder.iterdir())
    assert kept[0] == "etude-20250103T013000Z.tar"
    assert len(kept) == 2
    assert (folder / kept[1]).stat().st_mode & 0o777 == 0o600
    db.rollback()
    events = db.scalars(select(AuditEvent).where(AuditEvent.action == "backup.take")).all()
    assert [event.detail["to"] for event in events] == [str(folder / kept[1])]


def test_one_that_cannot_be_taken_is_no_end(db: Session, data_dir: Path, tmp_path: Path) -> None:
    assert not nightly.take_one(tmp_path / "gone", 7)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_somebody_else(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(SystemExit, match="give the folder to the user who runs Etude"):
        nightly._require_folder(tmp_path)
